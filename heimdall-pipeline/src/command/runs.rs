//! `runs`: lists what is remembered of earlier runs.

use clap::Args;

use super::table::table;
use super::{CacheArgs, Surroundings};
use crate::{PipelineError, StageState, duration};

/// Arguments of `runs`.
#[derive(Debug, Args)]
pub struct RunsArgs {
    /// The cache
    #[command(flatten)]
    pub cache: CacheArgs,

    /// How many runs to list, the latest ones first
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 20)]
    pub limit: usize,

    /// Print one JSON object for each run
    #[arg(long)]
    pub json: bool,
}

impl RunsArgs {
    /// Prints a line for each run.
    pub(crate) fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        let cache = self.cache.open()?;
        let runs = cache.runs()?.take(self.limit);
        if self.json {
            let json = |run| serde_json::to_string(&run).expect("a record is plain data") + "\n";
            surroundings.print(&runs.map(json).collect::<String>())?;
            return Ok(0);
        }
        let header = ["run", "pipeline", "state", "ran", "cached", "time"].map(str::to_owned);
        let rows = runs.map(|run| {
            let count =
                |state| run.stages.iter().filter(|s| s.report.state == state).count().to_string();
            let (ran, cached) = (count(StageState::Ran), count(StageState::Cached));
            let (state, time) = (run.state.name().to_owned(), duration(run.seconds));
            [run.run, run.pipeline, state, ran, cached, time]
        });
        surroundings.print(&table(&std::iter::once(header).chain(rows).collect::<Vec<_>>()))?;
        Ok(0)
    }
}
