//! Stage `import_tables`: folders of levels and arrival times in, feature shards out.

use std::path::{Path, PathBuf};

use heimdall_data::{
    MeasuredNetwork, MissingLine, TableConfig, TableReport, read_measurement_tables,
};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::PipelineError;
use crate::stage::{StageContext, StageOutput, spawn_blocking};

/// Makes features of tables of levels and arrival times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportTablesStage {
    /// Folder with `receivers.csv`, `events.csv` and `measurements.csv`, relative to the working
    /// directory.
    pub path: PathBuf,
    /// Another such folder of the same receivers, which the port `test` then has: of another season,
    /// for instance. Left out or empty, there is nothing at that port.
    #[serde(default)]
    pub test: Option<PathBuf>,
    /// What it means that a receiver has no line for an event.
    #[serde(default)]
    pub missing: MissingLine,
    /// Events of no told session are of one if they start within this time, in s.
    #[serde(default = "session_s_by_default")]
    pub session_s: f64,
    /// Standard deviation of arrival times, in s.
    #[serde(default = "timing_sigma_s_by_default")]
    pub timing_sigma_s: f64,
}

fn session_s_by_default() -> f64 {
    TableConfig::default().session_s
}

fn timing_sigma_s_by_default() -> f64 {
    TableConfig::default().timing_sigma_s
}

impl ImportTablesStage {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// The error of the crate whose rule is broken.
    pub fn validate(&self) -> Result<(), PipelineError> {
        Ok(self.config().validate()?)
    }

    /// Returns the folder of the port `test`, if one is given.
    pub(super) fn test(&self) -> Option<&Path> {
        self.test.as_deref().filter(|path| !path.as_os_str().is_empty())
    }

    /// Returns how the tables become features.
    pub(crate) fn config(&self) -> TableConfig {
        let &Self { missing, session_s, timing_sigma_s, .. } = self;
        TableConfig { missing, session_s, timing_sigma_s }
    }

    /// Writes the shards of both folders, the receivers of the first one in the order of its table.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with the tables, with file and line, or keeps the shards from being written.
    pub(crate) async fn run(&self, context: &StageContext) -> Result<StageOutput, PipelineError> {
        let (stage, context) = (self.clone(), context.clone());
        let writing = spawn_blocking(move || {
            let tables = read_measurement_tables(&stage.path)?;
            context.check_cancelled()?;
            let network = MeasuredNetwork::of(&tables, &stage.config())?;
            let own = network.write(&tables, context.output("features"))?;
            context.check_cancelled()?;
            let output = context.output("test");
            let other = match stage.test() {
                Some(folder) => network.write(&read_measurement_tables(folder)?, output)?,
                None => {
                    network.write_nothing(output)?;
                    TableReport::default()
                }
            };
            for receiver in &other.unknown_receivers {
                warn!(receiver, "not learned from, and left out of the test events");
            }
            Ok::<_, PipelineError>(summary(&own, &other, tables.receivers.len()))
        });
        writing.await.expect("tables are imported without a panic")
    }
}

fn summary(own: &TableReport, other: &TableReport, receivers: usize) -> StageOutput {
    let mut headline = format!("{} events at {receivers} receivers", own.events);
    if other.events > 0 {
        headline += &format!(", {} of another folder to test", other.events);
    }
    let figures = [
        ("events", own.events),
        ("labelled", own.labelled),
        ("measurements", own.measurements),
        ("test_events", other.events),
        ("test_labelled", other.labelled),
        ("test_measurements", other.measurements),
        ("unknown_receivers", other.unknown_receivers.len()),
    ];
    StageOutput {
        metrics: figures.map(|(name, count)| (name.to_owned(), count as f64)).into(),
        headline: Some(headline),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_folder_to_test_is_none() {
        let read = |text: &str| serde_json::from_str::<ImportTablesStage>(text).unwrap();

        assert_eq!(read(r#"{"path": "a"}"#).test(), None);
        assert_eq!(read(r#"{"path": "a", "test": ""}"#).test(), None);
        assert_eq!(read(r#"{"path": "a", "test": null}"#).test(), None);
        assert_eq!(read(r#"{"path": "a", "test": "b"}"#).test(), Some(Path::new("b")));
        let error = serde_json::from_str::<ImportTablesStage>(r#"{"path": "a", "tset": "b"}"#);
        assert!(error.unwrap_err().to_string().contains("tset"));
    }
}
