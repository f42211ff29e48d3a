//! Runs, metrics and model versions in MLflow's own store.
//!
//! A store is a folder that `mlflow ui` opens as it is: `mlflow.db`, the database, and
//! `mlartifacts/`, the files. No server and no Python is needed to write it.
//!
//! ```text
//! MlflowStore (a folder), MlflowServer (REST) ──▶ TrackingStore ──start_run──▶ Run
//!      │                       parameters, metrics, tags, datasets, artifacts, end
//!      └──registry──▶ Registry ──create_model_version──▶ ModelVersion, aliases
//!
//! MlflowTracker ──▶ spool on the disk ──thread──▶ Run      never waits, never fails
//! ```
//!
//! Time is an argument of what writes directly, in ms since 1970. Writing again what is there changes nothing,
//! with one exception: each [`Registry::create_model_version`] makes a version.
//!
//! # Example
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use heimdall_tracking::{Metric, MlflowStore, RunConfig, RunStatus};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! let store = MlflowStore::open(folder).await?;
//! let experiment = store.experiment("localization", 1_700_000_000_000).await?;
//! let tracker = store
//!     .start_run(RunConfig {
//!         experiment,
//!         run_name: "first light".to_owned(),
//!         user: "ada".to_owned(),
//!         source_name: "heimdall-pipeline".to_owned(),
//!         git_commit: None,
//!         git_branch: None,
//!         description: None,
//!         tags: BTreeMap::new(),
//!         start_time_ms: 1_700_000_000_000,
//!     })
//!     .await?;
//! let loss = |step, value| Metric {
//!     key: "train/loss".to_owned(),
//!     value,
//!     step,
//!     timestamp_ms: 1_700_000_000_000 + 1000 * step,
//! };
//! tracker.log_metrics(&[loss(1, 3.5), loss(2, 2.25)]).await?;
//! tracker.end_run(RunStatus::Finished, 1_700_000_003_000).await?;
//!
//! assert_eq!(tracker.latest_metrics().await?, [loss(2, 2.25)]);
//! # Ok(())
//! # }
//! ```

mod address;
mod artifact;
mod credentials;
mod dataset;
mod delivery;
mod error;
mod metric;
mod name;
mod registry;
mod retry;
mod run;
mod schema;
mod server;
mod spool;
mod store;
mod stored_run;
mod tracker;
mod tracking_store;

pub use address::TrackingAddress;
pub use credentials::Credentials;
pub use dataset::DatasetInput;
pub use delivery::{SyncOutcome, SyncReport, sync};
pub use error::TrackingError;
pub use metric::Metric;
pub use registry::{ModelVersion, NewModelVersion, Registry};
pub use run::{RunConfig, RunStatus};
pub use server::{MlflowServer, ServerRun};
pub use spool::TrackedRun;
pub use store::{ExperimentId, MlflowStore};
pub use stored_run::StoredRun;
pub use tracker::{DeliveryReport, MlflowTracker, TrackerConfig};
pub use tracking_store::{Run, TrackingStore};
