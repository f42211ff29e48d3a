//! `run`: brings every stage of a pipeline to its result.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{DefinitionArgs, SelectionArgs, Surroundings};
use crate::{EventSink, PipelineError, RunReport, StageState, duration};

/// Exit code of a run that was interrupted, as shells have it: 128 and the number of the signal.
const INTERRUPTED: i32 = 130;

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

impl RunArgs {
    /// Runs the pipeline, and returns the exit code.
    pub(crate) async fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        let spec = self.definition.load(surroundings)?;
        let cancel = Arc::new(AtomicBool::new(false));
        stop_on_signals(Arc::clone(&cancel))?;
        let shown = surroundings.progress.clone();
        let events = EventSink::new(move |event| shown.show(&event));
        let report = crate::run(&spec, &self.selection.options(), &cancel, &events).await?;

        // A terminal that is gone does not change the outcome.
        let _ = writeln!(surroundings.progress.clone(), "{}", summary(&report));
        if self.json {
            let json = serde_json::to_string(&report).expect("a report is plain data");
            surroundings.print(&format!("{json}\n"))?;
        }
        Ok(report.exit_code)
    }
}

/// The last line: how many stages came to which end, and how long it took.
fn summary(report: &RunReport) -> String {
    let count = |state| report.stages.iter().filter(|(_, stage)| stage.state == state).count();
    let counts: Vec<String> = StageState::ALL
        .into_iter()
        .filter(|&state| count(state) > 0)
        .map(|state| format!("{} {}", count(state), state.name()))
        .collect();
    let (stages, time) = (report.stages.len(), duration(report.seconds));
    format!("{stages} stages: {} · {time}", counts.join(", "))
}

/// The first signal asks the stages to stop; the second one ends the program at once.
fn stop_on_signals(cancel: Arc<AtomicBool>) -> Result<(), PipelineError> {
    let listen =
        |kind| signal(kind).map_err(PipelineError::io("listen for signals at", "this process"));
    let (mut interrupt, mut terminate) =
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if cancel.swap(true, Ordering::Relaxed) {
                std::process::exit(INTERRUPTED);
            }
        }
    });
    Ok(())
}
