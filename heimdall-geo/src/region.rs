//! A part of the Earth between two parallels and two meridians.

use serde::{Deserialize, Serialize};

use crate::GeoError;
use crate::Position;

/// A part of the Earth between two parallels and two meridians, within which a transmitter is
/// looked for.
///
/// A region whose western meridian has the larger longitude contains the antimeridian, as in
/// `GeoJSON`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawRegion", into = "RawRegion")]
pub struct Region {
    /// The corner with the smallest latitude and the western meridian.
    pub south_west: Position,
    /// The corner with the largest latitude and the eastern meridian.
    pub north_east: Position,
}

/// What is read and written in place of a [`Region`], before it is checked.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRegion {
    south_west: Position,
    north_east: Position,
}

impl TryFrom<RawRegion> for Region {
    type Error = GeoError;

    fn try_from(raw: RawRegion) -> Result<Self, GeoError> {
        Self::new(raw.south_west, raw.north_east)
    }
}

impl From<Region> for RawRegion {
    fn from(region: Region) -> Self {
        Self { south_west: region.south_west, north_east: region.north_east }
    }
}

impl Region {
    /// Makes a region from two of its corners.
    ///
    /// # Errors
    ///
    /// [`GeoError::EmptyRegion`] if nothing lies between the corners.
    pub fn new(south_west: Position, north_east: Position) -> Result<Self, GeoError> {
        let region = Self { south_west, north_east };
        region.validate()?;
        Ok(region)
    }

    /// Checks that the region contains something.
    ///
    /// # Errors
    ///
    /// [`GeoError::EmptyRegion`] if nothing lies between the corners.
    pub fn validate(&self) -> Result<(), GeoError> {
        if self.height_deg() > 0.0 && self.width_deg() > 0.0 {
            return Ok(());
        }
        Err(GeoError::EmptyRegion {
            south_deg: self.south_west.latitude_deg(),
            west_deg: self.south_west.longitude_deg(),
            north_deg: self.north_east.latitude_deg(),
            east_deg: self.north_east.longitude_deg(),
        })
    }

    /// Whether a position lies in the region or on its border.
    pub fn contains(&self, position: &Position) -> bool {
        let latitude_deg = position.latitude_deg();
        self.south_west.latitude_deg() <= latitude_deg
            && latitude_deg <= self.north_east.latitude_deg()
            && self.degrees_from_west(position) <= self.width_deg()
    }

    /// The position at these shares of the way from south to north and from west to east.
    pub(crate) fn at(&self, north_share: f64, east_share: f64) -> Position {
        let latitude_deg = self.south_west.latitude_deg() + north_share * self.height_deg();
        let longitude_deg = self.south_west.longitude_deg() + east_share * self.width_deg();
        let longitude_deg =
            if longitude_deg > 180.0 { longitude_deg - 360.0 } else { longitude_deg };
        Position::new(latitude_deg.min(90.0), longitude_deg)
            .expect("a share of the way between two positions is a position")
    }

    /// Whether a position lies on the border, within 0.1 mm.
    pub(crate) fn is_on_border(&self, position: &Position) -> bool {
        const NEAR_DEG: f64 = 1e-9;
        let near = |a_deg: f64, b_deg: f64| (a_deg - b_deg).abs() < NEAR_DEG;
        [self.south_west, self.north_east].iter().any(|corner| {
            near(position.latitude_deg(), corner.latitude_deg())
                || near(position.longitude_deg(), corner.longitude_deg())
        })
    }

    /// Moves a position to the nearest latitude and longitude of the region.
    pub(crate) fn clamp(&self, position: &Position) -> Position {
        if self.contains(position) {
            return *position;
        }
        let latitude_deg = position
            .latitude_deg()
            .clamp(self.south_west.latitude_deg(), self.north_east.latitude_deg());
        let from_west_deg = self.degrees_from_west(position);
        let beyond_deg = from_west_deg - self.width_deg();
        let longitude_deg = if beyond_deg <= 0.0 {
            position.longitude_deg()
        } else if beyond_deg < 360.0 - from_west_deg {
            self.north_east.longitude_deg()
        } else {
            self.south_west.longitude_deg()
        };
        Position::new(latitude_deg, longitude_deg).expect("both degrees are those of a position")
    }

    /// Distance from the southern to the northern border, in degrees of latitude.
    pub(crate) fn height_deg(&self) -> f64 {
        self.north_east.latitude_deg() - self.south_west.latitude_deg()
    }

    /// Distance from the western to the eastern border, in degrees of longitude.
    pub(crate) fn width_deg(&self) -> f64 {
        let width_deg = self.north_east.longitude_deg() - self.south_west.longitude_deg();
        if width_deg < 0.0 { width_deg + 360.0 } else { width_deg }
    }

    /// Degrees of longitude from the western border eastwards to a position.
    fn degrees_from_west(&self, position: &Position) -> f64 {
        let east_deg = position.longitude_deg() - self.south_west.longitude_deg();
        if east_deg < 0.0 { east_deg + 360.0 } else { east_deg }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn position(latitude_deg: f64, longitude_deg: f64) -> Position {
        Position::new(latitude_deg, longitude_deg).unwrap()
    }

    fn region(south: f64, west: f64, north: f64, east: f64) -> Region {
        Region::new(position(south, west), position(north, east)).unwrap()
    }

    #[test]
    fn border_belongs_to_the_region() {
        let region = region(45.0, 0.0, 55.0, 16.0);

        for inside in [position(50.0, 9.0), position(45.0, 0.0), position(55.0, 16.0)] {
            assert!(region.contains(&inside), "{inside:?}");
        }
        for outside in
            [position(44.9, 9.0), position(55.1, 9.0), position(50.0, -0.1), position(50.0, 16.1)]
        {
            assert!(!region.contains(&outside), "{outside:?}");
        }
    }

    #[test]
    fn region_may_contain_the_antimeridian() {
        let fiji = region(-20.0, 177.0, -15.0, -178.0);

        assert!(fiji.contains(&position(-17.0, 180.0)));
        assert!(fiji.contains(&position(-17.0, -180.0)));
        assert!(!fiji.contains(&position(-17.0, 0.0)));
        assert!((fiji.at(0.5, 0.8).longitude_deg() + 179.0).abs() < 1e-9);
    }

    #[test]
    fn corners_the_wrong_way_round_are_refused() {
        let error = Region::new(position(55.0, 0.0), position(45.0, 16.0)).unwrap_err();

        assert!(matches!(error, GeoError::EmptyRegion { .. }), "{error}");
        assert!(error.to_string().contains("55, 0 and 45, 16"), "{error}");
        assert!(Region::new(position(45.0, 9.0), position(55.0, 9.0)).is_err());
    }

    proptest! {
        #[test]
        fn clamped_position_is_inside_and_inner_ones_stay(
            south in -89_f64..80.0,
            height in 0.1_f64..9.0,
            west in -180_f64..180.0,
            width in 0.1_f64..300.0,
            latitude in -90_f64..90.0,
            longitude in -180_f64..180.0,
        ) {
            let east = if west + width > 180.0 { west + width - 360.0 } else { west + width };
            let region = region(south, west, south + height, east);
            let position = position(latitude, longitude);

            let clamped = region.clamp(&position);

            prop_assert!(region.contains(&clamped), "{:?} is outside of {:?}", clamped, region);
            let was_outside = !region.contains(&position);
            prop_assert_eq!(was_outside, clamped != position);
            prop_assert_eq!(was_outside, region.is_on_border(&clamped));
        }

        #[test]
        fn shares_between_zero_and_one_are_inside(
            west in -180_f64..180.0,
            width in 0.1_f64..300.0,
            north_share in 0.001_f64..0.999,
            east_share in 0.001_f64..0.999,
        ) {
            let east = if west + width > 180.0 { west + width - 360.0 } else { west + width };
            let region = region(-30.0, west, 40.0, east);

            prop_assert!(region.contains(&region.at(north_share, east_share)));
        }
    }
}
