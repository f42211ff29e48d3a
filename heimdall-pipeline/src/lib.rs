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
mod fault;
mod gate;
mod graph;
mod history;
mod localization;
mod model_input;
mod object_place;
mod output;
mod prediction;
mod progress;
mod replace;
mod report;
mod runner;
mod secret;
mod spec;
mod stage;

pub use artifact::{ArtifactKind, InputPort, OutputPort};
pub use cli::{Cli, Command};
pub use command::{
    Bank, CacheAction, CacheArgs, CacheCommandArgs, CatalogAction, CatalogAddressArgs,
    CatalogCommandArgs, CompletionsArgs, DecideArgs, DefinitionArgs, DiffArgs, EventFormat,
    ExchangeArgs, ExportEventsArgs, ExportSigmfArgs, FeatureKind, FeaturesArgs, FingerprintArgs,
    FolderFormat, GarbageArgs, GraphArgs, GraphFormat, ImportArgs, InitArgs, LevelArgs,
    LineageArgs, ListArgs, LocateArgs, LogsArgs, Metric, PinArgs, PlanArgs, PredictArgs,
    ReferenceArgs, RemoteArgs, RunArgs, RunsArgs, Scale, SchemaArgs, SelectionArgs, ShowArgs,
    ShowSessionArgs, Silence, StatsArgs, StatusArgs, Surroundings, SyncArgs, TimingArgs,
    TrackingAction, TrackingArgs, UploadArgs, ValidateArgs, WhyArgs,
};
pub use error::PipelineError;
pub use event::{EventSink, RunEvent, RunReport, RunState, StageReport, StageState};
pub use fault::FaultPoint;
pub use gate::GateFailure;
pub use graph::{Graph, Wire};
pub use history::{RunRecord, StageRecord};
pub use localization::{LevelColumn, Method};
pub use prediction::{Fix, LocalizationModel, ModelAddress, PredictedEvent, RecordingFiles};
pub use progress::{Progress, duration};
pub(crate) use runner::differences;
pub use runner::{
    Change, Exchange, Explanation, Forecast, Made, PlannedStage, RunOptions, plan, pull, push, run,
    why,
};
pub use secret::Secrets;
pub use spec::{
    ByteCount, Diagnostic, LoadOptions, PipelineSpec, Place, RunSpec, Span, StageSpec,
    TrackingSpec, schema,
};
pub use stage::{
    CmdStage, CommandLine, EvaluateStage, ExportStage, ExtractStage, FixConfig, HoldOutStage,
    ImportStage, ImportTablesStage, LocateStage, PipelineFacts, RegisterStage, ReportConfig,
    SimulateFeaturesStage, SimulateStage, SimulationDepth, SplitStage, Stage, StageContext,
    StageKind, StageLogs, StageOutput, StageProgress, TrainStage,
};
