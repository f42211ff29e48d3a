//! `cache`: says what is kept, whether it is sound, and removes what can go.

use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::table::table;
use super::{CacheArgs, DefinitionArgs, RemoteArgs, Surroundings};
use crate::cache::{Cache, Limits};
use crate::progress::size;
use crate::{ByteCount, Exchange, PipelineError, RunOptions, Span, duration};

/// Arguments of `cache`.
#[derive(Debug, Args)]
pub struct CacheCommandArgs {
    /// What to do
    #[command(subcommand)]
    pub action: CacheAction,
}

/// What is done with a cache.
#[derive(Debug, Subcommand)]
pub enum CacheAction {
    /// List the results, the one used last first
    Ls(CacheArgs),
    /// Read everything, report what is damaged, and move it away
    Verify(CacheArgs),
    /// Give the results of a pipeline to the cache that machines share
    Push(ExchangeArgs),
    /// Take the results of a pipeline from the cache that machines share
    Pull(ExchangeArgs),
    /// Remove what no result needs, and results beyond the limits
    ///
    /// The results of each pipeline's latest run and of pinned runs stay.
    Gc(GarbageArgs),
    /// Keep the results of a run, whatever the limits
    Pin(PinArgs),
    /// Keep the results of a run no longer than others
    Unpin(PinArgs),
}

/// Arguments of `cache gc`.
#[derive(Debug, Args)]
pub struct GarbageArgs {
    /// The cache
    #[command(flatten)]
    pub cache: CacheArgs,

    /// Remove results that were not used for longer, such as `720h`
    #[arg(long, value_name = "TIME")]
    pub max_age: Option<Span>,

    /// Remove the results not used for longest until the others take no more, such as `50GiB`
    #[arg(long, value_name = "BYTES")]
    pub max_size: Option<ByteCount>,

    /// Say what would be removed, without removing it
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `cache pin` and `cache unpin`.
#[derive(Debug, Args)]
pub struct PinArgs {
    /// The run, as `show` takes it
    #[arg(default_value = "last")]
    pub run: String,

    /// The cache
    #[command(flatten)]
    pub cache: CacheArgs,
}

/// Arguments of `cache push` and `cache pull`.
#[derive(Debug, Args)]
pub struct ExchangeArgs {
    /// The pipeline
    #[command(flatten)]
    pub definition: DefinitionArgs,

    /// Exchange no more than the results of this stage and those that it needs
    #[arg(long, value_name = "STAGE")]
    pub until: Option<String>,

    /// The cache
    #[command(flatten)]
    pub cache: CacheArgs,

    /// The shared cache
    #[command(flatten)]
    pub remote: RemoteArgs,
}

impl CacheCommandArgs {
    /// Does what is asked for; the exit code is 1 if something is damaged.
    pub(crate) async fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        match &self.action {
            CacheAction::Ls(cache) => list(&cache.open()?, surroundings),
            CacheAction::Verify(cache) => verify(&cache.open()?, surroundings),
            CacheAction::Push(arguments) => arguments.run(surroundings, true).await,
            CacheAction::Pull(arguments) => arguments.run(surroundings, false).await,
            CacheAction::Gc(arguments) => arguments.run(surroundings),
            CacheAction::Pin(PinArgs { run, cache }) => {
                let cache = cache.open()?;
                cache.pin(&cache.find_run(run)?.run).map(|()| 0)
            }
            CacheAction::Unpin(PinArgs { run, cache }) => {
                let cache = cache.open()?;
                cache.unpin(&cache.find_run(run)?.run).map(|()| 0)
            }
        }
    }
}

impl ExchangeArgs {
    async fn run(&self, surroundings: &Surroundings, is_push: bool) -> Result<u8, PipelineError> {
        let spec = self.definition.load(surroundings)?;
        let options = RunOptions {
            cache: self.cache.cache.clone(),
            until: self.until.clone(),
            remote: self.remote.address(&spec),
            environment: surroundings.environment.clone(),
            secrets: surroundings.secrets_of(&spec),
            fault: surroundings.fault,
            ..RunOptions::default()
        };
        let events = surroundings.screen();
        let done = if is_push {
            crate::push(&spec, &options, &events).await?
        } else {
            crate::pull(&spec, &options, &events).await?
        };
        let Exchange { results, missing, files, bytes } = done;
        let verb = if is_push { "sent" } else { "fetched" };
        let place = if is_push { "here" } else { "there" };
        let size = size(bytes);
        surroundings.print(&format!(
            "{results} results are in both caches, {missing} are not {place}; {verb} {files} files, {size}\n"
        ))?;
        Ok(0)
    }
}

impl GarbageArgs {
    fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        let limits = Limits {
            age_max: self.max_age.map(Span::duration),
            size_bytes_max: self.max_size.map(ByteCount::bytes),
        };
        let cache = self.cache.open()?;
        let removed = cache.collect_garbage(limits, Timestamp::now(), !self.dry_run)?;
        let verb = if self.dry_run { "would remove" } else { "removed" };
        let (results, files) = (removed.results.len(), removed.files);
        let size = size(removed.bytes);
        surroundings.print(&format!("{verb} {results} results and {files} files, {size}\n"))?;
        Ok(0)
    }
}

fn list(cache: &Cache, surroundings: &Surroundings) -> Result<u8, PipelineError> {
    let mut rows = vec![
        ["key", "pipeline", "stage", "kind", "size", "took", "last used", ""].map(str::to_owned),
    ];
    for entry in cache.entries()? {
        let provenance = &entry.manifest.provenance;
        rows.push([
            entry.key.short(),
            provenance.pipeline.clone(),
            provenance.stage.clone(),
            entry.manifest.kind.to_string(),
            size(entry.size_bytes),
            duration(entry.manifest.seconds),
            entry.used.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            if entry.is_pinned { "kept" } else { "" }.to_owned(),
        ]);
    }
    surroundings.print(&table(&rows))?;
    Ok(0)
}

fn verify(cache: &Cache, surroundings: &Surroundings) -> Result<u8, PipelineError> {
    let verified = cache.verify()?;
    let mut text: String = verified.faults.iter().map(|fault| format!("{fault}\n")).collect();
    let (results, files) = (verified.results, verified.files);
    text += &match verified.faults.len() {
        0 => format!("{results} results, {files} files, all sound\n"),
        faults => format!("{results} results, {files} files, {faults} faults\n"),
    };
    surroundings.print(&text)?;
    Ok(u8::from(!verified.faults.is_empty()))
}
