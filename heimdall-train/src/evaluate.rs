//! An evaluation on events that were looked at by nobody before.

use std::sync::atomic::AtomicBool;

use heimdall_data::{HeimdallDataset, Part};
use heimdall_geo::{Covariance, Ellipse, GeoError, LocalFrame, LocalPosition};
use heimdall_loss::sigma_scale;
use tracing::info;

use crate::baseline::ReceiverLayout;
use crate::evaluation::{curves, metrics};
use crate::predict::{Prediction, predict, truths};
use crate::train::check_features;
use crate::{EVALUATION_FORMAT_VERSION, EvaluatedEvent, Evaluation, TrainError, TrainedModel};

/// Events that the network looks at together.
const BATCH_SIZE: usize = 32;

/// Corrects the stated uncertainty on `calibration`, and measures the network on `test`.
///
/// The standard deviations are multiplied by `s = √(mean m² / 2)` over the calibration events, with
/// `m²` the squared Mahalanobis distance of the truth from the uncorrected estimate. The returned
/// model has this factor, and the metrics, in its manifest; its weights are the same.
///
/// # Metrics
///
/// | name | meaning |
/// |---|---|
/// | `error_km_median`, `_p68`, `_p90`, `_mean` | error along the geodesic, in km |
/// | `centroid.error_km_median` … | the same of the centroid of the detecting receivers, weighted by `10^(SNR/20)`; where none detects, of the mean of all receivers |
/// | `strongest.error_km_median` … | the same of the receiver with the highest SNR |
/// | `training_mean.error_km_median` … | the same of the mean position of the training split |
/// | `coverage_50`, `_68`, `_90`, `_95` | share of the truths inside of the regions of 50 … 95 % |
/// | `coverage_90_low`, `coverage_90_high` … | their 95 % Wilson intervals |
/// | `coverage_90_uncalibrated` … | coverage with a factor of 1 |
/// | `nll`, `nll_uncalibrated` | mean negative log-likelihood, in nats |
/// | `pit_ks`, `pit_ks_uncalibrated` | Kolmogorov–Smirnov distance of `1 − exp(−m²/2)` from uniform |
/// | `region_90_area_km2_median` | median area of the regions of 90 %, in km² |
/// | `better_than_centroid_share`, `_low`, `_high` | share of the events with a smaller error than the centroid's, and its Wilson interval |
/// | `sigma_scale`, `events`, `calibration_events` | the factor, and the sizes of the two sets |
///
/// # Errors
///
/// - [`TrainError::TooFewEvents`] if there are fewer than two events to calibrate on, or none to
///   test, and [`TrainError::FeaturesDiffer`] if they have other features than the model takes.
/// - [`TrainError::EvaluationInterrupted`] if `cancel` was raised.
/// - [`TrainError::NonFiniteEstimate`] or [`TrainError::Estimate`] if an estimate makes no sense.
/// - [`TrainError::Data`] if features cannot be read.
pub fn evaluate(
    model: &TrainedModel,
    calibration: &HeimdallDataset,
    test: &HeimdallDataset,
    cancel: &AtomicBool,
) -> Result<(TrainedModel, Evaluation), TrainError> {
    for (part, expected, set) in [(Part::Calibration, 2, calibration), (Part::Test, 1, test)] {
        if set.len() < expected {
            return Err(TrainError::TooFewEvents { part, expected, actual: set.len() });
        }
        let alike = model.manifest.network.backbone.treats_receivers_alike();
        check_features(&model.manifest.features, set, part, alike)?;
    }
    let predict = |set| {
        predict(&model.network, set, BATCH_SIZE, cancel)?.ok_or(TrainError::EvaluationInterrupted)
    };

    let sigma_scale = recalibrate(&predict(calibration)?, &truths(calibration));
    let events = evaluate_events(model, test, &predict(test)?, sigma_scale)?;

    let mut metrics = metrics(&events, sigma_scale);
    metrics.insert("calibration_events".to_owned(), calibration.len() as f64);
    info!(
        events = events.len(),
        error_km_median = metrics["error_km_median"],
        coverage_90 = metrics["coverage_90"],
        sigma_scale,
        "evaluated"
    );
    let mut recalibrated = model.clone();
    recalibrated.manifest.sigma_scale = sigma_scale;
    recalibrated.manifest.metrics = metrics.clone();
    let [calibration_curve, calibration_curve_uncalibrated] = curves(&events, sigma_scale);
    let evaluation = Evaluation {
        format_version: EVALUATION_FORMAT_VERSION,
        frame: test.header().frame,
        receivers: test.header().receivers.clone(),
        metrics,
        calibration_curve,
        calibration_curve_uncalibrated,
        events,
    };
    Ok((recalibrated, evaluation))
}

/// Computes the factor that makes standard deviations honest on average.
fn recalibrate(predictions: &[Prediction], truths: &[LocalPosition]) -> f64 {
    let distances: Vec<f64> = predictions
        .iter()
        .zip(truths)
        .map(|(prediction, &truth)| prediction.mahalanobis_squared(truth))
        .collect();
    let scale = sigma_scale(&distances).expect("there are events to calibrate on");
    // Estimates without any error say nothing about a scale, and zero would be the end of all.
    if scale > 0.0 { scale } else { 1.0 }
}

/// Puts what is known of each test event beside its truth.
fn evaluate_events(
    model: &TrainedModel,
    test: &HeimdallDataset,
    predictions: &[Prediction],
    sigma_scale: f64,
) -> Result<Vec<EvaluatedEvent>, TrainError> {
    let header = test.header();
    let frame = header.frame;
    let positions =
        header.receivers.iter().map(|receiver| frame.to_local(&receiver.position)).collect();
    let layout = ReceiverLayout::new(positions);
    let [east_km, north_km] =
        model.network.config().standardization.position_mean_km.map(f64::from);
    let training_mean = LocalPosition { east_km, north_km };

    let truths = truths(test);
    let mut events = Vec::with_capacity(test.len());
    for (index, (prediction, &truth)) in predictions.iter().zip(&truths).enumerate() {
        let (label, features) = test.get(index)?;
        let name = label.event.clone();
        let no_position = |source| TrainError::Estimate { event: name.clone(), source };
        let error_km = |position| geodesic_km(&frame, truth, position).map_err(no_position);

        let scaled = Prediction {
            covariance: prediction.covariance.scaled(sigma_scale.powi(2)),
            ..*prediction
        };
        let centroid = layout.centroid(&features.scalars);
        events.push(EvaluatedEvent {
            hearing_receivers: layout.hearing_receivers(&features.scalars),
            truth,
            estimate: scaled.mean_km,
            covariance: scaled.covariance,
            error_km: error_km(scaled.mean_km)?,
            mahalanobis_squared: scaled.mahalanobis_squared(truth),
            region_90_area_km2: region_90_area_km2(&scaled.covariance).map_err(no_position)?,
            centroid,
            centroid_error_km: error_km(centroid)?,
            strongest_error_km: error_km(layout.strongest(&features.scalars))?,
            training_mean_error_km: error_km(training_mean)?,
            event: label.event,
            session: label.session,
            source: label.source,
        });
    }
    Ok(events)
}

/// Length of the geodesic between two points of the plane, lifted back onto the Earth.
fn geodesic_km(
    frame: &LocalFrame,
    from: LocalPosition,
    to: LocalPosition,
) -> Result<f64, GeoError> {
    Ok(frame.to_position(&from)?.distance_km(&frame.to_position(&to)?))
}

/// Area of the smallest region that holds 90 % of a Gaussian.
fn region_90_area_km2(covariance: &Covariance) -> Result<f64, GeoError> {
    Ok(Ellipse::of(covariance, 0.9)?.area_km2())
}

#[cfg(test)]
mod tests {
    use heimdall_geo::weighted_centroid;

    use super::*;
    use crate::testing::{synthetic, untrained};

    struct Setup {
        _folder: tempfile::TempDir,
        model: TrainedModel,
        calibration: HeimdallDataset,
        test: HeimdallDataset,
    }

    fn setup() -> Setup {
        let folder = tempfile::tempdir().unwrap();
        let dataset = synthetic(folder.path(), 40, 5);
        let part = |range: std::ops::Range<usize>| dataset.subset(&range.collect::<Vec<_>>());
        let model = untrained(&part(0..10));
        Setup { model, calibration: part(10..30), test: part(30..40), _folder: folder }
    }

    fn run(setup: &Setup) -> (TrainedModel, Evaluation) {
        let cancel = AtomicBool::new(false);
        evaluate(&setup.model, &setup.calibration, &setup.test, &cancel).unwrap()
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
        for (index, event) in evaluation.events.iter().enumerate() {
            let (label, features) = setup.test.get(index).unwrap();
            let truth = label.position_km.unwrap();
            assert_eq!((event.truth, &event.event), (truth, &label.event));
            let at = frame.to_position(&truth).unwrap();

            let error_km = at.distance_km(&frame.to_position(&event.estimate).unwrap());
            assert!((event.error_km - error_km).abs() < 1e-9);
            assert!((event.training_mean_error_km - at.distance_km(&mean)).abs() < 1e-9);

            let receivers = setup.test.header().receivers.iter().zip(&features.scalars);
            let hearing: Vec<(LocalPosition, f64)> = receivers
                .filter(|(_, scalars)| scalars.is_some_and(|scalars| scalars.detected))
                .map(|(receiver, scalars)| {
                    let snr_db = scalars.unwrap().snr_db;
                    (frame.to_local(&receiver.position), f64::from(snr_db))
                })
                .collect();
            assert_eq!(event.hearing_receivers, hearing.len());
            if let Some(centroid) = weighted_centroid(&hearing) {
                assert!(event.centroid.distance_km(&centroid) < 1e-9);
            }

            // Scaling σ by s scales the area by s², and m² by its inverse.
            let m2 = raw[index].mahalanobis_squared(truth) / scale.powi(2);
            assert!((event.mahalanobis_squared - m2).abs() < 1e-3 * m2.max(1.0));
            let determinant = raw[index].covariance.determinant_km4();
            let area_km2 =
                std::f64::consts::PI * 4.605_170_186 * determinant.sqrt() * scale.powi(2);
            assert!((event.region_90_area_km2 / area_km2 - 1.0).abs() < 1e-3);
        }
    }

    /// After recalibration, `m²` of the calibration events themselves is 2 on average.
    #[test]
    fn calibration_split_is_honest_after_recalibration() {
        let setup = setup();
        let on_itself = Setup { test: setup.calibration.clone(), ..setup };

        let (_, evaluation) = run(&on_itself);

        let distances = evaluation.events.iter().map(|event| event.mahalanobis_squared);
        let mean = distances.sum::<f64>() / evaluation.events.len() as f64;
        assert!((mean - 2.0).abs() < 1e-6, "{mean}");
        // Of all factors this one has the greatest likelihood.
        assert!(evaluation.metrics["nll"] <= evaluation.metrics["nll_uncalibrated"]);
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
        let cancel = AtomicBool::new(false);
        let other = tempfile::tempdir().unwrap();
        let other = crate::testing::wider(other.path());

        let single = setup.calibration.subset(&[0]);
        let single = evaluate(&setup.model, &single, &setup.test, &cancel).unwrap_err();
        let differs = evaluate(&setup.model, &setup.calibration, &other, &cancel).unwrap_err();

        assert!(matches!(single, TrainError::TooFewEvents { part: Part::Calibration, .. }));
        assert!(matches!(differs, TrainError::FeaturesDiffer { part: Part::Test, .. }));
    }

    #[test]
    fn raised_flag_stops() {
        let setup = setup();

        let result =
            evaluate(&setup.model, &setup.calibration, &setup.test, &AtomicBool::new(true));

        assert!(matches!(result, Err(TrainError::EvaluationInterrupted)));
    }
}
