//! What is left of an estimate where something is not as it was in training.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::DataShift;

/// The same network on events of another world: other hills, gains and detours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OtherWorld {
    /// Figures of its events under the names of those of the test events.
    pub metrics: BTreeMap<String, f64>,
    /// Whether its events look like the training events; `None` without training events.
    pub shift: Option<DataShift>,
}

/// The test events that a receiver detects, with it and without it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiverLoss {
    /// Name of the receiver.
    pub receiver: String,
    /// Figures of these events as they are; empty if it detects none.
    pub with: BTreeMap<String, f64>,
    /// The same without the receiver, as if it had recorded nothing.
    pub without: BTreeMap<String, f64>,
}
