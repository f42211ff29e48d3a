//! `export-sigmf`: writes the events of a folder of recordings as SigMF collections.

use std::path::PathBuf;

use clap::Args;
use heimdall_data::{Recordings, SigmfExport, export_sigmf};

use super::Surroundings;
use crate::PipelineError;
use crate::stage::LATENTS_FILE;

/// Arguments of `export-sigmf`.
#[derive(Debug, Args)]
pub struct ExportSigmfArgs {
    /// Folder of recordings, such as the stage `import` writes
    pub recordings: PathBuf,

    /// Folder for the collections
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
}

impl ExportSigmfArgs {
    /// Writes the collections, with the truth beside them where the recordings are of a simulated
    /// world, and prints how many there are.
    pub(crate) async fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        let recordings = Recordings::open(&self.recordings).await?;
        let SigmfExport { collections, recordings } =
            export_sigmf(&recordings, &self.output).await?;
        let latents = self.recordings.join(LATENTS_FILE);
        if latents.is_file() {
            let copy = self.output.join(LATENTS_FILE);
            std::fs::copy(&latents, &copy).map_err(PipelineError::io("write", copy))?;
        }
        surroundings.print(&format!("{collections} collections with {recordings} recordings\n"))?;
        Ok(0)
    }
}
