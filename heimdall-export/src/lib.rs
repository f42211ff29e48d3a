//! From a trained network to an ONNX file that others can run.
//!
//! The file takes features as they were extracted and states degrees, so that whoever runs it needs
//! no twin of the preprocessing, the standardization or the local plane.
//!
//! ```text
//! Ensemble ──export──▶ OnnxModel ──write_package──▶ folder
//!                             (bytes)         │            model.onnx, manifest.json, MLmodel, …
//!                                          verify: the written bytes, run by another runtime,
//!                                          say what the network says; else there is no file
//! ```
//!
//! [`Predictor`] runs a file without the network that it was made from.
//!
//! # Example
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use burn::tensor::Device;
//! use heimdall_export::{ExportConfig, export, verify};
//! use heimdall_features::{FeatureMap, FeatureShape};
//! use heimdall_geo::{LocalFrame, Position};
//! use heimdall_model::LocalizationNetConfig;
//!
//! let network = LocalizationNetConfig::default().init(&Device::flex()).into();
//! let frame = LocalFrame { origin: Position::new(44.75, 8.5).unwrap() };
//! let shape = FeatureShape { receivers: 3, bands: 16, frames: 8 };
//! let config = ExportConfig::default();
//!
//! let model = export(&network, &frame, shape, 1.2, &BTreeMap::new(), &config)?;
//!
//! let silence = FeatureMap::assemble(shape, vec![None, None, None]);
//! let samples = [FeatureMap { levels_db: vec![3.0; shape.len()], ..silence }];
//! let parity = verify(model.bytes(), &network, &frame, 1.2, &samples, &config)?;
//! assert!(parity.position_difference_m_max < 1.0);
//! # Ok::<(), heimdall_export::ExportError>(())
//! ```

mod benchmark;
mod card;
mod config;
mod error;
mod graph;
mod lower;
mod model;
mod package;
mod plane;
mod port;
mod predictor;
mod proto;
#[cfg(test)]
mod sample;
mod verify;
#[cfg(test)]
mod with_python;

pub use benchmark::{BatchLatency, Benchmark};
pub use config::{BenchmarkConfig, CheckConfig, ExportConfig, WeightPrecision};
pub use error::ExportError;
pub use model::{OnnxModel, export};
pub use package::{MANIFEST_FILE, MODEL_FILE, PackageManifest, read_model, write_package};
pub use port::Port;
pub use predictor::{Prediction, Predictor};
pub use verify::{Parity, verify};
