//! Times runs of trivial stages beside DVC and Snakemake: the first one, and one that finds
//! everything done.
//!
//! Each tool has the same graph, a tree in which stage `n` reads what stage `n / 2` wrote, and the same
//! commands. The start of the process counts. The tools take turns, so that whatever else the machine
//! does hits all of them; printed are medians, and the fastest run, which a busy machine disturbs
//! least.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Sizes of the graphs, and the most milliseconds that a run with nothing to do may take.
const SIZES: [(usize, f64); 3] = [(5, 5.0), (100, 15.0), (1000, 100.0)];
/// The graph whose first run has a limit, in milliseconds.
const FIRST_RUN: (usize, f64) = (100, 500.0);
/// Runs of ours, and of tools that take a hundred times as long.
const RUNS: usize = 41;
const RUNS_OF_OTHERS: usize = 5;
/// First runs of ours, each in a folder of its own.
const FIRST_RUNS: usize = 9;

fn main() -> io::Result<()> {
    // Cargo says so when it measures; when it tests all targets, this one has no tests.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let tools = [Tool::Heimdall, Tool::Dvc, Tool::Snakemake];
    let mut out = io::stdout().lock();
    for tool in tools {
        writeln!(out, "{:10} {}", tool.name(), tool.version()?)?;
    }
    for (size, limit_ms) in SIZES {
        let folder = Scratch::new(&format!("runner-{size}"))?;
        let tools: Vec<Tool> = tools.into_iter().filter(|tool| size <= tool.stages_max()).collect();
        let places: Vec<PathBuf> = tools.iter().map(|tool| folder.0.join(tool.name())).collect();
        let mut first_ms = Vec::new();
        for (tool, place) in tools.iter().zip(&places) {
            tool.write(place, size)?;
            first_ms.push(tool.run(place, size)?);
        }
        let mut runs = vec![Vec::new(); tools.len()];
        for round in 0..RUNS {
            for ((tool, place), runs) in tools.iter().zip(&places).zip(&mut runs) {
                if *tool == Tool::Heimdall || round < RUNS_OF_OTHERS {
                    runs.push(tool.run(place, size)?);
                }
            }
        }
        writeln!(out, "\n{size} stages, nothing to do (limit {limit_ms} ms)")?;
        print(&mut out, &tools, &mut runs)?;
        if size == FIRST_RUN.0 {
            let mut runs = [first_runs(&folder.0, size)?, vec![first_ms[1]], vec![first_ms[2]]];
            writeln!(out, "\n{size} stages, first run (limit {} ms)", FIRST_RUN.1)?;
            print(&mut out, &tools, &mut runs)?;
        }
    }
    Ok(())
}

/// Times of our first runs, in milliseconds.
fn first_runs(folder: &Path, size: usize) -> io::Result<Vec<f64>> {
    (0..FIRST_RUNS)
        .map(|number| {
            let place = folder.join(format!("first-{number}"));
            Tool::Heimdall.write(&place, size)?;
            Tool::Heimdall.run(&place, size)
        })
        .collect()
}

/// Prints a row for each tool; ours, the first, is what the others are compared with.
fn print(out: &mut impl Write, tools: &[Tool], runs: &mut [Vec<f64>]) -> io::Result<()> {
    for runs in &mut *runs {
        runs.sort_by(f64::total_cmp);
    }
    let median = |runs: &[f64]| runs[runs.len() / 2];
    let ours = median(&runs[0]);
    writeln!(out, "{:10} {:>9} {:>9} {:>5}  this / ours", "", "median ms", "fastest", "runs")?;
    for (tool, runs) in tools.iter().zip(&*runs) {
        let (middle, count) = (median(runs), runs.len());
        let ratio = middle / ours;
        writeln!(out, "{:10} {middle:9.1} {:9.1} {count:5}  {ratio:11.1}", tool.name(), runs[0])?;
    }
    Ok(())
}

/// A folder that is removed in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("heimdall-{name}-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind is in the system's folder for such things.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A program that runs pipelines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tool {
    Heimdall,
    Dvc,
    Snakemake,
}

impl Tool {
    fn name(self) -> &'static str {
        match self {
            Self::Heimdall => "heimdall",
            Self::Dvc => "dvc",
            Self::Snakemake => "snakemake",
        }
    }

    /// The largest graph that it is given: the time of DVC's first run goes with the square of the
    /// stages, and would be some twenty minutes for a thousand.
    fn stages_max(self) -> usize {
        match self {
            Self::Dvc => 100,
            Self::Heimdall | Self::Snakemake => usize::MAX,
        }
    }

    fn command(self) -> Command {
        match self {
            Self::Heimdall => Command::new(env!("CARGO_BIN_EXE_heimdall-pipeline")),
            _ => {
                let python = std::env::var_os("HEIMDALL_BENCH_PYTHON").map(PathBuf::from);
                let python = python.expect("`cargo xtask bench runner` names the interpreter");
                Command::new(python.with_file_name(self.name()))
            }
        }
    }

    fn version(self) -> io::Result<String> {
        let output = self.command().arg("--version").output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Writes a pipeline of so many stages into a new folder.
    fn write(self, folder: &Path, size: usize) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        match self {
            Self::Heimdall => fs::write(folder.join("pipeline.yaml"), heimdall(size)),
            Self::Dvc => {
                fs::write(folder.join("dvc.yaml"), dvc(size))?;
                let mut command = self.command();
                timed(command.args(["init", "--no-scm", "--quiet"]).current_dir(folder)).map(|_| ())
            }
            Self::Snakemake => fs::write(folder.join("Snakefile"), snakemake(size)),
        }
    }

    /// Runs the pipeline, and returns how long it took, in milliseconds.
    fn run(self, folder: &Path, size: usize) -> io::Result<f64> {
        let mut command = self.command();
        match self {
            Self::Heimdall => command.args(["run", "pipeline.yaml"]),
            Self::Dvc => command.args(["repro", "--quiet"]),
            Self::Snakemake => command.args(["--cores", "all", "--quiet", "all"]),
        };
        let milliseconds = timed(command.current_dir(folder))?;
        let last = match self {
            Self::Heimdall => format!("artifacts/bench/s{size}/out/text"),
            _ => format!("out/{size}"),
        };
        assert!(folder.join(last).exists(), "{} did not run", self.name());
        Ok(milliseconds)
    }
}

/// Runs a command, and returns how long it took, in milliseconds.
fn timed(command: &mut Command) -> io::Result<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let begun = Instant::now();
    let status = command.status()?;
    let milliseconds = begun.elapsed().as_secs_f64() * 1e3;
    if status.success() {
        Ok(milliseconds)
    } else {
        Err(io::Error::other(format!("{status}: {command:?}")))
    }
}

fn heimdall(size: usize) -> String {
    let mut text = "name: bench\nstages:\n".to_owned();
    for stage in 1..=size {
        let parent = stage / 2;
        let _ = match parent {
            0 => writeln!(
                text,
                "  s1: {{ uses: cmd, command: echo 1 > $HEIMDALL_OUTPUT_OUT/text, outputs: {{ out: files }} }}"
            ),
            _ => writeln!(
                text,
                "  s{stage}: {{ uses: cmd, from: {{ in: s{parent} }}, command: cat $HEIMDALL_INPUT_IN/text > $HEIMDALL_OUTPUT_OUT/text; echo {stage} >> $HEIMDALL_OUTPUT_OUT/text, outputs: {{ out: files }} }}"
            ),
        };
    }
    text
}

fn dvc(size: usize) -> String {
    let mut text = "stages:\n".to_owned();
    for stage in 1..=size {
        let parent = stage / 2;
        let _ = match parent {
            0 => write!(text, "  s1:\n    cmd: mkdir -p out && echo 1 > out/1\n"),
            _ => write!(
                text,
                "  s{stage}:\n    cmd: cat out/{parent} > out/{stage}; echo {stage} >> out/{stage}\n    deps: [out/{parent}]\n"
            ),
        };
        let _ = writeln!(text, "    outs: [out/{stage}]");
    }
    text
}

fn snakemake(size: usize) -> String {
    let outputs: Vec<String> = (1..=size).map(|stage| format!("'out/{stage}'")).collect();
    let mut text = format!("rule all:\n    input: {}\n", outputs.join(", "));
    for stage in 1..=size {
        let parent = stage / 2;
        let _ = match parent {
            0 => write!(text, "rule s1:\n    output: 'out/1'\n    shell: 'echo 1 > out/1'\n"),
            _ => write!(
                text,
                "rule s{stage}:\n    input: 'out/{parent}'\n    output: 'out/{stage}'\n    shell: 'cat out/{parent} > out/{stage}; echo {stage} >> out/{stage}'\n"
            ),
        };
    }
    text
}
