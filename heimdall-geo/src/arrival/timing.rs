//! The arrival times of one transmission, and how well a place explains them.

use nalgebra::Vector3;

use super::range::{SpacePlane, SpaceReceiver, SurfacePoint};
use super::{Arrival, ArrivalConfig};

/// Rounds in which the time of emission settles.
const EMISSION_ROUNDS: usize = 6;

/// Arrival times in km, with the receivers that they belong to.
#[derive(Clone, Debug)]
pub(super) struct Timing {
    receivers: Vec<SpaceReceiver>,
    /// Times after the first one, in km of the way of the signal.
    times_km: Vec<f64>,
    /// Standard deviations, in km.
    sigmas_km: Vec<f64>,
    altitude_km: Option<f64>,
    floor_km: f64,
    tail_degrees: f64,
}

/// The linear equations of a step: residuals, their derivatives and weights, one per receiver.
pub(super) struct Linearized {
    pub(super) residual_km: f64,
    pub(super) gradient: Vector3<f64>,
    pub(super) weight: f64,
}

impl Timing {
    pub(super) fn new(
        receivers: Vec<SpaceReceiver>,
        arrivals: &[Arrival],
        altitude_m: Option<f64>,
        speed_km_s: f64,
        config: &ArrivalConfig,
    ) -> Self {
        let first_s = arrivals.first().map_or(0.0, |arrival| arrival.time_s);
        Self {
            receivers,
            times_km: arrivals.iter().map(|a| (a.time_s - first_s) * speed_km_s).collect(),
            // Below a micrometer nothing but rounding is left.
            sigmas_km: arrivals.iter().map(|a| (a.sigma_s * speed_km_s).max(1e-9)).collect(),
            altitude_km: altitude_m.map(|altitude_m| altitude_m / 1000.0),
            floor_km: config.timing_floor_s * speed_km_s,
            tail_degrees: config.tail_degrees,
        }
    }

    pub(super) fn ranges_km(&self, point: &SurfacePoint) -> Vec<f64> {
        let range_km = |receiver: &SpaceReceiver| receiver.distance_km(point, self.altitude_km);
        self.receivers.iter().map(range_km).collect()
    }

    /// Times less ranges: what is left is the time of emission and errors.
    fn emissions_km(&self, ranges_km: &[f64]) -> Vec<f64> {
        self.times_km.iter().zip(ranges_km).map(|(time_km, range_km)| time_km - range_km).collect()
    }

    /// Standard deviation of a time with the floor, and with `blur_km` of a coarse grid.
    fn sigma_km(&self, index: usize, blur_km: f64) -> f64 {
        self.sigmas_km[index].hypot(self.floor_km).hypot(blur_km)
    }

    pub(super) fn sigma_km_min(&self) -> f64 {
        let sigmas_km = (0..self.sigmas_km.len()).map(|index| self.sigma_km(index, 0.0));
        sigmas_km.fold(f64::INFINITY, f64::min)
    }

    /// How badly a place explains the times, in squared standard deviations, none of which counts
    /// for more than nine: the smallest over the emission times of all receivers.
    pub(super) fn coarse_misfit(&self, ranges_km: &[f64], blur_km: f64) -> f64 {
        const SQUARE_MAX: f64 = 9.0;
        let emissions_km = self.emissions_km(ranges_km);
        let misfit = |emission_km: f64| -> f64 {
            emissions_km
                .iter()
                .enumerate()
                .map(|(index, other_km)| {
                    let deviation = (other_km - emission_km) / self.sigma_km(index, blur_km);
                    (deviation * deviation).min(SQUARE_MAX)
                })
                .sum()
        };
        emissions_km.iter().map(|&emission_km| misfit(emission_km)).fold(f64::INFINITY, f64::min)
    }

    /// The most likely time of emission for these ranges, and the residuals, in km.
    pub(super) fn residuals_km(&self, ranges_km: &[f64]) -> (f64, Vec<f64>) {
        let emissions_km = self.emissions_km(ranges_km);
        let less = |emission_km: f64| -> Vec<f64> {
            emissions_km.iter().map(|other_km| other_km - emission_km).collect()
        };
        // The best of the receivers' own times is in the right valley of the likelihood.
        let nats = |emission_km: f64| self.fit_nats(&less(emission_km));
        let mut emission_km = emissions_km
            .iter()
            .copied()
            .min_by(|&a, &b| nats(a).total_cmp(&nats(b)))
            .unwrap_or_default();
        for _ in 0..EMISSION_ROUNDS {
            let (mut weights, mut shift_km) = (0.0, 0.0);
            for (index, residual_km) in less(emission_km).into_iter().enumerate() {
                let weight = self.weight(index, residual_km);
                weights += weight;
                shift_km += weight * residual_km;
            }
            emission_km += shift_km / weights;
        }
        (emission_km, less(emission_km))
    }

    /// Weight of a residual in reweighted least squares, in 1/km².
    fn weight(&self, index: usize, residual_km: f64) -> f64 {
        let degrees = self.tail_degrees;
        (degrees + 1.0) / (degrees * self.sigmas_km[index].powi(2) + residual_km.powi(2))
    }

    /// By how much the influence of a residual grows with it, in 1/km²: negative for a large one.
    pub(super) fn slope(&self, equation: &Linearized) -> f64 {
        let squared = equation.weight * equation.residual_km.powi(2) / (self.tail_degrees + 1.0);
        equation.weight * (1.0 - 2.0 * squared)
    }

    /// Negative logarithm of the likelihood of residuals, with these standard deviations.
    fn nats(&self, residuals_km: &[f64], sigma_km: impl Fn(usize) -> f64) -> f64 {
        let degrees = self.tail_degrees;
        let nats = residuals_km.iter().enumerate().map(|(index, residual_km)| {
            let squared = (residual_km / sigma_km(index)).powi(2);
            (degrees + 1.0) / 2.0 * (squared / degrees).ln_1p()
        });
        nats.sum()
    }

    /// What the fit minimizes: the standard deviations are without the floor.
    pub(super) fn fit_nats(&self, residuals_km: &[f64]) -> f64 {
        self.nats(residuals_km, |index| self.sigmas_km[index])
    }

    /// By what places are compared: the standard deviations are with the floor, and a blur.
    pub(super) fn misfit(&self, residuals_km: &[f64], blur_km: f64) -> f64 {
        self.nats(residuals_km, |index| self.sigma_km(index, blur_km))
    }

    /// The equations of a step from a place, for a time of emission.
    pub(super) fn linearized(
        &self,
        plane: &SpacePlane,
        point: &SurfacePoint,
        emission_km: f64,
    ) -> Vec<Linearized> {
        let equations = self.receivers.iter().enumerate().map(|(index, receiver)| {
            let (range_km, slope) = plane.range_km(point, self.altitude_km, receiver);
            let residual_km = self.times_km[index] - emission_km - range_km;
            Linearized {
                residual_km,
                gradient: Vector3::new(slope[0], slope[1], 1.0),
                weight: self.weight(index, residual_km),
            }
        });
        equations.collect()
    }

    /// The equations of a place at its own time of emission, each with the variance of its time in
    /// km², floor and residual included.
    pub(super) fn equations(
        &self,
        plane: &SpacePlane,
        point: &SurfacePoint,
    ) -> Vec<(Linearized, f64)> {
        let (emission_km, _) = self.residuals_km(&self.ranges_km(point));
        let equations = self.linearized(plane, point, emission_km).into_iter();
        let with_variance = equations.map(|equation| {
            let variance_km2 = 1.0 / equation.weight + self.floor_km.powi(2);
            (equation, variance_km2)
        });
        with_variance.collect()
    }
}
