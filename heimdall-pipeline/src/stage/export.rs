//! Stage `export`: a network in, ONNX out.

use serde::{Deserialize, Serialize};
use heimdall_export::ExportConfig;

use crate::PipelineError;
use crate::stage::{StageContext, StageKind, StageOutput};

/// Writes a network as ONNX and compares the two on samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExportStage {
    /// The version of ONNX, and how far the two may be apart.
    pub config: ExportConfig,
}

impl ExportStage {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// The error of the crate whose rule is broken.
    pub fn validate(&self) -> Result<(), PipelineError> {
        Ok(self.config.validate()?)
    }

    /// Writes `model.onnx` once it agrees with the network.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from that.
    pub async fn run(&self, _context: &StageContext) -> Result<StageOutput, PipelineError> {
        Err(PipelineError::Unavailable { kind: StageKind::Export })
    }
}
