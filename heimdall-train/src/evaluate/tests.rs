//! Laws of an evaluation: every figure from its definition, and nothing that it must not know.

use heimdall_features::ReceiverScalars;
use heimdall_geo::weighted_centroid;

use super::*;
use crate::Method;
use crate::testing::{synthetic, untrained};

struct Setup {
    _folder: tempfile::TempDir,
    model: TrainedModel,
    training: HeimdallDataset,
    calibration: HeimdallDataset,
    test: HeimdallDataset,
}

fn setup() -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let dataset = synthetic(folder.path(), 40, 5);
    let part = |range: std::ops::Range<usize>| dataset.subset(&range.collect::<Vec<_>>());
    let model = untrained(&part(0..10));
    Setup {
        model,
        training: part(0..10),
        calibration: part(10..30),
        test: part(30..40),
        _folder: folder,
    }
}

impl Setup {
    fn sets(&self) -> EvaluationSets<'_> {
        EvaluationSets {
            training: Some(&self.training),
            calibration: &self.calibration,
            test: &self.test,
            new_world: None,
        }
    }
}

fn run(setup: &Setup) -> (TrainedModel, Evaluation) {
    let cancel = AtomicBool::new(false);
    evaluate(&setup.model, setup.sets(), &EvaluateConfig::default(), &cancel).unwrap()
}

/// A level of a receiver, in dB.
type LevelOf = fn(&ReceiverScalars) -> f32;

/// The receivers that detect an event, each with a level.
fn hearing(
    set: &HeimdallDataset,
    features: &FeatureMap,
    level_db: LevelOf,
) -> Vec<(LocalPosition, f64)> {
    let header = set.header();
    let receivers = header.receivers.iter().zip(&features.scalars);
    let detected = receivers.filter_map(|(receiver, scalars)| {
        let scalars = scalars.as_ref().filter(|scalars| scalars.detected)?;
        Some((header.frame.to_local(&receiver.position), f64::from(level_db(scalars))))
    });
    detected.collect()
}

/// The level by which the centroid is nearer to the training events.
fn chosen_level(training: &HeimdallDataset) -> LevelOf {
    let median_km = |level_db| {
        let places = training
            .header()
            .receivers
            .iter()
            .map(|receiver| (training.header().frame.to_local(&receiver.position), 0.0));
        let middle = weighted_centroid(&places.collect::<Vec<_>>()).unwrap();
        let errors_km = (0..training.len()).map(|index| {
            let (label, features) = training.get(index).unwrap();
            let centroid = weighted_centroid(&hearing(training, &features, level_db));
            centroid.unwrap_or(middle).distance_km(&label.position_km.unwrap())
        });
        heimdall_loss::percentile(&errors_km.collect::<Vec<_>>(), 50.0).unwrap()
    };
    let (by_ratio, by_power): (LevelOf, LevelOf) =
        (|scalars| scalars.snr_db, |scalars| scalars.power_db);
    if median_km(by_power) < median_km(by_ratio) { by_power } else { by_ratio }
}

/// The slow way: every figure of an event from its definition.
#[test]
fn events_are_measured_by_their_definitions() {
    let setup = setup();

    let (model, evaluation) = run(&setup);

    let scale = model.manifest.sigma_scale;
    let frame = setup.test.header().frame;
    let standardization = &setup.model.manifest.network.standardization;
    let [east_km, north_km] = standardization.position_mean_km.map(f64::from);
    let mean = frame.to_position(&LocalPosition { east_km, north_km }).unwrap();
    let cancel = AtomicBool::new(false);
    let raw = predict(&setup.model.network, &setup.test, 3, &cancel).unwrap().unwrap();
    assert_eq!(evaluation.events.len(), 10);
    let level_db = chosen_level(&setup.training);
    for (index, event) in evaluation.events.iter().enumerate() {
        let (label, features) = setup.test.get(index).unwrap();
        let truth = label.position_km.unwrap();
        assert_eq!((event.truth, &event.event), (truth, &label.event));
        let at = frame.to_position(&truth).unwrap();

        let error_km = at.distance_km(&frame.to_position(&event.estimate).unwrap());
        assert!((event.error_km - error_km).abs() < 1e-9);
        let guess_km = event.baselines[&Method::TrainingMean].error_km;
        assert!((guess_km - at.distance_km(&mean)).abs() < 1e-9);
        let training = setup.training.labels().iter();
        let nearest_km = training
            .map(|label| label.position_km.unwrap().distance_km(&truth))
            .fold(f64::INFINITY, f64::min);
        assert!((event.nearest_training_km.unwrap() - nearest_km).abs() < 1e-9);
        // Both learn from the same ten events.
        for method in [Method::LevelGrid, Method::Fingerprints, Method::RegionCenter] {
            let answer = event.baselines[&method];
            let error_km = at.distance_km(&frame.to_position(&answer.position).unwrap());
            assert!((answer.error_km - error_km).abs() < 1e-9);
        }
        assert!(!event.baselines.contains_key(&Method::Tdoa));

        let hearing = hearing(&setup.test, &features, level_db);
        assert_eq!(event.hearing_receivers, hearing.len());
        if let Some(centroid) = weighted_centroid(&hearing) {
            let answer = event.baselines[&Method::Centroid];
            assert!(answer.position.distance_km(&centroid) < 1e-9);
            let strongest =
                hearing.iter().max_by(|a, b| a.1.total_cmp(&b.1)).expect("somebody hears it");
            let answer = event.baselines[&Method::Strongest];
            assert!(answer.position.distance_km(&strongest.0) < 1e-9);
        }

        // Scaling σ by s scales the area by s², and m² by its inverse.
        let m2 = raw[index].mahalanobis_squared(truth) / scale.powi(2);
        assert!((event.mahalanobis_squared - m2).abs() < 1e-3 * m2.max(1.0));
        let determinant = raw[index].covariance.determinant_km4();
        let area_km2 = std::f64::consts::PI * 4.605_170_186 * determinant.sqrt() * scale.powi(2);
        assert!((event.region_90_area_km2 / area_km2 - 1.0).abs() < 1e-3);
    }
}

/// After recalibration, `m²` of the calibration events themselves is 2 on average.
#[test]
fn calibration_split_is_honest_after_recalibration() {
    let setup = setup();

    let (model, _) = run(&setup);

    let cancel = AtomicBool::new(false);
    let raw = predict(&setup.model.network, &setup.calibration, 8, &cancel).unwrap().unwrap();
    let distances = raw.iter().zip(truths(&setup.calibration));
    let distances = distances.map(|(prediction, truth)| prediction.mahalanobis_squared(truth));
    let mean = distances.sum::<f64>() / raw.len() as f64 / model.manifest.sigma_scale.powi(2);
    assert!((mean - 2.0).abs() < 1e-6, "{mean}");
}

#[test]
fn recalibrated_model_carries_scale_and_metrics() {
    let setup = setup();

    let (model, evaluation) = run(&setup);

    assert_eq!(model.manifest.metrics, evaluation.metrics);
    assert!((model.manifest.sigma_scale - evaluation.metrics["sigma_scale"]).abs() < 1e-15);
    assert!(evaluation.metrics.values().all(|value| value.is_finite()), "{evaluation:?}");
    for name in ["coverage_95_uncalibrated", "pit_ks", "calibration_events"] {
        assert!(evaluation.metrics.contains_key(name), "{name}");
    }
    let text = serde_json::to_string(&evaluation).unwrap();
    assert_eq!(serde_json::from_str::<Evaluation>(&text).unwrap(), evaluation);
}

#[test]
fn sets_that_cannot_be_measured_are_refused() {
    let setup = setup();
    let other = tempfile::tempdir().unwrap();
    let other = crate::testing::wider(other.path());
    let single = setup.calibration.subset(&[0]);
    let error = |sets: EvaluationSets<'_>| {
        evaluate(&setup.model, sets, &EvaluateConfig::default(), &AtomicBool::new(false))
            .unwrap_err()
    };

    let single = error(EvaluationSets { calibration: &single, ..setup.sets() });
    let differs = error(EvaluationSets { test: &other, ..setup.sets() });
    let shared = error(EvaluationSets { test: &setup.calibration, ..setup.sets() });

    assert!(matches!(single, TrainError::TooFewEvents { part: Part::Calibration, .. }));
    assert!(matches!(differs, TrainError::FeaturesDiffer { part: Part::Test, .. }));
    assert!(matches!(shared, TrainError::SharedEvent { part: Part::Test, .. }));
}

/// An event that was learned must not test: the leak is refused by name.
#[test]
fn event_of_the_training_split_is_refused_in_the_test() {
    let setup = setup();
    let leak = setup.training.subset(&[3, 4]);

    let sets = EvaluationSets { test: &leak, ..setup.sets() };
    let error = evaluate(&setup.model, sets, &EvaluateConfig::default(), &AtomicBool::new(false));

    let error = error.unwrap_err().to_string();
    assert!(error.contains(&setup.training.labels()[3].event), "{error}");
}

/// With exchanged positions nothing is better than the mean, and the figures are all there.
#[test]
fn exchanged_positions_leave_nothing_but_a_guess() {
    let setup = setup();
    let config = EvaluateConfig { control: true, ..EvaluateConfig::default() };

    let result = evaluate(&setup.model, setup.sets(), &config, &AtomicBool::new(false));

    let metrics = result.unwrap().1.metrics;
    let guess_km = metrics["control.guess_km_median"];
    for method in ["network", "fingerprints"] {
        let error_km = metrics[&format!("control.{method}.error_km_median")];
        assert!(error_km > 0.85 * guess_km, "{method}: {error_km} km, guess {guess_km} km");
    }
}

/// What knows the exchanged positions is found out: here the "network" is asked for the very
/// positions that the control will compare it with.
#[test]
fn control_finds_out_who_knows_the_answers() {
    let setup = setup();
    let mut test = Known::read(&setup.test, Vec::new()).unwrap();
    let covariance = heimdall_geo::Covariance::from_cholesky(1.0, 0.0, 1.0);
    let count = test.truths.len();
    test.predictions = (0..count)
        .map(|index| Prediction { mean_km: test.truths[(index + count / 2) % count], covariance })
        .collect();

    let error = control::exchange(LocalPosition::default(), None, &test).unwrap_err();

    assert!(matches!(error, TrainError::ControlFailed { method: "network", .. }), "{error}");
}

/// Another world is measured by the calibration of the one that is known; here it is the test events
/// themselves, so that every figure must be the same, whatever their names.
#[test]
fn new_world_is_measured_like_the_test_events() {
    let setup = setup();
    let sets = EvaluationSets { new_world: Some(&setup.test), ..setup.sets() };

    let (_, evaluation) =
        evaluate(&setup.model, sets, &EvaluateConfig::default(), &AtomicBool::new(false)).unwrap();

    let other = evaluation.new_world.unwrap();
    for (name, value) in &other.metrics {
        assert!((value - evaluation.metrics[name]).abs() < 1e-12, "{name}");
        assert!((value - evaluation.metrics[&format!("new_world.{name}")]).abs() < 1e-12, "{name}");
    }
    assert!(other.metrics.len() > 50, "{:?}", other.metrics);
    assert_eq!(other.shift, evaluation.shift);
}

/// Without a receiver an event is what the network says of features that lack it.
#[test]
fn receivers_are_left_out_one_by_one() {
    let setup = setup();
    let config = EvaluateConfig { leave_one_receiver_out: true, ..EvaluateConfig::default() };

    let result = evaluate(&setup.model, setup.sets(), &config, &AtomicBool::new(false));

    let (model, evaluation) = result.unwrap();
    let names: Vec<_> = evaluation.without_receiver.iter().map(|loss| &loss.receiver).collect();
    assert_eq!(names, ["receiver-0", "receiver-1"]);
    for (receiver, loss) in evaluation.without_receiver.iter().enumerate() {
        let detected: Vec<usize> = (0..setup.test.len())
            .filter(|&event| {
                setup.test.get(event).unwrap().1.scalars[receiver].is_some_and(|s| s.detected)
            })
            .collect();
        assert!(!detected.is_empty() && detected.len() < setup.test.len());
        assert!((loss.with["events"] - detected.len() as f64).abs() < 1e-9);
        let median_km = |set: &HeimdallDataset| {
            let cancel = AtomicBool::new(false);
            let predictions = predict(&model.network, set, 8, &cancel).unwrap().unwrap();
            let frame = set.header().frame;
            let errors_km = predictions.iter().zip(truths(set)).map(|(prediction, truth)| {
                event::geodesic_km(&frame, truth, prediction.mean_km).unwrap()
            });
            heimdall_loss::percentile(&errors_km.collect::<Vec<_>>(), 50.0).unwrap()
        };
        let heard = setup.test.subset(&detected);
        let deaf = heard.without_receiver(receiver);
        assert!((loss.with["error_km_median"] - median_km(&heard)).abs() < 1e-6);
        assert!((loss.without["error_km_median"] - median_km(&deaf)).abs() < 1e-6);
        assert!((median_km(&heard) - median_km(&deaf)).abs() > 1e-6, "{loss:?}");
    }
}

#[test]
fn without_training_events_methods_that_learn_are_left_out() {
    let setup = setup();
    let sets = EvaluationSets { training: None, ..setup.sets() };

    let (_, evaluation) =
        evaluate(&setup.model, sets, &EvaluateConfig::default(), &AtomicBool::new(false)).unwrap();

    assert!(evaluation.shift.is_none());
    assert!(!evaluation.metrics.contains_key("fingerprints.error_km_median"));
    assert!(evaluation.metrics.contains_key("centroid.error_km_median"));
    assert!(evaluation.events.iter().all(|event| event.nearest_training_km.is_none()));
}

#[test]
fn raised_flag_stops() {
    let setup = setup();

    let result =
        evaluate(&setup.model, setup.sets(), &EvaluateConfig::default(), &AtomicBool::new(true));

    assert!(matches!(result, Err(TrainError::EvaluationInterrupted)));
}
