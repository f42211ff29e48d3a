//! Stage `import`: a folder of recordings in, a recordings folder out.

use std::path::PathBuf;

use heimdall_data::{ImportConfig, ImportFormat, RawType, Recordings, import_folder};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::PipelineError;
use crate::stage::{StageContext, StageOutput};

/// Copies the recordings of a folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportStage {
    /// The folder, relative to the working directory.
    pub path: PathBuf,
    /// How the files in it are written.
    #[serde(default)]
    pub format: ImportFormat,
    /// Type of the samples of all files, which are then read as raw, whatever they say.
    #[serde(default)]
    pub datatype: Option<RawType>,
    /// Sample rate of all files, whatever they say, in Hz.
    #[serde(default)]
    pub sample_rate_hz: Option<f64>,
    /// Center frequency of all files, whatever they say, in Hz.
    #[serde(default)]
    pub center_frequency_hz: Option<f64>,
    /// Whether one file that cannot be read stops the stage, rather than being left out.
    #[serde(default = "strict_by_default")]
    pub strict: bool,
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

    /// Copies what can be read into the catalog and the object store, and writes `import.json`
    /// beside them: what was left out and why.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with the tables of the folder; with `strict`, the first file that is not
    /// usable.
    pub(crate) async fn run(&self, context: &StageContext) -> Result<StageOutput, PipelineError> {
        let folder = context.output("recordings");
        let recordings = Recordings::create(folder).await?;
        let config = ImportConfig {
            format: self.format,
            strict: self.strict,
            datatype: self.datatype,
            sample_rate_hz: self.sample_rate_hz,
            center_frequency_hz: self.center_frequency_hz,
            ..ImportConfig::default()
        };
        let importing = import_folder(&self.path, &recordings, &config);
        let report = context.unless_cancelled(importing).await?;
        recordings.close().await?;

        let path = folder.join("import.json");
        let json = serde_json::to_vec_pretty(&report).expect("a report is plain data");
        tokio::fs::write(&path, json).await.map_err(PipelineError::io("write", &path))?;
        for file in &report.quarantined {
            warn!(file = file.file, reason = file.reason, "left out");
        }
        let (events, count) = (report.events, report.recordings);
        Ok(StageOutput {
            metrics: [
                ("events".to_owned(), events as f64),
                ("recordings".to_owned(), count as f64),
                ("quarantined".to_owned(), report.quarantined.len() as f64),
            ]
            .into(),
            headline: Some(format!("{count} recordings of {events} events")),
        })
    }
}
