//! `export-sigmf`: writes the events of a folder of recordings as SigMF collections.

use std::path::PathBuf;

use clap::Args;
use heimdall_data::{Recordings, SigmfExport, export_sigmf};

use super::Surroundings;
use crate::PipelineError;

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
    /// Writes the collections, and prints how many there are.
    pub(crate) async fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        let recordings = Recordings::open(&self.recordings).await?;
        let SigmfExport { collections, recordings } =
            export_sigmf(&recordings, &self.output).await?;
        surroundings.print(&format!("{collections} collections with {recordings} recordings\n"))?;
        Ok(0)
    }
}
