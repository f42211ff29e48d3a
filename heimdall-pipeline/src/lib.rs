//! From one YAML file to a registered model.

mod artifact;
mod error;
mod spec;
mod stage;

pub use artifact::{ArtifactKind, InputPort, OutputPort};
pub use error::PipelineError;
pub use spec::Diagnostic;
pub use stage::{
    DeviceChoice, EvaluateStage, ExportStage, ExtractStage, ImportStage, LocateStage,
    PipelineFacts, RegisterStage, SimulateStage, SplitStage, Stage, StageContext, StageKind,
    StageOutput, StageProgress, TrainStage,
};
