//! Arguments that several commands have: the pipeline, and the stages of it.

use std::path::PathBuf;

use clap::Args;

use super::Surroundings;
use crate::{LoadOptions, PipelineError, PipelineSpec, RunOptions};

/// The pipeline, and what is changed in it.
#[derive(Clone, Debug, Args)]
pub struct DefinitionArgs {
    /// Pipeline to read
    pub pipeline: PathBuf,

    /// Change `vars.NAME`, `STAGE.FIELD` or `tracking.FIELD` (can be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl DefinitionArgs {
    /// Reads the pipeline.
    ///
    /// # Errors
    ///
    /// Those of [`PipelineSpec::load`].
    pub fn load(&self, surroundings: &Surroundings) -> Result<PipelineSpec, PipelineError> {
        let environment = surroundings.environment.clone();
        PipelineSpec::load(&self.pipeline, &LoadOptions { set: self.set.clone(), environment })
    }
}

/// Which stages, and where to.
#[derive(Clone, Debug, Args)]
pub struct SelectionArgs {
    /// Run this stage and all that depend on it again, with the others from the cache
    #[arg(long, value_name = "STAGE")]
    pub from: Option<String>,

    /// Run no more than this stage and those that it needs
    #[arg(long, value_name = "STAGE")]
    pub until: Option<String>,

    /// Run nothing but this stage (can be repeated)
    #[arg(long, value_name = "STAGE")]
    pub only: Vec<String>,

    /// Run this stage even if its result is in the cache (can be repeated)
    #[arg(long, value_name = "STAGE")]
    pub force: Vec<String>,

    /// Folder of the cache
    #[arg(long, value_name = "DIR", default_value = ".heimdall")]
    pub cache: PathBuf,

    /// Folder for readable copies of the results
    #[arg(long, value_name = "DIR", default_value = "artifacts")]
    pub output: PathBuf,
}

impl SelectionArgs {
    /// Returns what the arguments ask of a run.
    pub fn options(&self) -> RunOptions {
        RunOptions {
            cache: self.cache.clone(),
            output: self.output.clone(),
            from: self.from.clone(),
            until: self.until.clone(),
            only: self.only.clone(),
            force: self.force.clone(),
        }
    }
}
