//! The control: where positions are exchanged between events, nothing is better than a guess.

use std::collections::BTreeMap;

use heimdall_geo::LocalPosition;
use heimdall_loss::percentile;

use super::Known;
use crate::baseline::Baselines;
use crate::{Method, TrainError};

/// By how much of a guess's error the median error of the control may be smaller, by chance.
const CHANCE_SHARE: f64 = 0.15;

impl Known {
    /// The positions of the events, each at the event half of the set away: of another session.
    fn exchanged(&self) -> Vec<LocalPosition> {
        let count = self.truths.len();
        (0..count).map(|index| self.truths[(index + count / 2) % count]).collect()
    }
}

/// Measures the network against exchanged positions of the test events, and fingerprints that were
/// learned at exchanged positions of the training events; figures under flat names.
///
/// # Errors
///
/// - [`TrainError::ControlFailed`] if one of the two is better than the mean position of the
///   training events: then the evaluation knows what it must not know.
/// - [`TrainError::Baseline`] if fingerprints cannot be learned.
pub(super) fn exchange(
    mean: LocalPosition,
    training: Option<&Known>,
    test: &Known,
) -> Result<BTreeMap<String, f64>, TrainError> {
    let median_km = |errors_km: Vec<f64>| percentile(&errors_km, 50.0).expect("there are events");
    let exchanged = test.exchanged();
    let guess_km = median_km(exchanged.iter().map(|truth| truth.distance_km(&mean)).collect());
    let estimates = test.predictions.iter().zip(&exchanged);
    let errors_km = estimates.map(|(prediction, truth)| prediction.mean_km.distance_km(truth));
    let mut controls = vec![("network", median_km(errors_km.collect()))];
    if let Some(training) = training {
        let positions = training.exchanged();
        let known = Some((&training.features[..], &positions[..]));
        let baselines =
            Baselines::learn(test.set.header(), mean, known).map_err(TrainError::Baseline)?;
        let mut errors_km = Vec::with_capacity(test.truths.len());
        for (features, truth) in test.features.iter().zip(&test.truths) {
            let answers = baselines.locate(features).map_err(TrainError::Baseline)?;
            errors_km.push(answers[&Method::Fingerprints].distance_km(truth));
        }
        controls.push(("fingerprints", median_km(errors_km)));
    }

    let mut figures = BTreeMap::from([("control.guess_km_median".to_owned(), guess_km)]);
    for (method, error_km) in controls {
        if error_km < (1.0 - CHANCE_SHARE) * guess_km {
            return Err(TrainError::ControlFailed { method, error_km, guess_km });
        }
        figures.insert(format!("control.{method}.error_km_median"), error_km);
    }
    Ok(figures)
}
