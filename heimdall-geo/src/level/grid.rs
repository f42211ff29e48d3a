//! The probability of a transmitter's place by levels and by silence, on a grid.

use std::f64::consts::SQRT_2;

use serde::{Deserialize, Serialize};

use super::normal::{HERMITE, distribution_fast};
use super::{LevelModel, LevelObservation};
use crate::GeoError;
use crate::GridPosterior;
use crate::Location;
use crate::NoFix;
use crate::PlaneGrid;

/// Cells whose likelihood is below that of the best one by so many nats count as impossible.
const NATS_MAX: f64 = 40.0;

/// When a posterior is a fix.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LevelGridConfig {
    /// Largest share of the grid that the region of 90 % may take.
    pub area_share_max: f64,
    /// How much probability a separate part of that region must hold, relative to the heaviest
    /// part, for the answer to be ambiguous.
    pub peak_ratio_min: f64,
}

impl Default for LevelGridConfig {
    fn default() -> Self {
        Self { area_share_max: 0.75, peak_ratio_min: 0.25 }
    }
}

/// What one receiver is expected to hear of a transmitter in each cell.
#[derive(Clone, Debug)]
pub(super) struct ReceiverMap {
    /// Expected level, in dB.
    pub(super) level_db: Vec<f64>,
    /// Inverse of the variance, in 1/dB².
    pub(super) precision: Vec<f64>,
    /// Natural logarithm of it.
    log_precision: Vec<f64>,
}

impl ReceiverMap {
    pub(super) fn new(level_db: Vec<f64>, precision: Vec<f64>) -> Self {
        let log_precision = precision.iter().map(|precision| precision.ln()).collect();
        Self { level_db, precision, log_precision }
    }
}

/// The levels that a network expects of a transmitter in each cell of a grid, computed once for any
/// number of events.
#[derive(Clone, Debug)]
pub struct LevelGrid {
    grid: PlaneGrid,
    config: LevelGridConfig,
    model: LevelModel,
    maps: Vec<ReceiverMap>,
}

impl LevelGrid {
    /// Computes the levels that `model` expects on a grid.
    ///
    /// # Errors
    ///
    /// [`GeoError::InvalidConfig`] if the model or the config breaks one of its rules.
    pub fn new(
        grid: PlaneGrid,
        model: &LevelModel,
        config: &LevelGridConfig,
    ) -> Result<Self, GeoError> {
        model.validate()?;
        let centers: Vec<_> = (0..grid.cells()).map(|cell| grid.center(cell)).collect();
        let maps = (0..model.receivers.len())
            .map(|receiver| {
                let precision = model.path_losses[receiver].sigma_db.powi(-2);
                let level_db = centers.iter().map(|&place| model.level_db(receiver, place));
                ReceiverMap::new(level_db.collect(), vec![precision; centers.len()])
            })
            .collect();
        Self::with_maps(grid, model, config, maps)
    }

    /// Takes expected levels as they are.
    pub(super) fn with_maps(
        grid: PlaneGrid,
        model: &LevelModel,
        config: &LevelGridConfig,
        maps: Vec<ReceiverMap>,
    ) -> Result<Self, GeoError> {
        for (field, actual) in
            [("area_share_max", config.area_share_max), ("peak_ratio_min", config.peak_ratio_min)]
        {
            if !(actual > 0.0 && actual <= 1.0) {
                let expected = "above 0 and at most 1";
                return Err(GeoError::InvalidConfig { field, expected, actual });
            }
        }
        Ok(Self { grid, config: *config, model: model.clone(), maps })
    }

    /// The grid.
    pub fn grid(&self) -> &PlaneGrid {
        &self.grid
    }

    pub(crate) fn config(&self) -> &LevelGridConfig {
        &self.config
    }

    /// Locates a transmitter by what each receiver hears of it.
    ///
    /// # Shapes
    ///
    /// - `observations`: `[receivers]`
    ///
    /// # Panics
    ///
    /// If there is not one observation of each receiver.
    pub fn locate(&self, observations: &[LevelObservation]) -> Location {
        if let Err(reason) = LevelObservation::check(observations) {
            return Location::NoFix(reason);
        }
        match self.posterior(observations) {
            Some(posterior) => {
                posterior.location(self.config.area_share_max, self.config.peak_ratio_min)
            }
            None => Location::NoFix(NoFix::Unexplained),
        }
    }

    /// Computes the probability of each cell, all of which are equally likely before.
    ///
    /// A heard level is Gaussian around the expected one; a receiver that hears nothing is either
    /// out of order, or the level is below its threshold, with probability `Φ((threshold − μ) / σ)`.
    /// The transmitter's power is unknown: the likelihood is integrated over it, in closed form for
    /// the levels, and by Gauss–Hermite quadrature around their solution for the silence.
    ///
    /// There is none if no receiver hears the transmitter, a level is not one, or the levels and the
    /// silence exclude each other everywhere.
    ///
    /// # Panics
    ///
    /// If there is not one observation of each receiver.
    ///
    /// # References
    ///
    /// R. Martin, R. Thomas, "Algorithms and bounds for estimating location, directionality, and
    /// environmental parameters of primary spectrum users", *IEEE Transactions on Wireless
    /// Communications* 8(11), 2009, section III (levels of unknown power),
    /// [doi:10.1109/TWC.2009.090494](https://doi.org/10.1109/TWC.2009.090494).
    pub fn posterior(&self, observations: &[LevelObservation]) -> Option<GridPosterior> {
        LevelObservation::check(observations).ok()?;
        GridPosterior::from_log_likelihood(self.grid, self.log_likelihood(observations))
    }

    /// As [`LevelGrid::posterior`] of levels that are some, before the probabilities are made to add
    /// up to 1.
    pub(crate) fn log_likelihood(&self, observations: &[LevelObservation]) -> Vec<f64> {
        assert_eq!(observations.len(), self.maps.len(), "one observation belongs to each receiver");
        let sums = self.sums(observations);
        let silent: Vec<(usize, f64)> = observations
            .iter()
            .zip(&self.model.path_losses)
            .enumerate()
            .filter(|(_, (observation, _))| matches!(observation, LevelObservation::NotHeard))
            .filter_map(|(receiver, (_, loss))| Some((receiver, loss.threshold_db?)))
            .collect();
        let mut log_likelihood: Vec<f64> = sums.iter().map(PowerSums::log_likelihood).collect();
        if silent.is_empty() {
            return log_likelihood;
        }

        // Silence makes a cell less likely, never more: only those that may still win are looked at.
        let mut best = f64::NEG_INFINITY;
        let mut order: Vec<usize> = (0..sums.len()).collect();
        order.sort_unstable_by(|&a, &b| log_likelihood[b].total_cmp(&log_likelihood[a]));
        for cell in order {
            if log_likelihood[cell] < best - NATS_MAX {
                log_likelihood[cell] = f64::NEG_INFINITY;
                continue;
            }
            log_likelihood[cell] += self.silence(cell, &sums[cell], &silent).ln();
            best = best.max(log_likelihood[cell]);
        }
        log_likelihood
    }

    /// Adds up what the heard levels say about the power, cell by cell.
    fn sums(&self, observations: &[LevelObservation]) -> Vec<PowerSums> {
        let prior = match self.model.power_sigma_db {
            None => 0.0,
            // A power that is known exactly is one that is known to a hundredth of a dB.
            Some(sigma_db) => sigma_db.max(0.01).powi(-2),
        };
        let start = PowerSums { precision: prior, ..PowerSums::default() };
        let mut sums = vec![start; self.grid.cells()];
        for (observation, map) in observations.iter().zip(&self.maps) {
            let &LevelObservation::Heard(heard_db) = observation else { continue };
            for (cell, sum) in sums.iter_mut().enumerate() {
                let (excess_db, precision) = (heard_db - map.level_db[cell], map.precision[cell]);
                sum.precision += precision;
                sum.weighted += precision * excess_db;
                sum.squared += precision * excess_db * excess_db;
                sum.log_determinant += map.log_precision[cell];
            }
        }
        sums
    }

    /// Computes the probability that these receivers hear nothing of a transmitter in a cell.
    fn silence(&self, cell: usize, sum: &PowerSums, silent: &[(usize, f64)]) -> f64 {
        let (power_db, sigma_db) = (sum.weighted / sum.precision, sum.precision.powf(-0.5));
        let at_power = |power_db: f64| -> f64 {
            silent
                .iter()
                .map(|&(receiver, threshold_db)| {
                    let map = &self.maps[receiver];
                    let outage = self.model.path_losses[receiver].outage;
                    let margin_db = threshold_db - map.level_db[cell] - power_db;
                    let below = distribution_fast(margin_db * map.precision[cell].sqrt());
                    outage + (1.0 - outage) * below
                })
                .product()
        };
        let nodes = HERMITE
            .iter()
            .map(|(node, weight)| weight * at_power(power_db + SQRT_2 * sigma_db * node));
        nodes.sum::<f64>() / std::f64::consts::PI.sqrt()
    }
}

/// What levels say about the power of a transmitter in one cell.
#[derive(Clone, Copy, Debug, Default)]
struct PowerSums {
    /// Precision of the power, in 1/dB².
    precision: f64,
    /// Sum of the excess levels, weighted by their precisions, in 1/dB.
    weighted: f64,
    /// Sum of their squares, weighted.
    squared: f64,
    /// Sum of the logarithms of the precisions of the levels.
    log_determinant: f64,
}

impl PowerSums {
    /// The logarithm of the likelihood of the levels, integrated over the power.
    fn log_likelihood(&self) -> f64 {
        let chi_squared = self.squared - self.weighted * self.weighted / self.precision;
        0.5 * (self.log_determinant - self.precision.ln() - chi_squared)
    }
}

#[cfg(test)]
mod tests;
