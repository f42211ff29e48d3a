//! The program: command line in, exit code out.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Mutex;

use clap::Parser;
use heimdall_pipeline::{Cli, PipelineError, Progress, StageLogs, Surroundings};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let surroundings = Surroundings::new(std::env::vars_os());
    let screen = fmt::layer()
        .with_writer(Mutex::new(surroundings.progress.clone()))
        .with_ansi(false)
        .with_target(false)
        .with_filter(EnvFilter::new(&cli.log));
    // What a stage says is kept whether or not it is shown.
    let kept = fmt::layer()
        .with_writer(StageLogs::new(surroundings.secrets.clone()))
        .with_ansi(false)
        .with_target(false)
        .with_filter(LevelFilter::INFO);
    tracing_subscriber::registry().with(screen).with(kept).init();
    match cli.command.run(&surroundings).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(&error, surroundings.progress);
            ExitCode::from(error.exit_code())
        }
    }
}

/// Says what went wrong, once, with its causes.
fn complain(error: &PipelineError, mut progress: Progress) {
    let mut text = format!("error: {error}\n");
    for cause in error.causes() {
        text += &format!("  caused by: {cause}\n");
    }
    // A terminal that is gone changes nothing.
    let _ = progress.write_all(text.as_bytes());
}
