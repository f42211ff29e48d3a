//! `show`: says what a run did.

use clap::Args;

use super::table::{figure, table};
use super::{CacheArgs, Surroundings};
use crate::{PipelineError, duration};

/// Arguments of `show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Run to show: the beginning or end of its name, `last`, or `last~2` for the second before
    #[arg(default_value = "last")]
    pub run: String,

    /// The cache
    #[command(flatten)]
    pub cache: CacheArgs,

    /// Print the record as one JSON object
    #[arg(long)]
    pub json: bool,
}

impl ShowArgs {
    /// Prints the stages of the run with their metrics.
    pub(crate) fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        let cache = self.cache.open()?;
        let run = cache.find_run(&self.run)?;
        if self.json {
            let json = serde_json::to_string_pretty(&run).expect("a record is plain data");
            surroundings.print(&format!("{json}\n"))?;
            return Ok(0);
        }
        let mut text = format!(
            "run {} of {}: {}, began {}, took {}, heimdall-pipeline {}\n",
            run.run,
            run.pipeline,
            run.state.name(),
            run.started,
            duration(run.seconds),
            run.program
        );
        let rows: Vec<[String; 5]> = run
            .stages
            .iter()
            .map(|stage| {
                let manifest = stage.key.and_then(|key| cache.read_manifest(&key));
                let said = stage.report.error.clone().or(manifest.and_then(|m| m.headline));
                [
                    stage.stage.clone(),
                    stage.report.state.name().to_owned(),
                    stage.key.map(|key| key.short()).unwrap_or_default(),
                    duration(stage.report.seconds),
                    said.unwrap_or_default(),
                ]
            })
            .collect();
        text += &table(&rows);
        for stage in run.stages.iter().filter(|stage| !stage.report.metrics.is_empty()) {
            text += &format!("\n{}\n", stage.stage);
            let rows: Vec<[String; 2]> = stage
                .report
                .metrics
                .iter()
                .map(|(name, value)| [format!("    {name}"), figure(*value)])
                .collect();
            text += &table(&rows);
        }
        surroundings.print(&text)?;
        Ok(0)
    }
}
