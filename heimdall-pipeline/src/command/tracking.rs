//! `tracking`: sends what has not arrived in a tracking store.

use clap::{Args, Subcommand};
use heimdall_tracking::{Credentials, SyncOutcome, SyncReport, sync};

use super::table::table;
use super::{CacheArgs, Surroundings};
use crate::PipelineError;
use crate::cache::spool_of;

/// Arguments of `tracking`.
#[derive(Debug, Args)]
pub struct TrackingArgs {
    /// What to do
    #[command(subcommand)]
    pub action: TrackingAction,
}

/// What is done with tracked runs.
#[derive(Debug, Subcommand)]
pub enum TrackingAction {
    /// Send what trainings could not: their store was away, or they were killed
    ///
    /// Names and passwords are those of the variables `MLFLOW_TRACKING_…`.
    Sync(SyncArgs),
}

/// Arguments of `tracking sync`.
#[derive(Debug, Args)]
pub struct SyncArgs {
    /// The cache
    #[command(flatten)]
    pub cache: CacheArgs,
}

impl TrackingArgs {
    /// Carries out the action.
    pub(crate) async fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        let TrackingAction::Sync(SyncArgs { cache }) = &self.action;
        let credentials = Credentials::of_environment(&surroundings.environment);
        let reports = sync(&spool_of(&cache.cache), &credentials).await?;
        if reports.is_empty() {
            surroundings.print("everything has arrived\n")?;
            return Ok(0);
        }
        let header = ["run", "store", "state", "refused", "id"].map(str::to_owned);
        let rows = std::iter::once(header).chain(reports.iter().map(row));
        surroundings.print(&table(&rows.collect::<Vec<_>>()))?;
        let is_failed = |report: &SyncReport| matches!(report.outcome, SyncOutcome::Failed { .. });
        Ok(u8::from(reports.iter().any(is_failed)))
    }
}

fn row(report: &SyncReport) -> [String; 5] {
    let state = match &report.outcome {
        SyncOutcome::Delivered => "delivered".to_owned(),
        SyncOutcome::UnderWay => "under way".to_owned(),
        SyncOutcome::Failed { reason } => format!("failed: {reason}"),
    };
    let id = report.run_id.clone().unwrap_or_default();
    [report.run_name.clone(), report.address.clone(), state, report.refused.to_string(), id]
}
