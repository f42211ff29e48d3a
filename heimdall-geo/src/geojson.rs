//! Regions as `GeoJSON`, for maps.

use serde::{Deserialize, Serialize};

use crate::Ellipse;
use crate::GeoError;
use crate::LocalFrame;
use crate::LocalPosition;
use crate::Position;

/// A ring of longitude and latitude, in degrees; the last corner is the first one again.
type Ring = Vec<[f64; 2]>;

/// An area on the Earth, in the form of RFC 7946.
///
/// Serialized as JSON it is a `GeoJSON` geometry.
///
/// # References
///
/// H. Butler et al., "The GeoJSON format", RFC 7946, 2016, sections 3.1.6 (polygons, rings
/// counterclockwise) and 3.1.9 (areas are cut at the antimeridian),
/// [doi:10.17487/RFC7946](https://doi.org/10.17487/RFC7946).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "coordinates")]
pub enum GeoJsonArea {
    /// One area without holes: its outer ring.
    Polygon([Ring; 1]),
    /// The two parts of an area that the antimeridian cuts.
    MultiPolygon([[Ring; 1]; 2]),
}

impl Ellipse {
    /// Draws the ellipse around a position as a polygon with `points` corners.
    ///
    /// It is built in km in the plane that touches the Earth at `center`, and lifted corner by
    /// corner.
    ///
    /// # Errors
    ///
    /// - [`GeoError::InvalidConfig`] if there are fewer than three points.
    /// - [`GeoError::BeyondHorizon`] if the ellipse reaches over the horizon of the plane.
    /// - [`GeoError::EnclosesPole`] if a pole lies in it: no ring of longitudes and latitudes is
    ///   its border.
    pub fn to_geojson(&self, center: Position, points: usize) -> Result<GeoJsonArea, GeoError> {
        if points < 3 {
            let (field, expected) = ("points", "at least 3");
            return Err(GeoError::InvalidConfig { field, expected, actual: points as f64 });
        }
        let frame = LocalFrame { origin: center };
        // Clockwise in the plane; the standard wants the other way.
        let corners: Vec<Position> = self
            .outline(LocalPosition::default(), points)
            .iter()
            .rev()
            .map(|corner| frame.to_position(corner))
            .collect::<Result<_, _>>()?;
        let mut ring = unwrapped(&corners, center.longitude_deg());
        // Once around a pole, the first corner is a turn away from itself.
        let back = ring.remove(points);
        if (back[0] - ring[0][0]).abs() > 180.0 {
            return Err(GeoError::EnclosesPole { latitude_deg: center.latitude_deg() });
        }
        let longest = ring.iter().map(|corner| corner[0]).fold(f64::NEG_INFINITY, f64::max);
        let shortest = ring.iter().map(|corner| corner[0]).fold(f64::INFINITY, f64::min);
        let cut_deg = if longest > 180.0 {
            180.0
        } else if shortest < -180.0 {
            -180.0
        } else {
            return Ok(GeoJsonArea::Polygon([closed(ring)]));
        };
        let (west, east) = (clipped(&ring, cut_deg, -1.0), clipped(&ring, cut_deg, 1.0));
        let shift_deg = -2.0 * cut_deg;
        let shifted =
            |ring: Ring| ring.into_iter().map(|[lon, lat]| [lon + shift_deg, lat]).collect();
        let parts = if cut_deg > 0.0 { [west, shifted(east)] } else { [shifted(west), east] };
        Ok(GeoJsonArea::MultiPolygon(parts.map(|part| [closed(part)])))
    }
}

/// Longitudes and latitudes whose longitudes do not jump, from one near `start_deg` on, and the first
/// corner again at the end.
fn unwrapped(corners: &[Position], start_deg: f64) -> Ring {
    let mut before_deg = start_deg;
    let unwrap = |corner: &Position| {
        let turns = ((before_deg - corner.longitude_deg()) / 360.0).round();
        before_deg = corner.longitude_deg() + 360.0 * turns;
        [before_deg, corner.latitude_deg()]
    };
    corners.iter().chain(corners.first()).map(unwrap).collect()
}

/// The part of a convex ring on one side of a meridian: 1 is east of it, −1 west.
fn clipped(ring: &Ring, meridian_deg: f64, side: f64) -> Ring {
    let depth = |corner: &[f64; 2]| side * (corner[0] - meridian_deg);
    let mut part = Vec::new();
    for (index, corner) in ring.iter().enumerate() {
        let next = &ring[(index + 1) % ring.len()];
        if depth(corner) >= 0.0 {
            part.push(*corner);
        }
        if depth(corner) * depth(next) < 0.0 {
            let share = depth(corner) / (depth(corner) - depth(next));
            part.push([meridian_deg, corner[1] + share * (next[1] - corner[1])]);
        }
    }
    part
}

fn closed(mut ring: Ring) -> Ring {
    ring.extend(ring.first().copied());
    ring
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ellipse() -> Ellipse {
        Ellipse { semi_major_km: 30.0, semi_minor_km: 10.0, azimuth_deg: 70.0 }
    }

    fn area(center: (f64, f64)) -> Result<GeoJsonArea, GeoError> {
        ellipse().to_geojson(Position::new(center.0, center.1).unwrap(), 64)
    }

    /// Twice the area between a ring and the meridian 0, positive where it runs counterclockwise.
    fn doubled_area(ring: &Ring) -> f64 {
        ring.windows(2).map(|pair| pair[0][0] * pair[1][1] - pair[1][0] * pair[0][1]).sum()
    }

    #[test]
    fn polygon_is_closed_counterclockwise_and_has_the_area_of_the_ellipse() {
        let GeoJsonArea::Polygon([ring]) = area((45.0, 8.0)).unwrap() else { panic!("it is cut") };

        assert_eq!((ring.len(), ring[0]), (65, ring[64]));
        // A degree is 111.1 km to the north and 78.8 km to the east; 64 corners lack 0.16 %.
        let area_km2 = doubled_area(&ring) / 2.0 * 111.132 * 78.847;
        assert!((area_km2 / ellipse().area_km2() - 1.0).abs() < 0.005, "{area_km2}");
        // Longitude first.
        assert!((ring[0][0] - 8.0).abs() < 0.5 && (ring[0][1] - 45.0).abs() < 0.5, "{ring:?}");
    }

    #[test]
    fn json_is_a_geometry() {
        let json = serde_json::to_value(area((45.0, 8.0)).unwrap()).unwrap();

        assert_eq!(json["type"], "Polygon");
        assert_eq!(json["coordinates"][0].as_array().unwrap().len(), 65);
        assert_eq!(json["coordinates"][0][0].as_array().unwrap().len(), 2);
    }

    #[test]
    fn area_on_both_sides_of_the_antimeridian_is_cut() {
        for longitude_deg in [179.95, -179.95] {
            let GeoJsonArea::MultiPolygon(parts) = area((45.0, longitude_deg)).unwrap() else {
                panic!("{longitude_deg} is not cut")
            };

            let areas: Vec<f64> = parts.iter().map(|[ring]| doubled_area(ring) / 2.0).collect();
            assert!(areas.iter().all(|area| *area > 0.0), "{areas:?}");
            let area_km2 = areas.iter().sum::<f64>() * 111.132 * 78.847;
            assert!((area_km2 / ellipse().area_km2() - 1.0).abs() < 0.005, "{area_km2}");
            let [[west], [east]] = &parts;
            assert!(west.iter().all(|corner| (179.0..=180.0).contains(&corner[0])), "{west:?}");
            assert!(east.iter().all(|corner| (-180.0..=-179.0).contains(&corner[0])), "{east:?}");
        }
    }

    #[test]
    fn area_around_a_pole_is_refused() {
        assert!(matches!(area((89.99, 8.0)), Err(GeoError::EnclosesPole { .. })));
        assert!(matches!(area((-89.95, 100.0)), Err(GeoError::EnclosesPole { .. })));
        assert!(area((89.0, 8.0)).is_ok());
    }

    #[test]
    fn two_points_are_no_polygon() {
        let center = Position::new(0.0, 0.0).unwrap();

        let error = ellipse().to_geojson(center, 2).unwrap_err();

        assert_eq!(error.to_string(), "`points` must be at least 3, but is 2");
    }
}
