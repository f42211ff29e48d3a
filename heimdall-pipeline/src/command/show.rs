//! `show`: says what a run did.

use clap::Args;

use super::matrix::{Variant, comparison};
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

    /// Compare this metric where a stage has variants (can be repeated)
    #[arg(long, value_name = "NAME")]
    pub metric: Vec<String>,

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
        let headlines: Vec<Option<String>> =
            run.stages.iter().map(|stage| cache.read_manifest(&stage.key?)?.headline).collect();
        let rows: Vec<[String; 5]> = run
            .stages
            .iter()
            .zip(&headlines)
            .map(|(stage, headline)| {
                let said = stage.report.error.as_ref().or(headline.as_ref());
                [
                    stage.stage.clone(),
                    stage.report.state.name().to_owned(),
                    stage.key.map(|key| key.short()).unwrap_or_default(),
                    duration(stage.report.seconds),
                    said.cloned().unwrap_or_default(),
                ]
            })
            .collect();
        text += &table(&rows);
        let variants: Vec<Variant<'_>> = run
            .stages
            .iter()
            .zip(&headlines)
            .map(|(stage, headline)| Variant {
                name: &stage.stage,
                state: stage.report.state.name(),
                headline: headline.as_deref().unwrap_or_default(),
                metrics: &stage.report.metrics,
            })
            .collect();
        text += &comparison(&variants, &self.metric);
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
