//! The commands of the program, one file each: its arguments, and what it does with them.

mod definition;
mod export_sigmf;
mod features;
mod graph;
mod locate;
mod plan;
mod run;
mod surroundings;
mod validate;

pub use definition::{DefinitionArgs, SelectionArgs};
pub use export_sigmf::ExportSigmfArgs;
pub use features::{Bank, FeatureKind, FeaturesArgs, Scale};
pub use graph::{GraphArgs, GraphFormat};
pub use locate::{FingerprintArgs, LevelArgs, LocateArgs, Metric, Silence, TimingArgs};
pub use plan::PlanArgs;
pub use run::RunArgs;
pub use surroundings::Surroundings;
pub use validate::ValidateArgs;
