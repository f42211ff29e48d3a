//! Stage `extract`: recordings in, feature shards out.

use serde::{Deserialize, Serialize};
use heimdall_features::FeatureConfig;

use crate::PipelineError;
use crate::stage::{StageContext, StageKind, StageOutput};

/// Turns every event of the recordings into a feature map.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExtractStage {
    /// How samples become features.
    pub features: FeatureConfig,
    /// How many bits a level takes on disk.
    pub storage: LevelStorage,
}

/// How a level is stored in a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LevelStorage {
    /// 16 bits: steps of at most 0.06 dB below 128 dB.
    #[default]
    F16,
    /// 32 bits.
    F32,
}

impl ExtractStage {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// The error of the crate whose rule is broken.
    pub fn validate(&self) -> Result<(), PipelineError> {
        Ok(self.features.validate()?)
    }

    /// Writes the shards, with events in the order of their ids.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from that.
    pub async fn run(&self, _context: &StageContext) -> Result<StageOutput, PipelineError> {
        Err(PipelineError::Unavailable { kind: StageKind::Extract })
    }
}
