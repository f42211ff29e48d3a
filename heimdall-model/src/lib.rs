//! From features to an estimate of position and uncertainty.
//!
//! The network takes levels in dB as they were extracted and states positions in km of the local
//! plane. It knows nothing of losses, files or degrees.
//!
//! ```text
//! levels ──standardize──▶ ResNet ──▶ embedding ─┬─position head────▶ mean      ─┐
//! [batch, channels, bands, frames] dB  [batch, 512] └─uncertainty head─▶ Cholesky ─┴▶ Estimate
//! ```
//!
//! # Example
//!
//! Before training, the estimate is the mean of the positions and their spread:
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use heimdall_model::{LocalizationNetConfig, Standardization};
//!
//! let config = LocalizationNetConfig {
//!     input_channels: 7,
//!     standardization: Standardization {
//!         position_mean_km: [5.0, -3.0],
//!         position_deviation_km: [60.0, 40.0],
//!         ..Standardization::identity(7)
//!     },
//!     ..LocalizationNetConfig::default()
//! };
//! config.validate()?;
//! let device = Device::flex();
//! let network = config.init(&device);
//!
//! let estimate = network.forward(Tensor::zeros([1, 7, 16, 8], &device));
//!
//! let mean_km: Vec<f32> = estimate.mean_km.into_data().try_to_vec().unwrap();
//! let cholesky_km: Vec<f32> = estimate.cholesky_km.into_data().try_to_vec().unwrap();
//! assert!((mean_km[0] - 5.0).abs() < 1.0 && (mean_km[1] + 3.0).abs() < 1.0);
//! assert!((cholesky_km[0] - 60.0).abs() < 1.0 && (cholesky_km[2] - 40.0).abs() < 1.0);
//! # Ok::<(), heimdall_model::ModelError>(())
//! ```

mod backbone;
mod block;
mod config;
mod error;
mod estimate;
mod head;
mod network;
mod weights;

pub use backbone::{EMBEDDING_LENGTH, ResNet};
pub use block::{Projection, ResidualBlock};
pub use config::{Backbone, CovarianceKind, LocalizationNetConfig, Standardization};
pub use error::ModelError;
pub use estimate::{DEVIATION_FLOOR, Estimate};
pub use head::Head;
pub use network::LocalizationNet;
