//! The training loop, top to bottom.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::Device;
use heimdall_data::{BatchOrder, Batcher, HeimdallDataset, Part};
use heimdall_features::FeatureShape;
use heimdall_loss::DistanceSummary;
use heimdall_model::{Ensemble, LocalizationNet, LocalizationNetConfig};
use tracing::{info, info_span};

use crate::checkpoint::Checkpoints;
use crate::file::digest;
use crate::gradient::{AccumulatedGradients, clip, split_off};
use crate::optimizer::optimizer;
use crate::predict::{network_input, predict, truths};
use crate::schedule::Schedule;
use crate::standardization::measure_standardization;
use crate::trained_model::weights_to_bytes;
use crate::{
    EpochSummary, MODEL_FORMAT_VERSION, MemberRun, ModelManifest, TrainConfig, TrainError,
    TrainEvent, TrainedModel,
};

/// Trains a network, and returns the one of the epoch with the lowest validation loss; with
/// `members`, trains several after each other and returns them as one.
///
/// After each epoch the weights, the optimizer, the schedule and the best weights so far are kept
/// in `scratch`. A later call with the same arguments goes on from there, whether the first one was
/// interrupted, killed, or had finished. On a processor it ends in the same weights, bit by bit, as
/// a run without a break: the order of the events depends on the seed and the epoch alone. The loss
/// is read after each batch, so that a device is never more than one batch ahead.
///
/// When `cancel` is raised, training stops within a batch; what was done since the last finished
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
/// - [`TrainError::Read`] and [`TrainError::Model`] if the pretrained weights cannot be read, or are
///   those of another network.
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
    let alike = config.model.backbone.treats_receivers_alike();
    check_sets(training, validation, alike)?;
    let network_config = network_config(config, training)?;
    let weights = config.class_weights.measure(training)?;
    let batcher = Batcher::new(training, config.batch_size)?
        .with_augmentation(config.augmentation)?
        .with_weights(weights);
    let pretrained = config.pretrained.as_ref().map(|path| {
        fs::read(path).map_err(|source| TrainError::Read { path: path.clone(), source })
    });
    let run = Run {
        config,
        pretrained: pretrained.transpose()?,
        training,
        validation,
        batcher,
        device: device.clone().autodiff(),
    };

    let (mut networks, mut runs) = (Vec::new(), Vec::new());
    for member in 0..config.members {
        let seed = config.member_seed(member);
        let network_config = LocalizationNetConfig { seed, ..network_config.clone() };
        let scratch = match config.members {
            1 => scratch.to_owned(),
            _ => scratch.join(format!("member-{}", member + 1)),
        };
        let (network, run) = run.train(member, &network_config, &scratch, cancel, on_event)?;
        networks.push(network);
        runs.push(run);
    }
    let pretrained = run.pretrained.as_deref();
    finished_model(config, pretrained, training, validation, Ensemble::new(networks), runs)
}

/// What all members of an ensemble have in common.
struct Run<'a> {
    config: &'a TrainConfig,
    /// Weights from which the residual network starts.
    pretrained: Option<Vec<u8>>,
    training: &'a HeimdallDataset,
    validation: &'a HeimdallDataset,
    batcher: Batcher,
    device: Device,
}

impl Run<'_> {
    /// Trains a member, counted from zero.
    fn train(
        &self,
        member: usize,
        network_config: &LocalizationNetConfig,
        scratch: &Path,
        cancel: &AtomicBool,
        on_event: &mut dyn FnMut(TrainEvent),
    ) -> Result<(LocalizationNet, MemberRun), TrainError> {
        let Self { config, training, validation, batcher, device, .. } = self;
        let seed = network_config.seed;
        let batches = batcher.batches(BatchOrder::Shuffled { seed, epoch: 1 });
        let steps = batches.div_ceil(config.accumulate_batches);

        let pretrained = self.pretrained.as_deref().map(digest);
        let fingerprint = fingerprint(config, seed, pretrained.as_deref(), training, validation);
        let mut checkpoints = Checkpoints::open(scratch, fingerprint)?;
        let mut network = network_config.init(device);
        if let Some(weights) = &self.pretrained {
            network = network.load_torchvision(weights, device)?;
        }
        let (mut network, mut optimizer, mut progress) =
            checkpoints.load(network, optimizer(config))?;
        progress.mean_square_epochs = config.loss.mean_square_epochs;
        let plateau = progress.plateau.clone();
        let mut schedule =
            Schedule::new(&config.schedule, config.learning_rate, steps, config.epochs, plateau);
        on_event(TrainEvent::Started {
            member: member + 1,
            members: config.members,
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
            let mut accumulated = AccumulatedGradients::new();
            on_event(TrainEvent::EpochStarted { epoch, epochs: config.epochs });

            let order = BatchOrder::Shuffled { seed, epoch };
            for (index, batch) in batcher.iter(order, device).enumerate() {
                if cancel.load(Ordering::Relaxed) {
                    return Err(TrainError::Interrupted { epochs: progress.epochs() });
                }
                let batch = batch?;
                let (target_km, batch_events) = (batch.position_km.clone(), batch.events.len());
                let weights = batch.weight.clone();
                let step = progress.epochs() * steps + index / config.accumulate_batches;
                learning_rate = schedule.rate_at(step);

                let estimate = network.forward(network_input(batch));
                let standardization = &network_config.standardization;
                let loss = config.loss.of(estimate, target_km, weights, standardization, epoch);
                let loss_nats = loss.clone().into_scalar::<f32>();
                if !loss_nats.is_finite() {
                    let batch = index + 1;
                    return Err(TrainError::NonFiniteLoss { epoch, batch, loss: loss_nats });
                }
                accumulated.add(&network, loss);

                if accumulated.batches == config.accumulate_batches || index + 1 == batches {
                    let gradients = accumulated.take(&network);
                    let gradients =
                        clip(&network, gradients, config.gradient_clip).map_err(|norm| {
                            TrainError::NonFiniteGradient { epoch, batch: index + 1, norm }
                        })?;
                    network = self.step(network, &mut optimizer, learning_rate, gradients);
                }

                loss_sum += f64::from(loss_nats) * batch_events as f64;
                events += batch_events;
                let seconds = started.elapsed().as_secs_f64();
                let batches_left = (config.epochs - epoch) * batches + batches - index - 1;
                on_event(TrainEvent::Step {
                    epoch,
                    batch: index + 1,
                    batches,
                    loss: f64::from(loss_nats),
                    learning_rate,
                    samples_per_second: events as f64 / seconds,
                    seconds_left: seconds / (index + 1) as f64 * batches_left as f64,
                });
            }

            let inference = network.valid();
            let whole = inference.clone().into();
            let Some(validated) = validate(&whole, validation, config.batch_size, cancel)? else {
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
            progress.history.push(summary);
            if progress.knows_likelihood() {
                schedule.observe(validation_loss);
            }
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
        Ok((network, MemberRun { seed, best_epoch, history: progress.history }))
    }

    /// Takes a step; the residual network may go slower than the rest, or not at all.
    fn step(
        &self,
        network: LocalizationNet,
        optimizer: &mut ModuleOptimizer,
        learning_rate: f64,
        mut gradients: GradientsParams,
    ) -> LocalizationNet {
        let share = self.config.backbone_rate_share;
        let Some(resnet) = network.resnet().filter(|_| share < 1.0) else {
            return optimizer.step(learning_rate, network, gradients);
        };
        let backbone = split_off(resnet, &mut gradients);
        let network = optimizer.step(learning_rate, network, gradients);
        if share > 0.0 { optimizer.step(share * learning_rate, network, backbone) } else { network }
    }
}

/// Checks that there is something to learn from, and that the two sets go together.
fn check_sets(
    training: &HeimdallDataset,
    validation: &HeimdallDataset,
    alike: bool,
) -> Result<(), TrainError> {
    for (part, expected, set) in [(Part::Train, 2, training), (Part::Validation, 1, validation)] {
        if set.len() < expected {
            return Err(TrainError::TooFewEvents { part, expected, actual: set.len() });
        }
    }
    check_features(training.header(), validation, Part::Validation, alike)
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
    let (standardization, side_inputs) =
        measure_standardization(training, alike, &config.augmentation)?;
    let network_config = LocalizationNetConfig {
        input_channels: training.header().shape.receivers,
        backbone: config.model.backbone,
        stem: config.model.stem,
        covariance: config.model.covariance,
        components: config.model.components,
        head_width: config.model.head_width,
        side_inputs: config.model.side_inputs.then_some(side_inputs),
        standardization,
        seed: config.seed,
    };
    network_config.validate()?;
    Ok(network_config)
}

/// Measures the mean loss and the errors on the validation split; `None` if asked to stop.
fn validate(
    network: &Ensemble,
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
    seed: u64,
    pretrained: Option<&str>,
    training: &HeimdallDataset,
    validation: &HeimdallDataset,
) -> String {
    // The content of the weights counts, and not where they lie.
    let config = TrainConfig { pretrained: None, ..config.clone() };
    let parts =
        (config, seed, pretrained, training.header(), training.labels(), validation.labels());
    digest(&serde_json::to_vec(&parts).expect("plain structs become JSON"))
}

/// Puts the manifest beside the network.
fn finished_model(
    config: &TrainConfig,
    pretrained: Option<&[u8]>,
    training: &HeimdallDataset,
    validation: &HeimdallDataset,
    network: Ensemble,
    members: Vec<MemberRun>,
) -> Result<TrainedModel, TrainError> {
    let bytes = weights_to_bytes(&network)
        .map_err(|source| TrainError::Weights { path: "network.bpk".into(), source })?;
    let manifest = ModelManifest {
        format_version: MODEL_FORMAT_VERSION,
        network: network.config().clone(),
        // Where the weights lay is a matter of the machine.
        train: TrainConfig { pretrained: None, ..config.clone() },
        pretrained_digest: pretrained.map(digest),
        features: training.header().clone(),
        sigma_scale: 1.0,
        seed: config.seed,
        training_events: training.len(),
        validation_events: validation.len(),
        members,
        network_digest: digest(&bytes),
        metrics: std::collections::BTreeMap::new(),
    };
    Ok(TrainedModel { network, manifest })
}

#[cfg(test)]
mod tests;
