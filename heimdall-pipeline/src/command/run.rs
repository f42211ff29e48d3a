//! `run`: brings every stage of a pipeline to its result.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, ValueEnum, value_parser};
use jiff::Timestamp;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::matrix::{Variant, comparison};
use super::{DefinitionArgs, SelectionArgs, Surroundings};
use crate::{
    ByteCount, EventSink, PipelineError, PipelineSpec, Progress, RunEvent, RunOptions, RunReport,
    StageState, duration,
};

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

    /// Processors that stages may take together [default: all]
    #[arg(long, short, value_name = "COUNT", value_parser = value_parser!(u32).range(1..))]
    pub jobs: Option<u32>,

    /// Memory that stages may take together, such as `16GiB` [default: all]
    #[arg(long, value_name = "BYTES")]
    pub memory: Option<ByteCount>,

    /// Graphics processors that stages may take together
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub gpus: u32,

    /// Print what happens to stdout, as it happens
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub events: Option<EventFormat>,

    /// Print the outcome as the last line of stdout, as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// How events are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EventFormat {
    /// One JSON object a line
    Ndjson,
}

impl RunArgs {
    /// Runs the pipeline, and returns the exit code.
    pub(crate) async fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        let spec = self.definition.load(surroundings)?;
        let cancel = Arc::new(AtomicBool::new(false));
        stop_on_signals(Arc::clone(&cancel), surroundings.progress.clone())?;
        let options = self.options(&spec, surroundings);
        let report = crate::run(&spec, &options, &cancel, &self.sink(surroundings)).await?;

        // A terminal that is gone does not change the outcome.
        let _ = writeln!(
            surroundings.progress.clone(),
            "{}{}{}",
            variants(&report),
            reports(&report),
            summary(&report)
        );
        if self.json {
            let json = serde_json::to_string(&report).expect("a report is plain data");
            surroundings.print(&format!("{json}\n"))?;
        }
        Ok(report.exit_code)
    }
}

impl RunArgs {
    fn options(&self, spec: &PipelineSpec, surroundings: &Surroundings) -> RunOptions {
        let options = self.selection.options(spec, surroundings);
        RunOptions {
            jobs: self.jobs.unwrap_or(options.jobs),
            memory_bytes: self.memory.map_or(options.memory_bytes, ByteCount::bytes),
            gpus: self.gpus,
            ..options
        }
    }

    /// Shows events to people, and prints them for programs if that is asked for.
    fn sink(&self, surroundings: &Surroundings) -> EventSink {
        let (surroundings, format) = (surroundings.clone(), self.events);
        EventSink::new(move |event| {
            surroundings.progress.show(&event);
            if format == Some(EventFormat::Ndjson) {
                // A reader that has gone does not stop a run.
                let _ = surroundings.print(&format!("{}\n", event_line(&event, Timestamp::now())));
            }
        })
    }
}

/// An event as one line of JSON, with the time in front.
fn event_line(event: &RunEvent, time: Timestamp) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        time: String,
        #[serde(flatten)]
        event: &'a RunEvent,
    }
    let line = Line { time: time.to_string(), event };
    serde_json::to_string(&line).expect("an event is plain data with string keys")
}

/// A table for each stage with a matrix, if there is one.
fn variants(report: &RunReport) -> String {
    let variants: Vec<Variant<'_>> = report
        .stages
        .iter()
        .map(|(name, stage)| Variant {
            name,
            state: stage.state.name(),
            headline: stage.headline.as_deref().unwrap_or_default(),
            metrics: &stage.metrics,
        })
        .collect();
    let text = comparison(&variants, &[]);
    if text.is_empty() { text } else { text + "\n" }
}

/// A line for each page that is there for people to read.
fn reports(report: &RunReport) -> String {
    let outputs = report.stages.iter().flat_map(|(_, stage)| stage.outputs.values());
    let pages = outputs.map(|folder| folder.join("report.html")).filter(|page| page.exists());
    pages.map(|page| format!("report: {}\n", page.display())).collect()
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
    let plural = if stages == 1 { "" } else { "s" };
    format!("{stages} stage{plural}: {} · {time}", counts.join(", "))
}

/// The first signal asks the stages to stop; the second one ends the program at once.
fn stop_on_signals(cancel: Arc<AtomicBool>, mut progress: Progress) -> Result<(), PipelineError> {
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
                crate::stage::kill_all();
                std::process::exit(INTERRUPTED);
            }
            // A terminal that is gone is no reason not to stop.
            let _ = writeln!(progress, "stopping; once more ends at once");
        }
    });
    Ok(())
}
