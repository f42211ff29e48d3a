//! The methods against slow references: silence and absence are told apart, and scales chosen.

use heimdall_data::FEATURE_FORMAT_VERSION;
use heimdall_features::{FeatureConfig, FeatureShape};
use heimdall_geo::{LocalFrame, Position, Receiver};

use super::*;

/// Three receivers in a triangle of some 80 km.
fn header() -> FeatureHeader {
    let receiver = |(index, (latitude, longitude)): (usize, (f64, f64))| Receiver {
        name: format!("receiver-{index}"),
        position: Position::new(latitude, longitude).unwrap(),
        altitude_m: 100.0,
        antenna_height_m: 10.0,
    };
    let places = [(45.0, 7.5), (45.0, 8.5), (45.6, 8.0)];
    FeatureHeader {
        format_version: FEATURE_FORMAT_VERSION,
        shape: FeatureShape::without_levels(3),
        receivers: places.into_iter().enumerate().map(receiver).collect(),
        frame: LocalFrame { origin: Position::new(45.2, 8.0).unwrap() },
        features: Some(FeatureConfig::default()),
        sample_rate_hz: Some(24_000.0),
    }
}

fn scalars(snr_db: f64, power_db: f64) -> ReceiverScalars {
    ReceiverScalars {
        power_db: power_db as f32,
        noise_psd_db: -90.0,
        snr_db: snr_db as f32,
        bandwidth_hz: f32::NAN,
        kurtosis: f32::NAN,
        detected: snr_db >= 3.0,
    }
}

/// Events at random places: levels by distance with an error of up to 5 dB, receivers that are away in
/// one of five cases, and noise that differs from receiver to receiver.
fn events(count: usize, noises_db: [f64; 3]) -> (Vec<FeatureMap>, Vec<LocalPosition>) {
    let header = header();
    let mut state = 12_u64;
    let mut random = || {
        // The generator of Knuth's MMIX; its upper bits are the good ones.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / (1_u64 << 24) as f64
    };
    (0..count)
        .map(|_| {
            let place = LocalPosition {
                east_km: 120.0 * random() - 60.0,
                north_km: 120.0 * random() - 60.0,
            };
            let receivers = header.receivers.iter().zip(noises_db);
            let measured = receivers.map(|(receiver, noise_db)| {
                let distance_km = header.frame.to_local(&receiver.position).distance_km(&place);
                let level_db = 60.0 - 35.0 * distance_km.log10() + 10.0 * random() - 5.0;
                (random() > 0.2).then(|| scalars(level_db - noise_db, level_db))
            });
            (FeatureMap::of_measurements(measured.collect(), vec![None; 3]), place)
        })
        .unzip()
}

fn learn(events: &[FeatureMap], places: &[LocalPosition]) -> Baselines {
    let mean = LocalPosition { east_km: 1.0, north_km: 2.0 };
    Baselines::learn(&header(), mean, Some((events, places))).unwrap()
}

/// The plain mean of the ten training events whose levels differ least in the mean over the receivers
/// that listened in both, by a search through all pairs.
#[test]
fn fingerprints_are_those_of_a_slow_search() {
    let (known, places) = events(400, [0.0, 0.0, 0.0]);
    let (asked, _) = events(460, [0.0, 0.0, 0.0]);
    let baselines = learn(&known, &places);

    for event in &asked[400..] {
        let level_db = |event: &FeatureMap, receiver: usize| {
            event.scalars[receiver].map(|scalars| f64::from(scalars.snr_db).max(3.0 - FAINT_DB))
        };
        let mut near: Vec<(f64, LocalPosition)> = known
            .iter()
            .zip(&places)
            .filter_map(|(other, &place)| {
                let squares: Vec<f64> = (0..3)
                    .filter_map(|r| Some((level_db(event, r)? - level_db(other, r)?).powi(2)))
                    .collect();
                let mean = squares.iter().sum::<f64>() / squares.len() as f64;
                (!squares.is_empty()).then_some((mean, place))
            })
            .collect();
        near.sort_by(|a, b| a.0.total_cmp(&b.0));
        near.truncate(NEIGHBORS);

        let answer = baselines.locate(event).unwrap()[&Method::Fingerprints];

        // Where all receivers are away, nothing is similar.
        let expected =
            weighted_centroid(&near.iter().map(|near| (near.1, 0.0)).collect::<Vec<_>>());
        let expected = expected.unwrap_or(baselines.training_mean);
        assert!(answer.distance_km(&expected) < 1e-6, "{answer:?} is not {expected:?}");
    }
}

/// An event that nobody detects, and whose nearest receiver was away, is like no other: it had been at
/// no distance at all from every event that this receiver alone detects.
#[test]
fn undetected_events_without_a_receiver_do_not_attract() {
    let at = |east_km| LocalPosition { east_km, north_km: 0.0 };
    let heard = FeatureMap::of_measurements(
        vec![Some(scalars(20.0, 0.0)), Some(scalars(-12.0, 0.0)), Some(scalars(-12.0, 0.0))],
        vec![None; 3],
    );
    let mut away = heard.clone();
    away.scalars = vec![None, Some(scalars(-30.0, 0.0)), Some(scalars(-30.0, 0.0))];
    let known: Vec<_> = (0..40).map(|i| if i % 2 == 0 { &heard } else { &away }.clone()).collect();
    let places: Vec<_> = (0..40).map(|i| at(if i % 2 == 0 { -30.0 } else { 50.0 })).collect();

    let answer = learn(&known, &places).locate(&heard).unwrap()[&Method::Fingerprints];

    assert!(answer.distance_km(&at(-30.0)) < 1e-9, "{answer:?}");
}

/// Where noise differs, the ratio to it misleads a centroid, and power does not; where gains follow the
/// signal, as here where all powers are equal, it is the other way around.
#[test]
fn centroid_goes_by_what_is_nearer_to_the_training_events() {
    let (known, places) = events(300, [-10.0, 20.0, -10.0]);
    let by_power = learn(&known, &places);
    let (mut controlled, places) = events(300, [0.0; 3]);
    for scalars in controlled.iter_mut().flat_map(|event| &mut event.scalars).flatten() {
        scalars.power_db = -20.0;
    }
    let by_ratio = learn(&controlled, &places);

    let probe = scalars(7.0, 33.0);
    assert!(((by_power.weighting)(&probe) - 33.0).abs() < 1e-6);
    assert!(((by_ratio.weighting)(&probe) - 7.0).abs() < 1e-6);
}

/// Times without any level, as tables may have them, leave the methods by level out.
#[test]
fn times_alone_are_located_by_times() {
    let header = header();
    let places: Vec<LocalPosition> =
        header.receivers.iter().map(|receiver| header.frame.to_local(&receiver.position)).collect();
    let truth = LocalPosition { east_km: 5.0, north_km: 10.0 };
    let timed = ReceiverScalars { detected: true, ..scalars(f64::NAN, f64::NAN) };
    let arrivals = places.iter().map(|place| {
        let time_s = place.distance_km(&truth) / heimdall_geo::SPEED_OF_LIGHT_KM_S;
        Some(heimdall_features::ArrivalTime { time_s, sigma_s: 1e-7 })
    });
    let event = FeatureMap::of_measurements(vec![Some(timed); 3], arrivals.collect());
    let known = [event.clone(), event.clone()];

    let answers = learn(&known, &[truth, truth]).locate(&event).unwrap();

    assert!(
        !answers.contains_key(&Method::Fingerprints) && !answers.contains_key(&Method::LevelGrid)
    );
    assert!(answers[&Method::Tdoa].distance_km(&truth) < 0.1, "{answers:?}");
    assert!(answers.values().all(|place| place.east_km.is_finite()), "{answers:?}");
}
