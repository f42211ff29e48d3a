//! Corrections of the stated uncertainty, learned on events that neither train nor test.

use std::collections::BTreeMap;

use heimdall_loss::{conformal_limit, sigma_scale};
use serde::{Deserialize, Serialize};

/// Probabilities whose regions are reported, in percent.
pub const REPORTED_PERCENT: [u32; 4] = [50, 68, 90, 95];

/// Fewer calibration events than this get no limits of their own.
const GROUP_EVENTS_MIN: usize = 50;

/// How the stated uncertainty was corrected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recalibration {
    /// Factor of the standard deviations.
    pub sigma_scale: f64,
    /// Limits of the squared Mahalanobis distance under the scaled covariance, from all calibration
    /// events.
    pub overall: ConformalLimits,
    /// The same from the calibration events that so many receivers hear, where there are enough.
    pub by_receivers: BTreeMap<usize, ConformalLimits>,
}

/// Squared Mahalanobis distances that hold the truth with the probabilities of
/// [`REPORTED_PERCENT`]; `None` where there are too few calibration events.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConformalLimits(pub [Option<f64>; REPORTED_PERCENT.len()]);

impl ConformalLimits {
    fn of(distances: &[f64]) -> Self {
        Self(REPORTED_PERCENT.map(|percent| conformal_limit(distances, f64::from(percent) / 100.0)))
    }
}

impl Recalibration {
    /// Learns the corrections from calibration events: how many receivers hear each, and its squared
    /// Mahalanobis distance under the covariance that the network states. There is at least one.
    pub(crate) fn learn(events: &[(usize, f64)]) -> Self {
        let distances: Vec<f64> = events.iter().map(|event| event.1).collect();
        let scale = sigma_scale(&distances).expect("there are events to calibrate on");
        // Estimates without any error say nothing about a scale, and zero would be the end of all.
        let sigma_scale = if scale > 0.0 { scale } else { 1.0 };

        let mut by_receivers: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for &(receivers, distance) in events {
            by_receivers.entry(receivers).or_default().push(distance / sigma_scale.powi(2));
        }
        let scaled: Vec<f64> = by_receivers.values().flatten().copied().collect();
        Self {
            sigma_scale,
            overall: ConformalLimits::of(&scaled),
            by_receivers: by_receivers
                .into_iter()
                .filter(|(_, distances)| distances.len() >= GROUP_EVENTS_MIN)
                .map(|(receivers, distances)| (receivers, ConformalLimits::of(&distances)))
                .collect(),
        }
    }

    /// The correction of what was corrected already.
    pub(crate) fn none() -> Self {
        Self {
            sigma_scale: 1.0,
            overall: ConformalLimits([None; REPORTED_PERCENT.len()]),
            by_receivers: BTreeMap::new(),
        }
    }

    /// Limits for an event that so many receivers hear: its group's, or those of all.
    pub(crate) fn limits(&self, receivers: usize) -> &ConformalLimits {
        self.by_receivers.get(&receivers).unwrap_or(&self.overall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distances 2, 4, … 2n have the mean n + 1, so that the scale is √((n + 1) / 2); of 59 events
    /// 90 % is rank 54, so that its limit is 108 over the square of the scale.
    #[test]
    fn limits_are_ranks_of_the_scaled_distances() {
        let mut events: Vec<(usize, f64)> =
            (1..=59).map(|rank| (3, 2.0 * f64::from(rank))).collect();
        let recalibration = Recalibration::learn(&events);

        assert!((recalibration.sigma_scale - 30_f64.sqrt()).abs() < 1e-12);
        let limit = recalibration.limits(3).0[2].unwrap();
        assert!((limit - 108.0 / 30.0).abs() < 1e-12, "{limit}");
        assert_eq!(recalibration.limits(3), &recalibration.overall);
        assert_eq!(recalibration.by_receivers.keys().collect::<Vec<_>>(), [&3]);

        // Ten events that one receiver hears are too few: they get the limits of all.
        events.extend((1..=10).map(|rank| (1, f64::from(rank))));
        let recalibration = Recalibration::learn(&events);
        assert_eq!(recalibration.limits(1), &recalibration.overall);
        assert_ne!(recalibration.limits(3), &recalibration.overall);
    }

    #[test]
    fn estimates_without_error_keep_their_deviations() {
        let recalibration = Recalibration::learn(&[(2, 0.0), (2, 0.0)]);

        assert!((recalibration.sigma_scale - 1.0).abs() < 1e-15);
        assert_eq!(recalibration.overall.0, [Some(0.0), None, None, None]);
    }
}
