//! Stage `split`: feature shards in, four folders of feature shards out.

use serde::{Deserialize, Serialize};
use heimdall_data::SplitConfig;

use crate::PipelineError;
use crate::stage::{StageContext, StageKind, StageOutput};

/// Parts the events such that no group is on two sides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SplitStage {
    /// What stays together, and how much goes where.
    pub split: SplitConfig,
}

impl SplitStage {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// The error of the crate whose rule is broken.
    pub fn validate(&self) -> Result<(), PipelineError> {
        Ok(self.split.validate()?)
    }

    /// Writes the events of each part into the port of its name.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from that.
    pub async fn run(&self, _context: &StageContext) -> Result<StageOutput, PipelineError> {
        Err(PipelineError::Unavailable { kind: StageKind::Split })
    }
}
