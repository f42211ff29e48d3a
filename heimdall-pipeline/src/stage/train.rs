//! Stage `train`: features in, a trained network out.

use serde::{Deserialize, Serialize};
use heimdall_train::TrainConfig;

use crate::PipelineError;
use crate::stage::{StageContext, StageKind, StageOutput};

/// Trains a network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TrainStage {
    /// The network, and how it is trained.
    pub config: TrainConfig,
}

impl TrainStage {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// The error of the crate whose rule is broken.
    pub fn validate(&self) -> Result<(), PipelineError> {
        Ok(self.config.validate()?)
    }

    /// Trains, going on from the last checkpoint if there is one.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from that.
    pub async fn run(&self, _context: &StageContext) -> Result<StageOutput, PipelineError> {
        Err(PipelineError::Unavailable { kind: StageKind::Train })
    }
}
