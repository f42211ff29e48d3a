//! Stage `train`: features in, a trained network out.

use heimdall_data::HeimdallDataset;
use heimdall_train::{EpochSummary, TrainConfig, TrainError, TrainEvent, train};
use serde::{Deserialize, Serialize};
use tracing::info;

use crate::PipelineError;
use crate::stage::{StageContext, StageOutput, spawn_blocking};

/// Trains a network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TrainStage {
    /// The network, and how it is trained.
    pub config: TrainConfig,
}

impl TrainStage {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// The error of the crate whose rule is broken.
    pub fn validate(&self) -> Result<(), PipelineError> {
        Ok(self.config.validate()?)
    }

    /// Trains, going on from the last checkpoint if there is one.
    ///
    /// # Errors
    ///
    /// [`PipelineError::Interrupted`] if it was asked to stop, with the finished epochs kept for the
    /// next time; else whatever keeps the network from being trained or written.
    pub(crate) async fn run(&self, context: &StageContext) -> Result<StageOutput, PipelineError> {
        let (config, context) = (self.config.clone(), context.clone());
        let training = spawn_blocking(move || {
            let training = HeimdallDataset::open(context.input("train"))?;
            let validation = HeimdallDataset::open(context.input("validation"))?;
            let mut watch = |event| tell(&context, &event);
            let trained = train(
                &config,
                &training,
                &validation,
                &context.device(),
                context.scratch(),
                context.cancel(),
                &mut watch,
            );
            let model = match trained {
                Err(TrainError::Interrupted { epochs }) => {
                    info!(epochs, "interrupted; the next run goes on after these epochs");
                    return Err(PipelineError::Interrupted);
                }
                other => other?,
            };
            model.save(context.output("model"))?;
            Ok(summary(&model.manifest.history, model.manifest.best_epoch))
        });
        training.await.expect("training does not panic")
    }
}

/// Passes on to whoever watches the pipeline what happens in training.
fn tell(context: &StageContext, event: &TrainEvent) {
    match event {
        TrainEvent::Started { epochs_finished, epochs, batches, training_events, .. } => {
            let (done, total) = (epochs_finished * batches, epochs * batches);
            let message = if *epochs_finished == 0 {
                format!("{training_events} events, at most {epochs} epochs")
            } else {
                format!("goes on after epoch {epochs_finished}")
            };
            context.progress(done as u64, total as u64, message);
        }
        TrainEvent::Step { epoch, batch, batches, loss, samples_per_second, .. } => {
            let done = (epoch - 1) * batches + batch;
            let message =
                format!("epoch {epoch} · loss {loss:.3} · {samples_per_second:.0} events/s");
            // The number of epochs was said when training began.
            context.progress(done as u64, 0, message);
        }
        // The loop logs its epochs itself.
        TrainEvent::EpochStarted { .. }
        | TrainEvent::EpochFinished { .. }
        | TrainEvent::Finished { .. } => {}
    }
}

fn summary(history: &[EpochSummary], best_epoch: usize) -> StageOutput {
    let mut output = StageOutput::default();
    let mut put = |name: &str, value| output.metrics.insert(name.to_owned(), value);
    put("epochs", history.len() as f64);
    put("best_epoch", best_epoch as f64);
    if let Some(best) = history.iter().find(|summary| summary.epoch == best_epoch) {
        put("train_loss", best.train_loss);
        put("validation_loss", best.validation_loss);
        put("validation_error_km_median", best.validation_error_km_median);
        output.headline = Some(format!(
            "best of {} epochs: {best_epoch}, validation median {:.1} km",
            history.len(),
            best.validation_error_km_median
        ));
    }
    output
}
