//! An evaluation on events that were looked at by nobody before.

mod control;
mod event;
mod robustness;

use std::collections::HashSet;
use std::sync::atomic::AtomicBool;

use heimdall_data::{HeimdallDataset, Part};
use heimdall_features::FeatureMap;
use heimdall_geo::LocalPosition;
use serde::{Deserialize, Serialize};
use tracing::info;

use crate::baseline::Baselines;
use crate::evaluation::{ShiftSet, curves, figures, group_figures};
use crate::predict::{Prediction, predict, truths};
use crate::train::check_features;
use crate::{
    DataShift, EVALUATION_FORMAT_VERSION, EvaluatedEvent, Evaluation, Recalibration, ShiftConfig,
    TrainError, TrainedModel,
};

/// Events that the network looks at together.
const BATCH_SIZE: usize = 32;

/// How a network is evaluated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluateConfig {
    /// Share of the area in which transmitters are looked for that the region of 90 % may take;
    /// above it, no fix is stated.
    pub abstention_area_share: f64,
    /// Whether to evaluate once more with positions that are exchanged between the events of each
    /// set: the network must then be no better than a guess.
    pub control: bool,
    /// Whether to evaluate once more without each receiver in turn.
    pub leave_one_receiver_out: bool,
    /// When test events are called different from the training events.
    pub shift: ShiftConfig,
}

impl Default for EvaluateConfig {
    fn default() -> Self {
        Self {
            abstention_area_share: 0.5,
            control: false,
            leave_one_receiver_out: false,
            shift: ShiftConfig::default(),
        }
    }
}

impl EvaluateConfig {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// [`TrainError::InvalidConfig`] for the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), TrainError> {
        self.shift.validate()?;
        let actual = self.abstention_area_share;
        if actual > 0.0 && actual.is_finite() {
            return Ok(());
        }
        let (field, expected) = ("abstention_area_share", "finite and above 0");
        Err(TrainError::InvalidConfig { field, expected, actual })
    }
}

/// The sets of an evaluation.
#[derive(Clone, Copy, Debug)]
pub struct EvaluationSets<'a> {
    /// Events that the network learned from: for the methods that it is compared with.
    pub training: Option<&'a HeimdallDataset>,
    /// Events that correct the stated uncertainty.
    pub calibration: &'a HeimdallDataset,
    /// Events that measure the network.
    pub test: &'a HeimdallDataset,
    /// Events of another world, which measure it once more. Their names may be those of others.
    pub new_world: Option<&'a HeimdallDataset>,
}

/// Corrects the stated uncertainty on the calibration events, and measures the network on the test
/// events.
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
/// | `region_center.error_km_median` … | the same of another [`Method`](crate::Method), over the events for which it has an answer, whose number is `region_center.events` |
/// | `tdoa_4_receivers.error_km_median` … | the same of time differences between at least four receivers |
/// | `level_bound_km_median`, `arrival_bound_km_median` | root of the trace of the Cramér–Rao bound |
/// | `abstention_share`, `answered.error_km_median` … | share of the events without a fix, and the errors of the others |
/// | `nll`, `nll_uncalibrated` | mean negative log-likelihood, in nats |
/// | `energy_score_km`, `crps_east_km`, `crps_north_km` | mean energy score, and ranked probability scores by axis |
/// | `coverage_50`, `_68`, `_90`, `_95` | share of the truths inside of the regions of 50 … 95 % |
/// | `coverage_90_low`, `coverage_90_high` … | their 95 % Wilson intervals |
/// | `coverage_90_uncalibrated` … | coverage with a factor of 1 |
/// | `coverage_90_conformal` …, `coverage_90_conformal_receivers` … | coverage of regions with the conformal limit of all calibration events, or of those that as many receivers hear |
/// | `pit_ks`, `pit_ks_uncalibrated` | Kolmogorov–Smirnov distance of `1 − exp(−m²/2)` from uniform |
/// | `ence`, `ence_uncalibrated` | expected normalized calibration error |
/// | `region_90_area_km2_median` | median area of the regions of 90 %, in km² |
/// | `better_than_centroid_share`, `_low`, `_high` | share of the events with a smaller error than the centroid's, and its Wilson interval |
/// | `training_km_median` | median distance to the nearest training event, in km |
/// | `seen_source_share`, `seen_session_share` | share of the events whose source or session is in training, too |
/// | `new_world.error_km_median`, `new_world.coverage_90` … | the same on events of another world |
/// | `control.network.error_km_median`, `control.fingerprints.error_km_median`, `control.guess_km_median` | errors with exchanged positions, and that of the training mean |
/// | `sigma_scale`, `events`, `calibration_events` | the factor, and the sizes of the two sets |
///
/// # Errors
///
/// - [`TrainError::TooFewEvents`] if there are fewer than two events to calibrate on, or none to
///   test, and [`TrainError::FeaturesDiffer`] if they have other features than the model takes.
/// - [`TrainError::SharedEvent`] if an event is in two of the sets.
/// - [`TrainError::ControlFailed`] if the network is better than a guess where it cannot be.
/// - [`TrainError::EvaluationInterrupted`] if `cancel` was raised.
/// - [`TrainError::NonFiniteEstimate`] or [`TrainError::Estimate`] if an estimate makes no sense,
///   and [`TrainError::Baseline`] if the other methods cannot be had.
/// - [`TrainError::Data`] if features cannot be read.
pub fn evaluate(
    model: &TrainedModel,
    sets: EvaluationSets<'_>,
    config: &EvaluateConfig,
    cancel: &AtomicBool,
) -> Result<(TrainedModel, Evaluation), TrainError> {
    config.validate()?;
    check_sets(model, sets)?;
    let EvaluationSets { training, calibration, test, new_world } = sets;
    let predict = |set: &HeimdallDataset| {
        predict(&model.network, set, BATCH_SIZE, cancel)?.ok_or(TrainError::EvaluationInterrupted)
    };
    let calibration = Known::read(calibration, predict(calibration)?)?;
    let tested = Known::read(test, predict(test)?)?;
    let trained = training.map(|set| Known::read(set, Vec::new())).transpose()?;

    let recalibration = calibration.recalibrate();
    let mean = model.network.config().standardization.position_mean_km.map(f64::from);
    let mean = LocalPosition { east_km: mean[0], north_km: mean[1] };
    let known = trained.as_ref().map(|set| (&set.features[..], &set.truths[..]));
    let judge = Judge {
        baselines: Baselines::learn(test.header(), mean, known).map_err(TrainError::Baseline)?,
        trained: trained.as_ref(),
        recalibration: &recalibration,
        config,
    };
    let events = tested.evaluate(&judge)?;

    let all: Vec<&EvaluatedEvent> = events.iter().collect();
    let mut metrics = figures(&all, &recalibration);
    metrics.insert("sigma_scale".to_owned(), recalibration.sigma_scale);
    metrics.insert("calibration_events".to_owned(), calibration.truths.len() as f64);
    if let Some(training) = training {
        metrics.extend(event::familiarity(training, &events));
    }
    let new_world = new_world.map(|set| judge.other_world(&Known::read(set, predict(set)?)?));
    let new_world = new_world.transpose()?;
    if let Some(new_world) = &new_world {
        let named = new_world.metrics.iter();
        metrics.extend(named.map(|(name, value)| (format!("new_world.{name}"), *value)));
    }
    if config.control {
        metrics.extend(control::exchange(mean, trained.as_ref(), &tested)?);
    }
    info!(
        events = events.len(),
        error_km_median = metrics["error_km_median"],
        coverage_90 = metrics["coverage_90"],
        sigma_scale = recalibration.sigma_scale,
        "evaluated"
    );
    let mut recalibrated = model.clone();
    recalibrated.manifest.sigma_scale = recalibration.sigma_scale;
    recalibrated.manifest.metrics = metrics.clone();
    let [calibration_curve, calibration_curve_uncalibrated] =
        curves(&all, recalibration.sigma_scale);
    let evaluation = Evaluation {
        format_version: EVALUATION_FORMAT_VERSION,
        frame: test.header().frame,
        receivers: test.header().receivers.clone(),
        groups: group_figures(&events, &recalibration),
        shift: judge.shift(&tested),
        new_world,
        without_receiver: match config.leave_one_receiver_out {
            true => judge.without_receivers(test, &events, predict)?,
            false => Vec::new(),
        },
        metrics,
        recalibration: recalibration.clone(),
        calibration_curve,
        calibration_curve_uncalibrated,
        events,
    };
    Ok((recalibrated, evaluation))
}

/// What events are measured by.
struct Judge<'a> {
    baselines: Baselines,
    trained: Option<&'a Known>,
    recalibration: &'a Recalibration,
    config: &'a EvaluateConfig,
}

impl Judge<'_> {
    /// Positions of the training events; none without training events.
    fn known_positions(&self) -> &[LocalPosition] {
        self.trained.map_or(&[], |trained| &trained.truths)
    }

    /// Whether events look like the training events.
    fn shift(&self, tested: &Known) -> Option<DataShift> {
        let (training, model) = (self.trained?, self.baselines.level_model()?);
        let [of_training, of_test] = [training, tested].map(|known| {
            known.set.labels().iter().map(|label| label.session.as_str()).collect::<Vec<_>>()
        });
        DataShift::measure(
            &ShiftSet {
                events: &training.features,
                positions: &training.truths,
                sessions: &of_training,
            },
            &ShiftSet { events: &tested.features, positions: &tested.truths, sessions: &of_test },
            model,
            &tested.set.header().receivers,
            &self.config.shift,
        )
    }
}

/// Checks that the sets are large enough, of the right features, and apart.
fn check_sets(model: &TrainedModel, sets: EvaluationSets<'_>) -> Result<(), TrainError> {
    let EvaluationSets { training, calibration, test, new_world } = sets;
    let training = training.map(|set| (Part::Train, 1, set));
    let others = [(Part::Calibration, 2, calibration), (Part::Test, 1, test)];
    let mut seen: HashSet<&str> = HashSet::new();
    let alike = model.manifest.network.backbone.treats_receivers_alike();
    if let Some(set) = new_world {
        if set.is_empty() {
            return Err(TrainError::TooFewEvents { part: Part::Test, expected: 1, actual: 0 });
        }
        check_features(&model.manifest.features, set, Part::Test, alike)?;
    }
    for (part, expected, set) in training.into_iter().chain(others) {
        if set.len() < expected {
            return Err(TrainError::TooFewEvents { part, expected, actual: set.len() });
        }
        check_features(&model.manifest.features, set, part, alike)?;
        for label in set.labels() {
            if !seen.insert(&label.event) {
                return Err(TrainError::SharedEvent { event: label.event.clone(), part });
            }
        }
    }
    Ok(())
}

/// A set of events with everything that is known of them.
struct Known {
    set: HeimdallDataset,
    /// What was measured, without levels by band.
    features: Vec<FeatureMap>,
    truths: Vec<LocalPosition>,
    /// What the network says; nothing of training events.
    predictions: Vec<Prediction>,
}

impl Known {
    fn read(set: &HeimdallDataset, predictions: Vec<Prediction>) -> Result<Self, TrainError> {
        let features = (0..set.len())
            .map(|index| {
                let (_, features) = set.get(index)?;
                Ok(FeatureMap::of_measurements(features.scalars, features.arrivals))
            })
            .collect::<Result<_, TrainError>>()?;
        Ok(Self { truths: truths(set), set: set.clone(), features, predictions })
    }

    /// Computes the factor that makes standard deviations honest on average, and what goes with it.
    fn recalibrate(&self) -> Recalibration {
        let events = self.predictions.iter().zip(&self.truths).zip(&self.features);
        let distances: Vec<(usize, f64)> = events
            .map(|((prediction, &truth), features)| {
                (features.hearing_receivers(), prediction.mahalanobis_squared(truth))
            })
            .collect();
        Recalibration::learn(&distances)
    }
}

#[cfg(test)]
mod tests;
