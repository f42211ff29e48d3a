//! From delays between pairs of receivers to the transmitter's position.

mod grid;
mod model;

use nalgebra::{DMatrix, DVector};
use serde::{Deserialize, Serialize};

use crate::Ambiguity;
use crate::Covariance;
use crate::GeoError;
use crate::Location;
use crate::NoFix;
use crate::Position;
use crate::Region;
use crate::delay::model::{DelayModel, Optimum};

/// Speed of light in vacuum, in km/s.
pub const SPEED_OF_LIGHT_KM_S: f64 = 299_792.458;

/// Receivers closer than this stand at one place, in km.
const PLACE_KM: f64 = 0.001;

/// Places of receivers that a position takes.
const PLACES_MIN: usize = 3;

/// A delay may exceed the travel time between its receivers by so many standard deviations.
const EXCESS_SIGMAS_MAX: f64 = 5.0;

/// The delay of one transmission between two receivers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairDelay {
    /// Index of the first receiver.
    pub first: usize,
    /// Index of the second receiver.
    pub second: usize,
    /// Arrival at the second receiver minus arrival at the first, in seconds.
    pub delay_s: f64,
    /// Standard deviation of the error that this delay shares with no other, in seconds.
    pub sigma_s: f64,
}

/// How delays are turned into a position.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DelaySolverConfig {
    /// Largest distance of two points of the grid on which the search starts, in km. A small region
    /// gets a finer grid: at least 32 points from each side to the other.
    pub grid_km: f64,
    /// Standard deviation of the timing error of each receiver, in seconds. All delays of a receiver
    /// share it. About 10 to 20 µs at 77.5 kHz, where the ionosphere bends in, and 0.1 to 0.3 µs at
    /// VHF.
    pub timing_floor_s: f64,
    /// Speed of propagation, relative to that of light in vacuum.
    pub propagation_speed_ratio: f64,
    /// How likely another position must be, relative to the most likely one, to be reported as an
    /// alternative.
    pub alternative_likelihood_min: f64,
}

impl Default for DelaySolverConfig {
    fn default() -> Self {
        Self {
            grid_km: 25.0,
            timing_floor_s: 10e-6,
            propagation_speed_ratio: 1.0,
            alternative_likelihood_min: 0.01,
        }
    }
}

impl DelaySolverConfig {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// [`GeoError::InvalidConfig`] for the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), GeoError> {
        let invalid =
            |field, expected, actual| Err(GeoError::InvalidConfig { field, expected, actual });
        let positive = |value: f64| value > 0.0 && value.is_finite();
        if !positive(self.grid_km) {
            return invalid("grid_km", "a positive number", self.grid_km);
        }
        if !(0.0..=1.0).contains(&self.timing_floor_s) {
            return invalid("timing_floor_s", "at least 0 and at most 1 s", self.timing_floor_s);
        }
        if !positive(self.propagation_speed_ratio) {
            let actual = self.propagation_speed_ratio;
            return invalid("propagation_speed_ratio", "a positive number", actual);
        }
        if !(positive(self.alternative_likelihood_min) && self.alternative_likelihood_min <= 1.0) {
            let actual = self.alternative_likelihood_min;
            return invalid("alternative_likelihood_min", "above 0 and at most 1", actual);
        }
        Ok(())
    }
}

/// Where a transmitter is, by the delays between the receivers that hear it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DelayFix {
    /// The position.
    pub position: Position,
    /// Its covariance, in the plane that touches the Earth at `position`.
    pub covariance: Covariance,
    /// Root mean square of the delays' residuals, in seconds.
    pub residual_rms_s: f64,
    /// How much later than explained by `position` the signal arrived, for each receiver, in
    /// seconds: relative to the mean of the receivers that delays join with it, and zero for one
    /// that no delay names.
    pub arrival_residuals_s: Vec<f64>,
    /// Sum of the squared residuals, weighted by the inverse of the delays' covariance.
    pub chi_squared: f64,
    /// Delays beyond the two that a position takes.
    pub degrees_of_freedom: usize,
}

/// Locates a transmitter by the delays between pairs of receivers.
///
/// The signal travels along geodesics of WGS 84. The position minimizes `rᵀ W r`, where `r` are the
/// differences between the delays and those of the position, and `W` is the inverse of their
/// covariance `diag(σ²) + floor² · A Aᵀ`. The second term is the timing error of the receivers,
/// which all delays of a receiver share (a row of `A` has 1 at its second receiver and −1 at its
/// first). So the third delay of three receivers, which says nothing new about the position, does
/// not make the fix look better than it is. The time of emission cancels in each delay.
///
/// **Search.** The likelihood is computed on a grid that covers the region, and on circles around the
/// receivers; the best of its local maxima are refined by the method of Levenberg and Marquardt, which may not leave the
/// region. A search that ends at the border is no fix.
///
/// **Ambiguity.** Three receivers often leave two positions, and four near a line too. Every refined
/// position in the region whose likelihood is at least `alternative_likelihood_min` of the largest
/// is reported, the most likely one first. Of positions that are equally likely (χ² within 0.01) the
/// one nearest to the receivers, in the mean, comes first.
///
/// **Uncertainty.** The covariance is the inverse of the normal equations. Where the residuals are
/// larger than expected, so are the errors: it is multiplied by `χ² / degrees of freedom` if that
/// is above 1 (by `χ²` where no degree of freedom is left), and likelihoods are compared on this
/// scale. Each position has its own, which describes its surroundings, not the other positions.
///
/// **Wrong receivers.** Squares do not forgive: a receiver whose delays are wrong by far moves the
/// position. It shows in `arrival_residuals_s`, and the covariance grows, but nobody is outvoted. For
/// receivers with a common clock [`ArrivalSolver`](crate::ArrivalSolver) does that.
///
/// **No fix** is the answer
///
/// - if the delays join fewer than three places: two receivers give a line, not a point
///   ([`NoFix::TooFewReceivers`]);
/// - if a delay is longer than the way between its receivers by more than five standard deviations
///   ([`NoFix::ImpossibleDelay`]);
/// - if no position inside of the region is a local optimum, or if one on its border explains the
///   delays so much better that the inner ones would not count as alternatives to it
///   ([`NoFix::OutsideRegion`]);
/// - if the receivers do not determine the best position: they stand on one line with it, for example
///   ([`NoFix::Undetermined`]).
///
/// # Errors
///
/// - [`GeoError::InvalidConfig`] and [`GeoError::EmptyRegion`] if `config` or `region` break their
///   rules, or if the grid would have more than a million points.
/// - [`GeoError::UnknownReceiver`], [`GeoError::DelayToItself`], [`GeoError::InvalidDelay`] if a
///   delay is not one.
///
/// # References
///
/// - D. J. Torrieri, "Statistical theory of passive location systems", *IEEE Transactions on
///   Aerospace and Electronic Systems* 20(2), 1984, section on hyperbolic location systems,
///   [doi:10.1109/TAES.1984.310439](https://doi.org/10.1109/TAES.1984.310439).
/// - D. W. Marquardt, "An algorithm for least-squares estimation of nonlinear parameters", *Journal
///   of the Society for Industrial and Applied Mathematics* 11(2), 1963,
///   [doi:10.1137/0111030](https://doi.org/10.1137/0111030).
pub fn locate_by_delays(
    receivers: &[Position],
    delays: &[PairDelay],
    region: &Region,
    config: &DelaySolverConfig,
) -> Result<Location<DelayFix>, GeoError> {
    config.validate()?;
    region.validate()?;
    check_delays(receivers, delays)?;
    if let Some(obstacle) = obstacle(receivers, delays, config) {
        return Ok(Location::NoFix(obstacle));
    }

    let speed_km_s = config.propagation_speed_ratio * SPEED_OF_LIGHT_KM_S;
    let model = DelayModel::new(receivers, delays, config.timing_floor_s, speed_km_s);
    let degrees_of_freedom = delays.len() - 2;
    let error_scale =
        |optimum: &Optimum| (optimum.chi_squared / degrees_of_freedom.max(1) as f64).max(1.0);
    // How much larger than the smallest one the χ² of a comparable position is.
    let excess_max = -2.0 * config.alternative_likelihood_min.ln();

    let mut inner: Vec<Optimum> = Vec::new();
    let mut border: Option<Optimum> = None;
    for start in grid::starts(&model, region, config)? {
        let optimum = model.refine(start, region);
        if !optimum.on_border {
            inner.push(optimum);
        } else if border.as_ref().is_none_or(|best| optimum.chi_squared < best.chi_squared) {
            border = Some(optimum);
        }
    }
    inner.sort_by(|a, b| a.chi_squared.total_cmp(&b.chi_squared));
    if let Some(border) = border
        && inner.first().is_none_or(|best| {
            best.chi_squared - border.chi_squared > excess_max * error_scale(&border)
        })
    {
        return Ok(Location::NoFix(NoFix::OutsideRegion));
    }

    let error_scale = inner.first().map_or(1.0, error_scale);
    let mut comparable = distinct(inner, excess_max * error_scale);
    put_nearest_of_equals_first(&mut comparable, &model);
    let is_determined = comparable.first().is_some_and(|best| best.covariance.is_some());
    let fix = |optimum: Optimum| {
        let residuals_s = model.residuals_s(&model.travel_s(&optimum.position));
        Some(DelayFix {
            position: optimum.position,
            covariance: optimum.covariance?.scaled(error_scale),
            residual_rms_s: (residuals_s.norm_squared() / delays.len() as f64).sqrt(),
            arrival_residuals_s: arrival_residuals_s(receivers.len(), delays, &residuals_s),
            chi_squared: optimum.chi_squared,
            degrees_of_freedom,
        })
    };
    let fixes = comparable.into_iter().filter(|_| is_determined).filter_map(fix).collect();
    Ok(Location::of(fixes, Ambiguity::Branches, NoFix::Undetermined))
}

/// Refuses delays that are none.
fn check_delays(receivers: &[Position], delays: &[PairDelay]) -> Result<(), GeoError> {
    for (index, &PairDelay { first, second, delay_s, sigma_s }) in delays.iter().enumerate() {
        for receiver in [first, second] {
            if receiver >= receivers.len() {
                let receivers = receivers.len();
                return Err(GeoError::UnknownReceiver { delay: index, receiver, receivers });
            }
        }
        if first == second {
            return Err(GeoError::DelayToItself { delay: index, receiver: first });
        }
        if !(delay_s.is_finite() && sigma_s > 0.0 && sigma_s.is_finite()) {
            return Err(GeoError::InvalidDelay { delay: index, delay_s, sigma_s });
        }
    }
    Ok(())
}

/// Why no position follows from delays, wherever it is.
fn obstacle(
    receivers: &[Position],
    delays: &[PairDelay],
    config: &DelaySolverConfig,
) -> Option<NoFix> {
    let places = distinct_places(receivers, delays);
    if places < PLACES_MIN {
        return Some(NoFix::TooFewReceivers { receivers: places, required: PLACES_MIN });
    }
    let speed_km_s = config.propagation_speed_ratio * SPEED_OF_LIGHT_KM_S;
    for &PairDelay { first, second, delay_s, sigma_s } in delays {
        let delay_s_max = receivers[first].distance_km(&receivers[second]) / speed_km_s;
        let sigma_s = sigma_s.hypot(std::f64::consts::SQRT_2 * config.timing_floor_s);
        if delay_s.abs() > delay_s_max + EXCESS_SIGMAS_MAX * sigma_s {
            return Some(NoFix::ImpossibleDelay { first, second, delay_s, delay_s_max });
        }
    }
    None
}

/// Number of places between which there are delays.
fn distinct_places(receivers: &[Position], delays: &[PairDelay]) -> usize {
    let at_one_place =
        |first: usize, second: usize| receivers[first].distance_km(&receivers[second]) < PLACE_KM;
    let mut places: Vec<usize> = Vec::new();
    // A delay between two receivers at one place says nothing about the position.
    for delay in delays.iter().filter(|delay| !at_one_place(delay.first, delay.second)) {
        for receiver in [delay.first, delay.second] {
            if !places.iter().any(|&place| at_one_place(place, receiver)) {
                places.push(receiver);
            }
        }
    }
    places.len()
}

/// Keeps the best of each group of optima that are one, as far as their χ² is comparable.
///
/// The searches end at slightly different points of a flat valley: two of them are one optimum
/// when a tenth of a standard deviation or one meter lies between them.
fn distinct(sorted: Vec<Optimum>, excess_max: f64) -> Vec<Optimum> {
    let chi_squared_max = sorted.first().map_or(0.0, |best| best.chi_squared + excess_max);
    let mut kept: Vec<Optimum> = Vec::new();
    for optimum in sorted.into_iter().take_while(|o| o.chi_squared <= chi_squared_max) {
        // Beside the best one, an end of a search that no direction holds in place is no optimum.
        let is_held = kept.is_empty() || optimum.covariance.is_some();
        if is_held && !kept.iter().any(|better| better.is_near(&optimum)) {
            kept.push(optimum);
        }
    }
    kept
}

/// Brings forward the one nearest to the receivers among the optima that are as likely as the best.
fn put_nearest_of_equals_first(sorted: &mut [Optimum], model: &DelayModel) {
    const EQUAL_CHI_SQUARED: f64 = 0.01;
    let Some(best) = sorted.first() else { return };
    let chi_squared_max = best.chi_squared + EQUAL_CHI_SQUARED;
    let equals = sorted.iter().take_while(|o| o.chi_squared <= chi_squared_max).enumerate();
    let travel_sum_s = |optimum: &Optimum| model.travel_s(&optimum.position).iter().sum::<f64>();
    let nearest = equals
        .min_by(|(_, a), (_, b)| travel_sum_s(a).total_cmp(&travel_sum_s(b)))
        .map_or(0, |(index, _)| index);
    sorted[..=nearest].rotate_right(1);
}

/// Spreads the residuals of the delays over the receivers, by weighted least squares.
///
/// Of the solutions, which differ by a constant, it is the shortest: the one of zero mean.
fn arrival_residuals_s(
    receivers: usize,
    delays: &[PairDelay],
    residuals_s: &DVector<f64>,
) -> Vec<f64> {
    let sigma_s_min = delays.iter().map(|delay| delay.sigma_s).fold(f64::INFINITY, f64::min);
    let mut differences = DMatrix::zeros(delays.len(), receivers);
    let mut weighted_s = residuals_s.clone();
    for (row, delay) in delays.iter().enumerate() {
        let weight = sigma_s_min / delay.sigma_s;
        differences[(row, delay.second)] = weight;
        differences[(row, delay.first)] = -weight;
        weighted_s[row] *= weight;
    }
    let arrivals_s = differences
        .svd(true, true)
        .solve(&weighted_s, 1e-9)
        .expect("both factors were asked for and the cutoff is positive");
    arrivals_s.iter().copied().collect()
}

#[cfg(test)]
mod tests;
