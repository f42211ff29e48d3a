//! Stage `train`: features in, a trained network out.

use heimdall_data::HeimdallDataset;
use heimdall_train::{MemberRun, TrainConfig, TrainError, TrainEvent, train};
use serde::{Deserialize, Serialize};
use tracing::info;

use crate::PipelineError;
use crate::progress::duration;
use crate::stage::live::LiveRun;
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
            let mut display = Watch::default();
            let mut live = LiveRun::start(&context);
            let mut watch = |event| {
                display.tell(&context, &event);
                live.tell(&event);
            };
            let trained = train(
                &config,
                &training,
                &validation,
                &context.device(),
                context.scratch(),
                context.cancel(),
                &mut watch,
            );
            let trained = match trained {
                Err(TrainError::Interrupted { epochs }) => {
                    info!(epochs, "interrupted; the next run goes on after these epochs");
                    Err(PipelineError::Interrupted)
                }
                other => other.map_err(PipelineError::from),
            };
            live.end(&trained);
            let model = trained?;
            model.save(context.output("model"))?;
            Ok(summary(&model.manifest.members))
        });
        training.await.expect("training does not panic")
    }
}

/// Passes on to whoever watches the pipeline what happens in training.
#[derive(Debug, Default)]
struct Watch {
    /// Number of the network that is being trained, from 1 on.
    member: usize,
    /// Networks of the ensemble.
    members: usize,
    epochs: usize,
    batches: usize,
    /// Median error of the validation events after the last epoch, in km.
    validation_km: Option<f64>,
}

impl Watch {
    fn tell(&mut self, context: &StageContext, event: &TrainEvent) {
        match event {
            TrainEvent::Started {
                member,
                members,
                epochs_finished,
                epochs,
                batches,
                training_events,
                ..
            } => {
                *self = Self {
                    member: *member,
                    members: *members,
                    epochs: *epochs,
                    batches: *batches,
                    validation_km: None,
                };
                let message = if *epochs_finished == 0 {
                    format!("{training_events} events, at most {epochs} epochs")
                } else {
                    format!("goes on after epoch {epochs_finished}")
                };
                let total = members * epochs * batches;
                context.progress(self.done(epochs_finished * batches), total as u64, message);
            }
            TrainEvent::Step { epoch, batch, .. } => {
                let done = self.done((epoch - 1) * self.batches + batch);
                // The number of batches was said when training began.
                context.progress(done, 0, self.step(event));
            }
            TrainEvent::EpochFinished { summary, .. } => {
                self.validation_km = Some(summary.validation_error_km_median);
            }
            // The loop logs its epochs itself.
            TrainEvent::EpochStarted { .. } | TrainEvent::Finished { .. } => {}
        }
    }

    /// Batches that are done, with those of the networks before this one.
    fn done(&self, batches: usize) -> u64 {
        ((self.member - 1) * self.epochs * self.batches + batches) as u64
    }

    /// What is said of a batch.
    fn step(&self, event: &TrainEvent) -> String {
        let TrainEvent::Step {
            epoch, loss, learning_rate, samples_per_second, seconds_left, ..
        } = event
        else {
            return String::new();
        };
        let member = match self.members {
            1 => String::new(),
            members => format!("network {} of {members} · ", self.member),
        };
        let validation =
            self.validation_km.map_or_else(String::new, |km| format!(" · validation {km:.1} km"));
        format!(
            "{member}epoch {epoch} · loss {loss:.3}{validation} · rate {learning_rate:.1e} · \
             {samples_per_second:.0} events/s · {} left",
            duration(*seconds_left)
        )
    }
}

/// The figures of the first network under plain names, and those of the others after their number.
fn summary(members: &[MemberRun]) -> StageOutput {
    let mut output = StageOutput::default();
    for (index, member) in members.iter().enumerate() {
        let prefix = if index == 0 { String::new() } else { format!("member-{}.", index + 1) };
        let mut put = |name: &str, value| output.metrics.insert(format!("{prefix}{name}"), value);
        put("epochs", member.history.len() as f64);
        put("best_epoch", member.best_epoch as f64);
        if let Some(best) = member.best() {
            put("train_loss", best.train_loss);
            put("validation_loss", best.validation_loss);
            put("validation_error_km_median", best.validation_error_km_median);
        }
    }
    output.headline = members.first().and_then(|member| {
        let (best, epochs) = (member.best()?, member.history.len());
        let of = match members.len() {
            1 => String::new(),
            count => format!("{count} networks; the first: "),
        };
        Some(format!(
            "{of}best of {epochs} epochs: {}, validation median {:.1} km",
            member.best_epoch, best.validation_error_km_median
        ))
    });
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_says_how_it_goes_and_how_long_it_takes() {
        let watch =
            Watch { member: 2, members: 3, epochs: 10, batches: 5, validation_km: Some(31.26) };
        let step = TrainEvent::Step {
            epoch: 4,
            batch: 2,
            batches: 5,
            loss: 9.1234,
            learning_rate: 0.00025,
            samples_per_second: 210.4,
            seconds_left: 95.0,
        };

        let expected = format!(
            "network 2 of 3 · epoch 4 · loss 9.123 · validation 31.3 km · rate 2.5e-4 · 210 events/s \
             · {} left",
            duration(95.0)
        );
        assert_eq!(watch.step(&step), expected);
        assert_eq!(watch.done(17), 67);
    }
}
