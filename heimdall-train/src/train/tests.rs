//! Tests of the training loop: it learns, it repeats itself, and it goes on after a break.

use heimdall_data::{Augmentation, ShardWriter};
use heimdall_model::{Backbone, Stem};

use super::*;
use crate::schedule::{ConstantConfig, ScheduleConfig};
use crate::testing::synthetic;
use crate::{ClassWeights, LossConfig, NetworkChoice, OptimizerKind};

/// A run of seconds: 8 events to learn from, 4 to validate on, two steps per epoch.
struct Setup {
    folder: tempfile::TempDir,
    training: HeimdallDataset,
    validation: HeimdallDataset,
}

impl Setup {
    fn new() -> Self {
        Self::with_events(8)
    }

    fn with_events(events: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dataset = synthetic(&folder.path().join("features"), events + 4, 7);
        let training = dataset.subset(&(0..events).collect::<Vec<_>>());
        let validation = dataset.subset(&(events..events + 4).collect::<Vec<_>>());
        Self { folder, training, validation }
    }

    fn scratch(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Trains until the end, or until an event for which `stop` is true.
    fn train(
        &self,
        config: &TrainConfig,
        scratch: &str,
        mut stop: impl FnMut(&TrainEvent) -> bool,
    ) -> (Result<TrainedModel, TrainError>, Vec<TrainEvent>) {
        let cancel = AtomicBool::new(false);
        let mut events = Vec::new();
        let result = train(
            config,
            &self.training,
            &self.validation,
            &Device::flex(),
            &self.scratch(scratch),
            &cancel,
            &mut |event| {
                if stop(&event) {
                    cancel.store(true, Ordering::Relaxed);
                }
                events.push(event);
            },
        );
        (result, events)
    }
}

fn config() -> TrainConfig {
    TrainConfig { epochs: 1, batch_size: 4, seed: 11, ..TrainConfig::default() }
}

fn bytes(model: &TrainedModel) -> Vec<u8> {
    weights_to_bytes(&model.network).unwrap().to_vec()
}

fn losses(events: &[TrainEvent]) -> Vec<f64> {
    let loss = |event: &TrainEvent| match event {
        TrainEvent::Step { loss, .. } => Some(*loss),
        _ => None,
    };
    events.iter().filter_map(loss).collect()
}

/// Ten batches of one epoch, none of which was seen before: the last ones cost less than the first.
#[test]
fn ten_steps_lower_the_loss() {
    let setup = Setup::with_events(120);
    let config = TrainConfig {
        batch_size: 12,
        learning_rate: 3e-4,
        schedule: ScheduleConfig::Constant(ConstantConfig { warm_up_epochs: 0.0 }),
        ..config()
    };

    let (result, events) = setup.train(&config, "scratch", |_| false);

    result.unwrap();
    let losses = losses(&events);
    assert_eq!(losses.len(), 10);
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(mean(&losses[7..]) < mean(&losses[..3]) - 0.3, "{losses:?}");
}

#[test]
fn two_runs_of_one_seed_end_in_equal_weights() {
    let setup = Setup::new();

    let (first, _) = setup.train(&config(), "first", |_| false);
    let (second, _) = setup.train(&config(), "second", |_| false);
    let (other, _) = setup.train(&TrainConfig { seed: 12, ..config() }, "other", |_| false);

    let (first, second, other) = (first.unwrap(), second.unwrap(), other.unwrap());
    assert!(bytes(&first) == bytes(&second), "equal seeds, other weights");
    assert_eq!(first.manifest, second.manifest);
    assert!(bytes(&first) != bytes(&other), "other seeds, equal weights");
}

/// Interrupted in the first epoch, before there is any checkpoint, and again in the second; then
/// killed while it wrote the next checkpoint, which leaves files that are whole or half, but not
/// yet the one that makes them count.
#[test]
fn broken_run_ends_in_the_weights_of_an_unbroken_one() {
    let setup = Setup::new();
    let config = TrainConfig { epochs: 2, ..config() };
    let (whole, _) = setup.train(&config, "whole", |_| false);

    let (first, _) = setup.train(&config, "broken", |event| {
        matches!(event, TrainEvent::Step { epoch: 1, batch: 1, .. })
    });
    let (second, _) = setup.train(&config, "broken", |event| {
        matches!(event, TrainEvent::Step { epoch: 2, batch: 1, .. })
    });
    let scratch = setup.scratch("broken");
    for file in ["network-0002.bpk", "optimizer-0002.part", "checkpoint.part"] {
        fs::write(scratch.join(file), b"half").unwrap();
    }
    let (last, events) = setup.train(&config, "broken", |_| false);

    assert!(matches!(first, Err(TrainError::Interrupted { epochs: 0 })));
    assert!(matches!(second, Err(TrainError::Interrupted { epochs: 1 })));
    assert!(matches!(events[0], TrainEvent::Started { epochs_finished: 1, .. }));
    let (whole, last) = (whole.unwrap(), last.unwrap());
    assert!(bytes(&last) == bytes(&whole), "other weights after a break");
    assert_eq!(last.manifest, whole.manifest);
    let left = fs::read_dir(&scratch).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<String> = left.map(|name| name.into_string().unwrap()).collect();
    assert!(left.len() <= 4 && left.iter().all(|name| !name.ends_with(".part")), "{left:?}");
}

#[test]
fn finished_run_is_not_done_again() {
    let setup = Setup::new();
    let (first, _) = setup.train(&config(), "scratch", |_| false);

    let (again, events) = setup.train(&config(), "scratch", |_| false);

    assert!(losses(&events).is_empty());
    assert!(bytes(&again.unwrap()) == bytes(&first.unwrap()), "other weights");
}

#[test]
fn checkpoint_of_another_run_is_refused() {
    let setup = Setup::new();
    let (first, _) = setup.train(&config(), "scratch", |_| false);
    first.unwrap();

    let other = TrainConfig { learning_rate: 2e-3, ..config() };
    let error = setup.train(&other, "scratch", |_| false).0.unwrap_err();

    assert!(matches!(error, TrainError::ForeignCheckpoint { .. }), "{error}");
}

#[test]
fn damaged_checkpoint_is_refused_by_name() {
    let setup = Setup::new();
    let (first, _) = setup.train(&config(), "scratch", |_| false);
    first.unwrap();
    let path = setup.scratch("scratch").join("optimizer-0001.bpk");
    let length = fs::metadata(&path).unwrap().len();
    fs::File::options().write(true).open(&path).unwrap().set_len(length / 2).unwrap();

    let error = setup.train(&config(), "scratch", |_| false);

    let error = error.0.unwrap_err();
    assert!(matches!(error, TrainError::DigestMismatch { .. }), "{error}");
    assert!(error.to_string().contains("optimizer-0001.bpk"), "{error}");
}

/// At such a rate the weights leave single precision within a few steps.
#[test]
fn diverging_run_stops_and_names_the_batch() {
    let setup = Setup::new();
    let config = TrainConfig {
        learning_rate: 1e30,
        schedule: ScheduleConfig::Constant(ConstantConfig { warm_up_epochs: 0.0 }),
        ..config()
    };

    let error = setup.train(&config, "scratch", |_| false).0.unwrap_err();

    let named = matches!(
        error,
        TrainError::NonFiniteLoss { epoch: 1, .. } | TrainError::NonFiniteGradient { epoch: 1, .. }
    );
    assert!(named, "{error}");
}

/// At a rate that is too high the validation loss soon rises again.
#[test]
fn patience_ends_training_and_the_best_epoch_is_kept() {
    let setup = Setup::new();
    let config = TrainConfig {
        epochs: 40,
        learning_rate: 3e-3,
        early_stopping: Some(1),
        // The correction of a fix would leave single precision at such a rate.
        model: NetworkChoice { side_inputs: false, ..NetworkChoice::default() },
        augmentation: Augmentation::NONE,
        schedule: ScheduleConfig::Constant(ConstantConfig { warm_up_epochs: 0.0 }),
        ..config()
    };

    let (result, events) = setup.train(&config, "scratch", |_| false);

    let history = result.unwrap().manifest.members.remove(0).history;
    let (last, before) = (history[history.len() - 1], history[history.len() - 2]);
    assert!(history.len() < 40 && last.validation_loss >= before.validation_loss);
    assert_eq!(
        events.last(),
        Some(&TrainEvent::Finished {
            epochs: history.len(),
            best_epoch: before.epoch,
            stopped_early: true
        })
    );
}

#[test]
fn sets_that_cannot_train_are_refused() {
    let setup = Setup::new();
    let nothing = Setup { validation: setup.validation.subset(&[]), ..Setup::new() };
    let other = tempfile::tempdir().unwrap();
    let other = Setup { validation: crate::testing::wider(other.path()), ..Setup::new() };

    let empty = nothing.train(&config(), "scratch", |_| false).0.unwrap_err();
    let differs = other.train(&config(), "scratch", |_| false).0.unwrap_err();

    let expected = "validation takes at least 1 events, but there are 0";
    assert_eq!(empty.to_string(), expected);
    assert!(matches!(differs, TrainError::FeaturesDiffer { field: "shape", .. }), "{differs}");
}

/// Every option of training and of the network, on a backbone that is quick.
fn options() -> Vec<(&'static str, TrainConfig)> {
    let mlp = || {
        let mut config = TrainConfig {
            learning_rate: 3e-3,
            schedule: ScheduleConfig::Constant(ConstantConfig { warm_up_epochs: 0.0 }),
            ..config()
        };
        config.model.backbone = Backbone::Mlp;
        config
    };
    let set = TrainConfig {
        model: NetworkChoice { backbone: Backbone::Set, ..NetworkChoice::default() },
        ..mlp()
    };
    let mixture = TrainConfig {
        model: NetworkChoice { components: 3, ..mlp().model },
        learning_rate: 1e-3,
        ..mlp()
    };
    let narrow = TrainConfig {
        model: NetworkChoice { stem: Stem::Narrow, ..NetworkChoice::default() },
        learning_rate: 3e-4,
        ..mlp()
    };
    vec![
        ("mlp", mlp()),
        ("set", set),
        ("stem", narrow),
        ("components", mixture),
        ("optimizer", TrainConfig { optimizer: OptimizerKind::AdamW, ..mlp() }),
        ("accumulate_batches", TrainConfig { accumulate_batches: 2, learning_rate: 1e-3, ..mlp() }),
        (
            "loss.beta",
            TrainConfig { loss: LossConfig { beta: 0.5, mean_square_epochs: 0 }, ..mlp() },
        ),
        (
            "loss.mean_square_epochs",
            TrainConfig {
                loss: LossConfig { beta: 0.0, mean_square_epochs: 1 },
                epochs: 2,
                ..mlp()
            },
        ),
        (
            "class_weights",
            // A batch weighs by the events that are in it: more of them tell more.
            TrainConfig { class_weights: ClassWeights::InverseSquareRoot, epochs: 4, ..mlp() },
        ),
        (
            "backbone_rate_share",
            TrainConfig {
                model: NetworkChoice::default(),
                backbone_rate_share: 0.1,
                learning_rate: 1e-3,
                ..mlp()
            },
        ),
        (
            "augmentation",
            TrainConfig {
                augmentation: Augmentation {
                    receiver_drop_out: 0.4,
                    gain_deviation_db: 2.0,
                    level_noise_db: 1.0,
                    time_shift_frames: 2,
                },
                ..mlp()
            },
        ),
        ("members", TrainConfig { members: 2, ..mlp() }),
    ]
}

#[test]
fn some_steps_lower_the_loss_with_every_option() {
    let setup = Setup::with_events(120);
    for (name, config) in options() {
        let config = TrainConfig { batch_size: 12, ..config };

        let (result, events) = setup.train(&config, name, |_| false);

        result.unwrap();
        let losses = losses(&events);
        assert_eq!(losses.len(), 10 * config.members * config.epochs, "{name}");
        let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
        for losses in losses.chunks(10 * config.epochs) {
            // What learns positions alone has another loss.
            let losses = &losses[10 * config.loss.mean_square_epochs..];
            let part = 3 * losses.len() / 10;
            let (first, last) = (&losses[..part], &losses[losses.len() - part..]);
            assert!(mean(last) < mean(first), "{name}: {losses:?}");
        }
    }
}

#[test]
fn every_option_repeats_itself_and_goes_on_after_a_break() {
    let setup = Setup::new();
    for (name, config) in options() {
        let config = TrainConfig { epochs: 2, ..config };
        let (whole, _) = setup.train(&config, &format!("{name}-whole"), |_| false);

        let (again, _) = setup.train(&config, &format!("{name}-again"), |_| false);
        let broken = format!("{name}-broken");
        let (first, _) = setup.train(&config, &broken, |event| {
            matches!(event, TrainEvent::Step { epoch: 2, batch: 1, .. })
        });
        let (last, _) = setup.train(&config, &broken, |_| false);

        let (whole, again, last) = (whole.unwrap(), again.unwrap(), last.unwrap());
        assert!(matches!(first, Err(TrainError::Interrupted { epochs: 1 })), "{name}");
        assert!(bytes(&whole) == bytes(&again), "{name}: equal seeds, other weights");
        assert!(bytes(&whole) == bytes(&last), "{name}: other weights after a break");
        assert_eq!(whole.manifest, last.manifest, "{name}");
    }
}

#[test]
fn members_differ_and_speak_as_one() {
    let setup = Setup::new();
    let config = TrainConfig { members: 2, epochs: 2, ..options().remove(0).1 };

    let (model, events) = setup.train(&config, "scratch", |_| false);

    let model = model.unwrap();
    let seeds: Vec<u64> = model.manifest.members.iter().map(|member| member.seed).collect();
    assert_eq!(seeds[0], config.seed);
    assert!(seeds[0] != seeds[1], "members with one seed");
    let histories: Vec<_> = model.manifest.members.iter().map(|member| &member.history).collect();
    assert!(histories[0].len() == 2 && histories[0] != histories[1], "members that are one");
    let started = events.iter().filter_map(|event| match event {
        TrainEvent::Started { member, members, .. } => Some((*member, *members)),
        _ => None,
    });
    assert_eq!(started.collect::<Vec<_>>(), [(1, 2), (2, 2)]);
    let saved = setup.scratch("model");
    model.save(&saved).unwrap();
    let loaded = TrainedModel::load(&saved, &Device::flex()).unwrap();
    assert!(bytes(&loaded) == bytes(&model), "other weights after loading");
    assert_eq!(loaded.network.members().len(), 2);
}

/// Numbers of the receivers that are infinite, as damage on disk would leave them: the run stops,
/// and goes on after the last good epoch once they are mended.
#[test]
fn loss_that_is_no_number_leaves_the_last_good_checkpoint() {
    let setup = Setup::new();
    let config = TrainConfig { epochs: 2, ..options().remove(0).1 };
    let (whole, _) = setup.train(&config, "whole", |_| false);
    let shard = setup.folder.path().join("features/shard-00000.safetensors");
    let sound = fs::read(&shard).unwrap();
    // The length of the header, and the header, which says where the numbers of all receivers lie.
    let length = u64::from_le_bytes(sound[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&sound[8..8 + length]).unwrap();
    let [from, to] =
        [0, 1].map(|end| header["scalars"]["data_offsets"][end].as_u64().unwrap() as usize);
    let mut damaged = sound.clone();
    for number in damaged[8 + length..][from..to].chunks_mut(4) {
        number.copy_from_slice(&f32::INFINITY.to_le_bytes());
    }
    // The shards stay open, so that they are written over in place.
    let overwrite = |bytes: &[u8]| {
        use std::os::unix::fs::FileExt;
        fs::File::options().write(true).open(&shard).unwrap().write_all_at(bytes, 0).unwrap();
    };

    let (failed, events) = setup.train(&config, "scratch", |event| {
        if matches!(event, TrainEvent::EpochFinished { .. }) {
            overwrite(&damaged);
        }
        false
    });
    overwrite(&sound);
    let (mended, resumed) = setup.train(&config, "scratch", |_| false);

    let failed = failed.unwrap_err();
    assert!(matches!(failed, TrainError::NonFiniteLoss { epoch: 2, .. }), "{failed}");
    assert!(failed.to_string().contains("batch"), "{failed}");
    assert!(events.iter().any(|event| matches!(event, TrainEvent::EpochFinished { .. })));
    assert!(matches!(resumed[0], TrainEvent::Started { epochs_finished: 1, .. }));
    assert!(bytes(&mended.unwrap()) == bytes(&whole.unwrap()), "other weights");
}

/// The weights of the backbone stay as they were, those of the heads do not.
#[test]
fn frozen_backbone_keeps_its_weights() {
    let setup = Setup::new();
    let config = TrainConfig { backbone_rate_share: 0.0, ..config() };
    let weight = |model: &TrainedModel| {
        let network = &model.network.members()[0];
        let resnet: Vec<f32> = network.resnet().unwrap().layer4[1]
            .conv2
            .weight
            .val()
            .into_data()
            .try_to_vec()
            .unwrap();
        let head: Vec<f32> =
            network.position_head().hidden.weight.val().into_data().try_to_vec().unwrap();
        (resnet, head)
    };

    let (short, _) = setup.train(&config, "short", |_| false);
    let (long, _) = setup.train(&TrainConfig { epochs: 3, ..config }, "long", |_| false);

    let ((resnet, head), (resnet_later, head_later)) =
        (weight(&short.unwrap()), weight(&long.unwrap()));
    assert!(resnet == resnet_later, "the backbone learned");
    assert!(head != head_later, "the heads did not learn");
}

#[test]
fn pretrained_weights_that_are_none_are_refused() {
    let setup = Setup::new();
    let path = setup.scratch("weights.safetensors");
    fs::write(&path, b"nothing").unwrap();
    let with = |path: std::path::PathBuf| TrainConfig { pretrained: Some(path), ..config() };

    let unreadable = setup.train(&with(path), "scratch", |_| false).0.unwrap_err();
    let missing = setup.train(&with(setup.scratch("none")), "scratch", |_| false).0.unwrap_err();

    assert!(unreadable.to_string().contains("safetensors"), "{unreadable}");
    assert!(matches!(missing, TrainError::Read { .. }), "{missing}");
}

/// The same events with all receivers 6 dB louder: who has learned with other gains says the same,
/// and who has not is lost, as what hardly ever changes is scaled by how little it does.
#[test]
fn gains_that_changed_in_training_change_no_estimate() {
    let mut setup = Setup::with_events(120);
    let with_gain = |name: &str, dataset: &HeimdallDataset, gain_db: f32| {
        let folder = setup.folder.path().join(name);
        let mut writer = ShardWriter::create(&folder, dataset.header()).unwrap();
        for index in 0..dataset.len() {
            let (label, mut features) = dataset.get(index).unwrap();
            for scalars in features.scalars.iter_mut().flatten() {
                let noise_db = gain_db + 0.02 * (index % 5) as f32;
                scalars.power_db += noise_db;
                scalars.noise_psd_db += noise_db;
            }
            // It would tell where they are, whatever the gain.
            features.fix = None;
            writer.push(label, &features).unwrap();
        }
        writer.finish().unwrap();
        HeimdallDataset::open(&folder).unwrap()
    };
    let training = with_gain("training", &setup.training, 0.0);
    let as_before = with_gain("as_before", &setup.validation, 0.0);
    let louder = with_gain("louder", &setup.validation, 6.0);
    (setup.training, setup.validation) = (training, as_before);
    let moved_km = |name: &str, augmentation: Augmentation| {
        let config = TrainConfig {
            epochs: 30,
            batch_size: 12,
            learning_rate: 3e-3,
            model: NetworkChoice { backbone: Backbone::Mlp, ..NetworkChoice::default() },
            augmentation,
            ..config()
        };
        let model = setup.train(&config, name, |_| false).0.unwrap();
        let cancel = AtomicBool::new(false);
        let positions = |dataset| predict(&model.network, dataset, 4, &cancel).unwrap().unwrap();
        let (before, after) = (positions(&setup.validation), positions(&louder));
        let moved = before.iter().zip(&after).map(|(b, a)| b.mean_km.distance_km(&a.mean_km));
        moved.sum::<f64>() / before.len() as f64
    };

    let with = moved_km("with", Augmentation::default());
    let without =
        moved_km("without", Augmentation { gain_deviation_db: 0.0, ..Augmentation::default() });

    assert!(with < 0.2 * without, "{with} km with other gains, {without} km without");
}
