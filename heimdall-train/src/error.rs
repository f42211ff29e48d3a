//! What can go wrong between features and a trained network.

use std::io;
use std::path::PathBuf;

use burn::store::RecordError;
use heimdall_data::{DataError, Part, SplitBy};
use heimdall_geo::GeoError;
use heimdall_model::{Backbone, ModelError};
use thiserror::Error;

/// An error of this crate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A field of a configuration has a value that no training could go by.
    #[error("`{field}` must be {expected}, but is {actual}")]
    InvalidConfig {
        /// Path of the field, as the user wrote it: `schedule.warm_up_share`.
        field: &'static str,
        /// The rule that the value breaks, as a phrase that follows "must be".
        expected: &'static str,
        /// The value that was given.
        actual: f64,
    },

    /// A backbone that cannot do without side inputs is not given any.
    #[error("`model.side_inputs` must be true, as the backbone `{}` cannot do without",
        backbone.name())]
    NoSideInputs {
        /// The backbone.
        backbone: Backbone,
    },

    /// A field is given that only a residual network has.
    #[error("`{field}` is for residual networks, and the backbone `{}` is none", backbone.name())]
    NoResidualNetwork {
        /// The field.
        field: &'static str,
        /// The backbone.
        backbone: Backbone,
    },

    /// A set has too few events for its purpose.
    #[error("{part} takes at least {expected} events, but there are {actual}")]
    TooFewEvents {
        /// What the set is for.
        part: Part,
        /// Events that it takes.
        expected: usize,
        /// Events that there are.
        actual: usize,
    },

    /// There are too few groups to hold one out, or too many for a training each.
    #[error(
        "{actual} groups by {by} cannot be held out in turn: it takes at least 2, and \
         `groups_max` is {groups_max}"
    )]
    HeldOutGroups {
        /// What makes a group.
        by: SplitBy,
        /// Groups that there are.
        actual: usize,
        /// Most groups that are asked for.
        groups_max: usize,
    },

    /// Two sets, or a set and a network, are not of the same features.
    #[error("the features of {part} have another {field} than those that the network learns from")]
    FeaturesDiffer {
        /// The set that differs.
        part: Part,
        /// In what it differs.
        field: &'static str,
    },

    /// The caller asked to stop. What was done until the last finished epoch is kept.
    #[error("training was interrupted after {epochs} finished epochs")]
    Interrupted {
        /// Epochs that are finished, and from which the next call goes on.
        epochs: usize,
    },

    /// The caller asked to stop an evaluation.
    #[error("the evaluation was interrupted")]
    EvaluationInterrupted,

    /// The loss is not a number any more.
    #[error("the loss of batch {batch} in epoch {epoch} is {loss}")]
    NonFiniteLoss {
        /// Number of the epoch, from 1 on.
        epoch: usize,
        /// Number of the batch in its epoch, from 1 on.
        batch: usize,
        /// The loss, in nats.
        loss: f32,
    },

    /// The gradient is not a number any more.
    #[error("the gradient of batch {batch} in epoch {epoch} has the norm {norm}")]
    NonFiniteGradient {
        /// Number of the epoch, from 1 on.
        epoch: usize,
        /// Number of the batch in its epoch, from 1 on.
        batch: usize,
        /// The norm of the gradient of all weights.
        norm: f64,
    },

    /// The network states something that is not a number.
    #[error("the estimate of the event `{event}` is not finite")]
    NonFiniteEstimate {
        /// Name of the event.
        event: String,
    },

    /// A checkpoint belongs to another run.
    #[error(
        "`{}` was left by a run with another configuration or other events; remove it to start anew",
        path.display()
    )]
    ForeignCheckpoint {
        /// The checkpoint.
        path: PathBuf,
    },

    /// A file was written by a newer release.
    #[error(
        "`{}` has version {actual} of the format, but this release reads versions up to \
         {supported}", path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Version that it has.
        actual: u32,
        /// Newest version that is understood.
        supported: u32,
    },

    /// A network was written by an older release, for which its weights meant something else.
    #[error(
        "`{}` has version {actual} of the format, but this release reads version {supported} only: \
         train the network anew", path.display()
    )]
    OlderFormat {
        /// The file.
        path: PathBuf,
        /// Version that it has.
        actual: u32,
        /// The version that is understood.
        supported: u32,
    },

    /// A file does not have the bytes with which it was written.
    #[error("`{}` is damaged: it has the digest {actual}, but {expected} was written", path.display())]
    DigestMismatch {
        /// The file.
        path: PathBuf,
        /// Digest of what was written.
        expected: String,
        /// Digest of what is there.
        actual: String,
    },

    /// A file is not what its name says.
    #[error("`{}` cannot be understood", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },

    /// A model has no network in it.
    #[error("`{}` must name at least one member, but names none", path.display())]
    NoMembers {
        /// The manifest.
        path: PathBuf,
    },

    /// Weights cannot be read, or are those of another network.
    #[error("`{}` does not hold the weights of this network", path.display())]
    Weights {
        /// File of the weights.
        path: PathBuf,
        /// Why not.
        source: RecordError,
    },

    /// A file or folder cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// Why it cannot be.
        source: io::Error,
    },

    /// A file or folder cannot be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// Why it cannot be.
        source: io::Error,
    },

    /// An estimate is no place on the Earth, or its uncertainty no covariance.
    #[error("the estimate of the event `{event}` is no position")]
    Estimate {
        /// Name of the event.
        event: String,
        /// Why not.
        source: GeoError,
    },

    /// An event is in two sets that must be apart.
    #[error("the event `{event}` is in {part} and in another set of the evaluation, too")]
    SharedEvent {
        /// Name of the event.
        event: String,
        /// The later of the two sets.
        part: Part,
    },

    /// With exchanged positions something is better than a guess.
    #[error(
        "with positions exchanged between events, the median error of the {method} is {error_km:.2} \
         km, below the {guess_km:.2} km of a guess: the evaluation knows what it must not know"
    )]
    ControlFailed {
        /// What is better.
        method: &'static str,
        /// Its median error, in km.
        error_km: f64,
        /// Median error of the mean position of the training events, in km.
        guess_km: f64,
    },

    /// The methods that the network is compared with cannot be had.
    #[error("the network cannot be compared with other methods")]
    Baseline(#[source] GeoError),

    /// Features cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),

    /// The network cannot be made.
    #[error(transparent)]
    Model(#[from] ModelError),
}
