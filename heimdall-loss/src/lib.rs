//! How wrong an estimate is, and how honest its uncertainty.
//!
//! Two kinds of functions: losses, which take tensors and have gradients, and measures, which take
//! slices of `f64`. Neither knows what made the estimates.
//!
//! ```text
//! mean, Cholesky factor, target ──gaussian_nll──▶ nats per event       (training)
//! squared Mahalanobis distances ──coverage, sigma_scale, …──▶ honesty  (evaluation)
//! errors in km                  ──DistanceSummary──▶ percentiles       (evaluation)
//! miss, covariance              ──energy_score, …──▶ km                (evaluation)
//! ```
//!
//! # Example
//!
//! A certain estimate that is right costs less than an uncertain one; regions that hold more than
//! they promise are shrunk by the scale:
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use heimdall_loss::{coverage, gaussian_nll, sigma_scale};
//!
//! let device = Device::flex();
//! let km = |row: [f32; 2]| Tensor::<2>::from_data([row], &device);
//! let round = |sigma_km: f32| Tensor::<2>::from_data([[sigma_km, 0.0, sigma_km]], &device);
//!
//! let sure = gaussian_nll(km([10.0, 5.0]), round(1.0), km([10.5, 5.0])).into_scalar::<f32>();
//! let unsure = gaussian_nll(km([10.0, 5.0]), round(9.0), km([10.5, 5.0])).into_scalar::<f32>();
//! assert!(sure < unsure);
//!
//! let mahalanobis_squared = [0.1, 0.4, 0.5, 1.0];
//! assert_eq!(coverage(&mahalanobis_squared, 0.5), Some(1.0));
//! assert_eq!(sigma_scale(&mahalanobis_squared), Some(0.5));
//! ```

mod calibration;
mod conformal;
mod distance;
mod gaussian_nll;
mod mixture_nll;
mod score;
mod weighted_nll;

pub use calibration::{
    CalibrationPoint, NORMAL_QUANTILE_95, calibration_curve, coverage, kolmogorov_smirnov,
    normalized_calibration_error, probability_integral_transform, sigma_scale, wilson_interval,
};
pub use conformal::conformal_limit;
pub use distance::{DistanceSummary, percentile};
pub use gaussian_nll::{diagonal_gaussian_nll, gaussian_nll, gaussian_nll_each};
pub use mixture_nll::{MixtureComponent, mixture_nll_each};
pub use score::{energy_score, gaussian_crps};
pub use weighted_nll::{beta_nll_each, mean_square_each};
