//! From features to an estimate of position and uncertainty.
//!
//! The network takes levels in dB as they were extracted and states positions in km of the local
//! plane. It knows nothing of losses, files or degrees.
//!
//! ```text
//! levels ──standardize──▶ ResNet ──┐            ┌─position head────▶ mean      ─┐
//! [batch, receivers, bands, frames] ├▶ embedding ┤                               ├▶ Estimate
//! side inputs ──standardize──▶ MLP ─┘            └─uncertainty head─▶ Cholesky ─┘
//! ```
//!
//! Side inputs are the numbers of each receiver, which receivers there are and where, and the
//! position that a classical method finds: the network then states its correction.
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
//! let estimate = network.forward(Tensor::zeros([1, 7, 16, 8], &device).into());
//!
//! let mean_km: Vec<f32> = estimate.mean_km.into_data().try_to_vec().unwrap();
//! let cholesky_km: Vec<f32> = estimate.cholesky_km.into_data().try_to_vec().unwrap();
//! assert!((mean_km[0] - 5.0).abs() < 1.0 && (mean_km[1] + 3.0).abs() < 1.0);
//! assert!((cholesky_km[0] - 60.0).abs() < 1.0 && (cholesky_km[2] - 40.0).abs() < 1.0);
//! # Ok::<(), heimdall_model::ModelError>(())
//! ```

mod arithmetic;
mod backbone;
mod block;
mod config;
mod ensemble;
mod error;
mod estimate;
mod head;
mod input;
mod network;
mod pretrained;
mod receiver_set;
mod side;
mod standardization;
mod weights;

pub use backbone::{EMBEDDING_LENGTH, ResNet};
pub use block::{Projection, ResidualBlock};
pub use config::{Backbone, CovarianceKind, LocalizationNetConfig, Stem};
pub use ensemble::Ensemble;
pub use error::ModelError;
pub use estimate::{DEVIATION_FLOOR, Estimate, EstimateComponent};
pub use head::Head;
pub use input::{NetworkInput, SideInputs};
pub use network::{LocalizationNet, MIXTURE_RECEIVERS_MAX};
pub use receiver_set::{
    ABSENT_SCORE, ATTENTION_HEADS, AttentionLayer, LAYER_NORM_EPSILON, ReceiverSet, TOKEN_LENGTH,
};
pub use side::{
    FIX_DEVIATION_SHARE, FIX_FEATURES, FIX_LOGARITHM_SCALE, FIX_THINNESS, FIX_VARIANCE_FLOOR,
    FIX_VARIANCE_MIN_KM2, Perceptron,
};
pub use standardization::{SideInputConfig, Standardization};
