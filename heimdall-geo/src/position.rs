//! Positions on the Earth in degrees, and in the local plane in kilometers.

use geographiclib_rs::{Geodesic, InverseGeodesic};
use serde::{Deserialize, Serialize};

use crate::Covariance;
use crate::GeoError;

/// Semi-major axis of the WGS 84 ellipsoid, in km.
pub const WGS84_SEMI_MAJOR_AXIS_KM: f64 = 6378.137;
/// Square of the first eccentricity of the WGS 84 ellipsoid.
pub const WGS84_ECCENTRICITY_SQUARED: f64 = 6.694_379_990_141_316e-3;

/// A point on the WGS 84 ellipsoid, in degrees: the form at the edges of Heimdall.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawPosition", into = "RawPosition")]
pub struct Position {
    latitude_deg: f64,
    longitude_deg: f64,
}

/// What is read and written in place of a [`Position`], before it is checked.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPosition {
    latitude: f64,
    longitude: f64,
}

impl TryFrom<RawPosition> for Position {
    type Error = GeoError;

    fn try_from(raw: RawPosition) -> Result<Self, GeoError> {
        Self::new(raw.latitude, raw.longitude)
    }
}

impl From<Position> for RawPosition {
    fn from(position: Position) -> Self {
        Self { latitude: position.latitude_deg, longitude: position.longitude_deg }
    }
}

impl Position {
    /// Makes a position from degrees north and degrees east.
    ///
    /// # Errors
    ///
    /// [`GeoError::OffTheEarth`] if the latitude is not within ±90° or the longitude not within
    /// ±180°, or if one of them is not a number.
    pub fn new(latitude_deg: f64, longitude_deg: f64) -> Result<Self, GeoError> {
        if latitude_deg.abs() <= 90.0 && longitude_deg.abs() <= 180.0 {
            Ok(Self { latitude_deg, longitude_deg })
        } else {
            Err(GeoError::OffTheEarth { latitude_deg, longitude_deg })
        }
    }

    /// Degrees north of the equator.
    pub fn latitude_deg(&self) -> f64 {
        self.latitude_deg
    }

    /// Degrees east of Greenwich.
    pub fn longitude_deg(&self) -> f64 {
        self.longitude_deg
    }

    /// Computes the length of the geodesic to `other`, in km.
    ///
    /// Right to a micrometer, between antipodes too.
    ///
    /// # References
    ///
    /// C. F. F. Karney, "Algorithms for geodesics", *Journal of Geodesy* 87, 2013,
    /// [doi:10.1007/s00190-012-0578-z](https://doi.org/10.1007/s00190-012-0578-z).
    pub fn distance_km(&self, other: &Self) -> f64 {
        let distance_m: f64 = Geodesic::wgs84().inverse(
            self.latitude_deg,
            self.longitude_deg,
            other.latitude_deg,
            other.longitude_deg,
        );
        distance_m / 1000.0
    }
}

/// A point in the plane of a [`LocalFrame`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalPosition {
    /// East of the origin, in km.
    pub east_km: f64,
    /// North of the origin, in km.
    pub north_km: f64,
}

impl LocalPosition {
    /// Computes the distance in the plane, in km.
    pub fn distance_km(&self, other: &Self) -> f64 {
        (self.east_km - other.east_km).hypot(self.north_km - other.north_km)
    }
}

/// A plane that touches the WGS 84 ellipsoid at its origin, with axes to the east and north.
///
/// A point of the ellipsoid is dropped onto the plane along the vertical of the origin
/// (orthographic projection, the east and north of the usual east-north-up frame), and lifted back
/// by the root of one quadratic equation. Both directions are closed forms, so that an exported
/// graph can contain the second one, and undo each other to 10 µm within 600 km. Lengths from the
/// origin are short by `d³ / (6 R²)`: 14 m at 150 km, 4.1 km (0.4 %) at 1000 km. Where that counts,
/// [`Position::distance_km`] is exact, and [`LocalFrame::carry`] moves an uncertainty.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalFrame {
    /// Where the plane touches the Earth.
    pub origin: Position,
}

impl LocalFrame {
    /// Makes the frame whose origin is the mean latitude and longitude of `positions`.
    ///
    /// # Errors
    ///
    /// [`GeoError::NoPositions`] if there are none.
    pub fn centered_on(positions: &[Position]) -> Result<Self, GeoError> {
        if positions.is_empty() {
            return Err(GeoError::NoPositions);
        }
        let count = positions.len() as f64;
        let latitude_deg = positions.iter().map(Position::latitude_deg).sum::<f64>() / count;
        // Differences from the first one are averaged, so that the antimeridian does not matter.
        let reference_deg = positions[0].longitude_deg;
        let offset_deg =
            positions.iter().map(|p| wrap_degrees(p.longitude_deg - reference_deg)).sum::<f64>();
        let longitude_deg = wrap_degrees(reference_deg + offset_deg / count);
        Ok(Self { origin: Position::new(latitude_deg, longitude_deg)? })
    }

    /// Projects a position onto the plane.
    pub fn to_local(&self, position: &Position) -> LocalPosition {
        let (sin_origin, cos_origin) = self.origin.latitude_deg.to_radians().sin_cos();
        let (sin, cos) = position.latitude_deg.to_radians().sin_cos();
        let (sin_longitude, cos_longitude) =
            (position.longitude_deg - self.origin.longitude_deg).to_radians().sin_cos();
        let (radius_km, origin_radius_km) = (prime_vertical_km(sin), prime_vertical_km(sin_origin));
        let polar = 1.0 - WGS84_ECCENTRICITY_SQUARED;

        let outward_km = radius_km * cos * cos_longitude - origin_radius_km * cos_origin;
        let upward_km = polar * (radius_km * sin - origin_radius_km * sin_origin);
        LocalPosition {
            east_km: radius_km * cos * sin_longitude,
            north_km: upward_km * cos_origin - outward_km * sin_origin,
        }
    }

    /// Lifts a point of the plane back onto the ellipsoid.
    ///
    /// # Errors
    ///
    /// [`GeoError::BeyondHorizon`] if no point of the Earth lies above it: some 6,360 km away.
    pub fn to_position(&self, local: &LocalPosition) -> Result<Position, GeoError> {
        let (sin_origin, cos_origin) = self.origin.latitude_deg.to_radians().sin_cos();
        let origin_radius_km = prime_vertical_km(sin_origin);
        let polar = 1.0 - WGS84_ECCENTRICITY_SQUARED;

        // A point `lift` above the plane has these distances from the axis and the equator …
        let axis_km = origin_radius_km * cos_origin - local.north_km * sin_origin;
        let equator_km = polar * origin_radius_km * sin_origin + local.north_km * cos_origin;
        // … and lies on the ellipsoid where `a · lift² + b · lift + c = 0`.
        let a = cos_origin.powi(2) + sin_origin.powi(2) / polar;
        let b = 2.0 * (cos_origin * axis_km + sin_origin * equator_km / polar);
        let c = axis_km.powi(2) + local.east_km.powi(2) + equator_km.powi(2) / polar
            - WGS84_SEMI_MAJOR_AXIS_KM.powi(2);
        let discriminant = b * b - 4.0 * a * c;
        if discriminant.is_nan() || discriminant < 0.0 {
            return Err(GeoError::BeyondHorizon {
                east_km: local.east_km,
                north_km: local.north_km,
            });
        }
        let lift_km = -2.0 * c / (b + discriminant.sqrt());

        let axis_km = axis_km + lift_km * cos_origin;
        let equator_km = equator_km + lift_km * sin_origin;
        let latitude = equator_km.atan2(polar * axis_km.hypot(local.east_km));
        let longitude_deg = self.origin.longitude_deg + local.east_km.atan2(axis_km).to_degrees();
        Position::new(latitude.to_degrees(), wrap_degrees(longitude_deg))
    }
}

impl LocalFrame {
    /// Lifts a point of the plane onto the ellipsoid, and carries its covariance into the plane that
    /// touches the Earth there.
    ///
    /// Far from the origin the planes are tilted against each other: the same uncertainty is up to
    /// 1.2 % longer there at 1000 km.
    ///
    /// # Errors
    ///
    /// [`GeoError::BeyondHorizon`] if no point of the Earth lies above it.
    pub fn carry(
        &self,
        local: &LocalPosition,
        covariance: &Covariance,
    ) -> Result<(Position, Covariance), GeoError> {
        const STEP_KM: f64 = 0.01;
        let position = self.to_position(local)?;
        let there = Self { origin: position };
        let slope = |east_km: f64, north_km: f64| {
            let step = |sign: f64| {
                let (east_km, north_km) =
                    (local.east_km + sign * east_km, local.north_km + sign * north_km);
                Ok(there.to_local(&self.to_position(&LocalPosition { east_km, north_km })?))
            };
            let (ahead, behind): (LocalPosition, LocalPosition) = (step(1.0)?, step(-1.0)?);
            Ok([
                (ahead.east_km - behind.east_km) / (2.0 * STEP_KM),
                (ahead.north_km - behind.north_km) / (2.0 * STEP_KM),
            ])
        };
        let ([a, c], [b, d]): ([f64; 2], [f64; 2]) = (slope(STEP_KM, 0.0)?, slope(0.0, STEP_KM)?);
        // [a b; c d] Σ [a b; c d]ᵀ
        let &Covariance { east_km2, east_north_km2, north_km2 } = covariance;
        let carried = Covariance {
            east_km2: a * a * east_km2 + 2.0 * a * b * east_north_km2 + b * b * north_km2,
            east_north_km2: a * c * east_km2 + (a * d + b * c) * east_north_km2 + b * d * north_km2,
            north_km2: c * c * east_km2 + 2.0 * c * d * east_north_km2 + d * d * north_km2,
        };
        Ok((position, carried))
    }
}

/// Radius of curvature in the prime vertical at a latitude with this sine, in km.
fn prime_vertical_km(sin_latitude: f64) -> f64 {
    WGS84_SEMI_MAJOR_AXIS_KM / (1.0 - WGS84_ECCENTRICITY_SQUARED * sin_latitude.powi(2)).sqrt()
}

/// Brings an angle to −180° … 180°.
fn wrap_degrees(degrees: f64) -> f64 {
    if degrees.abs() <= 180.0 { degrees } else { (degrees + 180.0).rem_euclid(360.0) - 180.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(latitude_deg: f64, longitude_deg: f64) -> LocalFrame {
        LocalFrame { origin: Position::new(latitude_deg, longitude_deg).unwrap() }
    }

    /// The meridian arc of a degree at 45° is 111.132 km; the chord onto the plane is shorter by
    /// a factor of 1 − (1°)² / 6.
    #[test]
    fn degree_of_latitude_has_its_length() {
        let local = frame(44.5, 7.0).to_local(&Position::new(45.5, 7.0).unwrap());

        let arc_km =
            Position::new(44.5, 7.0).unwrap().distance_km(&Position::new(45.5, 7.0).unwrap());
        assert!((arc_km - 111.132).abs() < 0.001, "{arc_km}");
        let chord_km = arc_km * (1.0 - 1_f64.to_radians().powi(2) / 6.0);
        assert!((local.north_km - chord_km).abs() < 0.002, "{local:?} is not {chord_km} km");
        assert!(local.east_km.abs() < 1e-9);
    }

    /// Length of the geodesic by another method, in km: right to 0.1 mm unless nearly antipodal.
    ///
    /// T. Vincenty, "Direct and inverse solutions of geodesics on the ellipsoid with application of
    /// nested equations", *Survey Review* 23(176), 1975.
    fn vincenty_km(from: &Position, to: &Position) -> f64 {
        let flattening = 1.0 / 298.257_223_563;
        let minor_km = WGS84_SEMI_MAJOR_AXIS_KM * (1.0 - flattening);
        let reduced = |latitude_deg: f64| {
            ((1.0 - flattening) * latitude_deg.to_radians().tan()).atan().sin_cos()
        };
        let ((sin_1, cos_1), (sin_2, cos_2)) =
            (reduced(from.latitude_deg), reduced(to.latitude_deg));
        let longitude = (to.longitude_deg - from.longitude_deg).to_radians();
        let mut lambda = longitude;
        for _ in 0..50 {
            let (sin_lambda, cos_lambda) = lambda.sin_cos();
            let sin_sigma = (cos_2 * sin_lambda).hypot(cos_1 * sin_2 - sin_1 * cos_2 * cos_lambda);
            if sin_sigma < 1e-15 {
                return 0.0;
            }
            let cos_sigma = sin_1 * sin_2 + cos_1 * cos_2 * cos_lambda;
            let sigma = sin_sigma.atan2(cos_sigma);
            let sin_alpha = cos_1 * cos_2 * sin_lambda / sin_sigma;
            let cos2_alpha = 1.0 - sin_alpha * sin_alpha;
            let cos_2m =
                if cos2_alpha > 1e-15 { cos_sigma - 2.0 * sin_1 * sin_2 / cos2_alpha } else { 0.0 };
            let c = flattening / 16.0 * cos2_alpha * (4.0 + flattening * (4.0 - 3.0 * cos2_alpha));
            let inner = cos_2m + c * cos_sigma * (2.0 * cos_2m * cos_2m - 1.0);
            let next =
                longitude + (1.0 - c) * flattening * sin_alpha * (sigma + c * sin_sigma * inner);
            let settled = (next - lambda).abs() < 1e-14;
            lambda = next;
            if settled {
                let u2 = cos2_alpha * (WGS84_SEMI_MAJOR_AXIS_KM / minor_km).powi(2) - cos2_alpha;
                let a = 1.0 + u2 / 16384.0 * (4096.0 + u2 * (-768.0 + u2 * (320.0 - 175.0 * u2)));
                let b = u2 / 1024.0 * (256.0 + u2 * (-128.0 + u2 * (74.0 - 47.0 * u2)));
                let square = 2.0 * cos_2m * cos_2m - 1.0;
                let last = b / 6.0
                    * cos_2m
                    * (4.0 * sin_sigma * sin_sigma - 3.0)
                    * (4.0 * cos_2m * cos_2m - 3.0);
                let correction = b * sin_sigma * (cos_2m + b / 4.0 * (cos_sigma * square - last));
                return minor_km * a * (sigma - correction);
            }
        }
        panic!("the iteration does not converge for {from:?} and {to:?}")
    }

    /// The example of `GeodSolve`: New York to London.
    #[test]
    fn geodesic_is_the_published_one() {
        let (new_york, london) =
            (Position::new(40.6, -73.8).unwrap(), Position::new(51.6, -0.5).unwrap());

        let distance_km = new_york.distance_km(&london);

        assert!((distance_km - 5_551.759_400).abs() < 1e-6, "{distance_km}");
    }

    #[test]
    fn pole_off_by_a_degree_is_refused() {
        assert!(matches!(Position::new(91.0, 0.0), Err(GeoError::OffTheEarth { .. })));
        assert!(matches!(Position::new(0.0, f64::NAN), Err(GeoError::OffTheEarth { .. })));
    }

    #[test]
    fn point_beyond_horizon_is_refused() {
        let local = LocalPosition { east_km: 7000.0, north_km: 0.0 };

        assert!(matches!(
            frame(45.0, 7.0).to_position(&local),
            Err(GeoError::BeyondHorizon { .. })
        ));
    }

    #[test]
    fn center_of_positions_on_both_sides_of_antimeridian_lies_between_them() {
        let positions = [Position::new(0.0, 179.0).unwrap(), Position::new(2.0, -179.0).unwrap()];

        let frame = LocalFrame::centered_on(&positions).unwrap();

        assert!((frame.origin.latitude_deg() - 1.0).abs() < 1e-12);
        assert!((frame.origin.longitude_deg().abs() - 180.0).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn plane_and_back_is_the_same_place(
            latitude_deg in -80_f64..80.0,
            longitude_deg in -180_f64..180.0,
            east_km in -600_f64..600.0,
            north_km in -600_f64..600.0,
        ) {
            let frame = frame(latitude_deg, longitude_deg);
            let local = LocalPosition { east_km, north_km };

            let back = frame.to_local(&frame.to_position(&local).unwrap());

            prop_assert!(back.distance_km(&local) < 1e-8, "{:?} is not {:?}", back, local);
        }

        /// Two methods agree to 1 mm over 1000 km and more.
        #[test]
        fn distance_is_that_of_another_method(
            latitude_deg in -80_f64..80.0,
            longitude_deg in -179_f64..179.0,
            east_km in -1000_f64..1000.0,
            north_km in -1000_f64..1000.0,
        ) {
            let frame = frame(latitude_deg, longitude_deg);
            let other = frame.to_position(&LocalPosition { east_km, north_km }).unwrap();

            let distance_km = frame.origin.distance_km(&other);

            prop_assert!((distance_km - vincenty_km(&frame.origin, &other)).abs() < 1e-6);
        }

        /// The plane is short of the geodesic by d³ / (6 R²), within 1 % of that for the flattening
        /// and the next term of the sine.
        #[test]
        fn plane_is_short_as_stated(
            latitude_deg in -80_f64..80.0,
            azimuth in 0_f64..std::f64::consts::TAU,
            plane_km in 1_f64..1000.0,
        ) {
            let frame = frame(latitude_deg, 8.0);
            let (sin, cos) = azimuth.sin_cos();
            let local = LocalPosition { east_km: plane_km * sin, north_km: plane_km * cos };

            let geodesic_km = frame.origin.distance_km(&frame.to_position(&local).unwrap());

            let short_km = geodesic_km.powi(3) / (6.0 * 6371.0_f64.powi(2));
            prop_assert!((geodesic_km - plane_km - short_km).abs() < 0.02 * short_km + 1e-6);
        }

        /// Carried into the plane at the place, an uncertainty is what geodesics measure: one that
        /// stretches away from the origin grows by 1 / cos, one across it keeps its size.
        #[test]
        fn carried_covariance_is_stretched_away_from_the_origin(north_km in 1_f64..1000.0) {
            let frame = frame(45.0, 8.0);
            let covariance = Covariance { east_km2: 4.0, east_north_km2: 0.0, north_km2: 9.0 };
            let local = LocalPosition { east_km: 0.0, north_km };

            let (position, carried) = frame.carry(&local, &covariance).unwrap();

            let stretch = 1.0 / (position.latitude_deg - 45.0).to_radians().cos();
            prop_assert!((carried.north_km2 / (9.0 * stretch * stretch) - 1.0).abs() < 1e-6);
            prop_assert!((carried.east_km2 / 4.0 - 1.0).abs() < 1e-6);
            prop_assert!(carried.east_north_km2.abs() < 1e-6);
        }

        /// Within 150 km the plane is at most 0.03 % short of the geodesic.
        #[test]
        fn distance_from_origin_is_the_geodesic(east_km in -100_f64..100.0, north_km in -100_f64..100.0) {
            let frame = frame(45.0, 8.0);
            let local = LocalPosition { east_km, north_km };

            let geodesic_km = frame.origin.distance_km(&frame.to_position(&local).unwrap());

            let plane_km = east_km.hypot(north_km);
            prop_assert!((geodesic_km - plane_km).abs() <= 3e-4 * plane_km + 1e-9);
        }
    }
}
