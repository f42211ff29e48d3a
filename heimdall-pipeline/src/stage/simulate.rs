//! Stage `simulate`: a simulated world in, recordings out.

use serde::{Deserialize, Serialize};
use heimdall_sim::WorldConfig;

use crate::PipelineError;
use crate::stage::{StageContext, StageKind, StageOutput};

/// Makes the recordings of a simulated world.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimulateStage {
    /// The world: its receivers, its transmitters, and how radio waves go from one to the other.
    pub world: WorldConfig,
}

impl SimulateStage {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// The error of the crate whose rule is broken.
    pub fn validate(&self) -> Result<(), PipelineError> {
        Ok(self.world.validate()?)
    }

    /// Writes the recordings of every event of the world.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from that.
    pub async fn run(&self, _context: &StageContext) -> Result<StageOutput, PipelineError> {
        Err(PipelineError::Unavailable { kind: StageKind::Simulate })
    }
}
