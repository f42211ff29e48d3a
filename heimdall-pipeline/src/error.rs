//! What can go wrong between a definition and its artifacts.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::gate::{GateFailure, phrase};
use crate::spec::Diagnostic;

/// An error of this crate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// The definition of the pipeline, or what the command line makes of it, is not valid.
    #[error(transparent)]
    Definition(Box<Diagnostic>),

    /// A stage of the name given on the command line does not exist.
    #[error("the pipeline has no stage `{name}`{}", did_you_mean(.suggestion.as_deref()))]
    UnknownStage {
        /// The name that was given.
        name: String,
        /// The name that is most like it.
        suggestion: Option<String>,
    },

    /// A stage must come from the cache, but is not there.
    #[error(
        "`--{option}` takes the result of stage `{stage}` from the cache, but it is not there for \
         these parameters and inputs{changed}; run it too, with `--from {stage}` or without \
         `--{option}`, or take its last result, with `--frozen`"
    )]
    NotCached {
        /// The stage whose result is missing.
        stage: String,
        /// The option that asks for it: `from` or `only`.
        option: &'static str,
        /// What is not as it was when it had a result, as the end of a sentence.
        changed: String,
    },

    /// A run left no result of the stage given on the command line.
    #[error("run {run} left no result of a stage `{stage}`, only of {known}")]
    NoResult {
        /// The run.
        run: String,
        /// The stage.
        stage: String,
        /// The stages that it has results of.
        known: String,
    },

    /// A run of the name given on the command line is not remembered.
    #[error("there is no run `{name}`: {reason}")]
    UnknownRun {
        /// The name that was given.
        name: String,
        /// What is wrong with it.
        reason: String,
    },

    /// No run has left a log of a stage.
    #[error("there is no log of a stage `{stage}`: it has not been run, or said nothing")]
    NoLog {
        /// Name of the stage.
        stage: String,
    },

    /// A file that is to be written is there already.
    #[error("{} exists already, and is left as it is", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },

    /// Something cannot be removed from a cache that a run uses.
    #[error("a run is under way in this cache; nothing can be removed before it is over")]
    CacheInUse,

    /// There cannot be a shared cache at an address.
    #[error("`{address}` cannot be a shared cache: {reason}")]
    InvalidRemote {
        /// The address.
        address: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A version of a model is there already, and is left as it is.
    #[error("{name} is in {address} already: a version is never replaced, so give it another")]
    VersionTaken {
        /// Where it is.
        address: String,
        /// Name and version.
        name: String,
    },

    /// What was uploaded is not what was sent; it was removed.
    #[error("{name} came back damaged from where it was sent, and was removed there")]
    DamagedUpload {
        /// The object.
        name: String,
    },

    /// There cannot be a place for models at an address.
    #[error("`{address}` cannot be a place for models: {reason}")]
    InvalidPlace {
        /// The address.
        address: String,
        /// What is wrong with it.
        reason: String,
    },

    /// There is no such object.
    #[error("there is no {address}")]
    NoSuchObject {
        /// Its address.
        address: String,
    },

    /// A place for models cannot be used.
    #[error("{address} cannot be used")]
    Place {
        /// Its address.
        address: String,
        /// Why not.
        #[source]
        source: Box<object_store::Error>,
    },

    /// A command needs a shared cache, and nothing says where one is.
    #[error(
        "nothing says where the shared cache is: set `cache:` in the pipeline, or give `--remote`"
    )]
    NoRemote,

    /// The shared cache cannot be used.
    #[error("the shared cache {address} cannot be used")]
    Remote {
        /// Its address.
        address: String,
        /// Why not.
        #[source]
        source: Box<object_store::Error>,
    },

    /// A stage asks for more than the run may take.
    #[error("stage `{stage}` needs {asked} {resource}, but the run may take {total} only")]
    NotEnough {
        /// Name of the stage.
        stage: String,
        /// What it asks for.
        resource: &'static str,
        /// How much it asks for.
        asked: u32,
        /// How much there is.
        total: u32,
    },

    /// A stage took longer than it may.
    #[error("stage `{stage}` was stopped after its time limit of {timeout}")]
    TimedOut {
        /// Name of the stage.
        stage: String,
        /// How long it may take.
        timeout: crate::Span,
    },

    /// The configuration of a `cmd` stage breaks a rule.
    #[error("`{field}` must be {expected}")]
    InvalidCommand {
        /// The field.
        field: String,
        /// The rule that it breaks, as a phrase that follows "must be".
        expected: &'static str,
    },

    /// The program of a `cmd` stage failed.
    #[error("the program ended with {status}; `logs` shows what it said")]
    CommandFailed {
        /// How it ended.
        status: String,
    },

    /// A field of a stage has a value that it cannot work with.
    #[error("`{field}` must be {expected}, but is {actual}")]
    InvalidField {
        /// Path of the field in its stage: `fix.margin_km`.
        field: &'static str,
        /// The rule that the value breaks, as a phrase that follows "must be".
        expected: &'static str,
        /// The value that was given.
        actual: f64,
    },

    /// A file or folder could not be used.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried, as a verb: `read`, `create`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },

    /// A kept file is not what it was when a stage is about to read it.
    #[error(
        "the kept `{path}` has been changed, and was moved away; the next run makes it again, and \
         `cache verify` finds what else is damaged"
    )]
    DamagedInput {
        /// The port that it arrives at, and its path there.
        path: String,
    },

    /// A stage left nothing in one of its outputs.
    #[error("stage `{stage}` wrote no file into its output `{port}`")]
    EmptyOutput {
        /// Name of the stage.
        stage: String,
        /// Name of the output.
        port: String,
    },

    /// A program left something else in an output than it was to make.
    #[error("what the program left in its output `{port}` is no artifact of the kind `{kind}`")]
    InvalidOutput {
        /// Name of the output.
        port: String,
        /// What was expected.
        kind: crate::ArtifactKind,
        /// What is wrong with it.
        source: Box<Self>,
    },

    /// A stage left something in an output that is neither a file nor a folder.
    #[error("{} is neither a file nor a folder, and cannot be an artifact", .path.display())]
    SpecialFile {
        /// What was found.
        path: PathBuf,
    },

    /// There is nothing to work on.
    #[error("the recordings have no approved event with samples")]
    NoRecordings,

    /// A file does not tell its sample rate, and nobody else does.
    #[error("nothing tells the sample rate of {}: give it with `--sample-rate`", .file.display())]
    NoSampleRate {
        /// The file.
        file: PathBuf,
    },

    /// Recordings that would not be comparable.
    #[error(
        "the recording of `{receiver}` in event `{event}` has {actual_hz} samples a second, but the \
         first recording has {expected_hz}: the features of one data set take one rate"
    )]
    MixedRates {
        /// Name of the event.
        event: String,
        /// Name of the receiver.
        receiver: String,
        /// Rate of the first recording, in Hz.
        expected_hz: f64,
        /// Rate of this recording, in Hz.
        actual_hz: f64,
    },

    /// What is to be located is not what a model takes.
    #[error("{input} does not fit the model: {what} is {actual}, but the model takes {expected}")]
    DoesNotFit {
        /// The folder, or the event.
        input: String,
        /// What differs.
        what: String,
        /// What it is.
        actual: String,
        /// What the model takes.
        expected: String,
    },

    /// The registry has no such version of a model.
    #[error(
        "the registry in {registry} has no such version of `{name}`: {}", known_versions(.known)
    )]
    NoSuchModel {
        /// Name of the registered model.
        name: String,
        /// Address of the registry.
        registry: String,
        /// The versions that there are, with their aliases.
        known: Vec<String>,
    },

    /// A recording has no features.
    #[error("the recording of `{receiver}` in event `{event}` has no features")]
    Extraction {
        /// Name of the event.
        event: String,
        /// Name of the receiver.
        receiver: String,
        /// Why it has none.
        source: heimdall_features::FeatureError,
    },

    /// The bounds of a gate are not a lower and an upper one.
    #[error("the gate for `{metric}` must be a lower and an upper bound, but is {lower}, {upper}")]
    InvalidGate {
        /// Name of the metric.
        metric: String,
        /// The first bound.
        lower: f64,
        /// The second bound.
        upper: f64,
    },

    /// A gate asks for a metric that the evaluation does not have.
    #[error("the gate asks for `{metric}`, but the evaluation has only {known}")]
    NoSuchMetric {
        /// Name of the metric.
        metric: String,
        /// Names of those that there are.
        known: String,
    },

    /// A file that another stage wrote is not what it should be.
    #[error("{} is malformed", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },

    /// An event names a receiver that the catalog does not have.
    #[error("event `{event}` was recorded by `{receiver}`, but the catalog has no such receiver")]
    UnknownReceiver {
        /// Name of the event.
        event: String,
        /// Name of the receiver.
        receiver: String,
    },

    /// The tables of measurements cannot be read.
    #[error(transparent)]
    Measurements(heimdall_data::DataError),

    /// The measurements have nothing of what a method takes.
    #[error("`{method}` takes `{columns}` in `measurements.csv`, but no line has a value there")]
    NothingMeasured {
        /// The method.
        method: String,
        /// The columns.
        columns: &'static str,
    },

    /// A method has nothing to learn from.
    #[error(
        "`{method}` compares with known places: give it a folder of them by `--train`, or let \
         `--blocks-m` hold out blocks of the folder's own events in turn"
    )]
    NeedsTraining {
        /// The method.
        method: String,
    },

    /// A method does not learn.
    #[error("`{option}` is for methods that learn from known places, but `{method}` does not")]
    NoUseOfTraining {
        /// The option.
        option: &'static str,
        /// The method.
        method: String,
    },

    /// An option has a value that does not do.
    #[error("`{option}` must be {expected}")]
    InvalidOption {
        /// The option.
        option: &'static str,
        /// The rule, as a phrase that follows "must be".
        expected: &'static str,
    },

    /// An option has a value with which no features can be computed.
    #[error("`{option}` must be {expected}, but is {actual}")]
    FeatureOption {
        /// The option.
        option: &'static str,
        /// The rule, as a phrase that follows "must be".
        expected: String,
        /// The value that it has.
        actual: f64,
    },

    /// Bands lie between two bins of a transform, and would always be silent.
    #[error(
        "{empty} of {bands} bands catch no bin of a transform of {fft_length} samples; the smallest \
         `--fft` that works is {fft_length_min}"
    )]
    EmptyBands {
        /// Bands without a bin.
        empty: usize,
        /// All bands.
        bands: usize,
        /// Length of the transform.
        fft_length: usize,
        /// The smallest one with which every band has a bin.
        fft_length_min: usize,
    },

    /// A picture of the report could not be encoded.
    #[error("a picture of the report cannot be encoded")]
    Picture(#[source] png::EncodingError),

    /// A stage panicked, which is a fault of this program.
    #[error("stage `{stage}` panicked: {message}")]
    Panicked {
        /// Name of the stage.
        stage: String,
        /// What the panic said.
        message: String,
    },

    /// A stage returned a figure that is not a number.
    #[error("metric `{metric}` of stage `{stage}` is {value}")]
    NonFiniteMetric {
        /// Name of the stage.
        stage: String,
        /// Name of the metric.
        metric: String,
        /// Its value.
        value: f64,
    },

    /// The evaluation of a model is outside of what its registration asks for.
    #[error("the model does not pass the gate: {}", phrase(.failures))]
    GateFailed {
        /// Every figure that does not pass.
        failures: Vec<GateFailure>,
    },

    /// The evaluation that a registration goes by is that of another model.
    #[error(
        "the evaluation is not that of the exported model: `{metric}` is {evaluated} in the one and \
         {exported} in the other"
    )]
    ForeignEvaluation {
        /// A metric in which they differ.
        metric: String,
        /// Its value in the evaluation.
        evaluated: String,
        /// Its value in the model.
        exported: String,
    },

    /// The run was asked to stop.
    #[error("interrupted")]
    Interrupted,

    /// Data could not be read or written.
    #[error(transparent)]
    Data(#[from] heimdall_data::DataError),

    /// A signal could not be processed.
    #[error(transparent)]
    Feature(#[from] heimdall_features::FeatureError),

    /// A catalog or a store of objects that a command was given cannot be used.
    #[error(transparent)]
    Catalog(heimdall_data::DataError),

    /// A file that a command was given is no recording that it can use.
    #[error(transparent)]
    Recording(heimdall_data::DataError),

    /// A command was asked for features that cannot be computed from its recording.
    #[error(transparent)]
    Features(heimdall_features::FeatureError),

    /// A position could not be computed.
    #[error(transparent)]
    Geo(#[from] heimdall_geo::GeoError),

    /// A world could not be simulated.
    #[error(transparent)]
    Sim(#[from] heimdall_sim::SimError),

    /// A network could not be trained or evaluated.
    #[error(transparent)]
    Train(#[from] heimdall_train::TrainError),

    /// A network could not be exported.
    #[error(transparent)]
    Export(#[from] heimdall_export::ExportError),

    /// A run or a model could not be entered into the store.
    #[error(transparent)]
    Tracking(#[from] heimdall_tracking::TrackingError),
}

/// Returns the end of a message that lists the versions of a model.
fn known_versions(known: &[String]) -> String {
    if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) }
}

/// Returns the end of a message that offers a name.
fn did_you_mean(name: Option<&str>) -> String {
    name.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

impl PipelineError {
    /// Makes an error of an operation on a file or folder.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// Returns the message followed by those of its causes.
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        for cause in self.causes() {
            text.push_str(": ");
            text.push_str(&cause.to_string());
        }
        text
    }

    /// Returns the causes of this error, the nearest one first.
    pub fn causes(&self) -> impl Iterator<Item = &dyn std::error::Error> {
        std::iter::successors(std::error::Error::source(self), |cause| cause.source())
            .map(|cause| cause as &dyn std::error::Error)
    }

    /// Whether the same stage may succeed when it is tried again.
    pub(crate) fn may_pass(&self) -> bool {
        !matches!(self, Self::Interrupted | Self::GateFailed { .. } | Self::InvalidCommand { .. })
    }

    /// Returns the exit code of a program that ends with this error: 1 if a stage failed, 2 if the
    /// input must be mended, 3 if a gate failed, 130 if it was interrupted.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Definition(_)
            | Self::UnknownStage { .. }
            | Self::UnknownRun { .. }
            | Self::NoResult { .. }
            | Self::NoLog { .. }
            | Self::Exists { .. }
            | Self::InvalidRemote { .. }
            | Self::NoRemote
            | Self::VersionTaken { .. }
            | Self::NoSuchObject { .. }
            | Self::InvalidPlace { .. }
            | Self::NotEnough { .. }
            | Self::NotCached { .. }
            | Self::NoSampleRate { .. }
            | Self::DoesNotFit { .. }
            | Self::NoSuchMetric { .. }
            | Self::ForeignEvaluation { .. }
            | Self::NoSuchModel { .. }
            | Self::Tracking(heimdall_tracking::TrackingError::InvalidAddress { .. })
            | Self::Catalog(_)
            | Self::Recording(_)
            | Self::Features(_)
            | Self::Measurements(_)
            | Self::NothingMeasured { .. }
            | Self::NeedsTraining { .. }
            | Self::NoUseOfTraining { .. }
            | Self::FeatureOption { .. }
            | Self::EmptyBands { .. }
            | Self::InvalidOption { .. } => 2,
            Self::GateFailed { .. } => 3,
            Self::Interrupted => 130,
            _ => 1,
        }
    }
}
