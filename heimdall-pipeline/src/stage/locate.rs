//! Stage `locate`: recordings in, a position out.

use serde::{Deserialize, Serialize};
use heimdall_features::DelayConfig;
use heimdall_geo::{DelaySolverConfig, Region};

use crate::PipelineError;
use crate::stage::{StageContext, StageKind, StageOutput};

/// Finds a transmitter from the delays between the recordings of an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocateStage {
    /// Where the transmitter is looked for.
    pub region: Region,
    /// How the delay between two recordings is measured.
    #[serde(default)]
    pub delay: DelayConfig,
    /// How delays become a position.
    #[serde(default)]
    pub solver: DelaySolverConfig,
}

impl LocateStage {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// The error of the crate whose rule is broken.
    pub fn validate(&self) -> Result<(), PipelineError> {
        self.delay.validate()?;
        self.solver.validate()?;
        Ok(())
    }

    /// Writes `fix.json` and `report.html`.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from that.
    pub async fn run(&self, _context: &StageContext) -> Result<StageOutput, PipelineError> {
        Err(PipelineError::Unavailable { kind: StageKind::Locate })
    }
}
