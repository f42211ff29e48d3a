//! The kinds of artifacts that flow between stages, and the ports that they flow through.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A kind of artifact; an edge of the pipeline joins two ports of the same kind, or leads from any
/// kind to one that takes all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactKind {
    /// A folder with `catalog.db` and `objects/`: receivers, events and their samples.
    Recordings,
    /// A folder of feature shards with `features.json`.
    Features,
    /// A folder with the weights of a network and its `manifest.json`.
    Model,
    /// A folder with `evaluation.json`, `report.html` and its figures.
    Evaluation,
    /// A folder with `hold-out.json` and `report.html`: how good networks are on groups that they have
    /// never seen.
    HoldOut,
    /// A folder with `model.onnx` and what belongs to it.
    Onnx,
    /// A folder with `fix.json` and `report.html`: where a transmitter was found.
    Fix,
    /// A folder that says under which name and version a model was registered.
    Registration,
    /// A folder of any files, which is what every artifact is.
    Files,
}

impl ArtifactKind {
    /// Returns the name that messages use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Recordings => "Recordings",
            Self::Features => "Features",
            Self::Model => "Model",
            Self::Evaluation => "Evaluation",
            Self::HoldOut => "HoldOut",
            Self::Onnx => "Onnx",
            Self::Fix => "Fix",
            Self::Registration => "Registration",
            Self::Files => "Files",
        }
    }

    /// Returns the version of the files inside, a part of the cache key of the stage that makes
    /// them.
    pub fn format_version(self) -> u32 {
        match self {
            Self::Model => 4,
            Self::Evaluation | Self::Recordings => 3,
            Self::Features | Self::Onnx => 2,
            Self::HoldOut | Self::Fix | Self::Registration | Self::Files => 1,
        }
    }

    /// Whether an input of this kind can be joined to an output of another.
    pub fn takes(self, output: Self) -> bool {
        self == Self::Files || self == output
    }
}

impl fmt::Display for ArtifactKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something that a kind of stage reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputPort {
    /// Name, as in `from: { name: … }`.
    pub name: Cow<'static, str>,
    /// What must arrive there.
    pub kind: ArtifactKind,
    /// Whether the stage cannot do without.
    pub required: bool,
}

/// Something that a kind of stage makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputPort {
    /// Name, as in `stage.name`.
    pub name: Cow<'static, str>,
    /// What leaves there.
    pub kind: ArtifactKind,
}
