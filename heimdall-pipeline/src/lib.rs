//! From one YAML file to a registered model.

mod artifact;
mod error;
mod graph;
mod report;
mod spec;
mod stage;

pub use artifact::{ArtifactKind, InputPort, OutputPort};
pub use error::PipelineError;
pub use graph::{Graph, Wire};
pub use spec::{Diagnostic, LoadOptions, PipelineSpec, Place, RunSpec, StageSpec, TrackingSpec};
pub use stage::{
    EvaluateStage, ExportStage, ExtractStage, ImportStage, LocateStage,
    PipelineFacts, RegisterStage, SimulateStage, SplitStage, Stage, StageContext, StageKind,
    StageOutput, StageProgress, TrainStage,
};
