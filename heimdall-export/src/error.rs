//! What can go wrong between a network and a file that others can run.

use std::path::PathBuf;

use heimdall_features::FeatureShape;
use thiserror::Error;
use tract_onnx::prelude::TractError;

use crate::Parity;

/// An error of this crate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExportError {
    /// A field of a configuration has a value that no file can be written with.
    #[error("`{field}` must be {expected}, but is {actual}")]
    InvalidConfig {
        /// Path of the field, as the user wrote it: `check.max_abs_diff`.
        field: &'static str,
        /// The rule that the value breaks, as a phrase that follows "must be".
        expected: &'static str,
        /// The value that was given.
        actual: String,
    },

    /// A feature map does not have the shape that the file takes.
    #[error("the model takes {expected:?}, but the features have {actual:?}")]
    ShapeMismatch {
        /// What the network or the file takes.
        expected: FeatureShape,
        /// What was given.
        actual: FeatureShape,
    },

    /// The file was to be verified on nothing.
    #[error("a model is verified on at least one sample, but there are none")]
    NoSamples,

    /// The written file and the network do not say the same.
    #[error(
        "the written model differs from the network by up to {} m or {:.3e}° in position, {:.3e}° in \
         uncertainty and {:.3e} of the covariance, where {:.3e} is allowed",
        parity.position_difference_m_max,
        parity.position_difference_deg_max,
        parity.uncertainty_difference_deg_max,
        parity.covariance_difference_relative_max,
        parity.tolerance
    )]
    Parity {
        /// The differences that were found.
        parity: Box<Parity>,
    },

    /// The bytes are no file of the ONNX format.
    #[error("the model is no ONNX file")]
    NotOnnx {
        /// What is wrong with them.
        source: prost::DecodeError,
    },

    /// The metadata of a file lack what every file of this crate has.
    #[error("the model does not say how it is used: `{key}` of its metadata is wrong: {reason}")]
    ForeignModel {
        /// The entry.
        key: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A newer release wrote a file.
    #[error(
        "the model has version {actual} of the metadata, from a newer release; this one reads up \
         to {supported}"
    )]
    NewerModel {
        /// Version of the metadata.
        actual: u32,
        /// Newest version that this release knows.
        supported: u32,
    },

    /// A file is not the one that its manifest describes.
    #[error("{} is not what the manifest beside it describes: it was damaged or exchanged", path.display())]
    DamagedPackage {
        /// The file.
        path: PathBuf,
    },

    /// A file is one that the runtime cannot run.
    #[error("the model does not run in tract")]
    Runtime {
        /// What the runtime says.
        #[from]
        source: TractError,
    },

    /// A file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// `read` or `write`, for example.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}
