//! Where a search for the most likely place starts, and how it goes on from there.

use std::f64::consts::TAU;

use nalgebra::{Matrix3, Vector3};

use super::ArrivalSolver;
use super::timing::Timing;
use crate::LocalPosition;

/// Steps after which a search stops where it is.
const STEPS_MAX: usize = 100;
/// A search has arrived when it moves by less than this, in km.
const STEP_KM_MIN: f64 = 1e-6;
/// No step is longer than this, in km: the derivatives are no good beyond.
const STEP_KM_MAX: f64 = 300.0;
/// Searches that start on the grid, at most.
const STARTS_MAX: usize = 16;
/// Circles around each receiver on which a search starts, each half as large as the one before.
const CIRCLES: i32 = 7;
/// Points that are compared on each of them.
const CIRCLE_POINTS: usize = 12;

/// Where a search has ended.
#[derive(Clone, Debug)]
pub(super) struct Optimum {
    pub(super) place: LocalPosition,
    /// Negative logarithm of the likelihood, with the timing floor.
    pub(super) misfit: f64,
    /// Sum of the ranges to the receivers, in km.
    pub(super) ranges_km: f64,
}

impl ArrivalSolver {
    /// Finds the places from which the position should be searched.
    ///
    /// On the grid, half a cell of way is added to the errors, so that no valley of the misfit falls
    /// between the points. Around each receiver, where the ranges have a kink, valleys are as narrow
    /// as the transmitter is near: the best points of circles are added there.
    pub(super) fn starts(&self, timing: &Timing) -> Vec<LocalPosition> {
        let blur_km = self.grid.cell_km() / 2.0;
        let misfits: Vec<f64> = self
            .cells
            .iter()
            .map(|point| timing.coarse_misfit(&timing.ranges_km(point), blur_km))
            .collect();
        let is_valley =
            |&cell: &usize| self.grid.neighbors(cell).all(|other| misfits[cell] <= misfits[other]);
        let mut valleys: Vec<usize> = (0..misfits.len()).filter(is_valley).collect();
        valleys.sort_by(|&a, &b| misfits[a].total_cmp(&misfits[b]));
        valleys.truncate(STARTS_MAX);

        let mut starts: Vec<LocalPosition> =
            valleys.into_iter().map(|cell| self.grid.center(cell)).collect();
        for &center in &self.places {
            starts.extend((0..CIRCLES).filter_map(|halvings| {
                let radius_km = self.grid.cell_km() * 0.5_f64.powi(halvings);
                self.best_of_circle(timing, center, radius_km)
            }));
        }
        starts
    }

    /// Finds the point that explains the times best on a circle.
    fn best_of_circle(
        &self,
        timing: &Timing,
        center: LocalPosition,
        radius_km: f64,
    ) -> Option<LocalPosition> {
        let points = (0..CIRCLE_POINTS).filter_map(|point| {
            let (sin, cos) = (TAU * point as f64 / CIRCLE_POINTS as f64).sin_cos();
            let place = LocalPosition {
                east_km: center.east_km + radius_km * sin,
                north_km: center.north_km + radius_km * cos,
            };
            let ranges_km = timing.ranges_km(&self.plane.lift(&place).ok()?);
            Some((timing.coarse_misfit(&ranges_km, radius_km / 4.0), place))
        });
        points.min_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, place)| place)
    }

    /// Follows the likelihood uphill from `start`; none where that leads over the horizon.
    pub(super) fn refine(&self, timing: &Timing, start: LocalPosition) -> Option<Optimum> {
        let mut place = start;
        let mut point = self.plane.lift(&place).ok()?;
        let (mut emission_km, residuals_km) = timing.residuals_km(&timing.ranges_km(&point));
        let mut nats = timing.fit_nats(&residuals_km);
        let mut damping = 1e-3;
        for _ in 0..STEPS_MAX {
            let (mut normal, mut slope) = (Matrix3::zeros(), Vector3::zeros());
            for equation in timing.linearized(&self.plane, &point, emission_km) {
                let weighted = equation.weight * equation.gradient;
                normal += weighted * equation.gradient.transpose();
                slope += weighted * equation.residual_km;
            }
            let damped = normal + Matrix3::identity() * (damping * normal.trace() / 3.0);
            let step = damped.cholesky()?.solve(&slope);
            let way_km = step.x.hypot(step.y);
            let shortening = (STEP_KM_MAX / way_km).min(1.0);
            let target = LocalPosition {
                east_km: place.east_km + shortening * step.x,
                north_km: place.north_km + shortening * step.y,
            };
            let target_point = self.plane.lift(&target).ok()?;
            let (target_emission_km, residuals_km) =
                timing.residuals_km(&timing.ranges_km(&target_point));
            let target_nats = timing.fit_nats(&residuals_km);
            if target_nats <= nats {
                (place, point) = (target, target_point);
                (emission_km, nats) = (target_emission_km, target_nats);
                damping = (damping / 10.0).max(1e-12);
            } else {
                damping *= 10.0;
            }
            if way_km < STEP_KM_MIN {
                break;
            }
        }
        let ranges_km = timing.ranges_km(&point);
        let (_, residuals_km) = timing.residuals_km(&ranges_km);
        Some(Optimum {
            place,
            misfit: timing.misfit(&residuals_km, 0.0),
            ranges_km: ranges_km.iter().sum(),
        })
    }
}
