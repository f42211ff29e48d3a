//! The commands of the program, one file each: its arguments, and what it does with them.

mod cache;
mod catalog;
mod completions;
mod definition;
mod diff;
mod explanation;
mod export_sigmf;
mod features;
mod graph;
mod import;
mod init;
mod lineage;
mod locate;
mod logs;
mod matrix;
mod plan;
mod predict;
mod reference;
mod run;
mod runs;
mod schema;
mod show;
mod status;
mod surroundings;
mod table;
mod tracking;
mod upload;
mod validate;
mod why;

pub use cache::{CacheAction, CacheCommandArgs, ExchangeArgs, GarbageArgs, PinArgs};
pub use catalog::{
    CatalogAction, CatalogAddressArgs, CatalogCommandArgs, DecideArgs, ExportEventsArgs, ListArgs,
    ShowSessionArgs, StatsArgs,
};
pub use completions::CompletionsArgs;
pub use definition::{CacheArgs, DefinitionArgs, RemoteArgs, SelectionArgs};
pub use diff::DiffArgs;
pub use export_sigmf::ExportSigmfArgs;
pub use features::{Bank, FeatureKind, FeaturesArgs, Scale};
pub use graph::{GraphArgs, GraphFormat};
pub use import::{FolderFormat, ImportArgs};
pub use init::InitArgs;
pub use lineage::LineageArgs;
pub use locate::{FingerprintArgs, LevelArgs, LocateArgs, Metric, Silence, TimingArgs};
pub use logs::LogsArgs;
pub use plan::PlanArgs;
pub use predict::PredictArgs;
pub use reference::ReferenceArgs;
pub use run::{EventFormat, RunArgs};
pub use runs::RunsArgs;
pub use schema::SchemaArgs;
pub use show::ShowArgs;
pub use status::StatusArgs;
pub use surroundings::Surroundings;
pub use tracking::{SyncArgs, TrackingAction, TrackingArgs};
pub use upload::UploadArgs;
pub use validate::ValidateArgs;
pub use why::WhyArgs;
