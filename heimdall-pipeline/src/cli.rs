//! The command line, and nothing but the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Localize radio transmitters: run pipelines from recordings to a registered model
#[derive(Debug, Parser)]
#[command(name = "heimdall-pipeline", version)]
pub struct Cli {
    /// Log filter, such as `info` or `heimdall_train=debug`
    #[arg(long, global = true, env = "HEIMDALL_LOG", default_value = "info")]
    pub log: String,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a pipeline; stages whose results are in the cache are not run again
    Run(RunArgs),
    /// Print what a run would do, without running anything
    Plan(PlanArgs),
    /// Read a pipeline and check it, without running anything
    Validate(DefinitionArgs),
    /// Print how the stages of a pipeline are connected
    Graph(GraphArgs),
}

/// The pipeline, and what is changed in it.
#[derive(Debug, Args)]
pub struct DefinitionArgs {
    /// Pipeline to read
    pub pipeline: PathBuf,

    /// Change `vars.NAME`, `STAGE.FIELD` or `tracking.FIELD` (can be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// Which stages, and where to.
#[derive(Debug, Args)]
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

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The pipeline
    #[command(flatten)]
    pub definition: DefinitionArgs,

    /// The stages
    #[command(flatten)]
    pub selection: SelectionArgs,

    /// Print the outcome as the last line of stdout, as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The pipeline
    #[command(flatten)]
    pub definition: DefinitionArgs,

    /// The stages
    #[command(flatten)]
    pub selection: SelectionArgs,
}

/// Arguments of `graph`.
#[derive(Debug, Args)]
pub struct GraphArgs {
    /// The pipeline
    #[command(flatten)]
    pub definition: DefinitionArgs,

    /// How the graph is written
    #[arg(long, value_enum, default_value_t = GraphFormat::Ascii)]
    pub format: GraphFormat,
}

/// How a graph is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// One stage a line, with what it reads
    Ascii,
    /// Mermaid, as Markdown viewers draw it
    Mermaid,
    /// Graphviz
    Dot,
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
