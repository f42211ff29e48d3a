//! The program: command line in, exit code out.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Mutex;

use clap::Parser;
use heimdall_pipeline::{Cli, PipelineError, Progress, Surroundings};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let progress = Progress::on_stderr();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&cli.log))
        .with_writer(Mutex::new(progress.clone()))
        .with_ansi(false)
        .with_target(false)
        .init();
    let surroundings = Surroundings::new(std::env::vars_os(), progress);
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
