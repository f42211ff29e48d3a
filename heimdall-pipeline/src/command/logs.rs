//! `logs`: shows what a stage said while it worked, also when its result came from the cache.

use clap::Args;

use super::{CacheArgs, Surroundings};
use crate::PipelineError;
use crate::cache::Cache;
use crate::history::RunRecord;

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Stage whose log to show
    pub stage: String,

    /// Run to look into, as `show` takes it; the latest one with the stage if absent
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,

    /// The cache
    #[command(flatten)]
    pub cache: CacheArgs,
}

impl LogsArgs {
    /// Prints the log.
    pub(crate) fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        let cache = self.cache.open()?;
        let has_log = |run: &RunRecord| self.log(&cache, run).is_some();
        let run = match &self.run {
            Some(name) => Some(cache.find_run(name)?),
            None => cache.runs()?.find(has_log),
        };
        let log = run.and_then(|run| self.log(&cache, &run));
        let log = log.ok_or_else(|| PipelineError::NoLog { stage: self.stage.clone() })?;
        surroundings.print(&log)?;
        Ok(0)
    }

    /// What the stage said in a run, or when its result was made.
    fn log(&self, cache: &Cache, run: &RunRecord) -> Option<String> {
        let record = run.stage(&self.stage)?;
        let path = match record.key {
            Some(key) => cache.blob(&cache.read_manifest(&key)?.log?),
            None => cache.log_path(&run.run, &self.stage),
        };
        Some(String::from_utf8_lossy(&std::fs::read(path).ok()?).into_owned())
    }
}
