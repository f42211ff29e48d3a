//! What can go wrong between a configuration and a network.

use thiserror::Error;

use crate::Backbone;

/// An error of this crate.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum ModelError {
    /// A field of a configuration has a value that no network can be made from.
    #[error("`{field}` must be {expected}, but is {actual}")]
    InvalidConfig {
        /// Path of the field, as the user wrote it: `standardization.level_mean_db`.
        field: &'static str,
        /// The rule that the value breaks, as a phrase that follows "must be".
        expected: String,
        /// The value that was given.
        actual: String,
    },

    /// A file of weights cannot be understood.
    #[error("the weights are not in the safetensors format: {reason}")]
    UnreadableWeights {
        /// Why not.
        reason: String,
    },

    /// A file has the weights of another network.
    #[error("the tensor `{tensor}` of the weights must be {expected}, but is {actual}")]
    ForeignWeights {
        /// Name of the tensor.
        tensor: String,
        /// What the network takes.
        expected: String,
        /// What the file has.
        actual: String,
    },

    /// A network without a residual network is given the weights of one.
    #[error(
        "the backbone {backbone:?} has no pretrained weights, only `resnet18` and `resnet34` do"
    )]
    NoPretrained {
        /// The backbone.
        backbone: Backbone,
    },
}
