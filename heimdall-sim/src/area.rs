//! The rectangle that transmitters are in.

use heimdall_geo::LocalPosition;

use crate::random::RandomStream;

/// The rectangle that transmitters are in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Area {
    pub(crate) south_west: LocalPosition,
    pub(crate) north_east: LocalPosition,
}

impl Area {
    /// The bounding box of some receivers, of which there is at least one, and a margin around it.
    pub(crate) fn around(receivers: &[LocalPosition], margin_km: f64) -> Self {
        let bound = |value: fn(&LocalPosition) -> f64, pick: fn(f64, f64) -> f64| {
            receivers.iter().map(value).reduce(pick).expect("a network has at least one receiver")
        };
        Self {
            south_west: LocalPosition {
                east_km: bound(|place| place.east_km, f64::min) - margin_km,
                north_km: bound(|place| place.north_km, f64::min) - margin_km,
            },
            north_east: LocalPosition {
                east_km: bound(|place| place.east_km, f64::max) + margin_km,
                north_km: bound(|place| place.north_km, f64::max) + margin_km,
            },
        }
    }

    pub(crate) fn corners(&self) -> [LocalPosition; 4] {
        let (low, high) = (self.south_west, self.north_east);
        [
            low,
            LocalPosition { east_km: low.east_km, north_km: high.north_km },
            LocalPosition { east_km: high.east_km, north_km: low.north_km },
            high,
        ]
    }

    /// Draws a place, each as likely as any other.
    pub(crate) fn draw(&self, random: &mut RandomStream) -> LocalPosition {
        LocalPosition {
            east_km: random.between(self.south_west.east_km, self.north_east.east_km),
            north_km: random.between(self.south_west.north_km, self.north_east.north_km),
        }
    }
}
