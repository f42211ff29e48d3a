//! What an evaluation says, and how its figures are computed from its events.

use std::collections::BTreeMap;
use std::f64::consts::TAU;

use heimdall_geo::{Covariance, LocalFrame, LocalPosition, Receiver};
use heimdall_loss::{
    CalibrationPoint, DistanceSummary, NORMAL_QUANTILE_95, calibration_curve, kolmogorov_smirnov,
    percentile, probability_integral_transform, wilson_interval,
};
use serde::{Deserialize, Serialize};

/// Version of the evaluation that is written.
pub const EVALUATION_FORMAT_VERSION: u32 = 1;

/// Probabilities whose regions have a metric of their own.
const REPORTED_PERCENT: [u32; 4] = [50, 68, 90, 95];

/// How good a network is on events that it has never seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// Version of the format, [`EVALUATION_FORMAT_VERSION`] when written by this release.
    pub format_version: u32,
    /// Plane of all positions.
    pub frame: LocalFrame,
    /// Receivers of the network.
    pub receivers: Vec<Receiver>,
    /// Figures under flat names; [`evaluate`](crate::evaluate) lists them.
    pub metrics: BTreeMap<String, f64>,
    /// Coverage over the stated probability, after recalibration.
    pub calibration_curve: Vec<CalibrationPoint>,
    /// The same before it.
    pub calibration_curve_uncalibrated: Vec<CalibrationPoint>,
    /// Every test event, in the order of its set.
    pub events: Vec<EvaluatedEvent>,
}

/// What is said of one test event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluatedEvent {
    /// Name of the event.
    pub event: String,
    /// Name of its session.
    pub session: String,
    /// Name of its source.
    pub source: String,
    /// Receivers that detected it.
    pub hearing_receivers: usize,
    /// Where the source was.
    pub truth: LocalPosition,
    /// Where the network says it was.
    pub estimate: LocalPosition,
    /// How uncertain the network is, after recalibration.
    pub covariance: Covariance,
    /// Length of the geodesic from truth to estimate, in km.
    pub error_km: f64,
    /// Squared Mahalanobis distance of the truth, after recalibration.
    pub mahalanobis_squared: f64,
    /// Area of the region of 90 %, after recalibration, in km².
    pub region_90_area_km2: f64,
    /// Where the weighted centroid of the receivers that hear it lies.
    pub centroid: LocalPosition,
    /// Error of the weighted centroid, in km.
    pub centroid_error_km: f64,
    /// Error of the position of the receiver that hears it best, in km.
    pub strongest_error_km: f64,
    /// Error of the mean position of the training split, in km.
    pub training_mean_error_km: f64,
}

impl EvaluatedEvent {
    /// Negative log-likelihood of the truth before standard deviations were multiplied by
    /// `sigma_scale`, in nats; with a scale of 1 the one after it.
    fn nll_before(&self, sigma_scale: f64) -> f64 {
        let log_determinant = self.covariance.determinant_km4().ln() - 4.0 * sigma_scale.ln();
        self.mahalanobis_squared * sigma_scale.powi(2) / 2.0 + log_determinant / 2.0 + TAU.ln()
    }
}

/// Squared Mahalanobis distances before standard deviations were multiplied by `sigma_scale`.
fn distances_before(events: &[EvaluatedEvent], sigma_scale: f64) -> Vec<f64> {
    events.iter().map(|event| event.mahalanobis_squared * sigma_scale.powi(2)).collect()
}

/// Coverage at 5, 10, … 95 %, after recalibration and before it.
pub(crate) fn curves(events: &[EvaluatedEvent], sigma_scale: f64) -> [Vec<CalibrationPoint>; 2] {
    let probabilities: Vec<f64> = (1..20).map(|step| f64::from(step) / 20.0).collect();
    [1.0, sigma_scale]
        .map(|scale| calibration_curve(&distances_before(events, scale), &probabilities))
}

/// Computes the figures of test events; empty if there are none.
pub(crate) fn metrics(events: &[EvaluatedEvent], sigma_scale: f64) -> BTreeMap<String, f64> {
    let mut metrics = BTreeMap::new();
    if events.is_empty() {
        return metrics;
    }
    let count = events.len() as f64;
    let mut put = |name: String, value: f64| {
        metrics.insert(name, value);
    };
    put("events".to_owned(), count);
    put("sigma_scale".to_owned(), sigma_scale);

    for prefix in ["", "centroid.", "strongest.", "training_mean."] {
        let error_km = |event: &EvaluatedEvent| match prefix {
            "centroid." => event.centroid_error_km,
            "strongest." => event.strongest_error_km,
            "training_mean." => event.training_mean_error_km,
            _ => event.error_km,
        };
        let errors_km: Vec<f64> = events.iter().map(error_km).collect();
        let summary = DistanceSummary::of(&errors_km).expect("there are events");
        put(format!("{prefix}error_km_median"), summary.median_km);
        put(format!("{prefix}error_km_p68"), summary.p68_km);
        put(format!("{prefix}error_km_p90"), summary.p90_km);
        put(format!("{prefix}error_km_mean"), summary.mean_km);
    }

    for (suffix, scale) in [("", 1.0), ("_uncalibrated", sigma_scale)] {
        let nll = events.iter().map(|event| event.nll_before(scale)).sum::<f64>() / count;
        put(format!("nll{suffix}"), nll);
        let distances = distances_before(events, scale);
        let transforms: Vec<f64> =
            distances.iter().map(|&m2| probability_integral_transform(m2)).collect();
        let ks = kolmogorov_smirnov(&transforms).expect("there are events");
        put(format!("pit_ks{suffix}"), ks);
        for percent in REPORTED_PERCENT {
            let curve = calibration_curve(&distances, &[f64::from(percent) / 100.0]);
            put(format!("coverage_{percent}{suffix}"), curve[0].coverage);
            if suffix.is_empty() {
                put(format!("coverage_{percent}_low"), curve[0].lower);
                put(format!("coverage_{percent}_high"), curve[0].upper);
            }
        }
    }

    let areas_km2: Vec<f64> = events.iter().map(|event| event.region_90_area_km2).collect();
    let area_km2 = percentile(&areas_km2, 50.0).expect("there are events");
    put("region_90_area_km2_median".to_owned(), area_km2);
    let ahead = events.iter().filter(|event| event.error_km < event.centroid_error_km).count();
    let [low, high] = wilson_interval(ahead, events.len(), NORMAL_QUANTILE_95);
    put("better_than_centroid_share".to_owned(), ahead as f64 / count);
    put("better_than_centroid_share_low".to_owned(), low);
    put("better_than_centroid_share_high".to_owned(), high);
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An event with an error of `error_km` to the east, and a round covariance of 2 km.
    fn event(error_km: f64) -> EvaluatedEvent {
        let truth = LocalPosition { east_km: 3.0, north_km: 4.0 };
        let covariance = Covariance::from_cholesky(2.0, 0.0, 2.0);
        EvaluatedEvent {
            event: String::new(),
            session: String::new(),
            source: String::new(),
            hearing_receivers: 3,
            truth,
            estimate: LocalPosition { east_km: 3.0 + error_km, ..truth },
            covariance,
            error_km,
            mahalanobis_squared: error_km * error_km / 4.0,
            region_90_area_km2: 10.0 * error_km,
            centroid: truth,
            centroid_error_km: 50.5,
            strongest_error_km: 2.0 * error_km,
            training_mean_error_km: 7.0,
        }
    }

    fn assert_metric(metrics: &BTreeMap<String, f64>, name: &str, expected: f64) {
        let value = metrics[name];
        assert!((value - expected).abs() < 1e-9, "`{name}` is {value}, not {expected}");
    }

    /// Errors of 1 … 101 km have their percentile p at 1 + p.
    #[test]
    fn errors_are_summarized_beside_those_of_the_baselines() {
        let events: Vec<EvaluatedEvent> = (1..=101).map(|km| event(f64::from(km))).collect();

        let metrics = metrics(&events, 1.0);

        assert_metric(&metrics, "events", 101.0);
        assert_metric(&metrics, "error_km_median", 51.0);
        assert_metric(&metrics, "error_km_p68", 69.0);
        assert_metric(&metrics, "error_km_p90", 91.0);
        assert_metric(&metrics, "error_km_mean", 51.0);
        assert_metric(&metrics, "strongest.error_km_p90", 182.0);
        assert_metric(&metrics, "centroid.error_km_median", 50.5);
        assert_metric(&metrics, "training_mean.error_km_mean", 7.0);
        assert_metric(&metrics, "region_90_area_km2_median", 510.0);
        assert_metric(&metrics, "better_than_centroid_share", 50.0 / 101.0);
    }

    /// By hand, with σ = 2 km: the region of 90 % ends at 2 √4.605 = 4.292 km, so errors of 1 … 4 km
    /// are inside and 5 … 10 km outside. Before a scale of 2, σ was 1 km and it ended at 2.146 km.
    #[test]
    fn coverage_is_reported_before_and_after_recalibration() {
        let events: Vec<EvaluatedEvent> = (1..=10).map(|km| event(f64::from(km))).collect();

        let metrics = metrics(&events, 2.0);

        assert_metric(&metrics, "coverage_90", 0.4);
        assert_metric(&metrics, "coverage_90_uncalibrated", 0.2);
        // The region of 50 % ends at 2 √1.386 = 2.355 km, and at 1.177 km.
        assert_metric(&metrics, "coverage_50", 0.2);
        assert_metric(&metrics, "coverage_50_uncalibrated", 0.1);
        assert!(metrics["coverage_90_low"] < 0.4 && 0.4 < metrics["coverage_90_high"]);
        // The transform of m² is 1 − exp(−m² / 2); 38.5 is the mean of 1, 4, … 100.
        assert_metric(&metrics, "nll", 38.5 / 8.0 + 4_f64.ln() + TAU.ln());
        assert_metric(&metrics, "nll_uncalibrated", 38.5 / 2.0 + TAU.ln());
        let transforms: Vec<f64> =
            (1..=10).map(|km| 1.0 - (-f64::from(km * km) / 8.0).exp()).collect();
        assert_metric(&metrics, "pit_ks", kolmogorov_smirnov(&transforms).unwrap());
    }

    #[test]
    fn curve_ends_before_certainty() {
        let events: Vec<EvaluatedEvent> = (1..=10).map(|km| event(f64::from(km))).collect();

        let [after, before] = curves(&events, 2.0);

        assert_eq!((after.len(), before.len()), (19, 19));
        assert!((after[17].probability - 0.9).abs() < 1e-12);
        assert!((after[17].coverage - 0.4).abs() < 1e-12);
        assert!((before[17].coverage - 0.2).abs() < 1e-12);
    }

    #[test]
    fn nothing_has_no_figures() {
        assert!(metrics(&[], 1.0).is_empty());
    }
}
