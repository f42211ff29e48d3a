//! A folder of its own in which the program runs, as a user would run it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::Deserialize;
use tempfile::TempDir;

/// A pipeline that goes through every stage of the main job within seconds.
pub(crate) const TINY: &str = "
name: tiny
vars: { epochs: 2 }
stages:
  recordings:
    uses: simulate
    world: { sessions: 40, events_per_session: 1, seed: 3, sample_rate_hz: 16000, duration_s: 0.05 }
  features:
    uses: extract
    from: recordings
    features: { bands: 16, frames: 8, fft_length: 64 }
  split:
    uses: split
    from: features
    ratio: { train: 0.5, validation: 0.1, calibration: 0.2, test: 0.2 }
    seed: 5
  train:
    uses: train
    from: { train: split.train, validation: split.validation }
    epochs: ${epochs}
    batch_size: 4
    seed: 11
  evaluate:
    uses: evaluate
    from: { model: train, train: split.train, calibration: split.calibration, test: split.test }
  export:
    uses: export
    from: { model: evaluate.model, samples: split.test }
  register:
    uses: register
    from: { onnx: export, evaluation: evaluate, model: evaluate.model }
    model: tiny-localization
    alias: candidate
";

/// The stages of [`TINY`], in their order.
pub(crate) const TINY_STAGES: [&str; 7] =
    ["recordings", "features", "split", "train", "evaluate", "export", "register"];

/// The folder, removed at the end of the test.
pub(crate) struct Workplace {
    folder: TempDir,
}

/// What `--json` prints.
#[derive(Debug, Deserialize)]
pub(crate) struct RunJson {
    pub(crate) state: String,
    pub(crate) seconds: f64,
    pub(crate) stages: BTreeMap<String, StageJson>,
}

/// What `--json` prints of a stage.
#[derive(Debug, Deserialize)]
pub(crate) struct StageJson {
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) metrics: BTreeMap<String, f64>,
    #[serde(default)]
    pub(crate) outputs: BTreeMap<String, PathBuf>,
    pub(crate) waited_for: Option<String>,
    pub(crate) error: Option<String>,
}

/// How the program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The last line of stdout, which must be the JSON of the run.
    pub(crate) fn json(&self) -> RunJson {
        let line = self.stdout.lines().last().unwrap_or_else(|| panic!("{self:?}"));
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// The run's JSON, if it succeeded.
    pub(crate) fn done(&self) -> RunJson {
        assert_eq!(self.code, 0, "{}", self.stderr);
        let json = self.json();
        assert_eq!(json.state, "done");
        assert!(json.seconds >= 0.0);
        json
    }
}

impl RunJson {
    /// State of each of the tiny pipeline's stages, in their order.
    pub(crate) fn states(&self) -> [&str; 7] {
        TINY_STAGES.map(|name| self.stages[name].state.as_str())
    }
}

impl Workplace {
    /// Makes the folder, with a pipeline in it.
    pub(crate) fn new(pipeline: &str) -> Self {
        let workplace = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(workplace.path("pipeline.yaml"), pipeline).unwrap();
        workplace
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heimdall-pipeline"));
        command.current_dir(self.folder.path()).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs the pipeline with `--json` and further arguments, to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        ended(self.start(arguments))
    }

    /// Starts the pipeline with `--json` and further arguments.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(&["run", "pipeline.yaml", "--json"]);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

/// Waits for the program.
pub(crate) fn ended(child: Child) -> Ended {
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// What the program prints on stdout, if it succeeds.
pub(crate) fn said(workplace: &Workplace, arguments: &[&str]) -> String {
    let output = workplace.command(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}
