//! The command line: which commands there are. What each one takes and does is in its own file.

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::PipelineError;
use crate::command::{
    CacheCommandArgs, CatalogCommandArgs, CompletionsArgs, DiffArgs, ExportSigmfArgs, FeaturesArgs,
    GraphArgs, ImportArgs, InitArgs, LineageArgs, LocateArgs, LogsArgs, PlanArgs, PredictArgs,
    ReferenceArgs, RunArgs, RunsArgs, SchemaArgs, ShowArgs, StatusArgs, Surroundings, TrackingArgs,
    UploadArgs, ValidateArgs, WhyArgs,
};

/// Localize radio transmitters: run pipelines from recordings to a registered model
#[derive(Debug, Parser)]
#[command(name = "heimdall-pipeline", version)]
pub struct Cli {
    /// Log filter, such as `info` or `heimdall_train=debug`
    #[arg(long, global = true, env = "HEIMDALL_LOG", default_value = "info", value_parser = filter, hide_env_values = true)]
    pub log: String,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// Lets pass what is a log filter.
fn filter(text: &str) -> Result<String, ParseError> {
    EnvFilter::builder().parse(text).map(|_| text.to_owned())
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a small pipeline to begin with
    Init(InitArgs),
    /// Run a pipeline; stages whose results are in the cache are not run again
    Run(RunArgs),
    /// Print what a run would do and why, without running anything
    Plan(PlanArgs),
    /// Say why a stage would run or not: what decides its result, with old and new values
    Why(WhyArgs),
    /// Say how a pipeline stands: which results are there, and what the last run did
    Status(StatusArgs),
    /// List earlier runs
    Runs(RunsArgs),
    /// Show what a run did: states, times, metrics
    Show(ShowArgs),
    /// Compare two runs: parameters, inputs, metrics, times
    Diff(DiffArgs),
    /// Show what a stage said while it worked
    Logs(LogsArgs),
    /// Say how a result came to be, back to its recordings
    Lineage(LineageArgs),
    /// Print how the stages of a pipeline are connected
    Graph(GraphArgs),
    /// Write the spectrum, mel bands or cepstrum of a recording as an array of NumPy
    Features(FeaturesArgs),
    /// Bring the recordings of a folder into a catalog, as often as it grows
    Import(ImportArgs),
    /// List what a catalog has, and decide on its sessions
    Catalog(CatalogCommandArgs),
    /// Write the events of a folder of recordings as SigMF collections
    ExportSigmf(ExportSigmfArgs),
    /// Locate transmitters from tables of levels and arrival times, without any training run
    Locate(LocateArgs),
    /// Say where the transmitters of recordings are, by an exported or registered model
    Predict(PredictArgs),
    /// Give an exported model to a folder or a bucket, under a version that is never replaced
    Upload(UploadArgs),
    /// Send to the tracking store what has not arrived there
    Tracking(TrackingArgs),
    /// List, check or clean up what is kept
    Cache(CacheCommandArgs),
    /// Read a pipeline and check it, without running anything
    Validate(ValidateArgs),
    /// Print the JSON schema of pipelines, by which editors complete and check them
    Schema(SchemaArgs),
    /// Print a script with which a shell completes commands and options
    Completions(CompletionsArgs),
    /// Write the reference of this program: pages for reading, and manual pages
    Reference(ReferenceArgs),
}

impl Command {
    /// Carries out the command, and returns the exit code.
    ///
    /// # Errors
    ///
    /// Whatever keeps the command from its end; [`PipelineError::exit_code`] says what to exit with.
    pub async fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        match self {
            Self::Run(arguments) => arguments.run(surroundings).await,
            Self::Plan(arguments) => arguments.run(surroundings).await,
            Self::Why(arguments) => arguments.run(surroundings).await,
            Self::Status(arguments) => arguments.run(surroundings).await,
            Self::Runs(arguments) => arguments.run(surroundings),
            Self::Show(arguments) => arguments.run(surroundings),
            Self::Diff(arguments) => arguments.run(surroundings),
            Self::Logs(arguments) => arguments.run(surroundings),
            Self::Lineage(arguments) => arguments.run(surroundings),
            Self::Graph(arguments) => arguments.run(surroundings).await,
            Self::Features(arguments) => arguments.run(surroundings).await,
            Self::Import(arguments) => arguments.run(surroundings).await,
            Self::Catalog(arguments) => arguments.run(surroundings).await,
            Self::ExportSigmf(arguments) => arguments.run(surroundings).await,
            Self::Locate(arguments) => arguments.run(surroundings).await,
            Self::Predict(arguments) => arguments.run(surroundings).await,
            Self::Upload(arguments) => arguments.run(surroundings).await,
            Self::Tracking(arguments) => arguments.run(surroundings).await,
            Self::Cache(arguments) => arguments.run(surroundings).await,
            Self::Validate(arguments) => arguments.run(surroundings),
            Self::Schema(arguments) => arguments.run(surroundings),
            Self::Init(arguments) => arguments.run(surroundings),
            Self::Completions(arguments) => arguments.run(surroundings),
            Self::Reference(arguments) => arguments.run(surroundings),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn definition_is_sound() {
        Cli::command().debug_assert();
    }
}
