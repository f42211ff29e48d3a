//! `status`: says how a pipeline stands: what is there, and what the last run did.

use clap::Args;

use super::table::table;
use super::{DefinitionArgs, SelectionArgs, Surroundings};
use crate::cache::Cache;
use crate::history::RunRecord;
use crate::{Forecast, PipelineError};

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The pipeline
    #[command(flatten)]
    pub definition: DefinitionArgs,

    /// The stages
    #[command(flatten)]
    pub selection: SelectionArgs,
}

impl StatusArgs {
    /// Prints a line for each stage; the exit code says whether a run would have anything to do.
    pub(crate) async fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        let spec = self.definition.load(surroundings)?;
        let options = self.selection.options(&spec, surroundings);
        let planned = crate::plan(&spec, &options, &surroundings.screen()).await?;
        let cache = Cache::open(&options.cache, None)?;
        let last: Option<RunRecord> = cache.runs()?.find(|run| run.pipeline == spec.name);
        let mut rows = vec![["stage", "now", "in the last run", ""].map(str::to_owned)];
        for stage in &planned {
            let record = last.as_ref().and_then(|run| run.stage(&stage.stage));
            let state = record.map_or("–", |record| record.report.state.name());
            let error = record.and_then(|record| record.report.error.clone());
            let now = match stage.forecast {
                Forecast::Cached => "up to date",
                Forecast::Restore => "to be restored",
                Forecast::Fetch => "to be fetched",
                Forecast::Run => "to be run",
                Forecast::Maybe => "may be run",
                Forecast::Fail => "would fail",
                Forecast::Skip => "left out",
            };
            rows.push([
                stage.stage.clone(),
                now.to_owned(),
                state.to_owned(),
                error.unwrap_or_default(),
            ]);
        }
        let mut text = table(&rows);
        text += &match last {
            Some(run) => format!("last run: {} {}, {}\n", run.run, run.state.name(), run.started),
            None => format!("`{}` has not been run with this cache\n", spec.name),
        };
        surroundings.print(&text)?;
        Ok(0)
    }
}
