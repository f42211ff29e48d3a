//! From one YAML file to a registered model.
//!
//! ```text
//! YAML ──PipelineSpec::load──▶ typed stages and the wires between them
//!                                 │ run: in order, each stage unless the cache has its result
//!                                 ▼
//!                              RunReport, results in the cache, readable copies in `artifacts/`
//! ```
//!
//! Results are kept by what they were made from: parameters, the content of the inputs, the version of
//! the code. The program `heimdall-pipeline` is a thin shell around [`run`].
//!
//! # Example
//!
//! ```
//! use heimdall_pipeline::{LoadOptions, PipelineSpec};
//!
//! let text = "
//! stages:
//!   recordings: { uses: simulate, world: { sessions: 5 } }
//!   features: { uses: extract, from: recordings }
//! ";
//! let spec = PipelineSpec::parse("example.yaml", "example", text, &LoadOptions::default())?;
//!
//! assert_eq!(spec.graph().ancestors(spec.position("features")?), [0]);
//! # Ok::<(), heimdall_pipeline::PipelineError>(())
//! ```

mod artifact;
mod cache;
mod cli;
mod command;
mod error;
mod event;
mod external;
mod graph;
mod localization;
mod progress;
mod report;
mod runner;
mod spec;
mod stage;

pub use artifact::{ArtifactKind, InputPort, OutputPort};
pub use cli::{Cli, Command};
pub use command::{
    Bank, DefinitionArgs, ExportSigmfArgs, FeatureKind, FeaturesArgs, FingerprintArgs, GraphArgs,
    GraphFormat, LevelArgs, LocateArgs, Metric, PlanArgs, RunArgs, Scale, SelectionArgs, Silence,
    Surroundings, TimingArgs, ValidateArgs,
};
pub use error::PipelineError;
pub use event::{EventSink, RunEvent, RunReport, RunState, StageReport, StageState};
pub use graph::{Graph, Wire};
pub use localization::{LevelColumn, Method};
pub use progress::{Progress, duration};
pub use runner::{Forecast, RunOptions, plan, run};
pub use spec::{Diagnostic, LoadOptions, PipelineSpec, Place, RunSpec, StageSpec, TrackingSpec};
pub use stage::{
    EvaluateStage, ExportStage, ExtractStage, FixConfig, ImportStage, LocateStage, PipelineFacts,
    RegisterStage, ReportConfig, SimulateStage, SplitStage, Stage, StageContext, StageKind,
    StageOutput, StageProgress, TrainStage,
};
