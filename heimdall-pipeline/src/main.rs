//! The program: command line in, exit code out.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use heimdall_pipeline::{
    Cli, Command, DefinitionArgs, EventSink, Forecast, GraphFormat, LoadOptions, PipelineError,
    PipelineSpec, Progress, RunArgs, RunOptions, SelectionArgs, StageState, duration, plan, run,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Exit code of a run that was interrupted, as shells have it: 128 and the number of the signal.
const INTERRUPTED: i32 = 130;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let progress = Progress::on_stderr();
    let writer = Mutex::new(progress.clone());
    let filter = EnvFilter::try_new(&cli.log).unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(false)
        .with_target(false)
        .init();
    let outcome = match &cli.command {
        Command::Run(arguments) => run_pipeline(arguments, &progress).await,
        Command::Plan(arguments) => {
            print_plan(&arguments.definition, &options(&arguments.selection))
        }
        Command::Validate(definition) => load(definition).and_then(|spec| {
            print(&format!("{}: {} stages, all sound\n", spec.name, spec.stages.len()))
        }),
        Command::Graph(arguments) => {
            load(&arguments.definition).and_then(|spec| print(&graph(&spec, arguments.format)))
        }
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

async fn run_pipeline(arguments: &RunArgs, progress: &Progress) -> Result<u8, PipelineError> {
    let spec = load(&arguments.definition)?;
    let cancel = Arc::new(AtomicBool::new(false));
    stop_on_signals(Arc::clone(&cancel))?;
    let shown = progress.clone();
    let events = EventSink::new(move |event| shown.show(&event));
    let report = run(&spec, &options(&arguments.selection), &cancel, &events).await?;

    let count = |state| report.stages.iter().filter(|(_, stage)| stage.state == state).count();
    let counts: Vec<String> = [
        StageState::Ran,
        StageState::Cached,
        StageState::Failed,
        StageState::Skipped,
        StageState::Interrupted,
    ]
    .into_iter()
    .filter(|&state| count(state) > 0)
    .map(|state| format!("{} {}", count(state), state.name()))
    .collect();
    let (stages, time) = (report.stages.len(), duration(report.seconds));
    // A terminal that is gone does not change the outcome.
    let _ = writeln!(std::io::stderr(), "{stages} stages: {} · {time}", counts.join(", "));
    if arguments.json {
        let json = serde_json::to_string(&report).expect("a report is plain data");
        print(&format!("{json}\n"))?;
    }
    Ok(report.exit_code)
}

/// The first signal asks the stages to stop; the second one ends the program at once.
fn stop_on_signals(cancel: Arc<AtomicBool>) -> Result<(), PipelineError> {
    let listen = |kind| {
        signal(kind).map_err(|source| PipelineError::Io {
            action: "listen for signals at",
            path: "this process".into(),
            source,
        })
    };
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

fn load(arguments: &DefinitionArgs) -> Result<PipelineSpec, PipelineError> {
    let text = |pair: (std::ffi::OsString, std::ffi::OsString)| {
        Some((pair.0.into_string().ok()?, pair.1.into_string().ok()?))
    };
    let environment = std::env::vars_os().filter_map(text).collect();
    PipelineSpec::load(
        &arguments.pipeline,
        &LoadOptions { set: arguments.set.clone(), environment },
    )
}

fn options(arguments: &SelectionArgs) -> RunOptions {
    RunOptions {
        cache: arguments.cache.clone(),
        output: arguments.output.clone(),
        from: arguments.from.clone(),
        until: arguments.until.clone(),
        only: arguments.only.clone(),
        force: arguments.force.clone(),
    }
}

fn print_plan(definition: &DefinitionArgs, options: &RunOptions) -> Result<u8, PipelineError> {
    let lines = plan(&load(definition)?, options)?.into_iter().map(|(stage, planned)| {
        let outcome = match planned {
            Forecast::Run => "run",
            Forecast::Cached => "cached",
            Forecast::Maybe => "maybe: depends on what comes before",
            Forecast::Skip => "skip",
        };
        format!("{stage:12} {outcome}\n")
    });
    print(&lines.collect::<String>())
}

/// How the stages are connected, as text.
fn graph(spec: &PipelineSpec, format: GraphFormat) -> String {
    let name = |position: usize| spec.stages[position].name.as_str();
    let mut lines = Vec::new();
    for &position in spec.graph().order() {
        let wires = spec.graph().inputs(position);
        if format == GraphFormat::Ascii {
            let from: Vec<String> = wires
                .iter()
                .map(|wire| {
                    format!("{} ← {}.{}", wire.input.name, name(wire.producer), wire.output.name)
                })
                .collect();
            lines.push(format!("{:12} {}", name(position), from.join(", ")).trim_end().to_owned());
        }
        for wire in wires {
            let (from, to, port) = (name(wire.producer), name(position), wire.output.name);
            match format {
                GraphFormat::Ascii => {}
                GraphFormat::Mermaid => lines.push(format!("  {from} -- {port} --> {to}")),
                GraphFormat::Dot => lines.push(format!("  {from:?} -> {to:?} [label={port:?}]")),
            }
        }
    }
    match format {
        GraphFormat::Ascii => format!("{}\n", lines.join("\n")),
        GraphFormat::Mermaid => format!("graph LR\n{}\n", lines.join("\n")),
        GraphFormat::Dot => format!("digraph {:?} {{\n{}\n}}\n", spec.name, lines.join("\n")),
    }
}

/// Writes to stdout, where data goes; a reader that has gone is no error.
fn print(text: &str) -> Result<u8, PipelineError> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(PipelineError::Io { action: "write to", path: "stdout".into(), source: error })
        }
        _ => Ok(0),
    }
}

/// Says what went wrong, once, with its causes.
fn complain(error: &PipelineError) {
    let mut text = format!("error: {error}");
    for cause in error.causes() {
        text += &format!("\n  caused by: {cause}");
    }
    let _ = writeln!(std::io::stderr(), "{text}");
}
