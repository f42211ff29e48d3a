//! Tests of the localization by arrival times: synthetic transmitters among real receivers.

use proptest::prelude::*;

use super::*;
use crate::arrival_bound;
use crate::mahalanobis_squared_at;
use crate::random::Random;
use crate::testing::north_west_italy;

const SIGMA_S: f64 = 1e-7;

/// Some of seven receivers, within 50 km around all of them.
struct Network {
    receivers: Vec<(Position, f64)>,
    frame: LocalFrame,
    solver: ArrivalSolver,
}

fn network(config: &ArrivalConfig) -> Network {
    let receivers = north_west_italy();
    let positions: Vec<Position> = receivers.iter().map(|(position, _)| *position).collect();
    let frame = LocalFrame::centered_on(&positions).unwrap();
    let corner = |east_km, north_km| LocalPosition { east_km, north_km };
    let grid = PlaneGrid::new(corner(-130.0, -110.0), corner(130.0, 110.0), 10.0).unwrap();
    let solver = ArrivalSolver::new(frame, &receivers, grid, config).unwrap();
    Network { receivers, frame, solver }
}

impl Network {
    /// Arrivals from a place, sent at 1234.5 s, without an error.
    ///
    /// Ranges are computed along geodesics, or in space from the usual formula: neither is what the
    /// solver uses.
    fn exact(
        &self,
        place: LocalPosition,
        receivers: &[usize],
        altitude_m: Option<f64>,
    ) -> Vec<Arrival> {
        let transmitter = self.frame.to_position(&place).unwrap();
        let range_km = |&(receiver, own_altitude_m): &(Position, f64)| match altitude_m {
            None => transmitter.distance_km(&receiver),
            Some(altitude_m) => {
                let (a, b) =
                    (space_km(&transmitter, altitude_m), space_km(&receiver, own_altitude_m));
                a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
            }
        };
        receivers
            .iter()
            .map(|&receiver| Arrival {
                receiver,
                time_s: 1234.5
                    + range_km(&self.receivers[receiver]) / (0.9997 * SPEED_OF_LIGHT_KM_S),
                sigma_s: SIGMA_S,
            })
            .collect()
    }

    fn locate(&self, arrivals: &[Arrival], altitude_m: Option<f64>) -> Location {
        self.solver.locate(arrivals, altitude_m).unwrap()
    }
}

/// Earth-centered coordinates of a point.
fn space_km(position: &Position, altitude_m: f64) -> [f64; 3] {
    let (sin, cos) = position.latitude_deg().to_radians().sin_cos();
    let (sin_longitude, cos_longitude) = position.longitude_deg().to_radians().sin_cos();
    let radius_km = 6378.137 / (1.0 - 0.006_694_379_990_14 * sin * sin).sqrt();
    let altitude_km = altitude_m / 1000.0;
    [
        (radius_km + altitude_km) * cos * cos_longitude,
        (radius_km + altitude_km) * cos * sin_longitude,
        (radius_km * (1.0 - 0.006_694_379_990_14) + altitude_km) * sin,
    ]
}

fn local(east_km: f64, north_km: f64) -> LocalPosition {
    LocalPosition { east_km, north_km }
}

const ALL: [usize; 7] = [0, 1, 2, 3, 4, 5, 6];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// The tolerance is what the times lose at 1234 s: some 0.2 ns, and the geometry multiplies.
    #[test]
    fn any_transmitter_among_seven_receivers_is_found(
        east_km in -100_f64..100.0,
        north_km in -80_f64..80.0,
        altitude_m in prop::option::of(0_f64..12_000.0),
    ) {
        let network = network(&ArrivalConfig::default());
        let place = local(east_km, north_km);

        let location = network.locate(&network.exact(place, &ALL, altitude_m), altitude_m);

        let best = location.best().unwrap();
        prop_assert!(best.position.distance_km(&place) < 0.01, "{:?}", location);
        prop_assert_eq!(location.status(), "fix");
    }

    /// A single wrong receiver of seven does not move the fix by more than its clean errors would. At
    /// the rim, taking another for the wrong one may explain the times as well: then both are answers.
    #[test]
    fn one_wrong_receiver_is_outvoted(
        east_km in -60_f64..60.0,
        north_km in -50_f64..50.0,
        wrong in 0_usize..7,
        late_s in prop_oneof![-1e-3..-1e-4, 1e-4..1e-3],
    ) {
        let network = network(&ArrivalConfig { timing_floor_s: 0.0, ..ArrivalConfig::default() });
        let place = local(east_km, north_km);
        let mut arrivals = network.exact(place, &ALL, None);
        arrivals[wrong].time_s += late_s;

        let location = network.locate(&arrivals, None);

        let answers: Vec<_> = location.places().collect();
        // A wrong time pulls by less than its share of a microsecond, 30 m, times the geometry.
        let near = |answer: &&Estimate| answer.position.distance_km(&place) < 0.2;
        prop_assert!(answers.iter().any(near), "{:?}", location);
        prop_assert!(answers.len() <= 2, "{:?}", location);
    }
}

/// How often a transmitter among some of the receivers is found, of 105 trials, where one of them is
/// wrong by 20 µs to 1 ms and all others by 100 ns: as the best answer, and as any of them.
fn outvoted(count: usize, seed: u64) -> (usize, usize) {
    let network = network(&ArrivalConfig::default());
    let mut random = Random::new(seed);
    let (mut as_best, mut as_any) = (0, 0);
    for trial in 0..105 {
        // Neighbors in the list in turn, and each of them wrong in turn.
        let chosen: Vec<usize> = (0..count).map(|index| (index + trial) % 7).collect();
        // A weighted mean lies in their hull.
        let weights: Vec<f64> = chosen.iter().map(|_| -random.uniform().ln()).collect();
        let heard = chosen.iter().map(|&receiver| network.receivers[receiver].0);
        let place = heard.zip(&weights).fold(local(0.0, 0.0), |sum, (receiver, weight)| {
            let share = weight / weights.iter().sum::<f64>();
            let LocalPosition { east_km, north_km } = network.frame.to_local(&receiver);
            local(sum.east_km + share * east_km, sum.north_km + share * north_km)
        });
        let mut arrivals = network.exact(place, &chosen, None);
        for arrival in &mut arrivals {
            arrival.time_s += SIGMA_S * random.normal();
        }
        let sign = if random.uniform() < 0.5 { -1.0 } else { 1.0 };
        arrivals[trial / 7 % count].time_s += sign * 2e-5 * 50_f64.powf(random.uniform());

        let location = network.locate(&arrivals, None);

        let near = |answer: &Estimate| answer.position.distance_km(&place) < 1.0;
        let is_best = location.best().is_some_and(near);
        as_best += usize::from(is_best);
        as_any += usize::from(is_best || location.alternatives().iter().any(near));
    }
    (as_best, as_any)
}

/// Among the receivers, six leave no doubt who is wrong. Five leave one time to check the fix by
/// once the wrong one is known: now and then another one could be it.
#[test]
fn one_wrong_receiver_is_outvoted_in_the_midst_of_clean_errors() {
    for (count, best_min, any_min) in [(5, 95, 100), (6, 104, 104), (7, 104, 104)] {
        let (as_best, as_any) = outvoted(count, 6);

        assert!(as_best >= best_min, "{as_best} of 105 with {count} receivers");
        assert!(as_any >= any_min, "{as_any} of 105 with {count} receivers");
    }
}

/// The misfit has a second minimum 90 m beside this place, near a receiver.
#[test]
fn dent_beside_a_receiver_is_no_second_place() {
    let network = network(&ArrivalConfig::default());
    let place = local(42.249_452_888_526_186, 6.490_996_180_006_042);

    let location = network.locate(&network.exact(place, &ALL, None), None);

    assert_eq!(location.status(), "fix", "{location:?}");
    assert!(location.best().unwrap().position.distance_km(&place) < 0.01);
}

#[test]
fn both_branches_of_three_receivers_are_reported() {
    let network = network(&ArrivalConfig::default());
    // Behind the outermost receiver of a wide triangle.
    let place = local(85.0, 70.0);
    let arrivals = network.exact(place, &[0, 5, 6], None);

    let location = network.locate(&arrivals, None);

    let Location::Ambiguous { best, alternatives, reason } = &location else {
        panic!("{location:?}")
    };
    assert_eq!((alternatives.len(), *reason), (1, Ambiguity::Branches));
    let branches = [best.position, alternatives[0].position];
    assert!(branches.iter().any(|branch| branch.distance_km(&place) < 0.01), "{branches:?}");
    for branch in branches {
        let explained = network.exact(branch, &[0, 5, 6], None);
        for pair in [(0, 1), (0, 2)] {
            let delay_s = |arrivals: &[Arrival]| arrivals[pair.1].time_s - arrivals[pair.0].time_s;
            assert!((delay_s(&arrivals) - delay_s(&explained)).abs() < 3e-9, "{branch:?}");
        }
    }
}

/// With times of equal variance, and no residuals, the covariance is the bound.
#[test]
fn covariance_is_the_bound() {
    let config = ArrivalConfig {
        timing_floor_s: 2e-7,
        tail_degrees: 1e6,
        propagation_speed_ratio: 1.0,
        ..ArrivalConfig::default()
    };
    let network = network(&config);
    let place = local(20.0, -10.0);
    let mut arrivals = network.exact(place, &ALL, None);
    for arrival in &mut arrivals {
        arrival.time_s = 1234.5 + (arrival.time_s - 1234.5) * 0.9997;
    }
    let sigma_s = SIGMA_S.hypot(2e-7);
    let places = network.receivers.iter().map(|(position, _)| network.frame.to_local(position));
    let bound =
        arrival_bound(place, &places.map(|place| (place, sigma_s)).collect::<Vec<_>>(), None);

    let location = network.locate(&arrivals, None);

    let (covariance, bound) = (location.best().unwrap().covariance, bound.unwrap());
    for (actual, expected) in
        [(covariance.east_km2, bound.east_km2), (covariance.north_km2, bound.north_km2)]
    {
        assert!((actual / expected - 1.0).abs() < 0.01, "{covariance:?}, {bound:?}");
    }
}

/// Every receiver has an error of its own that stays, and another of each transmission. Of 300
/// trials 270 ± 5.2 should hit; the tails of Student's distribution make the regions wider.
#[test]
fn regions_hold_at_least_what_they_promise() {
    let network = network(&ArrivalConfig::default());
    let mut random = Random::new(3);
    let mut hits = 0;
    for _ in 0..300 {
        let place = local(120.0 * (random.uniform() - 0.5), 100.0 * (random.uniform() - 0.5));
        let mut arrivals = network.exact(place, &ALL, None);
        for arrival in &mut arrivals {
            arrival.time_s += 0.1e-6 * random.normal() + SIGMA_S * random.normal();
        }
        let location = network.locate(&arrivals, None);
        let Some(best) = location.best() else { continue };
        let offset =
            local(best.position.east_km - place.east_km, best.position.north_km - place.north_km);
        hits +=
            usize::from(best.covariance.mahalanobis_squared(offset) < mahalanobis_squared_at(0.9));
    }

    assert!(hits >= 255, "{hits} of 300");
}

#[test]
fn position_floor_is_added() {
    let plain = network(&ArrivalConfig::default());
    let floored = network(&ArrivalConfig { position_floor_km: 0.5, ..ArrivalConfig::default() });
    let arrivals = plain.exact(local(0.0, 0.0), &ALL, None);

    let covariance = |network: &Network| network.locate(&arrivals, None).best().unwrap().covariance;

    let (without, with) = (covariance(&plain), covariance(&floored));
    assert!((with.east_km2 - without.east_km2 - 0.25).abs() < 1e-9);
    assert!((with.north_km2 - without.north_km2 - 0.25).abs() < 1e-9);
    assert!((with.east_north_km2 - without.east_north_km2).abs() < 1e-9);
}

#[test]
fn transmitter_outside_of_the_grid_is_no_fix() {
    let network = network(&ArrivalConfig::default());
    let arrivals = network.exact(local(0.0, 200.0), &ALL, None);

    assert_eq!(network.locate(&arrivals, None), Location::NoFix(NoFix::OutsideRegion));
}

#[test]
fn two_receivers_are_too_few() {
    let network = network(&ArrivalConfig::default());
    let few = |receivers: &[usize]| {
        network.locate(&network.exact(local(0.0, 0.0), receivers, None), None)
    };

    for receivers in [&[][..], &[2], &[2, 5]] {
        let expected = NoFix::TooFewReceivers { receivers: receivers.len(), required: 3 };
        assert_eq!(few(receivers), Location::NoFix(expected));
    }
}

/// Two receivers at one place see the same: a third one leaves a line.
#[test]
fn receivers_at_one_place_count_once() {
    let mut receivers = north_west_italy();
    receivers[1].0 = receivers[0].0;
    let frame = LocalFrame { origin: receivers[2].0 };
    let grid = PlaneGrid::new(local(-100.0, -100.0), local(100.0, 100.0), 20.0).unwrap();
    let solver = ArrivalSolver::new(frame, &receivers, grid, &ArrivalConfig::default()).unwrap();
    let arrival = |receiver| Arrival { receiver, time_s: 0.0, sigma_s: SIGMA_S };

    let location = solver.locate(&[arrival(0), arrival(1), arrival(2)], None).unwrap();

    assert_eq!(location, Location::NoFix(NoFix::TooFewReceivers { receivers: 2, required: 3 }));
}

#[test]
fn senseless_arrivals_are_refused() {
    let network = network(&ArrivalConfig::default());
    let good = network.exact(local(0.0, 0.0), &ALL, None);
    let refusal = |change: &dyn Fn(&mut Vec<Arrival>)| {
        let mut arrivals = good.clone();
        change(&mut arrivals);
        network.solver.locate(&arrivals, None).unwrap_err()
    };
    for error in [
        refusal(&|arrivals| arrivals[2].receiver = 9),
        refusal(&|arrivals| arrivals[2].receiver = 1),
        refusal(&|arrivals| arrivals[2].time_s = f64::NAN),
        refusal(&|arrivals| arrivals[2].sigma_s = 0.0),
    ] {
        assert!(matches!(error, GeoError::InvalidArrival { arrival: 2, .. }), "{error}");
    }
    assert!(network.solver.locate(&good, Some(f64::INFINITY)).is_err());
    let senseless = ArrivalConfig { tail_degrees: 0.0, ..ArrivalConfig::default() };
    assert!(senseless.validate().unwrap_err().to_string().contains("`tail_degrees`"));
}

/// One receiver 30 µs late leaves its mark on the residual, and on nothing else.
#[test]
fn residual_tells_bad_times() {
    let network = network(&ArrivalConfig::default());
    let place = local(0.0, 0.0);
    let mut arrivals = network.exact(place, &ALL, None);
    let clean_s = network.solver.residual_s(&arrivals, None, &place).unwrap().unwrap();
    arrivals[3].time_s += 30e-6;
    let late_s = network.solver.residual_s(&arrivals, None, &place).unwrap().unwrap();

    assert!(clean_s < 2e-9, "{clean_s}");
    // 30 µs in one of seven receivers, with four degrees of freedom left.
    assert!((late_s - 15e-6).abs() < 1e-6, "{late_s}");
    assert_eq!(network.solver.residual_s(&arrivals[..3], None, &place).unwrap(), None);
}
