//! Figures of test events, all of them or a group.

use std::collections::BTreeMap;
use std::f64::consts::TAU;

use heimdall_loss::{
    CalibrationPoint, DistanceSummary, NORMAL_QUANTILE_95, calibration_curve, energy_score,
    gaussian_crps, kolmogorov_smirnov, normalized_calibration_error, percentile,
    probability_integral_transform, wilson_interval,
};

use super::{EvaluatedEvent, Grouping, Method, REPORTED_PERCENT, Recalibration};

/// Most bins of the expected normalized calibration error; each has as many events as the others.
const CALIBRATION_BINS_MAX: usize = 10;
/// Events that each of these bins has at least.
const BIN_EVENTS_MIN: usize = 5;

/// Upper ends of the groups by distance to the nearest training event, in km.
const TRAINING_DISTANCES_KM: [f64; 7] = [0.05, 0.1, 0.2, 1.0, 2.0, 5.0, 10.0];

/// Receivers that give a time of arrival from which on there is one solution.
const UNAMBIGUOUS_RECEIVERS: usize = 4;

impl EvaluatedEvent {
    /// Negative log-likelihood of the truth before standard deviations were multiplied by
    /// `sigma_scale`, in nats; with a scale of 1 the one after it.
    fn nll_before(&self, sigma_scale: f64) -> f64 {
        let log_determinant = self.covariance.determinant_km4().ln() - 4.0 * sigma_scale.ln();
        self.mahalanobis_squared * sigma_scale.powi(2) / 2.0 + log_determinant / 2.0 + TAU.ln()
    }

    fn miss_km(&self) -> [f64; 2] {
        [self.truth.east_km - self.estimate.east_km, self.truth.north_km - self.estimate.north_km]
    }
}

/// Squared Mahalanobis distances before standard deviations were multiplied by `sigma_scale`.
fn distances_before(events: &[&EvaluatedEvent], sigma_scale: f64) -> Vec<f64> {
    events.iter().map(|event| event.mahalanobis_squared * sigma_scale.powi(2)).collect()
}

/// Coverage at 5, 10, … 95 %, after recalibration and before it.
pub(crate) fn curves(events: &[&EvaluatedEvent], sigma_scale: f64) -> [Vec<CalibrationPoint>; 2] {
    let probabilities: Vec<f64> = (1..20).map(|step| f64::from(step) / 20.0).collect();
    [1.0, sigma_scale]
        .map(|scale| calibration_curve(&distances_before(events, scale), &probabilities))
}

/// Computes the figures of test events; empty if there are none.
pub(crate) fn figures(
    events: &[&EvaluatedEvent],
    recalibration: &Recalibration,
) -> BTreeMap<String, f64> {
    let mut figures = Figures(BTreeMap::new());
    if events.is_empty() {
        return figures.0;
    }
    figures.put("events", events.len() as f64);
    figures.errors(events);
    figures.scores(events);
    figures.honesty(events, recalibration);
    figures.comparisons(events);
    figures.0
}

/// Figures under flat names.
struct Figures(BTreeMap<String, f64>);

impl Figures {
    fn put(&mut self, name: impl Into<String>, value: f64) {
        self.0.insert(name.into(), value);
    }

    /// Median, 68 %, 90 % and mean of some errors; nothing if there are none.
    fn put_errors(&mut self, prefix: &str, errors_km: &[f64]) {
        let Some(summary) = DistanceSummary::of(errors_km) else { return };
        self.put(format!("{prefix}error_km_median"), summary.median_km);
        self.put(format!("{prefix}error_km_p68"), summary.p68_km);
        self.put(format!("{prefix}error_km_p90"), summary.p90_km);
        self.put(format!("{prefix}error_km_mean"), summary.mean_km);
    }

    /// Errors of the network, of the other methods where they have an answer, and the bounds.
    fn errors(&mut self, events: &[&EvaluatedEvent]) {
        let errors = |keep: &dyn Fn(&EvaluatedEvent) -> Option<f64>| -> Vec<f64> {
            events.iter().filter_map(|event| keep(event)).collect()
        };
        self.put_errors("", &errors(&|event| Some(event.error_km)));
        let answered = errors(&|event| (!event.abstains).then_some(event.error_km));
        self.put("abstention_share", 1.0 - answered.len() as f64 / events.len() as f64);
        self.put_errors("answered.", &answered);
        for method in Method::ALL {
            let answer = |event: &EvaluatedEvent| Some(event.baselines.get(&method)?.error_km);
            let errors_km = errors(&answer);
            if !errors_km.is_empty() {
                self.put(format!("{method}.events"), errors_km.len() as f64);
            }
            self.put_errors(&format!("{method}."), &errors_km);
        }
        let unambiguous = errors(&|event| {
            let answer = event.baselines.get(&Method::Tdoa)?;
            (event.timed_receivers >= UNAMBIGUOUS_RECEIVERS).then_some(answer.error_km)
        });
        self.put_errors("tdoa_4_receivers.", &unambiguous);
        for (name, bounds_km) in [
            ("level_bound_km_median", errors(&|event| event.level_bound_km)),
            ("arrival_bound_km_median", errors(&|event| event.arrival_bound_km)),
        ] {
            if let Some(median) = percentile(&bounds_km, 50.0) {
                self.put(name, median);
            }
        }
    }

    /// Energy score, and ranked probability scores by axis.
    fn scores(&mut self, events: &[&EvaluatedEvent]) {
        let mean = |score: &dyn Fn(&EvaluatedEvent) -> f64| {
            events.iter().map(|event| score(event)).sum::<f64>() / events.len() as f64
        };
        let energy = mean(&|event| {
            let covariance = event.covariance;
            let entries = [covariance.east_km2, covariance.east_north_km2, covariance.north_km2];
            energy_score(event.miss_km(), entries)
        });
        self.put("energy_score_km", energy);
        let east = mean(&|e| gaussian_crps(e.miss_km()[0], e.covariance.east_km2.sqrt()));
        let north = mean(&|e| gaussian_crps(e.miss_km()[1], e.covariance.north_km2.sqrt()));
        self.put("crps_east_km", east);
        self.put("crps_north_km", north);
    }

    /// Likelihood, coverage and calibration, after recalibration and before it.
    fn honesty(&mut self, events: &[&EvaluatedEvent], recalibration: &Recalibration) {
        let count = events.len() as f64;
        for (suffix, scale) in [("", 1.0), ("_uncalibrated", recalibration.sigma_scale)] {
            let nll = events.iter().map(|event| event.nll_before(scale)).sum::<f64>() / count;
            self.put(format!("nll{suffix}"), nll);
            let distances = distances_before(events, scale);
            let transforms: Vec<f64> =
                distances.iter().map(|&m2| probability_integral_transform(m2)).collect();
            let ks = kolmogorov_smirnov(&transforms).expect("there are events");
            self.put(format!("pit_ks{suffix}"), ks);
            let spreads: Vec<(f64, f64)> = events
                .iter()
                .map(|event| {
                    let [east_km, north_km] = event.miss_km();
                    let variance = event.covariance.east_km2 + event.covariance.north_km2;
                    (variance / scale.powi(2) / 2.0, (east_km.powi(2) + north_km.powi(2)) / 2.0)
                })
                .collect();
            let bins = (events.len() / BIN_EVENTS_MIN).clamp(1, CALIBRATION_BINS_MAX);
            let ence = normalized_calibration_error(&spreads, bins).expect("bins have events");
            self.put(format!("ence{suffix}"), ence);
            for percent in REPORTED_PERCENT {
                let curve = calibration_curve(&distances, &[f64::from(percent) / 100.0]);
                self.put(format!("coverage_{percent}{suffix}"), curve[0].coverage);
                self.put(format!("coverage_{percent}{suffix}_low"), curve[0].lower);
                self.put(format!("coverage_{percent}{suffix}_high"), curve[0].upper);
            }
        }
        for (place, percent) in REPORTED_PERCENT.into_iter().enumerate() {
            let overall = |_: &EvaluatedEvent| recalibration.overall.0[place];
            let own =
                |event: &EvaluatedEvent| recalibration.limits(event.hearing_receivers).0[place];
            self.put_conformal(&format!("coverage_{percent}_conformal"), events, &overall);
            self.put_conformal(&format!("coverage_{percent}_conformal_receivers"), events, &own);
        }
        let areas_km2: Vec<f64> = events.iter().map(|event| event.region_90_area_km2).collect();
        let area_km2 = percentile(&areas_km2, 50.0).expect("there are events");
        self.put("region_90_area_km2_median", area_km2);
    }

    /// Coverage of regions that end at the limits of the events; nothing where one has none.
    fn put_conformal(
        &mut self,
        name: &str,
        events: &[&EvaluatedEvent],
        limit: &dyn Fn(&EvaluatedEvent) -> Option<f64>,
    ) {
        let inside: Option<Vec<bool>> =
            events.iter().map(|event| Some(event.mahalanobis_squared <= limit(event)?)).collect();
        if let Some(inside) = inside {
            let hits = inside.iter().filter(|inside| **inside).count();
            let [low, high] = wilson_interval(hits, events.len(), NORMAL_QUANTILE_95);
            self.put(name, hits as f64 / events.len() as f64);
            self.put(format!("{name}_low"), low);
            self.put(format!("{name}_high"), high);
        }
    }

    /// How often the network is ahead of the centroid.
    fn comparisons(&mut self, events: &[&EvaluatedEvent]) {
        let ahead = events.iter().filter(|event| {
            let centroid = event.baselines.get(&Method::Centroid);
            centroid.is_some_and(|centroid| event.error_km < centroid.error_km)
        });
        let ahead = ahead.count();
        let [low, high] = wilson_interval(ahead, events.len(), NORMAL_QUANTILE_95);
        self.put("better_than_centroid_share", ahead as f64 / events.len() as f64);
        self.put("better_than_centroid_share_low", low);
        self.put("better_than_centroid_share_high", high);
    }
}

/// Computes the figures of each group of events.
pub(crate) fn group_figures(
    events: &[EvaluatedEvent],
    recalibration: &Recalibration,
) -> BTreeMap<Grouping, BTreeMap<String, BTreeMap<String, f64>>> {
    [Grouping::Receivers, Grouping::Waveform, Grouping::TrainingDistance]
        .into_iter()
        .map(|grouping| {
            let mut groups: BTreeMap<String, Vec<&EvaluatedEvent>> = BTreeMap::new();
            for event in events {
                if let Some(group) = grouping.group(event) {
                    groups.entry(group).or_default().push(event);
                }
            }
            let of_group =
                |(name, events): (String, Vec<_>)| (name, figures(&events, recalibration));
            (grouping, groups.into_iter().map(of_group).collect())
        })
        .collect()
}

impl Grouping {
    /// Name of the group that an event belongs to; `None` if nobody knows.
    fn group(self, event: &EvaluatedEvent) -> Option<String> {
        match self {
            Self::Receivers => Some(event.hearing_receivers.to_string()),
            Self::Waveform => event.waveform.clone(),
            Self::TrainingDistance => {
                let distance_km = event.nearest_training_km?;
                let end = TRAINING_DISTANCES_KM.into_iter().find(|end_km| distance_km < *end_km);
                Some(end.map_or_else(
                    || {
                        format!(
                            "from {} km",
                            TRAINING_DISTANCES_KM[TRAINING_DISTANCES_KM.len() - 1]
                        )
                    },
                    |end_km| format!("below {end_km} km"),
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests;
