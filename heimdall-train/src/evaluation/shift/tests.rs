//! The test of shift: worked out by hand, silent where nothing differs, and loud where something does.

use heimdall_features::ReceiverScalars;
use heimdall_geo::{PathLoss, Position};

use super::*;
use crate::testing::Random;

/// An event that receivers hear at these levels.
fn event(levels_db: &[Option<f64>]) -> FeatureMap {
    let scalars = levels_db.iter().map(|level_db| {
        Some(ReceiverScalars {
            power_db: -50.0,
            noise_psd_db: -90.0,
            snr_db: level_db.unwrap_or(-10.0) as f32,
            bandwidth_hz: 8000.0,
            kurtosis: 1.5,
            detected: level_db.is_some(),
        })
    });
    FeatureMap::of_measurements(scalars.collect(), vec![None; levels_db.len()])
}

/// By hand: the floor of the second receiver is 4 dB. From the first event it is
/// √((2² + 4²) / 2) = √10 dB away, from the second √((8² + 0²) / 2) = √32.
#[test]
fn difference_is_over_the_receivers_that_hear() {
    let training = [event(&[Some(10.0), Some(8.0), None]), event(&[Some(20.0), Some(4.0), None])];
    let levels = TrainingLevels::new(&training);
    let asked = event(&[Some(12.0), None, None]);

    let nearest_db = levels.nearest_db(&asked, |_| true).unwrap();
    let other_db = levels.nearest_db(&asked, |known| known != 0).unwrap();

    assert!((nearest_db - 10_f64.sqrt()).abs() < 1e-6, "{nearest_db}");
    assert!((other_db - 32_f64.sqrt()).abs() < 1e-6, "{other_db}");
    assert_eq!(TrainingLevels::new(&[]).nearest_db(&event(&[None]), |_| true), None);
}

/// Half of {1, 2} lies at or below 1, and nothing of {1.5, 3}; at 2 it is all and half.
#[test]
fn distance_is_the_one_worked_out_by_hand() {
    assert!((distance_of_samples(&[2.0, 1.0], &[1.5, 3.0]) - 0.5).abs() < 1e-12);
    assert!((distance_of_samples(&[1.0, 2.0], &[5.0]) - 1.0).abs() < 1e-12);
}

/// Tables of the limiting distribution have 1.358 for 5 % and 1.949 for one in a thousand.
#[test]
fn critical_values_are_those_of_the_tables() {
    assert!((critical(0.05) - 1.358).abs() < 1e-3);
    assert!((critical(0.001) - 1.949).abs() < 1e-3);
}

/// Events, and what is known of them.
struct Events {
    events: Vec<FeatureMap>,
    positions: Vec<LocalPosition>,
    sessions: Vec<String>,
}

fn receivers() -> Vec<Receiver> {
    ["east", "west"]
        .map(|name| Receiver {
            name: name.to_owned(),
            position: Position::new(45.0, 8.0).unwrap(),
            altitude_m: 0.0,
            antenna_height_m: 10.0,
        })
        .to_vec()
}

fn model() -> LevelModel {
    let place = |east_km| LocalPosition { east_km, north_km: 0.0 };
    let loss = PathLoss {
        level_1km_db: 50.0,
        exponent: 3.0,
        sigma_db: 5.0,
        threshold_db: None,
        outage: 0.0,
    };
    LevelModel::uniform(vec![place(-10.0), place(10.0)], loss, None)
}

/// Events in a square of 20 km whose levels follow the model with an error, with a gain at the second
/// receiver, each of so many in one session.
fn draw(seed: u64, gain_db: Option<f64>, per_session: usize) -> Events {
    let (mut random, model) = (Random(seed), model());
    let mut drawn = Events { events: Vec::new(), positions: Vec::new(), sessions: Vec::new() };
    for _ in 0..8 {
        random.next();
    }
    for index in 0..300 {
        let place = LocalPosition {
            east_km: 20.0 * random.next() - 10.0,
            north_km: 20.0 * random.next() - 10.0,
        };
        let mut level = |receiver, gain_db: Option<f64>| {
            let error_db = 10.0 * random.next() - 5.0;
            Some(model.level_db(receiver, place) + error_db + gain_db?)
        };
        drawn.events.push(event(&[level(0, Some(0.0)), level(1, gain_db)]));
        drawn.positions.push(place);
        drawn.sessions.push(format!("{seed}-{}", index / per_session));
    }
    drawn
}

fn measure(training: &Events, test: &Events, config: &ShiftConfig) -> DataShift {
    let [of_training, of_test] = [training, test]
        .map(|events| events.sessions.iter().map(String::as_str).collect::<Vec<_>>());
    let training = ShiftSet {
        events: &training.events,
        positions: &training.positions,
        sessions: &of_training,
    };
    let test = ShiftSet { events: &test.events, positions: &test.positions, sessions: &of_test };
    DataShift::measure(&training, &test, &model(), &receivers(), config).unwrap()
}

#[test]
fn events_of_one_world_are_alike() {
    for seed in 1..=5 {
        let shift = measure(
            &draw(seed, Some(0.0), 1),
            &draw(seed + 100, Some(0.0), 1),
            &ShiftConfig::default(),
        );

        assert!(!shift.differs, "{shift:?}");
        assert_eq!(shift.comparisons.len(), 6);
        assert_eq!(shift.comparisons[0].training_groups, 300);
    }
}

#[test]
fn receiver_with_another_gain_is_noticed_by_name() {
    let shift = measure(&draw(1, Some(0.0), 1), &draw(2, Some(12.0), 1), &ShiftConfig::default());

    assert!(shift.differs);
    let differs: Vec<_> = shift
        .comparisons
        .iter()
        .filter(|comparison| comparison.quantity == ShiftQuantity::LevelResidualDb)
        .map(|comparison| (comparison.receiver.as_deref().unwrap(), comparison.differs))
        .collect();
    assert_eq!(differs, [("east", false), ("west", true)]);
    let west = shift
        .comparisons
        .iter()
        .rfind(|comparison| comparison.quantity == ShiftQuantity::LevelResidualDb)
        .unwrap();
    assert!((west.test_median - west.training_median - 12.0).abs() < 1.0, "{west:?}");
}

/// Levels above noise say nothing about gains, which a network sees nevertheless.
#[test]
fn receiver_with_another_noise_is_noticed_by_name() {
    let mut test = draw(2, Some(0.0), 1);
    for scalars in test.events.iter_mut().filter_map(|event| event.scalars[0].as_mut()) {
        scalars.noise_psd_db -= 3.0;
    }

    let shift = measure(&draw(1, Some(0.0), 1), &test, &ShiftConfig::default());

    let differing: Vec<_> = shift
        .comparisons
        .iter()
        .filter(|comparison| comparison.differs)
        .map(|comparison| (comparison.quantity, comparison.receiver.as_deref()))
        .collect();
    assert_eq!(differing, [(ShiftQuantity::NoiseDb, Some("east"))]);
    assert!(shift.differs);
}

#[test]
fn receiver_that_hears_nothing_any_more_is_named() {
    let shift = measure(&draw(1, Some(0.0), 1), &draw(2, None, 1), &ShiftConfig::default());

    assert_eq!(shift.lost_receivers, ["west"]);
    let hearing = &shift.comparisons[1];
    assert_eq!((hearing.quantity, hearing.differs), (ShiftQuantity::HearingReceivers, true));
    assert!(
        (hearing.training_median - 2.0).abs() < 1e-9 && (hearing.test_median - 1.0).abs() < 1e-9
    );
}

/// Three hundred events of four sessions are four values, and not enough for certainty; so are those of
/// four squares.
#[test]
fn events_that_are_alike_count_once() {
    let gained = |per_session, block_km| {
        let config = ShiftConfig { block_km, ..ShiftConfig::default() };
        measure(&draw(1, Some(0.0), per_session), &draw(2, Some(12.0), per_session), &config)
    };

    let sessions = gained(75, None);
    let blocks = gained(1, Some(10.0));

    for shift in [&sessions, &blocks] {
        let groups = shift.comparisons.iter().map(|c| (c.training_groups, c.test_groups));
        assert!(groups.clone().all(|groups| groups == (4, 4)), "{shift:?}");
        assert!(!shift.differs && shift.comparisons[0].distance_max > 1.0, "{shift:?}");
    }
}

#[test]
fn senseless_config_is_refused_by_field() {
    for (field, config) in [
        ("significance", ShiftConfig { significance: 0.0, ..ShiftConfig::default() }),
        ("distance_min", ShiftConfig { distance_min: 1.0, ..ShiftConfig::default() }),
        ("block_km", ShiftConfig { block_km: Some(f64::NAN), ..ShiftConfig::default() }),
    ] {
        let error = config.validate().unwrap_err().to_string();

        assert!(error.contains(&format!("shift.{field}")), "{error}");
    }
}
