//! The training loop, top to bottom.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::Device;
use heimdall_data::{BatchOrder, Batcher, HeimdallDataset, Part};
use heimdall_features::FeatureShape;
use heimdall_kernels::Adam;
use heimdall_loss::{DistanceSummary, gaussian_nll};
use heimdall_model::{LocalizationNet, LocalizationNetConfig};
use tracing::{info, info_span};

use crate::checkpoint::{Checkpoints, Progress};
use crate::file::digest;
use crate::gradient::{gradient_norm, scale_gradient};
use crate::predict::{network_input, predict, truths};
use crate::schedule::Schedule;
use crate::standardization::measure_standardization;
use crate::trained_model::weights_to_bytes;
use crate::{
    EpochSummary, MODEL_FORMAT_VERSION, ModelManifest, TrainConfig, TrainError, TrainEvent,
    TrainedModel,
};

/// Trains a network, and returns the one of the epoch with the lowest validation loss.
///
/// After each epoch the weights, the optimizer, the schedule and the best weights so far are kept
/// in `scratch`. A later call with the same arguments goes on from there, whether the first one was
/// interrupted, killed, or had finished. On a processor it ends in the same weights, bit by bit, as
/// a run without a break: the order of the events depends on the seed and the epoch alone. The loss
/// is read after each step, so that a device is never more than one step ahead.
///
/// When `cancel` is raised, training stops within a step; what was done since the last finished
/// epoch is lost.
///
/// # Errors
///
/// - [`TrainError::InvalidConfig`] if `config` breaks one of its rules.
/// - [`TrainError::TooFewEvents`] if there are fewer than two events to learn from, or none to
///   validate on, and [`TrainError::FeaturesDiffer`] if the two sets have other features.
/// - [`TrainError::Interrupted`] if `cancel` was raised.
/// - [`TrainError::NonFiniteLoss`], [`TrainError::NonFiniteGradient`] or
///   [`TrainError::NonFiniteEstimate`] if training diverges; the checkpoint before it is kept.
/// - [`TrainError::ForeignCheckpoint`] if `scratch` belongs to another run, and
///   [`TrainError::DigestMismatch`] and the like if it is damaged.
/// - [`TrainError::Data`] if features cannot be read.
pub fn train(
    config: &TrainConfig,
    training: &HeimdallDataset,
    validation: &HeimdallDataset,
    device: &Device,
    scratch: &Path,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(TrainEvent),
) -> Result<TrainedModel, TrainError> {
    config.validate()?;
    check_sets(training, validation)?;
    let device = device.clone().autodiff();
    let batcher = Batcher::new(training, config.batch_size)?
        .with_receiver_drop_out(config.receiver_drop_out)?;
    let batches = batcher.batches(BatchOrder::Shuffled { seed: config.seed, epoch: 1 });
    let network_config = network_config(config, training)?;

    let mut checkpoints = Checkpoints::open(scratch, fingerprint(config, training, validation))?;
    let network = network_config.init(&device);
    let (mut network, mut optimizer, mut progress) =
        checkpoints.load(network, optimizer(config))?;
    let plateau = progress.plateau.clone();
    let mut schedule =
        Schedule::new(&config.schedule, config.learning_rate, batches, config.epochs, plateau);
    on_event(TrainEvent::Started {
        epochs_finished: progress.epochs(),
        epochs: config.epochs,
        batches,
        training_events: training.len(),
        validation_events: validation.len(),
        parameters: network.num_params(),
    });

    while progress.epochs() < config.epochs && !progress.is_spent(config.early_stopping) {
        let epoch = progress.epochs() + 1;
        let span = info_span!("epoch", epoch);
        let _entered = span.enter();
        let started = Instant::now();
        let (mut learning_rate, mut loss_sum, mut events) = (0.0, 0.0, 0);
        on_event(TrainEvent::EpochStarted { epoch, epochs: config.epochs });

        let order = BatchOrder::Shuffled { seed: config.seed, epoch };
        for (index, batch) in batcher.iter(order, &device).enumerate() {
            if cancel.load(Ordering::Relaxed) {
                return Err(TrainError::Interrupted { epochs: progress.epochs() });
            }
            let batch = batch?;
            learning_rate = schedule.rate_at(progress.epochs() * batches + index);

            let (target_km, batch_events) = (batch.position_km.clone(), batch.events.len());

            let estimate = network.forward(network_input(batch));
            let loss = gaussian_nll(estimate.mean_km, estimate.cholesky_km, target_km);
            let loss_nats = loss.clone().into_scalar::<f32>();
            if !loss_nats.is_finite() {
                return Err(TrainError::NonFiniteLoss { epoch, batch: index + 1, loss: loss_nats });
            }

            let mut gradients = GradientsParams::from_grads(loss.backward(), &network);
            if let Some(norm_max) = config.gradient_clip {
                let norm = gradient_norm(&network, &gradients);
                if !norm.is_finite() {
                    return Err(TrainError::NonFiniteGradient { epoch, batch: index + 1, norm });
                }
                if norm > norm_max {
                    gradients = scale_gradient(&network, gradients, norm_max / norm);
                }
            }
            network = optimizer.step(learning_rate, network, gradients);

            loss_sum += f64::from(loss_nats) * batch_events as f64;
            events += batch_events;
            on_event(TrainEvent::Step {
                epoch,
                batch: index + 1,
                batches,
                loss: f64::from(loss_nats),
                learning_rate,
                samples_per_second: events as f64 / started.elapsed().as_secs_f64(),
            });
        }

        let inference = network.valid();
        let Some(validated) = validate(&inference, validation, config.batch_size, cancel)? else {
            return Err(TrainError::Interrupted { epochs: progress.epochs() });
        };
        let (validation_loss, error) = validated;
        let summary = EpochSummary {
            epoch,
            learning_rate,
            train_loss: loss_sum / events as f64,
            validation_loss,
            validation_error_km_median: error.median_km,
            validation_error_km_p90: error.p90_km,
        };
        schedule.observe(validation_loss);
        progress.history.push(summary);
        progress.plateau = schedule.state().clone();
        checkpoints.save(&inference, &optimizer, &progress)?;

        info!(
            train_loss_nats = summary.train_loss,
            validation_loss_nats = validation_loss,
            error_km_median = error.median_km,
            "epoch finished"
        );
        let (best, seconds) = (progress.best_epoch() == epoch, started.elapsed().as_secs_f64());
        on_event(TrainEvent::EpochFinished { summary, best, seconds });
    }

    let best_epoch = progress.best_epoch();
    let network = checkpoints.load_network(network.valid(), best_epoch)?;
    on_event(TrainEvent::Finished {
        epochs: progress.epochs(),
        best_epoch,
        stopped_early: progress.epochs() < config.epochs,
    });
    finished_model(config, training, validation, network, progress)
}

/// Checks that there is something to learn from, and that the two sets go together.
fn check_sets(training: &HeimdallDataset, validation: &HeimdallDataset) -> Result<(), TrainError> {
    for (part, expected, set) in [(Part::Train, 2, training), (Part::Validation, 1, validation)] {
        if set.len() < expected {
            return Err(TrainError::TooFewEvents { part, expected, actual: set.len() });
        }
    }
    check_features(training.header(), validation, Part::Validation, false)
}

/// Checks that a set has the features that a network learns from, of the same receivers unless the
/// network treats all of them alike.
pub(crate) fn check_features(
    expected: &heimdall_data::FeatureHeader,
    set: &HeimdallDataset,
    part: Part,
    alike: bool,
) -> Result<(), TrainError> {
    let actual = set.header();
    let receivers = if alike { actual.shape.receivers } else { expected.shape.receivers };
    let fields = [
        ("shape", actual.shape == FeatureShape { receivers, ..expected.shape }),
        ("receivers", alike || actual.receivers == expected.receivers),
        ("frame", actual.frame == expected.frame),
        ("extraction", actual.features == expected.features),
        ("sample rate", actual.sample_rate_hz == expected.sample_rate_hz),
    ];
    match fields.into_iter().find(|(_, equal)| !equal) {
        Some((field, _)) => Err(TrainError::FeaturesDiffer { part, field }),
        None => Ok(()),
    }
}

/// The network that a configuration and the training split ask for.
fn network_config(
    config: &TrainConfig,
    training: &HeimdallDataset,
) -> Result<LocalizationNetConfig, TrainError> {
    let alike = config.model.backbone.treats_receivers_alike();
    let (standardization, side_inputs) = measure_standardization(training, alike)?;
    let network_config = LocalizationNetConfig {
        input_channels: training.header().shape.receivers,
        backbone: config.model.backbone,
        covariance: config.model.covariance,
        components: 1,
        head_width: config.model.head_width,
        side_inputs: config.model.side_inputs.then_some(side_inputs),
        standardization,
        seed: config.seed,
    };
    network_config.validate()?;
    Ok(network_config)
}

/// Makes the optimizer that a configuration asks for, without any moments yet.
pub fn optimizer(config: &TrainConfig) -> ModuleOptimizer {
    ModuleOptimizer::from(Adam::new([0.9, 0.999], 1e-8, config.weight_decay as f32))
}

/// Measures the mean loss and the errors on the validation split; `None` if asked to stop.
fn validate(
    network: &LocalizationNet,
    validation: &HeimdallDataset,
    batch_size: usize,
    cancel: &AtomicBool,
) -> Result<Option<(f64, DistanceSummary)>, TrainError> {
    let Some(predictions) = predict(network, validation, batch_size, cancel)? else {
        return Ok(None);
    };
    let truths = truths(validation);
    let pairs = || predictions.iter().zip(&truths);
    let loss = pairs().map(|(prediction, &truth)| prediction.nll(truth)).sum::<f64>()
        / truths.len() as f64;
    let errors_km: Vec<f64> =
        pairs().map(|(prediction, truth)| prediction.mean_km.distance_km(truth)).collect();
    let summary = DistanceSummary::of(&errors_km).expect("there are events to validate on");
    Ok(Some((loss, summary)))
}

/// Digest of everything that the weights depend on, as far as it can be told without reading all
/// features.
fn fingerprint(
    config: &TrainConfig,
    training: &HeimdallDataset,
    validation: &HeimdallDataset,
) -> String {
    let parts = (config, training.header(), training.labels(), validation.labels());
    digest(&serde_json::to_vec(&parts).expect("plain structs become JSON"))
}

/// Puts the manifest beside the network.
fn finished_model(
    config: &TrainConfig,
    training: &HeimdallDataset,
    validation: &HeimdallDataset,
    network: LocalizationNet,
    progress: Progress,
) -> Result<TrainedModel, TrainError> {
    let bytes = weights_to_bytes(&network)
        .map_err(|source| TrainError::Weights { path: "network.bpk".into(), source })?;
    let manifest = ModelManifest {
        format_version: MODEL_FORMAT_VERSION,
        network: network.config().clone(),
        train: config.clone(),
        features: training.header().clone(),
        sigma_scale: 1.0,
        seed: config.seed,
        best_epoch: progress.best_epoch(),
        training_events: training.len(),
        validation_events: validation.len(),
        history: progress.history,
        network_digest: digest(&bytes),
        metrics: std::collections::BTreeMap::new(),
    };
    Ok(TrainedModel { network, manifest })
}

#[cfg(test)]
mod tests;
