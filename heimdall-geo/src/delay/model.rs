//! The delays that a position explains, and the search for the position that explains them best.

use geographiclib_rs::{Geodesic, InverseGeodesic};
use nalgebra::{DMatrix, DVector, Matrix2, MatrixXx2, Vector2};

use super::PairDelay;
use crate::Covariance;
use crate::LocalFrame;
use crate::LocalPosition;
use crate::Position;
use crate::Region;

/// Steps after which a search stops where it is.
const STEPS_MAX: usize = 200;
/// A search has arrived when it moves by less than this, in km.
const STEP_KM_MIN: f64 = 1e-7;
/// No step is longer than this, in km: the plane of a step is no good beyond.
const STEP_KM_MAX: f64 = 500.0;
/// Standard deviations of single delays below this are rounded up to it, in s: a femtosecond.
const SIGMA_S_MIN: f64 = 1e-15;
/// Standard deviations of single delays below this share of the timing floor are rounded up to it:
/// smaller ones would be lost in the rounding of the covariance.
const SIGMA_SHARE_MIN: f64 = 1e-6;
/// A position is determined if its standard deviations differ by less than a factor of a million.
const DETERMINANT_SHARE_MIN: f64 = 1e-12;

/// The delays, with all that is needed to compare them to those of a position.
pub(super) struct DelayModel {
    receivers: Vec<Position>,
    /// For each delay, the first and the second of `receivers`.
    pairs: Vec<(usize, usize)>,
    delays_s: DVector<f64>,
    sigmas_s: Vec<f64>,
    /// Lower Cholesky factor of the covariance of the delays, in s.
    factor_s: DMatrix<f64>,
    pub(super) timing_floor_s: f64,
    pub(super) speed_km_s: f64,
}

/// Where a search has ended.
#[derive(Clone, Debug)]
pub(super) struct Optimum {
    pub(super) position: Position,
    pub(super) chi_squared: f64,
    /// Inverse of the normal equations, in the plane that touches the Earth at the position; none
    /// where the position is not determined.
    pub(super) covariance: Option<Covariance>,
    /// Whether the search has ended on the border of the region.
    pub(super) on_border: bool,
}

impl Optimum {
    /// Whether the other one lies within a tenth of a standard deviation, or a meter.
    pub(super) fn is_near(&self, other: &Self) -> bool {
        let distance_km = self.position.distance_km(&other.position);
        if distance_km < 0.001 {
            return true;
        }
        // In the plane, the far side of the Earth would look near.
        if distance_km > STEP_KM_MAX {
            return false;
        }
        let offset = LocalFrame { origin: self.position }.to_local(&other.position);
        self.covariance.is_some_and(|covariance| covariance.mahalanobis_squared(offset) < 0.01)
    }
}

/// What the least-squares problem looks like from a position, in units of standard deviations.
struct View {
    residuals: DVector<f64>,
    /// How the explained delays change with the position, per km to the east and to the north.
    jacobian: MatrixXx2<f64>,
}

impl View {
    fn chi_squared(&self) -> f64 {
        self.residuals.norm_squared()
    }
}

impl DelayModel {
    /// Prepares delays whose receivers exist and differ, with positive standard deviations.
    pub(super) fn new(
        receivers: &[Position],
        delays: &[PairDelay],
        timing_floor_s: f64,
        speed_km_s: f64,
    ) -> Self {
        let mut named: Vec<usize> = delays.iter().flat_map(|d| [d.first, d.second]).collect();
        named.sort_unstable();
        named.dedup();
        let place = |receiver: usize| named.partition_point(|&other| other < receiver);
        let pairs: Vec<_> = delays.iter().map(|d| (place(d.first), place(d.second))).collect();
        let sigmas_s: Vec<f64> = delays.iter().map(|delay| delay.sigma_s).collect();
        Self {
            receivers: named.iter().map(|&receiver| receivers[receiver]).collect(),
            factor_s: covariance_factor_s(&pairs, &sigmas_s, timing_floor_s),
            delays_s: DVector::from_iterator(delays.len(), delays.iter().map(|d| d.delay_s)),
            pairs,
            sigmas_s,
            timing_floor_s,
            speed_km_s,
        }
    }

    /// The same delays with another timing error of the receivers.
    pub(super) fn with_timing_floor(&self, timing_floor_s: f64) -> Self {
        Self {
            receivers: self.receivers.clone(),
            pairs: self.pairs.clone(),
            delays_s: self.delays_s.clone(),
            sigmas_s: self.sigmas_s.clone(),
            factor_s: covariance_factor_s(&self.pairs, &self.sigmas_s, timing_floor_s),
            timing_floor_s,
            speed_km_s: self.speed_km_s,
        }
    }

    /// Where the receivers stand that some delay names.
    pub(super) fn receivers(&self) -> &[Position] {
        &self.receivers
    }

    /// Computes how long the signal travels to each receiver that a delay names.
    pub(super) fn travel_s(&self, position: &Position) -> Vec<f64> {
        self.receivers.iter().map(|r| position.distance_km(r) / self.speed_km_s).collect()
    }

    /// Computes by how much each delay exceeds the one of these travel times.
    pub(super) fn residuals_s(&self, travel_s: &[f64]) -> DVector<f64> {
        let mut residuals_s = self.delays_s.clone();
        for (residual_s, &(first, second)) in residuals_s.iter_mut().zip(&self.pairs) {
            *residual_s -= travel_s[second] - travel_s[first];
        }
        residuals_s
    }

    /// Computes `rᵀ W r` for these travel times.
    pub(super) fn chi_squared(&self, travel_s: &[f64]) -> f64 {
        let mut residuals = self.residuals_s(travel_s);
        let solved = self.factor_s.solve_lower_triangular_mut(&mut residuals);
        debug_assert!(solved, "the diagonal of a Cholesky factor is positive");
        residuals.norm_squared()
    }

    /// Computes residuals and derivatives at a position.
    ///
    /// A geodesic that leaves the position at azimuth α gets shorter by `sin α` per km to the east
    /// and by `cos α` per km to the north.
    fn view(&self, position: &Position) -> View {
        let ways = self.receivers.iter().map(|receiver| {
            let (distance_m, azimuth_deg, _, _): (f64, f64, f64, f64) = Geodesic::wgs84().inverse(
                position.latitude_deg(),
                position.longitude_deg(),
                receiver.latitude_deg(),
                receiver.longitude_deg(),
            );
            let (sin, cos) = azimuth_deg.to_radians().sin_cos();
            (distance_m / 1000.0 / self.speed_km_s, [sin, cos])
        });
        let (travel_s, toward): (Vec<f64>, Vec<[f64; 2]>) = ways.unzip();
        let mut residuals = self.residuals_s(&travel_s);
        let mut jacobian = MatrixXx2::from_fn(self.pairs.len(), |row, axis| {
            let (first, second) = self.pairs[row];
            (toward[first][axis] - toward[second][axis]) / self.speed_km_s
        });
        let solved = self.factor_s.solve_lower_triangular_mut(&mut residuals)
            && self.factor_s.solve_lower_triangular_mut(&mut jacobian);
        debug_assert!(solved, "the diagonal of a Cholesky factor is positive");
        View { residuals, jacobian }
    }

    /// Follows the likelihood uphill from `start`, by the method of Levenberg and Marquardt.
    ///
    /// A step beyond the border of the region ends on it.
    pub(super) fn refine(&self, start: Position, region: &Region) -> Optimum {
        let mut position = start;
        let mut view = self.view(&position);
        let mut damping = 1e-3;
        for _ in 0..STEPS_MAX {
            let Some(step) = damped_step(&view, damping) else { break };
            let frame = LocalFrame { origin: position };
            let Ok(target) = frame.to_position(&step) else { break };
            let target = region.clamp(&target);
            let moved_km = position.distance_km(&target);
            let target_view = self.view(&target);
            if target_view.chi_squared() <= view.chi_squared() {
                (position, view) = (target, target_view);
                damping = (damping / 10.0).max(1e-12);
            } else {
                damping *= 10.0;
            }
            if moved_km < STEP_KM_MIN {
                break;
            }
        }
        let normal = view.jacobian.tr_mul(&view.jacobian);
        Optimum {
            position,
            chi_squared: view.chi_squared(),
            covariance: inverse_if_determined(&normal),
            on_border: region.is_on_border(&position),
        }
    }
}

/// Computes the lower Cholesky factor of `diag(σ²) + floor² · A Aᵀ`.
fn covariance_factor_s(
    pairs: &[(usize, usize)],
    sigmas_s: &[f64],
    timing_floor_s: f64,
) -> DMatrix<f64> {
    let covariance_s2 = DMatrix::from_fn(pairs.len(), pairs.len(), |row, column| {
        let (first, second) = pairs[row];
        let (other_first, other_second) = pairs[column];
        let same = f64::from(u8::from(second == other_second) + u8::from(first == other_first));
        let opposite = f64::from(u8::from(second == other_first) + u8::from(first == other_second));
        let own_s = if row == column {
            sigmas_s[row].max(SIGMA_S_MIN).max(SIGMA_SHARE_MIN * timing_floor_s)
        } else {
            0.0
        };
        own_s.powi(2) + timing_floor_s.powi(2) * (same - opposite)
    });
    covariance_s2
        .cholesky()
        .expect("a positive diagonal plus a product of a matrix with its transpose has a factor")
        .unpack()
}

/// Solves the normal equations with `damping` times their mean eigenvalue added to the diagonal.
fn damped_step(view: &View, damping: f64) -> Option<LocalPosition> {
    let normal: Matrix2<f64> = view.jacobian.tr_mul(&view.jacobian);
    let slope: Vector2<f64> = view.jacobian.tr_mul(&view.residuals);
    let damped = normal + Matrix2::identity() * (damping * normal.trace() / 2.0);
    let step = damped.cholesky()?.solve(&slope);
    let shortening = (STEP_KM_MAX / step.norm()).min(1.0);
    Some(LocalPosition { east_km: step.x * shortening, north_km: step.y * shortening })
}

/// Inverts the normal equations, unless they leave a direction open.
fn inverse_if_determined(normal: &Matrix2<f64>) -> Option<Covariance> {
    let determinant = normal.determinant();
    (determinant > DETERMINANT_SHARE_MIN * normal.trace().powi(2)).then(|| Covariance {
        east_km2: normal.m22 / determinant,
        east_north_km2: -normal.m12 / determinant,
        north_km2: normal.m11 / determinant,
    })
}
