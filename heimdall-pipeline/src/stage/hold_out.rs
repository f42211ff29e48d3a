//! Stage `hold_out`: features in, and how good networks are on groups that they have never seen.

use heimdall_data::HeimdallDataset;
use heimdall_train::{
    HOLD_OUT_FILE, HeldOutTraining, HoldOut, HoldOutConfig, TrainError, TrainEvent, hold_out,
};
use serde::{Deserialize, Serialize};

use crate::PipelineError;
use crate::report::hold_out_report;
use crate::stage::{StageContext, StageOutput, spawn_blocking};

/// Holds each day, place or source out in turn.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HoldOutStage {
    /// What is held out, and what is trained on the rest.
    pub config: HoldOutConfig,
}

impl HoldOutStage {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// The error of the crate whose rule is broken.
    pub fn validate(&self) -> Result<(), PipelineError> {
        Ok(self.config.validate()?)
    }

    /// Writes `hold-out.json` and `report.html`.
    ///
    /// # Errors
    ///
    /// [`PipelineError::Interrupted`] if it was asked to stop, with the finished epochs kept for the
    /// next time; else whatever keeps a network from being trained or measured.
    pub(crate) async fn run(&self, context: &StageContext) -> Result<StageOutput, PipelineError> {
        let (config, context) = (self.config.clone(), context.clone());
        let holding_out = spawn_blocking(move || {
            let dataset = HeimdallDataset::open(context.input("features"))?;
            let epochs = config.train.epochs;
            let mut watch = |training: HeldOutTraining<'_>| tell(&context, epochs, training);
            let result = hold_out(
                &config,
                &dataset,
                &context.device(),
                context.scratch(),
                context.cancel(),
                &mut watch,
            );
            let result = match result {
                Err(TrainError::Interrupted { .. } | TrainError::EvaluationInterrupted) => {
                    return Err(PipelineError::Interrupted);
                }
                other => other?,
            };
            let folder = context.output("hold_out");
            let json = serde_json::to_vec_pretty(&result).expect("a result is plain data");
            let report = hold_out_report(&context.facts().pipeline, &result);
            for (name, content) in
                [(HOLD_OUT_FILE, json.as_slice()), ("report.html", report.as_bytes())]
            {
                let path = folder.join(name);
                std::fs::write(&path, content).map_err(PipelineError::io("write", &path))?;
            }
            Ok(summary(&result))
        });
        holding_out.await.expect("holding out does not panic")
    }
}

/// Passes on how far a series of trainings has come.
fn tell(context: &StageContext, epochs: usize, training: HeldOutTraining<'_>) {
    let HeldOutTraining { name, group, groups, event } = training;
    let epoch = match event {
        TrainEvent::Started { epochs_finished, .. } => *epochs_finished,
        TrainEvent::EpochFinished { summary, .. } => summary.epoch,
        TrainEvent::EpochStarted { .. } | TrainEvent::Step { .. } | TrainEvent::Finished { .. } => {
            return;
        }
    };
    let (done, total) = ((group * epochs + epoch) as u64, (groups * epochs) as u64);
    context.progress(done, total, format!("without {name} · epoch {epoch}"));
}

/// Figures of all groups together, and the worst of them.
fn summary(result: &HoldOut) -> StageOutput {
    let mut metrics = result.all.clone();
    metrics.insert("groups".to_owned(), result.groups.len() as f64);
    let medians = result.groups.iter().map(|group| group.metrics["error_km_median"]);
    let worst_km = medians.fold(0.0, f64::max);
    metrics.insert("worst_group.error_km_median".to_owned(), worst_km);
    let headline = format!(
        "{} groups · median {:.3} km, worst group {worst_km:.3} km · 90 % regions cover {:.0} %",
        result.groups.len(),
        result.all["error_km_median"],
        100.0 * result.all["coverage_90"]
    );
    StageOutput { metrics, headline: Some(headline) }
}
