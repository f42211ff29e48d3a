//! What a stage is given to run with, and what it hands back.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use burn::tensor::Device;
use heimdall_tracking::{Credentials, TrackingAddress};
use heimdall_train::DeviceChoice;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::PipelineError;
use crate::stage::Stage;

/// How often work that does not look at the flag is looked after.
const CANCEL_INTERVAL: Duration = Duration::from_millis(20);

/// How far a stage has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StageProgress {
    /// Steps done.
    pub done: u64,
    /// Steps in all; 0 if that is not known.
    pub total: u64,
    /// What is being done, or how it goes: `epoch 12 · loss 3.42`.
    pub message: String,
}

/// What a stage may know about the pipeline around it.
#[derive(Clone, Debug, PartialEq)]
pub struct PipelineFacts {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Identifier of this run.
    pub run: String,
    /// Where runs and models are entered; a folder is absolute.
    pub tracking: TrackingAddress,
    /// Who one is there.
    pub credentials: Credentials,
    /// Folder for what has not arrived there; `None` unless trainings are tracked.
    pub spool: Option<PathBuf>,
    /// Name of the experiment that runs are entered under.
    pub experiment: String,
    /// Resolved configuration of the stage and, for a registration, of all stages that it depends
    /// on, by stage name.
    pub stages: BTreeMap<String, Value>,
    /// For a registration, metrics of the stages that it depends on, by stage name.
    pub metrics: BTreeMap<String, BTreeMap<String, f64>>,
    /// For an export, the stages that made the features: how they did is how a model is used.
    pub preparation: Vec<Stage>,
}

/// Everything that a stage runs with.
#[derive(Clone)]
pub struct StageContext {
    pub(crate) stage: String,
    pub(crate) inputs: BTreeMap<String, PathBuf>,
    pub(crate) outputs: BTreeMap<String, PathBuf>,
    pub(crate) private: PathBuf,
    pub(crate) scratch: PathBuf,
    pub(crate) cancel: Arc<AtomicBool>,
    pub(crate) device: DeviceChoice,
    pub(crate) facts: Arc<PipelineFacts>,
    pub(crate) environment: Arc<BTreeMap<String, String>>,
    pub(crate) progress: Arc<dyn Fn(StageProgress) + Send + Sync>,
    /// Most memory that a program of its own took, in bytes; 0 if it started none.
    pub(crate) memory_peak_bytes: Arc<AtomicU64>,
}

impl StageContext {
    /// Returns the name of the stage in its pipeline.
    pub fn stage(&self) -> &str {
        &self.stage
    }

    /// Returns the folder of an input; it must not be written to.
    ///
    /// # Panics
    ///
    /// If the stage has no such port, or nothing is connected to an optional one; see
    /// [`optional_input`](Self::optional_input).
    pub fn input(&self, port: &str) -> &Path {
        self.optional_input(port)
            .unwrap_or_else(|| panic!("nothing arrives at port `{port}` of `{}`", self.stage))
    }

    /// Returns the folder of an input, if something is connected to it.
    pub fn optional_input(&self, port: &str) -> Option<&Path> {
        self.inputs.get(port).map(PathBuf::as_path)
    }

    /// Returns the folder of an output; it exists, is empty, and is the stage's alone until the
    /// stage ends.
    ///
    /// # Panics
    ///
    /// If the stage has no such port.
    pub fn output(&self, port: &str) -> &Path {
        self.outputs
            .get(port)
            .unwrap_or_else(|| panic!("stage `{}` has no output `{port}`", self.stage))
    }

    /// Returns the folders of all inputs, by port.
    pub(crate) fn inputs(&self) -> &BTreeMap<String, PathBuf> {
        &self.inputs
    }

    /// Returns the folders of all outputs, by port.
    pub(crate) fn outputs(&self) -> &BTreeMap<String, PathBuf> {
        &self.outputs
    }

    /// Returns where the stage may put a file that is no part of its result.
    pub(crate) fn private(&self, name: &str) -> PathBuf {
        self.private.join(name)
    }

    /// Returns the variables that the stage may pass on.
    pub(crate) fn environment(&self) -> &BTreeMap<String, String> {
        &self.environment
    }

    /// Returns a folder whose content is there again when the same stage with the same inputs is
    /// started after an interruption or a failure; it is removed after a success.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Returns the flag that is raised when the stage is to stop.
    pub fn cancel(&self) -> &Arc<AtomicBool> {
        &self.cancel
    }

    /// Notes how much memory a program of the stage takes.
    pub(crate) fn note_memory(&self, bytes: u64) {
        self.memory_peak_bytes.fetch_max(bytes, Ordering::Relaxed);
    }

    /// Stops the stage if it has been asked to.
    ///
    /// # Errors
    ///
    /// [`PipelineError::Interrupted`] once the flag is raised.
    pub fn check_cancelled(&self) -> Result<(), PipelineError> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(PipelineError::Interrupted);
        }
        Ok(())
    }

    /// Awaits work that does not look at the flag itself; once the flag is raised, it is dropped
    /// where it stands.
    ///
    /// # Errors
    ///
    /// Those of the work; [`PipelineError::Interrupted`] once the flag is raised.
    pub(crate) async fn unless_cancelled<T, E>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, PipelineError>
    where
        PipelineError: From<E>,
    {
        let cancelled = async {
            while self.check_cancelled().is_ok() {
                tokio::time::sleep(CANCEL_INTERVAL).await;
            }
        };
        tokio::select! {
            biased;
            () = cancelled => Err(PipelineError::Interrupted),
            done = work => Ok(done?),
        }
    }

    /// Opens the device that the stage computes on.
    pub fn device(&self) -> Device {
        self.device.open()
    }

    /// Returns what is known about the pipeline around the stage.
    pub fn facts(&self) -> &PipelineFacts {
        &self.facts
    }

    /// Tells whoever watches how far the stage has come.
    pub fn progress(&self, done: u64, total: u64, message: impl Into<String>) {
        (self.progress)(StageProgress { done, total, message: message.into() });
    }
}

impl fmt::Debug for StageContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StageContext")
            .field("stage", &self.stage)
            .field("inputs", &self.inputs)
            .field("outputs", &self.outputs)
            .field("scratch", &self.scratch)
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

/// What a stage says about its result, besides the files in its outputs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StageOutput {
    /// Figures of the result, under flat names such as `error_km_median`; all of them finite.
    pub metrics: BTreeMap<String, f64>,
    /// The result in a few words, for the line of the stage: `median 26.1 km`.
    pub headline: Option<String>,
}
