//! Arguments that several commands have: the pipeline, and the stages of it.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::Surroundings;
use crate::cache::Cache;
use crate::{LoadOptions, PipelineError, PipelineSpec, RunOptions};

/// The pipeline, and what is changed in it.
#[derive(Clone, Debug, Args)]
pub struct DefinitionArgs {
    /// Pipeline to read
    pub pipeline: PathBuf,

    /// Use the variables and settings of this profile; later ones win (can be repeated)
    #[arg(long, short, value_name = "NAME")]
    pub profile: Vec<String>,

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
        let (set, profiles) = (self.set.clone(), self.profile.clone());
        PipelineSpec::load(&self.pipeline, &LoadOptions { set, profiles, environment })
    }
}

/// Which stages, and where to.
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("partial").multiple(true))]
pub struct SelectionArgs {
    /// Run this stage and all that depend on it again, with the others from the cache
    #[arg(long, value_name = "STAGE", group = "partial")]
    pub from: Option<String>,

    /// Run no more than this stage and those that it needs
    #[arg(long, value_name = "STAGE")]
    pub until: Option<String>,

    /// Run nothing but this stage; `*` stands for any text (can be repeated)
    #[arg(long, value_name = "STAGE", group = "partial")]
    pub only: Vec<String>,

    /// Run this stage even if its result is in the cache; `*` stands for any text (can be repeated)
    #[arg(long, value_name = "STAGE")]
    pub force: Vec<String>,

    /// Take the last result of a stage that must come from the cache and is not there
    #[arg(long, requires = "partial")]
    pub frozen: bool,

    /// The cache
    #[command(flatten)]
    pub cache: CacheArgs,

    /// The shared cache
    #[command(flatten)]
    pub remote: RemoteArgs,

    /// Use nothing but this machine: leave the shared cache alone
    #[arg(long)]
    pub offline: bool,

    /// Folder for readable copies of the results
    #[arg(long, value_name = "DIR", default_value = "artifacts")]
    pub output: PathBuf,
}

impl SelectionArgs {
    /// Returns what the arguments ask of a run.
    pub fn options(&self, spec: &PipelineSpec, surroundings: &Surroundings) -> RunOptions {
        RunOptions {
            cache: self.cache.cache.clone(),
            remote: self.remote.address(spec).filter(|_| !self.offline),
            output: self.output.clone(),
            from: self.from.clone(),
            until: self.until.clone(),
            only: self.only.clone(),
            force: self.force.clone(),
            frozen: self.frozen,
            environment: surroundings.environment.clone(),
            secrets: surroundings.secrets_of(spec),
            fault: surroundings.fault,
            ..RunOptions::default()
        }
    }
}

/// The cache that machines share.
#[derive(Clone, Debug, Args)]
pub struct RemoteArgs {
    /// Cache that machines share: a folder, `file://PATH` or `s3://BUCKET/PATH` [default: what the
    /// pipeline says under `cache:`]
    #[arg(long, value_name = "ADDRESS")]
    pub remote: Option<String>,
}

impl RemoteArgs {
    /// Returns where the cache is, if anybody says.
    pub(crate) fn address(&self, spec: &PipelineSpec) -> Option<String> {
        self.remote.clone().or_else(|| spec.cache.clone())
    }
}

/// Where results are kept.
#[derive(Clone, Debug, Args)]
pub struct CacheArgs {
    /// Folder of the cache
    #[arg(long, value_name = "DIR", default_value = ".heimdall")]
    pub cache: PathBuf,
}

impl CacheArgs {
    /// Opens the cache.
    pub(crate) fn open(&self) -> Result<Cache, PipelineError> {
        Cache::open(&self.cache, None)
    }
}
