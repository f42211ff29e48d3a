//! Tests of the training loop: it learns, it repeats itself, and it goes on after a break.

use std::fs;

use super::*;
use crate::schedule::{ConstantConfig, ScheduleConfig};
use crate::testing::synthetic;

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
        schedule: ScheduleConfig::Constant(ConstantConfig { warm_up_epochs: 0.0 }),
        ..config()
    };

    let (result, events) = setup.train(&config, "scratch", |_| false);

    let history = result.unwrap().manifest.history;
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
