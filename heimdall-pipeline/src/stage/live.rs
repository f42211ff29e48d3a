//! A training in the tracking store while it goes on.

use std::time::Duration;

use heimdall_tracking::{MlflowTracker, RunStatus, TrackedRun, TrackerConfig};
use heimdall_train::TrainEvent;
use tracing::{info, warn};

use crate::PipelineError;
use crate::stage::StageContext;
use crate::stage::register::{git, parameters};

/// How long the end of a training may wait for what has not arrived in the store.
const PATIENCE: Duration = Duration::from_secs(10);

/// The run of a training, if trainings are tracked.
///
/// Whatever is wrong with the store, the training does not notice.
#[derive(Debug)]
pub(super) struct LiveRun {
    tracker: Option<MlflowTracker>,
    /// Begins the names of metrics, for the networks of an ensemble after the first.
    prefix: String,
    /// Batches of this network that are done.
    batches: i64,
}

impl LiveRun {
    /// Starts the run.
    pub(super) fn start(context: &StageContext) -> Self {
        let tracker = context.facts().spool.as_ref().and_then(|spool| {
            let facts = context.facts();
            let config = TrackerConfig {
                address: facts.tracking.clone(),
                credentials: facts.credentials.clone(),
                spool: spool.clone(),
            };
            let run = TrackedRun {
                source_name: "heimdall-pipeline".to_owned(),
                git_commit: git(&["rev-parse", "HEAD"]),
                git_branch: git(&["branch", "--show-current"]),
                tags: [
                    ("heimdall.pipeline".to_owned(), facts.pipeline.clone()),
                    ("heimdall.stage".to_owned(), context.stage().to_owned()),
                ]
                .into(),
                ..TrackedRun::new(
                    &facts.experiment,
                    &format!("{}-{}-{}", facts.pipeline, facts.run, context.stage()),
                )
            };
            let tracker = MlflowTracker::start(&config, run);
            tracker.map_err(|error| warn!(%error, "the training is not tracked")).ok()
        });
        if let Some(tracker) = &tracker {
            tracker.log_hparams(&parameters(&context.facts().stages));
        }
        Self { tracker, prefix: String::new(), batches: 0 }
    }

    /// Logs what happens in training.
    pub(super) fn tell(&mut self, event: &TrainEvent) {
        let Some(tracker) = &self.tracker else { return };
        let log = |step: i64, values: &[(&str, f64)]| {
            let named: Vec<(String, f64)> = values
                .iter()
                .map(|(key, value)| (format!("{}{key}", self.prefix), *value))
                .collect();
            let named: Vec<(&str, f64)> =
                named.iter().map(|(key, value)| (key.as_str(), *value)).collect();
            tracker.log_metrics(step, &named);
        };
        match event {
            TrainEvent::Started { member, epochs_finished, batches, .. } => {
                if *member > 1 {
                    self.prefix = format!("member-{member}/");
                }
                // Batches are far below 2⁶³.
                self.batches = (epochs_finished * batches) as i64;
            }
            TrainEvent::Step { loss, learning_rate, samples_per_second, .. } => {
                self.batches += 1;
                log(
                    self.batches,
                    &[
                        ("batch/loss", *loss),
                        ("batch/learning_rate", *learning_rate),
                        ("batch/events_per_second", *samples_per_second),
                    ],
                );
            }
            TrainEvent::EpochFinished { summary, seconds, .. } => log(
                summary.epoch as i64,
                &[
                    ("train/loss", summary.train_loss),
                    ("train/learning_rate", summary.learning_rate),
                    ("validation/loss", summary.validation_loss),
                    ("validation/error_km_median", summary.validation_error_km_median),
                    ("validation/error_km_p90", summary.validation_error_km_p90),
                    ("epoch/seconds", *seconds),
                ],
            ),
            TrainEvent::EpochStarted { .. } | TrainEvent::Finished { .. } => {}
        }
    }

    /// Ends the run, as the training has ended.
    pub(super) fn end<T>(self, outcome: &Result<T, PipelineError>) {
        let Some(tracker) = self.tracker else { return };
        let status = match outcome {
            Ok(_) => RunStatus::Finished,
            Err(PipelineError::Interrupted) => RunStatus::Killed,
            Err(_) => RunStatus::Failed,
        };
        let report = tracker.end_run(status, PATIENCE);
        match report.run_id {
            Some(run) if report.bytes_left == 0 => info!(run, "the training is tracked"),
            _ => warn!(
                spool = %report.spool.display(),
                "not all of the training is in the tracking store; `heimdall-pipeline tracking sync` \
                 sends the rest"
            ),
        }
    }
}
