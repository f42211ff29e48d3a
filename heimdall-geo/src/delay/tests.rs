//! Tests of the localization by delays: synthetic transmitters among real receivers.

use proptest::prelude::*;

use super::*;
use crate::Ellipse;
use crate::LocalFrame;
use crate::LocalPosition;
use crate::arrival_bound;
use crate::random::Random;
use crate::testing;

fn position(latitude_deg: f64, longitude_deg: f64) -> Position {
    Position::new(latitude_deg, longitude_deg).unwrap()
}

fn region(south: f64, west: f64, north: f64, east: f64) -> Region {
    Region::new(position(south, west), position(north, east)).unwrap()
}

/// Three receivers of the time signal DCF77, and its transmitter.
fn dcf77() -> ([Position; 3], Position) {
    let receivers =
        [position(46.499351, 8.798828), position(51.466044, 11.977189), position(51.5005, 3.60069)];
    (receivers, position(50.0155, 9.0108))
}

fn central_europe() -> Region {
    region(45.0, 0.0, 55.0, 16.0)
}

/// Seven receivers on 2 m, 5 to 160 km apart.
fn north_west_italy() -> Vec<Position> {
    testing::north_west_italy().into_iter().map(|(position, _)| position).collect()
}

/// The config for receivers at VHF with GPS time.
fn vhf() -> DelaySolverConfig {
    DelaySolverConfig { timing_floor_s: 1e-7, ..DelaySolverConfig::default() }
}

/// The most likely of the fixes.
fn locate(
    receivers: &[Position],
    delays: &[PairDelay],
    region: &Region,
    config: &DelaySolverConfig,
) -> DelayFix {
    locate_by_delays(receivers, delays, region, config).unwrap().best().unwrap().clone()
}

/// The delays of these pairs of receivers, without an error.
fn exact(
    transmitter: Position,
    receivers: &[Position],
    pairs: &[(usize, usize)],
    sigma_s: f64,
) -> Vec<PairDelay> {
    let arrival_s = |index: usize| transmitter.distance_km(&receivers[index]) / SPEED_OF_LIGHT_KM_S;
    pairs
        .iter()
        .map(|&(first, second)| PairDelay {
            first,
            second,
            delay_s: arrival_s(second) - arrival_s(first),
            sigma_s,
        })
        .collect()
}

fn all_pairs(receivers: usize) -> Vec<(usize, usize)> {
    (0..receivers).flat_map(|second| (0..second).map(move |first| (first, second))).collect()
}

#[test]
fn dcf77_is_found_by_exact_delays() {
    let (receivers, transmitter) = dcf77();
    for pairs in [vec![(0, 1), (0, 2)], vec![(1, 0), (2, 1)], all_pairs(3)] {
        let delays = exact(transmitter, &receivers, &pairs, 1e-6);

        let config = DelaySolverConfig::default();
        let fix = locate(&receivers, &delays, &central_europe(), &config);

        let error_km = fix.position.distance_km(&transmitter);
        assert!(error_km < 0.01, "{error_km} km off by {pairs:?}");
        assert!(fix.residual_rms_s < 1e-11, "{fix:?}");
        assert_eq!(fix.degrees_of_freedom, pairs.len() - 2);
    }
}

/// Close to a receiver the valleys of χ² are narrow.
#[test]
fn transmitter_close_to_a_receiver_is_found() {
    let receivers = north_west_italy();
    let region = region(44.1, 6.9, 45.8, 9.5);
    let frame = LocalFrame { origin: receivers[6] };
    for distance_km in [0.1, 0.5, 2.0, 4.0, 8.0] {
        for turn in 0..8 {
            let (sin, cos) = (std::f64::consts::TAU * f64::from(turn) / 8.0).sin_cos();
            let local = LocalPosition { east_km: distance_km * sin, north_km: distance_km * cos };
            let transmitter = frame.to_position(&local).unwrap();
            let delays = exact(transmitter, &receivers, &all_pairs(7), 1e-7);

            let fix = locate(&receivers, &delays, &region, &vhf());

            assert!(fix.position.distance_km(&transmitter) < 0.01, "{fix:?} is not {local:?}");
        }
    }
}

#[test]
fn fix_does_not_depend_on_how_the_region_is_cut() {
    let (receivers, transmitter) = dcf77();
    let delays = exact(transmitter, &receivers, &all_pairs(3), 1e-6);
    for region in [
        region(45.0, 0.0, 55.0, 16.0),
        region(49.9, 8.0, 50.1, 10.0),
        region(20.0, -60.0, 80.0, 90.0),
        region(-90.0, -180.0, 90.0, 180.0),
    ] {
        let config = DelaySolverConfig { grid_km: 100.0, ..DelaySolverConfig::default() };
        let fix = locate(&receivers, &delays, &region, &config);

        assert!(fix.position.distance_km(&transmitter) < 0.01, "{fix:?} in {region:?}");
    }
}

/// Receivers around the antimeridian are no different from any other.
#[test]
fn transmitter_at_the_antimeridian_is_found() {
    let receivers = [
        position(-17.0, 178.5),
        position(-17.0, -178.0),
        position(-19.5, 179.8),
        position(-15.0, 179.9),
    ];
    let transmitter = position(-17.5, -179.9);
    let delays = exact(transmitter, &receivers, &all_pairs(4), 1e-6);

    let region = region(-20.0, 178.0, -15.0, -177.0);
    let fix = locate(&receivers, &delays, &region, &DelaySolverConfig::default());

    assert!(fix.position.distance_km(&transmitter) < 0.01, "{fix:?}");
}

/// Behind a receiver, two hyperbolas meet twice. Both points must explain the delays, and a region
/// that holds only one of them must settle it.
#[test]
fn both_branches_of_three_receivers_are_reported() {
    let (receivers, _) = dcf77();
    let transmitter = position(46.0, 8.3);
    let pairs = [(0, 1), (0, 2)];
    let delays = exact(transmitter, &receivers, &pairs, 1e-6);
    let config = DelaySolverConfig::default();

    let wide =
        locate_by_delays(&receivers, &delays, &region(40.0, 0.0, 55.0, 16.0), &config).unwrap();

    let Location::Ambiguous { best, alternatives, reason: Ambiguity::Branches } = wide else {
        panic!("{wide:?}")
    };
    assert_eq!(alternatives.len(), 1, "{alternatives:?}");
    let branches = [best.position, alternatives[0].position];
    assert!(branches[0].distance_km(&branches[1]) > 10.0, "{branches:?}");
    assert!(branches.iter().any(|branch| branch.distance_km(&transmitter) < 0.01), "{branches:?}");
    for branch in branches {
        for (delay, explained) in delays.iter().zip(exact(branch, &receivers, &pairs, 1e-6)) {
            assert!((delay.delay_s - explained.delay_s).abs() < 1e-10, "{branch:?}");
        }
    }
    for branch in branches {
        // 11 km from north to south, so that the other branch is outside.
        let (latitude, longitude) = (branch.latitude_deg(), branch.longitude_deg());
        let narrow = region(latitude - 0.05, longitude - 0.05, latitude + 0.05, longitude + 0.05);
        let location = locate_by_delays(&receivers, &delays, &narrow, &config).unwrap();

        let Location::Fix(fix) = location else { panic!("{location:?}") };
        assert!(fix.position.distance_km(&branch) < 0.01, "{fix:?}");
    }
    // Each branch is as uncertain as the receivers, seen from there, leave it.
    for fix in [&best, &alternatives[0]] {
        let frame = LocalFrame { origin: fix.position };
        let arrivals: Vec<_> = receivers.iter().map(|r| (frame.to_local(r), 10e-6)).collect();
        let bound = arrival_bound(LocalPosition::default(), &arrivals, None).unwrap();
        let size = (fix.covariance.determinant_km4() / bound.determinant_km4()).sqrt();
        // The errors of the pairs add a hundredth of the variance, and geodesics are bent.
        assert!((size - 1.0).abs() < 0.1, "{size}");
    }
}

#[test]
fn transmitter_outside_of_the_region_is_not_moved_into_it() {
    let (receivers, transmitter) = dcf77();
    let delays = exact(transmitter, &receivers, &all_pairs(3), 1e-6);

    let without_it = region(45.0, 0.0, 49.0, 16.0);
    let location =
        locate_by_delays(&receivers, &delays, &without_it, &DelaySolverConfig::default()).unwrap();

    assert_eq!(location, Location::NoFix(NoFix::OutsideRegion));
}

/// Two receivers, or three at two places, leave a line; and no way takes a hundredth of a second.
#[test]
fn delays_that_lead_nowhere_are_no_fix_with_a_reason() {
    let (dcf77, transmitter) = dcf77();
    let receivers = [dcf77[0], dcf77[1], dcf77[2], dcf77[0]];
    let reason = |pairs: &[(usize, usize)], late_s: f64| {
        let mut delays = exact(transmitter, &receivers, pairs, 1e-6);
        delays.iter_mut().for_each(|delay| delay.delay_s += late_s);
        let config = DelaySolverConfig::default();
        match locate_by_delays(&receivers, &delays, &central_europe(), &config).unwrap() {
            Location::NoFix(reason) => reason,
            found => panic!("{found:?}"),
        }
    };
    let few = |receivers| NoFix::TooFewReceivers { receivers, required: 3 };

    assert_eq!(reason(&[], 0.0), few(0));
    assert_eq!(reason(&[(0, 1)], 0.0), few(2));
    assert_eq!(reason(&[(0, 1), (1, 0), (0, 1)], 0.0), few(2));
    assert_eq!(reason(&[(0, 1), (1, 3)], 0.0), few(2));
    assert_eq!(reason(&[(0, 1), (0, 3)], 0.0), few(2));
    let impossible = reason(&[(0, 1), (1, 2)], 0.01);
    let is_told = matches!(impossible, NoFix::ImpossibleDelay { first: 0, second: 1, .. });
    assert!(is_told, "{impossible}");
}

#[test]
fn senseless_delays_are_refused_by_name() {
    let (dcf77, transmitter) = dcf77();
    let receivers = [dcf77[0], dcf77[1], dcf77[2], dcf77[0]];
    let refusal = |pairs: &[(usize, usize)], change: &dyn Fn(&mut PairDelay)| {
        let mut delays = exact(transmitter, &receivers, pairs, 1e-6);
        delays.iter_mut().for_each(change);
        locate_by_delays(&receivers, &delays, &central_europe(), &DelaySolverConfig::default())
            .unwrap_err()
            .to_string()
    };
    let cases = [
        (
            refusal(&[(0, 1), (1, 2)], &|d| d.second = 9),
            "delay 0 names receiver 9, but there are 4",
        ),
        (refusal(&[(0, 1), (1, 2)], &|d| d.second = d.first), "between receiver 0 and itself"),
        (refusal(&[(0, 1), (1, 2)], &|d| d.delay_s = f64::NAN), "delay 0 is NaN s ± 0.000001 s"),
        (refusal(&[(0, 1), (1, 2)], &|d| d.sigma_s = 0.0), "positive standard deviation"),
        (refusal(&[(0, 1), (1, 2)], &|d| d.sigma_s = f64::INFINITY), "± inf s"),
    ];
    for (message, expected) in cases {
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn senseless_config_is_refused_by_field() {
    let defaults = DelaySolverConfig::default;
    let cases = [
        (DelaySolverConfig { grid_km: 0.0, ..defaults() }, "grid_km"),
        (DelaySolverConfig { timing_floor_s: -1e-9, ..defaults() }, "timing_floor_s"),
        (DelaySolverConfig { timing_floor_s: f64::NAN, ..defaults() }, "timing_floor_s"),
        (DelaySolverConfig { propagation_speed_ratio: 0.0, ..defaults() }, "propagation_speed"),
        (DelaySolverConfig { alternative_likelihood_min: 2.0, ..defaults() }, "alternative_like"),
    ];
    for (config, field) in cases {
        let error = config.validate().unwrap_err();

        assert!(error.to_string().contains(field), "{error}");
    }
    defaults().validate().unwrap();
}

/// The third pair of three receivers repeats what the other two say. With a common timing error
/// and next to none of the pairs, the covariance must be the bound of three arrival times; weights
/// that ignore the correlation would give a third of it.
#[test]
fn redundant_delay_adds_no_confidence() {
    let (receivers, transmitter) = dcf77();
    let config = DelaySolverConfig::default();
    let frame = LocalFrame { origin: transmitter };
    let arrivals: Vec<_> = receivers.iter().map(|r| (frame.to_local(r), 10e-6)).collect();
    let bound = arrival_bound(frame.to_local(&transmitter), &arrivals, None).unwrap();
    for pairs in [vec![(0, 1), (0, 2)], all_pairs(3)] {
        let delays = exact(transmitter, &receivers, &pairs, 1e-9);

        let fix = locate(&receivers, &delays, &central_europe(), &config);

        // Straight lines to the receivers in the plane leave within 0.1° of the geodesics.
        for (actual, expected) in
            [(fix.covariance.east_km2, bound.east_km2), (fix.covariance.north_km2, bound.north_km2)]
        {
            assert!((actual / expected - 1.0).abs() < 0.01, "{:?}, {bound:?}", fix.covariance);
        }
    }
}

/// Delays of three pairs that do not close by 30 µs have a χ² of 30² / (3 · 1²), with one degree of
/// freedom: the covariance grows by this factor.
#[test]
fn contradiction_inflates_the_covariance() {
    let (receivers, transmitter) = dcf77();
    let config = DelaySolverConfig { timing_floor_s: 0.0, ..DelaySolverConfig::default() };
    let mut delays = exact(transmitter, &receivers, &all_pairs(3), 1e-6);
    let consistent = locate(&receivers, &delays, &central_europe(), &config);
    // An error that no position explains: the same around the loop 0 → 1 → 2 → 0.
    delays[0].delay_s += 10e-6;
    delays[1].delay_s -= 10e-6;
    delays[2].delay_s += 10e-6;

    let fix = locate(&receivers, &delays, &central_europe(), &config);

    assert!(fix.position.distance_km(&transmitter) < 0.01, "{fix:?}");
    assert!((fix.chi_squared - 300.0).abs() < 1e-3, "{fix:?}");
    assert!((fix.residual_rms_s - 10e-6).abs() < 1e-10, "{fix:?}");
    let growth = fix.covariance.east_km2 / consistent.covariance.east_km2;
    assert!((growth - 300.0).abs() < 1.0, "{growth}");
}

/// Each delay alone is possible, but together they say that one of receivers 1 and 2 hears the
/// signal earlier than the other by more than the way between them takes: no position explains
/// that. The search must not pass off the point of the border where it is stopped as a fix.
#[test]
fn hyperbolas_that_do_not_meet_are_no_fix() {
    let (receivers, _) = dcf77();
    let share_of_way = |first: usize, second: usize, share: f64| PairDelay {
        first,
        second,
        delay_s: share * receivers[first].distance_km(&receivers[second]) / SPEED_OF_LIGHT_KM_S,
        sigma_s: 50e-6,
    };
    let config = DelaySolverConfig { timing_floor_s: 0.0, ..DelaySolverConfig::default() };
    for share in [0.5, 0.55, 0.6, 0.7, -0.5, -0.55, -0.6, -0.7] {
        let delays = [share_of_way(0, 1, -share), share_of_way(0, 2, share)];

        let location = locate_by_delays(&receivers, &delays, &central_europe(), &config).unwrap();

        assert_eq!(location, Location::NoFix(NoFix::OutsideRegion));
    }
}

/// With many receivers, one that is late shows in its arrival residual.
#[test]
fn late_receiver_has_the_largest_residual() {
    let receivers = north_west_italy();
    let transmitter = position(44.9, 8.3);
    let mut delays = exact(transmitter, &receivers, &all_pairs(7), 1e-6);
    for delay in &mut delays {
        delay.delay_s += match (delay.first, delay.second) {
            (4, _) => -2e-6,
            (_, 4) => 2e-6,
            _ => 0.0,
        };
    }

    let region = region(44.0, 6.8, 46.0, 9.6);
    let fix = locate(&receivers, &delays, &region, &vhf());

    let late = (0..7).max_by(|&a, &b| {
        fix.arrival_residuals_s[a].abs().total_cmp(&fix.arrival_residuals_s[b].abs())
    });
    assert_eq!(late, Some(4), "{:?}", fix.arrival_residuals_s);
    assert!(fix.arrival_residuals_s[4] > 0.5e-6, "{:?}", fix.arrival_residuals_s);
    assert!(fix.arrival_residuals_s.iter().sum::<f64>().abs() < 1e-12);
    // They explain the residuals of the delays, all of which close.
    for (delay, explained) in
        delays.iter().zip(exact(fix.position, &receivers, &all_pairs(7), 1e-6))
    {
        let residual_s =
            fix.arrival_residuals_s[delay.second] - fix.arrival_residuals_s[delay.first];
        assert!((delay.delay_s - explained.delay_s - residual_s).abs() < 1e-11);
    }
}

#[test]
fn receiver_without_a_delay_changes_nothing() {
    let (receivers, transmitter) = dcf77();
    let config = DelaySolverConfig::default();
    let delays = exact(transmitter, &receivers, &[(0, 1), (1, 2)], 1e-6);
    let fix = locate(&receivers, &delays, &central_europe(), &config);
    let more_receivers = [position(10.0, 10.0), receivers[0], receivers[1], receivers[2]];
    let delays = exact(transmitter, &more_receivers, &[(1, 2), (2, 3)], 1e-6);

    let fix_of_more = locate(&more_receivers, &delays, &central_europe(), &config);

    assert!(fix_of_more.position.distance_km(&fix.position) < 1e-6);
    assert_eq!(fix_of_more.arrival_residuals_s.len(), 4);
    assert!(fix_of_more.arrival_residuals_s[0].abs() < 1e-15);
}

/// A wave that is 1 % slow arrives 1 % later everywhere.
#[test]
fn slower_propagation_is_allowed_for() {
    let (receivers, transmitter) = dcf77();
    let mut delays = exact(transmitter, &receivers, &all_pairs(3), 1e-6);
    for delay in &mut delays {
        delay.delay_s /= 0.99;
    }

    let config = DelaySolverConfig { propagation_speed_ratio: 0.99, ..Default::default() };
    let fix = locate(&receivers, &delays, &central_europe(), &config);

    assert!(fix.position.distance_km(&transmitter) < 0.01, "{fix:?}");
}

/// Draws timing errors of receivers and pairs as the config describes them, and counts how often
/// the ellipse of 95 % contains the truth.
fn hits(receivers: &[Position], pairs: &[(usize, usize)], trials: usize, seed: u64) -> usize {
    let transmitter = dcf77().1;
    let config = DelaySolverConfig { grid_km: 50.0, ..DelaySolverConfig::default() };
    let truth = exact(transmitter, receivers, pairs, 3e-6);
    let mut random = Random::new(seed);
    (0..trials)
        .filter(|_| {
            let late_s: Vec<f64> = receivers.iter().map(|_| 10e-6 * random.normal()).collect();
            let mut delays = truth.clone();
            for delay in &mut delays {
                delay.delay_s +=
                    late_s[delay.second] - late_s[delay.first] + 3e-6 * random.normal();
            }
            let fix = locate(receivers, &delays, &central_europe(), &config);
            let offset = LocalFrame { origin: fix.position }.to_local(&transmitter);
            fix.covariance.mahalanobis_squared(offset) <= crate::mahalanobis_squared_at(0.95)
        })
        .count()
}

/// Of 300 trials 285 ± 3.8 should hit: the tolerance is four standard deviations.
#[test]
fn ellipse_of_three_receivers_holds_95_percent() {
    let hits = hits(&dcf77().0, &[(0, 1), (0, 2)], 300, 11);

    assert!((270..=300).contains(&hits), "{hits} of 300");
}

/// With two degrees of freedom left the inflation by χ² can only add to the coverage: its upper end
/// is not tested, the lower one is that of the nominal 95 %.
#[test]
fn ellipse_of_four_receivers_holds_at_least_95_percent() {
    let receivers = [dcf77().0.as_slice(), &[position(48.5, 13.5)]].concat();

    let hits = hits(&receivers, &[(0, 1), (0, 2), (0, 3), (1, 2)], 300, 12);

    assert!(hits >= 270, "{hits} of 300");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Seven receivers leave no ambiguity within 25 km of their box.
    #[test]
    fn any_transmitter_among_seven_receivers_is_found(
        latitude_deg in 44.2_f64..45.7,
        longitude_deg in 7.0_f64..9.4,
    ) {
        let receivers = north_west_italy();
        let transmitter = position(latitude_deg, longitude_deg);
        let delays = exact(transmitter, &receivers, &all_pairs(7), 1e-7);

        let region = region(44.1, 6.9, 45.8, 9.5);
        let fix = locate(&receivers, &delays, &region, &vhf());

        prop_assert!(fix.position.distance_km(&transmitter) < 0.01, "{:?}", fix);
    }

    /// With three receivers the truth is one of the branches: as either of them could be it, both
    /// must be found wherever the position is determined to a few kilometers at all.
    #[test]
    fn truth_is_among_the_branches_of_three_receivers(
        latitude_deg in 45.5_f64..54.5,
        longitude_deg in 0.5_f64..15.5,
    ) {
        let (receivers, _) = dcf77();
        let transmitter = position(latitude_deg, longitude_deg);
        let frame = LocalFrame { origin: transmitter };
        let arrivals: Vec<_> = receivers.iter().map(|r| (frame.to_local(r), 1e-7)).collect();
        let bound = arrival_bound(frame.to_local(&transmitter), &arrivals, None);
        prop_assume!(bound.is_ok_and(|b| Ellipse::of(&b, 0.95).unwrap().semi_major_km < 1.0));
        let delays = exact(transmitter, &receivers, &[(0, 1), (0, 2)], 1e-8);

        let location = locate_by_delays(&receivers, &delays, &central_europe(), &vhf()).unwrap();

        let branches: Vec<_> = location.places().collect();
        prop_assert!(
            branches.iter().any(|branch| branch.position.distance_km(&transmitter) < 0.01),
            "{:?} is not {:?}", branches, transmitter
        );
    }

    /// A delay that is turned round, and delays in another order, say the same.
    #[test]
    fn order_and_direction_of_delays_do_not_matter(
        turned in prop::collection::vec(any::<bool>(), 6),
        rotation in 0_usize..6,
        noise_us in prop::collection::vec(-5_f64..5.0, 6),
    ) {
        let receivers = [dcf77().0.as_slice(), &[position(48.5, 13.5)]].concat();
        let mut delays = exact(dcf77().1, &receivers, &all_pairs(4), 2e-6);
        for (delay, noise_us) in delays.iter_mut().zip(noise_us) {
            delay.delay_s += 1e-6 * noise_us;
        }
        let mut shuffled = delays.clone();
        for (delay, turned) in shuffled.iter_mut().zip(turned) {
            if turned {
                (delay.first, delay.second) = (delay.second, delay.first);
                delay.delay_s = -delay.delay_s;
            }
        }
        shuffled.rotate_left(rotation);

        let config = DelaySolverConfig::default();
        let fix = locate(&receivers, &delays, &central_europe(), &config);
        let same = locate(&receivers, &shuffled, &central_europe(), &config);

        prop_assert!(fix.position.distance_km(&same.position) < 1e-5);
        prop_assert!((fix.covariance.east_km2 / same.covariance.east_km2 - 1.0).abs() < 1e-6);
        prop_assert!((fix.residual_rms_s - same.residual_rms_s).abs() < 1e-11);
    }
}
