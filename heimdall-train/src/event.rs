//! What training tells its caller, who alone decides whom to tell.

use serde::{Deserialize, Serialize};

/// Something that happened while training.
#[derive(Clone, Debug, PartialEq)]
pub enum TrainEvent {
    /// The training of a network begins, or goes on.
    Started {
        /// Number of the network in its ensemble, from 1 on.
        member: usize,
        /// Networks of the ensemble.
        members: usize,
        /// Finished epochs that were found in a checkpoint; 0 if there was none.
        epochs_finished: usize,
        /// Most epochs.
        epochs: usize,
        /// Batches of an epoch.
        batches: usize,
        /// Events that the network learns from.
        training_events: usize,
        /// Events that tell when to stop.
        validation_events: usize,
        /// Weights of the network.
        parameters: usize,
    },
    /// An epoch begins.
    EpochStarted {
        /// Number of the epoch, from 1 on.
        epoch: usize,
        /// Most epochs.
        epochs: usize,
    },
    /// A batch was learned from.
    Step {
        /// Number of the epoch, from 1 on.
        epoch: usize,
        /// Number of the batch in its epoch, from 1 on.
        batch: usize,
        /// Batches of the epoch.
        batches: usize,
        /// Mean loss of the batch, in nats.
        loss: f64,
        /// Learning rate of the step to which the batch belongs.
        learning_rate: f64,
        /// Events per second since the epoch began.
        samples_per_second: f64,
        /// Time until the last epoch of this network is done at this pace, in seconds, validation
        /// and early stopping aside.
        seconds_left: f64,
    },
    /// An epoch is over, validated, and written as a checkpoint.
    EpochFinished {
        /// How it went.
        summary: EpochSummary,
        /// Whether no epoch had a lower validation loss.
        best: bool,
        /// Duration, validation included, in seconds.
        seconds: f64,
    },
    /// The training of a network is over.
    Finished {
        /// Epochs that were done, those before an interruption too.
        epochs: usize,
        /// The epoch whose weights are kept, from 1 on.
        best_epoch: usize,
        /// Whether patience was spent before the last epoch.
        stopped_early: bool,
    },
}

/// How an epoch went.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochSummary {
    /// Number of the epoch, from 1 on.
    pub epoch: usize,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Mean loss of the training events while they were learned from, in nats.
    pub train_loss: f64,
    /// Mean loss of the validation events after the epoch, in nats.
    pub validation_loss: f64,
    /// Median error of the validation events, in km.
    pub validation_error_km_median: f64,
    /// 90th percentile of the errors of the validation events, in km.
    pub validation_error_km_p90: f64,
}
