//! Stage `evaluate`: a network and features in, the recalibrated network and its evaluation out.

use serde::{Deserialize, Serialize};

use crate::PipelineError;
use crate::stage::{StageContext, StageKind, StageOutput};

/// Recalibrates a network and measures how good it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluateStage {
    /// What the report shows.
    pub report: ReportConfig,
}

/// What the report of an evaluation shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReportConfig {
    /// How many events the map shows.
    pub events: usize,
}

impl Default for ReportConfig {
    fn default() -> Self {
        Self { events: 200 }
    }
}

impl EvaluateStage {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// The error of the crate whose rule is broken.
    pub fn validate(&self) -> Result<(), PipelineError> {
        Ok(())
    }

    /// Writes the recalibrated network, `evaluation.json` and `report.html`.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from that.
    pub async fn run(&self, _context: &StageContext) -> Result<StageOutput, PipelineError> {
        Err(PipelineError::Unavailable { kind: StageKind::Evaluate })
    }
}
