//! Stage `import`: a folder of recordings in, a recordings folder out.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::PipelineError;
use crate::stage::{StageContext, StageKind, StageOutput};

/// Copies the recordings of a folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportStage {
    /// The folder, relative to the working directory.
    pub path: PathBuf,
    /// How the files in it are written.
    #[serde(default)]
    pub format: ImportFormat,
    /// Whether one file that cannot be read stops the stage, rather than being left out.
    #[serde(default = "strict_by_default")]
    pub strict: bool,
}

/// How the files of a folder of recordings are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportFormat {
    /// WAV files of KiwiSDR receivers, with `receivers.csv` and, where the truth is known,
    /// `transmitter.csv`.
    #[default]
    Kiwi,
}

fn strict_by_default() -> bool {
    true
}

impl ImportStage {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// The error of the crate whose rule is broken.
    pub fn validate(&self) -> Result<(), PipelineError> {
        Ok(())
    }

    /// Copies what can be read into the catalog and the object store.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from that.
    pub async fn run(&self, _context: &StageContext) -> Result<StageOutput, PipelineError> {
        Err(PipelineError::Unavailable { kind: StageKind::Import })
    }
}
