//! Stage `register`: a model and its evaluation in, a registered version out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::PipelineError;
use crate::stage::{StageContext, StageKind, StageOutput};

/// Enters a model into the registry if it is good enough.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisterStage {
    /// Name of the registered model.
    pub model: String,
    /// Alias that is moved to the new version.
    #[serde(default)]
    pub alias: Option<String>,
    /// Smallest and largest value that a metric of the evaluation may have, by its name.
    #[serde(default)]
    pub gate: BTreeMap<String, [f64; 2]>,
}

impl RegisterStage {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// The error of the crate whose rule is broken.
    pub fn validate(&self) -> Result<(), PipelineError> {
        Ok(())
    }

    /// Enters the run, its artifacts and the model version.
    ///
    /// # Errors
    ///
    /// [`PipelineError::GateFailed`] if a metric is outside of its bounds.
    pub async fn run(&self, _context: &StageContext) -> Result<StageOutput, PipelineError> {
        Err(PipelineError::Unavailable { kind: StageKind::Register })
    }
}
