//! The centroid of the receivers that hear a signal, weighted by how well they hear it.

use crate::Covariance;
use crate::Estimate;
use crate::LocalPosition;
use crate::Location;
use crate::NoFix;
use crate::level::is_level;

/// Computes the centroid of receivers, weighted by the amplitude that each one receives.
///
/// A receiver that hears the signal at `L` dB above its own noise has the weight `10^(L / 20)`.
/// It is the simplest baseline of localization by level: it never leaves the hull of the receivers.
///
/// There is none if there are no levels, or if one of the numbers is not finite, or a level is beyond
/// ±1,000,000 dB.
pub fn weighted_centroid(
    levels: &[(LocalPosition, f64 /* level above noise, dB */)],
) -> Option<LocalPosition> {
    if levels.is_empty() || !levels.iter().all(is_usable) {
        return None;
    }
    // Relative to the loudest one, no weight overflows and their sum is at least 1.
    let loudest_db = levels.iter().map(|&(_, level_db)| level_db).fold(f64::MIN, f64::max);
    let (mut weight_sum, mut east_km, mut north_km) = (0.0, 0.0, 0.0);
    for (position, level_db) in levels {
        let weight = 10_f64.powf((level_db - loudest_db) / 20.0);
        weight_sum += weight;
        east_km += weight * position.east_km;
        north_km += weight * position.north_km;
    }
    Some(LocalPosition { east_km: east_km / weight_sum, north_km: north_km / weight_sum })
}

/// Whether a level is one, of a receiver that is somewhere.
fn is_usable(&(position, level_db): &(LocalPosition, f64)) -> bool {
    position.east_km.is_finite() && position.north_km.is_finite() && is_level(level_db)
}

/// Locates a transmitter at the weighted centroid of the receivers that hear it.
///
/// `network` is where all receivers stand. A centroid knows little about its error, and the covariance
/// is a rule of thumb: the weighted spread of the receivers that hear, plus the square of half the
/// radius of the network, its root mean squared distance from its middle.
///
/// There is no fix if no receiver hears the transmitter, if a level or a place is not one, or if one
/// receiver is the network.
pub fn locate_by_centroid(
    levels: &[(LocalPosition, f64 /* level above noise, dB */)],
    network: &[LocalPosition],
) -> Location {
    if let Some(observation) = levels.iter().position(|level| !is_usable(level)) {
        return Location::NoFix(NoFix::InvalidLevel { observation });
    }
    let Some(position) = weighted_centroid(levels) else {
        return Location::NoFix(NoFix::NothingHeard);
    };
    let loudest_db = levels.iter().map(|&(_, level_db)| level_db).fold(f64::MIN, f64::max);
    let weighted = levels
        .iter()
        .map(|&(place, level_db)| (place, 10_f64.powf((level_db - loudest_db) / 20.0)));
    let spread = spread(weighted, position);
    let equal = |place: &LocalPosition| (*place, 1.0);
    let middle = weighted_centroid(&network.iter().map(|&place| (place, 0.0)).collect::<Vec<_>>());
    let around = self::spread(network.iter().map(equal), middle.unwrap_or(position));
    let floor_km2 = (around.east_km2 + around.north_km2) / 4.0;
    let covariance = Covariance {
        east_km2: spread.east_km2 + floor_km2,
        north_km2: spread.north_km2 + floor_km2,
        ..spread
    };
    if !covariance.is_positive_definite() {
        return Location::NoFix(NoFix::Undetermined);
    }
    Location::Fix(Estimate { position, covariance })
}

/// Mean squared offsets of weighted places from a point.
pub(crate) fn spread(
    places: impl Iterator<Item = (LocalPosition, f64)>,
    around: LocalPosition,
) -> Covariance {
    let mut sums = Covariance { east_km2: 0.0, east_north_km2: 0.0, north_km2: 0.0 };
    let mut weights = 0.0;
    for (place, weight) in places {
        let (east_km, north_km) =
            (place.east_km - around.east_km, place.north_km - around.north_km);
        weights += weight;
        sums.east_km2 += weight * east_km * east_km;
        sums.east_north_km2 += weight * east_km * north_km;
        sums.north_km2 += weight * north_km * north_km;
    }
    sums.scaled(1.0 / weights)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn local(east_km: f64, north_km: f64) -> LocalPosition {
        LocalPosition { east_km, north_km }
    }

    /// By hand: 20 dB more is ten times the weight, so (10 · 0 + 1 · 11) / 11 = 1 km east, and
    /// (10 · 22 + 1 · 0) / 11 = 20 km north.
    #[test]
    fn twenty_decibels_weigh_ten_times() {
        let levels = [(local(0.0, 22.0), 25.0), (local(11.0, 0.0), 5.0)];

        let centroid = weighted_centroid(&levels).unwrap();

        assert!(centroid.distance_km(&local(1.0, 20.0)) < 1e-12, "{centroid:?}");
    }

    #[test]
    fn one_receiver_is_its_own_centroid() {
        assert_eq!(weighted_centroid(&[(local(3.0, 4.0), -7.0)]), Some(local(3.0, 4.0)));
    }

    #[test]
    fn silence_has_no_centroid() {
        assert_eq!(weighted_centroid(&[]), None);
    }

    #[test]
    fn centroid_with_a_level_that_is_no_number_is_refused() {
        let receiver = (local(0.0, 0.0), 10.0);

        for level_db in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(weighted_centroid(&[receiver, (local(1.0, 1.0), level_db)]), None);
        }
        assert_eq!(weighted_centroid(&[receiver, (local(f64::NAN, 1.0), 0.0)]), None);
    }

    /// By hand: receivers at ±3 km, heard alike, spread by 9 km²; the network of three of them and one
    /// 4 km north has its middle at 1 km north, and 2 · 9 + 2 · 1 + 1 + 9 = 30 km² over 4 around it.
    #[test]
    fn centroid_is_uncertain_by_what_hears_and_what_is_there() {
        let heard = [(local(-3.0, 0.0), 10.0), (local(3.0, 0.0), 10.0)];
        let network = [local(-3.0, 0.0), local(3.0, 0.0), local(0.0, 0.0), local(0.0, 4.0)];

        let Location::Fix(fix) = locate_by_centroid(&heard, &network) else { panic!("no fix") };

        let floor_km2 = 30.0 / 4.0 / 4.0;
        assert!(fix.position.distance_km(&local(0.0, 0.0)) < 1e-12, "{fix:?}");
        assert!((fix.covariance.east_km2 - 9.0 - floor_km2).abs() < 1e-12, "{fix:?}");
        assert!((fix.covariance.north_km2 - floor_km2).abs() < 1e-12, "{fix:?}");
    }

    #[test]
    fn centroid_of_nothing_is_no_fix() {
        let network = [local(0.0, 0.0), local(1.0, 0.0)];

        assert_eq!(locate_by_centroid(&[], &network), Location::NoFix(NoFix::NothingHeard));
        let heard = |level_db| [(local(0.0, 0.0), 10.0), (local(1.0, 0.0), level_db)];
        for level_db in [f64::NAN, f64::NEG_INFINITY, 1e200] {
            let expected = Location::NoFix(NoFix::InvalidLevel { observation: 1 });
            assert_eq!(locate_by_centroid(&heard(level_db), &network), expected);
        }
        // A single receiver says nothing about how far its signals come from.
        let alone = locate_by_centroid(&[(local(0.0, 0.0), 10.0)], &network[..1]);
        assert_eq!(alone, Location::NoFix(NoFix::Undetermined));
    }

    #[test]
    fn absurd_levels_do_not_overflow() {
        let levels = [(local(1.0, 2.0), 1e6), (local(3.0, 4.0), -1e6)];

        let centroid = weighted_centroid(&levels).unwrap();

        assert!(centroid.distance_km(&local(1.0, 2.0)) < 1e-12, "{centroid:?}");
    }

    proptest! {
        /// A gain that is common to all receivers changes nothing, and the centroid stays among them.
        #[test]
        fn common_gain_cancels(
            receivers in prop::collection::vec((-100_f64..100.0, -100_f64..100.0, 0_f64..60.0), 1..8),
            gain_db in -40_f64..40.0,
        ) {
            let levels = |gain_db: f64| -> Vec<_> {
                receivers.iter().map(|&(e, n, level_db)| (local(e, n), level_db + gain_db)).collect()
            };

            let centroid = weighted_centroid(&levels(0.0)).unwrap();
            let amplified = weighted_centroid(&levels(gain_db)).unwrap();

            prop_assert!(centroid.distance_km(&amplified) < 1e-9);
            let (west, east) = receivers
                .iter()
                .fold((f64::MAX, f64::MIN), |(low, high), r| (low.min(r.0), high.max(r.0)));
            prop_assert!(west - 1e-9 <= centroid.east_km && centroid.east_km <= east + 1e-9);
        }
    }
}
