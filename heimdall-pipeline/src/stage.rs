//! The kinds of stages: their names, their ports, and which code runs for each.

mod cmd;
mod context;
mod evaluate;
mod export;
mod extract;
mod extraction;
mod fix;
mod hold_out;
mod import;
mod import_tables;
mod live;
mod locate;
mod log;
mod made;
mod process_group;
mod register;
mod simulate;
mod simulate_features;
mod split;
mod train;

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use heimdall_train::TrainConfig;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::PipelineError;
use crate::artifact::{ArtifactKind, InputPort, OutputPort};

pub(crate) use cmd::is_port_name;
pub use cmd::{CmdStage, CommandLine};
pub use context::{PipelineFacts, StageContext, StageOutput, StageProgress};
pub use evaluate::{EvaluateStage, ReportConfig};
pub use export::ExportStage;
pub use extract::ExtractStage;
pub(crate) use extraction::{EventExtractor, LoadedEvent, RATE_TOLERANCE, label};
pub use fix::FixConfig;
pub use hold_out::HoldOutStage;
pub use import::ImportStage;
pub use import_tables::ImportTablesStage;
pub use locate::LocateStage;
pub(crate) use locate::{LocatedEvent, LocatedFix, MeasuredPair};
pub use log::StageLogs;
pub(crate) use log::{StageLog, spawn_blocking};
pub(crate) use process_group::{kill_all, kill_left_over};
pub(crate) use register::REGISTRATION_FILE;
pub use register::RegisterStage;
pub(crate) use simulate::LATENTS_FILE;
pub use simulate::SimulateStage;
pub use simulate_features::{SimulateFeaturesStage, SimulationDepth};
pub use split::SplitStage;
pub use train::TrainStage;

/// What a stage does, as its `uses:` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageKind {
    /// Makes recordings of a simulated world.
    Simulate,
    /// Makes features of a simulated world.
    SimulateFeatures,
    /// Copies recordings from a folder.
    Import,
    /// Makes features of tables of levels and arrival times.
    ImportTables,
    /// Turns recordings into features.
    Extract,
    /// Parts features into training, validation, calibration and test.
    Split,
    /// Trains a network.
    Train,
    /// Recalibrates a network and measures how good it is.
    Evaluate,
    /// Holds groups of events out in turn, and trains on the others.
    HoldOut,
    /// Writes a network as ONNX and compares the two.
    Export,
    /// Enters a model into the registry.
    Register,
    /// Finds a transmitter from the delays between recordings.
    Locate,
    /// Runs a program of any language.
    Cmd,
}

const fn required(name: &'static str, kind: ArtifactKind) -> InputPort {
    InputPort { name: Cow::Borrowed(name), kind, required: true }
}

const fn optional(name: &'static str, kind: ArtifactKind) -> InputPort {
    InputPort { name: Cow::Borrowed(name), kind, required: false }
}

const fn output(name: &'static str, kind: ArtifactKind) -> OutputPort {
    OutputPort { name: Cow::Borrowed(name), kind }
}

impl StageKind {
    /// All kinds, in the order in which a pipeline usually has them.
    pub const ALL: [Self; 13] = [
        Self::Simulate,
        Self::SimulateFeatures,
        Self::Import,
        Self::ImportTables,
        Self::Extract,
        Self::Split,
        Self::Train,
        Self::Evaluate,
        Self::HoldOut,
        Self::Export,
        Self::Register,
        Self::Locate,
        Self::Cmd,
    ];

    /// Returns the name that `uses:` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Simulate => "simulate",
            Self::SimulateFeatures => "simulate_features",
            Self::Import => "import",
            Self::ImportTables => "import_tables",
            Self::Extract => "extract",
            Self::Split => "split",
            Self::Train => "train",
            Self::Evaluate => "evaluate",
            Self::HoldOut => "hold_out",
            Self::Export => "export",
            Self::Register => "register",
            Self::Locate => "locate",
            Self::Cmd => "cmd",
        }
    }

    /// Returns the kind that `uses:` names, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Returns the version of the kind's code: a change that lets equal inputs give other outputs
    /// raises it, so that results of the old code are not taken for results of the new.
    pub fn cache_version(self) -> u32 {
        match self {
            Self::SimulateFeatures | Self::Import | Self::ImportTables | Self::Register => 1,
            // Worlds have other transmissions, networks take side inputs and learn from other gains,
            // events that cannot be located have a reason, programs get one locale and time zone.
            Self::Simulate | Self::Split | Self::HoldOut | Self::Locate | Self::Cmd => 2,
            // Features hold a classical fix, for which no delay is read from a keyed carrier.
            Self::Extract => 3,
            // What a network states has another floor.
            // Files say how the events are made that they take.
            Self::Train | Self::Export => 4,
            // It says more, beside better methods, of networks with another floor.
            Self::Evaluate => 5,
        }
    }

    /// Whether the kind computes on all processors that it is given.
    pub(crate) fn is_parallel(self) -> bool {
        match self {
            Self::Simulate
            | Self::SimulateFeatures
            | Self::Extract
            | Self::Train
            | Self::Evaluate
            | Self::HoldOut
            | Self::Export
            | Self::Locate => true,
            Self::Import | Self::ImportTables | Self::Split | Self::Register | Self::Cmd => false,
        }
    }

    /// Returns what the kind reads; what a `cmd` stage reads is up to its `from:`.
    pub fn inputs(self) -> &'static [InputPort] {
        use ArtifactKind::{Evaluation, Features, Model, Onnx, Recordings};
        match self {
            Self::Simulate
            | Self::SimulateFeatures
            | Self::Import
            | Self::ImportTables
            | Self::Cmd => &[],
            Self::Extract | Self::Locate => const { &[required("recordings", Recordings)] },
            Self::Split => const { &[required("features", Features), optional("test", Features)] },
            Self::Train => {
                const { &[required("train", Features), required("validation", Features)] }
            }
            Self::Evaluate => {
                const {
                    &[
                        required("model", Model),
                        required("calibration", Features),
                        required("test", Features),
                        optional("train", Features),
                        optional("new_world", Features),
                    ]
                }
            }
            Self::HoldOut => const { &[required("features", Features)] },
            Self::Export => const { &[required("model", Model), required("samples", Features)] },
            Self::Register => {
                const {
                    &[
                        required("onnx", Onnx),
                        required("evaluation", Evaluation),
                        optional("model", Model),
                    ]
                }
            }
        }
    }

    /// Returns what the kind makes; what a `cmd` stage makes is up to its `outputs:`.
    pub fn outputs(self) -> &'static [OutputPort] {
        use ArtifactKind::{
            Evaluation, Features, Fix, HoldOut, Model, Onnx, Recordings, Registration,
        };
        match self {
            Self::Simulate | Self::Import => const { &[output("recordings", Recordings)] },
            Self::Extract | Self::SimulateFeatures => const { &[output("features", Features)] },
            Self::ImportTables => {
                const { &[output("features", Features), output("test", Features)] }
            }
            Self::Split => {
                const {
                    &[
                        output("train", Features),
                        output("validation", Features),
                        output("calibration", Features),
                        output("test", Features),
                    ]
                }
            }
            Self::Train => const { &[output("model", Model)] },
            Self::Evaluate => const { &[output("model", Model), output("evaluation", Evaluation)] },
            Self::HoldOut => const { &[output("hold_out", HoldOut)] },
            Self::Export => const { &[output("onnx", Onnx)] },
            Self::Register => const { &[output("registration", Registration)] },
            Self::Locate => const { &[output("fix", Fix)] },
            Self::Cmd => &[],
        }
    }

    /// Returns the input port of that name, if the kind has it.
    pub fn input(self, name: &str) -> Option<&'static InputPort> {
        self.inputs().iter().find(|port| port.name == name)
    }
}

impl fmt::Display for StageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One stage of a pipeline with its configuration.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// Makes recordings of a simulated world.
    Simulate(Box<SimulateStage>),
    /// Makes features of a simulated world.
    SimulateFeatures(Box<SimulateFeaturesStage>),
    /// Copies recordings from a folder.
    Import(ImportStage),
    /// Makes features of tables of levels and arrival times.
    ImportTables(ImportTablesStage),
    /// Turns recordings into features.
    Extract(ExtractStage),
    /// Parts features into training, validation, calibration and test.
    Split(SplitStage),
    /// Trains a network.
    Train(Box<TrainStage>),
    /// Recalibrates a network and measures how good it is.
    Evaluate(EvaluateStage),
    /// Holds groups of events out in turn, and trains on the others.
    HoldOut(Box<HoldOutStage>),
    /// Writes a network as ONNX and compares the two.
    Export(ExportStage),
    /// Enters a model into the registry.
    Register(RegisterStage),
    /// Finds a transmitter from the delays between recordings.
    Locate(LocateStage),
    /// Runs a program of any language.
    Cmd(CmdStage),
}

/// Runs an expression with the configuration inside of a [`Stage`].
macro_rules! each {
    ($stage:expr, $config:ident => $body:expr) => {
        match $stage {
            Stage::Simulate($config) => $body,
            Stage::SimulateFeatures($config) => $body,
            Stage::Import($config) => $body,
            Stage::ImportTables($config) => $body,
            Stage::Extract($config) => $body,
            Stage::Split($config) => $body,
            Stage::Train($config) => $body,
            Stage::Evaluate($config) => $body,
            Stage::HoldOut($config) => $body,
            Stage::Export($config) => $body,
            Stage::Register($config) => $body,
            Stage::Locate($config) => $body,
            Stage::Cmd($config) => $body,
        }
    };
}

impl Stage {
    /// Reads the configuration of a stage of the given kind, from whatever format.
    pub(crate) fn deserialize<'de, D>(kind: StageKind, deserializer: D) -> Result<Self, D::Error>
    where
        D: serde::Deserializer<'de>,
    {
        Ok(match kind {
            StageKind::Simulate => Self::Simulate(Deserialize::deserialize(deserializer)?),
            StageKind::SimulateFeatures => {
                Self::SimulateFeatures(Deserialize::deserialize(deserializer)?)
            }
            StageKind::Import => Self::Import(Deserialize::deserialize(deserializer)?),
            StageKind::ImportTables => Self::ImportTables(Deserialize::deserialize(deserializer)?),
            StageKind::Extract => Self::Extract(Deserialize::deserialize(deserializer)?),
            StageKind::Split => Self::Split(Deserialize::deserialize(deserializer)?),
            StageKind::Train => Self::Train(Deserialize::deserialize(deserializer)?),
            StageKind::Evaluate => Self::Evaluate(Deserialize::deserialize(deserializer)?),
            StageKind::HoldOut => Self::HoldOut(Deserialize::deserialize(deserializer)?),
            StageKind::Export => Self::Export(Deserialize::deserialize(deserializer)?),
            StageKind::Register => Self::Register(Deserialize::deserialize(deserializer)?),
            StageKind::Locate => Self::Locate(Deserialize::deserialize(deserializer)?),
            StageKind::Cmd => Self::Cmd(Deserialize::deserialize(deserializer)?),
        })
    }

    /// Returns what the stage does.
    pub fn kind(&self) -> StageKind {
        match self {
            Self::Simulate(_) => StageKind::Simulate,
            Self::SimulateFeatures(_) => StageKind::SimulateFeatures,
            Self::Import(_) => StageKind::Import,
            Self::ImportTables(_) => StageKind::ImportTables,
            Self::Extract(_) => StageKind::Extract,
            Self::Split(_) => StageKind::Split,
            Self::Train(_) => StageKind::Train,
            Self::Evaluate(_) => StageKind::Evaluate,
            Self::HoldOut(_) => StageKind::HoldOut,
            Self::Export(_) => StageKind::Export,
            Self::Register(_) => StageKind::Register,
            Self::Locate(_) => StageKind::Locate,
            Self::Cmd(_) => StageKind::Cmd,
        }
    }

    /// Returns what the stage makes.
    pub fn output_ports(&self) -> Cow<'static, [OutputPort]> {
        match self {
            Self::Cmd(cmd) => Cow::Owned(cmd.output_ports()),
            _ => Cow::Borrowed(self.kind().outputs()),
        }
    }

    /// Returns the resolved configuration, defaults included.
    pub fn parameters(&self) -> Value {
        each!(self, config => resolved(config))
    }

    /// Returns the part of the configuration that decides what comes out, which is everything but
    /// paths: of an external folder the content counts.
    pub fn key_parameters(&self) -> Value {
        let mut parameters = self.parameters();
        let Value::Object(fields) = &mut parameters else { return parameters };
        match self {
            Self::Import(_) => fields.remove("path"),
            Self::ImportTables(_) => fields.remove("path").and(fields.remove("test")),
            Self::Simulate(_) | Self::SimulateFeatures(_) => fields.remove("receivers"),
            // Where its code is found is in the name that its content goes by.
            Self::Cmd(_) => fields.remove("sources"),
            Self::Train(_) => fields.remove("pretrained"),
            Self::HoldOut(_) => {
                let train = fields.get_mut("train").and_then(Value::as_object_mut);
                train.and_then(|train| train.remove("pretrained"))
            }
            _ => None,
        };
        parameters
    }

    /// Returns the files and folders outside of the cache that the stage reads, by the name that
    /// their content goes by in the key.
    pub fn external_inputs(&self) -> Vec<(String, PathBuf)> {
        match self {
            Self::Import(import) => vec![("path".to_owned(), import.path.clone())],
            Self::ImportTables(import) => {
                let folders = [("path", Some(import.path.as_path())), ("test", import.test())];
                let given = folders.into_iter().filter_map(|(name, path)| Some((name, path?)));
                given.map(|(name, path)| (name.to_owned(), path.to_owned())).collect()
            }
            Self::Simulate(simulate) => table(simulate.receivers.as_ref()),
            Self::SimulateFeatures(simulate) => table(simulate.receivers.as_ref()),
            Self::Train(train) => pretrained(&train.config),
            Self::HoldOut(hold_out) => pretrained(&hold_out.config.train),
            Self::Cmd(cmd) => {
                let source = |path: &PathBuf| (path.display().to_string(), path.clone());
                cmd.sources.iter().map(source).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// Returns the error of the crate whose rule is broken.
    pub fn validate(&self) -> Result<(), PipelineError> {
        each!(self, config => config.validate())
    }

    /// Does what the stage is there for.
    ///
    /// # Errors
    ///
    /// Whatever keeps the stage from its outputs; [`PipelineError::Interrupted`] if it stopped
    /// because it was asked to.
    pub async fn run(&self, context: &StageContext) -> Result<StageOutput, PipelineError> {
        each!(self, config => config.run(context).await)
    }
}

/// The weights that training starts from, if there are any.
fn pretrained(config: &TrainConfig) -> Vec<(String, PathBuf)> {
    config.pretrained.iter().map(|path| ("pretrained".to_owned(), path.clone())).collect()
}

/// The table of receivers, if there is one.
fn table(receivers: Option<&PathBuf>) -> Vec<(String, PathBuf)> {
    receivers.map(|path| ("receivers".to_owned(), path.clone())).into_iter().collect()
}

/// Returns a configuration as JSON.
fn resolved<T: Serialize + DeserializeOwned>(config: &T) -> Value {
    serde_json::to_value(config).expect("a configuration is plain data with string keys")
}
