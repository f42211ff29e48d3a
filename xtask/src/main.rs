//! Checks, tests, benchmarks and documentation in one command.

mod bench;
mod browser;
mod command;
mod debian;
mod fuzz;
mod postgres;
mod python;

use std::path::Path;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::bench::{Bench, bench};
use crate::command::{cargo, say, workspace_root};

/// Check, test, measure and document Heimdall
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run what a developer runs before each commit: format, lints, tests that need nothing
    Check,
    /// Install what the tests need, then run every check and every test
    Test,
    /// Measure how fast something is
    #[command(subcommand)]
    Bench(Bench),
    /// Build the documentation
    Docs,
    /// Look for files that break a reader, with random changes (needs a C++ compiler)
    Fuzz {
        /// How long each target runs, in seconds
        #[arg(long, default_value_t = 60)]
        seconds: u64,

        /// Run only this target (can be repeated)
        #[arg(long, value_name = "TARGET")]
        only: Vec<String>,
    },
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Check => check(),
        Command::Test => test(),
        Command::Bench(what) => bench(&what),
        Command::Docs => docs(),
        Command::Fuzz { seconds, only } => fuzz::fuzz(seconds, &only),
    }
}

fn check() -> Result<()> {
    format_and_lint()?;
    cargo(&["test", "--workspace"], &[])
}

fn test() -> Result<()> {
    let python = python::install(python::TESTS)?;
    let python = python.to_string_lossy();
    format_and_lint()?;
    cargo(&["test", "--workspace"], &[])?;
    // The name of the module says what an ignored test needs.
    let python = ("HEIMDALL_TEST_PYTHON", python.as_ref());
    cargo(&["test", "--workspace", "--all-targets", "--", "--ignored", "with_python"], &[python])?;
    browser::install()?;
    cargo(&["test", "--workspace", "--all-targets", "--", "--ignored", "with_chromium"], &[])?;
    postgres::install()?;
    cargo(
        &["test", "--workspace", "--all-targets", "--", "--ignored", "with_postgres"],
        &[python],
    )?;
    if shared_data().is_dir() {
        let test = ["test", "--workspace", "--all-targets", "--", "--ignored", "with_shared_data"];
        cargo(&test, &[python])?;
    } else {
        say(&format!("left out: tests on recordings, as {} is not there", shared_data().display()));
    }
    docs()?;
    licenses()
}

fn format_and_lint() -> Result<()> {
    cargo(&["fmt", "--all", "--check"], &[])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], &[])
}

fn docs() -> Result<()> {
    cargo(&["doc", "--workspace", "--no-deps"], &[("RUSTDOCFLAGS", "-D warnings")])
}

fn licenses() -> Result<()> {
    if command::exists("cargo-deny") {
        // It looks at crates of other systems, too, which no build has fetched.
        cargo(&["deny", "check", "licenses", "bans", "sources"], &[])
    } else {
        say("left out: cargo deny check, as cargo-deny is not installed");
        Ok(())
    }
}

/// Real recordings beside the checkout, which some tests use where they are.
fn shared_data() -> std::path::PathBuf {
    workspace_root().parent().unwrap_or(Path::new("/")).join("shared/data")
}
