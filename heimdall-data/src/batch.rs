//! Arrays become tensors: batches of events, in an order that can be had again.

use std::ops::Range;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use burn::tensor::{Device, Tensor, TensorData};
use heimdall_features::{ClassicalFix, LevelReference, ReceiverScalars};

use crate::{Augmentation, DataError, HeimdallDataset};

/// Batches that are read ahead, when nobody says otherwise.
const PREFETCH: usize = 2;

/// Some events of a set, as the network takes them.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Levels, `[batch, receivers, bands, frames]`, in dB; zero where a receiver is absent.
    pub levels: Tensor<4>,
    /// Numbers of each receiver, `[batch, receivers, 6]`: the fields of [`ReceiverScalars`] in their
    /// order; zeros where a receiver is absent.
    pub scalars: Tensor<3>,
    /// Which receivers recorded something, `[batch, receivers]`: 1, else 0.
    pub mask: Tensor<2>,
    /// Where the receivers stand, `[batch, receivers, 2]`: east and north, in km.
    pub receivers_km: Tensor<3>,
    /// Where a classical method puts the source, `[batch, 2]`: east and north, in km; zeros where it
    /// has no answer.
    pub fix_km: Tensor<2>,
    /// Its covariance, `[batch, 3]`: east, east-north and north, in km²; zeros without a fix.
    pub fix_covariance_km2: Tensor<2>,
    /// Whether there is a fix, `[batch, 1]`: 0 no, 1 yes, 2 yes but ambiguous.
    pub fix_status: Tensor<2>,
    /// Where the sources are, `[batch, 2]`: east and north, in km.
    pub position_km: Tensor<2>,
    /// How much each event counts, `[batch, 1]`, where the events do not count alike.
    pub weight: Option<Tensor<2>>,
    /// Indices of the events in their set.
    pub events: Vec<usize>,
}

/// The order in which the events of a set come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchOrder {
    /// As they are stored, cut into full batches and what remains.
    Stored,
    /// Shuffled, differently in each epoch. A remainder of a single event joins the batch before
    /// it: batch normalization cannot train on one event alone.
    Shuffled {
        /// Seed of the run.
        seed: u64,
        /// Number of the epoch.
        epoch: usize,
    },
}

/// Cuts a set into batches.
#[derive(Clone, Debug)]
pub struct Batcher {
    dataset: HeimdallDataset,
    batch_size: usize,
    prefetch: usize,
    augmentation: Augmentation,
    /// Weight of an event by the number of receivers that detect it.
    weights: Option<Vec<f32>>,
}

impl Batcher {
    /// Makes a batcher that reads two batches ahead.
    ///
    /// # Errors
    ///
    /// - [`DataError::EmptyBatch`] if `batch_size` is zero.
    /// - [`DataError::Unlabelled`] if the position of an event is unknown.
    pub fn new(dataset: &HeimdallDataset, batch_size: usize) -> Result<Self, DataError> {
        if batch_size == 0 {
            return Err(DataError::EmptyBatch);
        }
        if let Some(label) = dataset.labels().iter().find(|label| label.position_km.is_none()) {
            return Err(DataError::Unlabelled { event: label.event.clone() });
        }
        Ok(Self {
            dataset: dataset.clone(),
            batch_size,
            prefetch: PREFETCH,
            augmentation: Augmentation::NONE,
            weights: None,
        })
    }

    /// Reads this many batches ahead; memory is bounded by them, not by the set.
    #[must_use]
    pub fn with_prefetch(self, batches: usize) -> Self {
        Self { prefetch: batches, ..self }
    }

    /// Changes the events in a shuffled order, which is one to learn from.
    ///
    /// # Errors
    ///
    /// [`DataError::InvalidAugmentation`] if a field breaks a rule.
    pub fn with_augmentation(self, augmentation: Augmentation) -> Result<Self, DataError> {
        augmentation.validate()?;
        Ok(Self { augmentation, ..self })
    }

    /// Lets an event count by how many receivers detect it, those that are taken away among them: the
    /// weights are for none, one, … all receivers. With `None`, all events count alike.
    ///
    /// # Panics
    ///
    /// If there is not one weight more than receivers.
    #[must_use]
    pub fn with_weights(self, weights: Option<Vec<f32>>) -> Self {
        let receivers = self.dataset.header().shape.receivers;
        let fits = weights.as_ref().is_none_or(|weights| weights.len() == receivers + 1);
        assert!(fits, "there is a weight for each number of receivers from 0 to {receivers}");
        Self { weights, ..self }
    }

    /// Number of batches in this order.
    pub fn batches(&self, order: BatchOrder) -> usize {
        batch_ranges(self.dataset.len(), self.batch_size, order).len()
    }

    /// Goes through the set once, while a thread reads ahead.
    ///
    /// The iterator ends after the first error.
    pub fn iter(&self, order: BatchOrder, device: &Device) -> Batches {
        let order_of_events = event_order(self.dataset.len(), order);
        let ranges = batch_ranges(self.dataset.len(), self.batch_size, order);
        let batcher = self.clone();
        let (sender, receiver) = sync_channel(self.prefetch);
        let reader = thread::spawn(move || {
            for range in ranges {
                let arrays = batcher.read(&order_of_events[range], order);
                let failed = arrays.is_err();
                // Nobody receives any more when the iterator was dropped.
                if sender.send(arrays).is_err() || failed {
                    return;
                }
            }
        });
        Batches { receiver: Some(receiver), reader: Some(reader), device: device.clone() }
    }

    /// Reads some events into arrays.
    fn read(&self, events: &[usize], order: BatchOrder) -> Result<BatchArrays, DataError> {
        let header = self.dataset.header();
        let shape = header.shape;
        // What was measured without samples has no levels by band.
        let level = header.features.as_ref().map_or_else(LevelReference::default, |it| it.level);
        // Kilometers of a region fit single precision to a few centimeters.
        let receivers_km = header.receivers.iter().flat_map(|receiver| {
            let local = header.frame.to_local(&receiver.position);
            [local.east_km as f32, local.north_km as f32]
        });
        let receivers_km: Vec<f32> = receivers_km.collect();

        let mut arrays = BatchArrays {
            levels_db: Vec::with_capacity(events.len() * shape.len()),
            levels_shape: [events.len(), shape.receivers, shape.bands, shape.frames],
            scalars: Vec::with_capacity(events.len() * shape.receivers * ReceiverScalars::COUNT),
            mask: Vec::with_capacity(events.len() * shape.receivers),
            receivers_km: receivers_km.repeat(events.len()),
            fixes: Vec::with_capacity(events.len() * ClassicalFix::COUNT),
            positions_km: Vec::with_capacity(events.len() * 2),
            weights: self.weights.as_ref().map(|_| Vec::with_capacity(events.len())),
            events: events.to_vec(),
        };
        for &event in events {
            let (label, mut features) = self.dataset.get(event)?;
            if let (Some(weights), Some(by_hearing)) = (&mut arrays.weights, &self.weights) {
                weights.push(by_hearing[features.hearing_receivers()]);
            }
            if let BatchOrder::Shuffled { seed, epoch } = order {
                self.augmentation.apply(&mut features, level, seed, epoch, &label.event);
            }
            let position = label.position_km.expect("the batcher refuses events without one");
            arrays.levels_db.extend_from_slice(&features.levels_db);
            arrays.scalars.extend(features.scalar_rows());
            arrays.mask.extend(features.mask());
            arrays.fixes.extend(ClassicalFix::to_row(features.fix));
            arrays.positions_km.extend([position.east_km as f32, position.north_km as f32]);
        }
        Ok(arrays)
    }
}

/// Batches of one pass through a set.
#[derive(Debug)]
pub struct Batches {
    receiver: Option<Receiver<Result<BatchArrays, DataError>>>,
    reader: Option<JoinHandle<()>>,
    device: Device,
}

/// A batch before it is on a device: the fields are those of [`Batch`].
#[derive(Debug)]
struct BatchArrays {
    levels_db: Vec<f32>,
    levels_shape: [usize; 4],
    scalars: Vec<f32>,
    mask: Vec<f32>,
    receivers_km: Vec<f32>,
    fixes: Vec<f32>,
    positions_km: Vec<f32>,
    weights: Option<Vec<f32>>,
    events: Vec<usize>,
}

impl Iterator for Batches {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.receiver.as_ref()?.recv() {
            Ok(Ok(arrays)) => Some(Ok(arrays.into_batch(&self.device))),
            Ok(Err(error)) => {
                self.receiver = None;
                Some(Err(error))
            }
            // The reader is done, or it panicked.
            Err(_) => {
                self.receiver = None;
                if let Some(Err(panic)) = self.reader.take().map(JoinHandle::join) {
                    std::panic::resume_unwind(panic);
                }
                None
            }
        }
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        // Without its receiver the reader stops at the next batch.
        self.receiver = None;
        if let Some(reader) = self.reader.take() {
            // A panic of the reader must not become a second one while the first unwinds.
            let _ = reader.join();
        }
    }
}

impl BatchArrays {
    /// Puts the batch on a device.
    fn into_batch(self, device: &Device) -> Batch {
        let [rows, receivers, ..] = self.levels_shape;
        let fixes = tensor(self.fixes, [rows, ClassicalFix::COUNT], device);
        Batch {
            levels: tensor(self.levels_db, self.levels_shape, device),
            scalars: tensor(self.scalars, [rows, receivers, ReceiverScalars::COUNT], device),
            mask: tensor(self.mask, [rows, receivers], device),
            receivers_km: tensor(self.receivers_km, [rows, receivers, 2], device),
            fix_km: fixes.clone().narrow(1, 0, 2),
            fix_covariance_km2: fixes.clone().narrow(1, 2, 3),
            fix_status: fixes.narrow(1, 5, 1),
            position_km: tensor(self.positions_km, [rows, 2], device),
            weight: self.weights.map(|weights| tensor(weights, [rows, 1], device)),
            events: self.events,
        }
    }
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Puts the indices below `events` into an order.
fn event_order(events: usize, order: BatchOrder) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..events).collect();
    if let BatchOrder::Shuffled { seed, epoch } = order {
        let mut hasher = blake3::Hasher::new_derive_key("heimdall order of events");
        hasher.update(&seed.to_le_bytes()).update(&(epoch as u64).to_le_bytes());
        let mut random = hasher.finalize_xof();
        for last in (1..events).rev() {
            let mut word = [0; 8];
            random.fill(&mut word);
            // The product's upper half is below `last + 1`, and even to one part in 2⁴⁰ or better.
            let chosen = (u128::from(u64::from_le_bytes(word)) * (last as u128 + 1)) >> 64;
            indices.swap(last, chosen as usize);
        }
    }
    indices
}

/// Cuts `events` places into batches.
fn batch_ranges(events: usize, batch_size: usize, order: BatchOrder) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = (0..events)
        .step_by(batch_size)
        .map(|start| start..(start + batch_size).min(events))
        .collect();
    let shuffled = matches!(order, BatchOrder::Shuffled { .. });
    if shuffled && ranges.len() > 1 && ranges.last().is_some_and(|range| range.len() == 1) {
        ranges.pop();
        ranges.last_mut().expect("there was more than one").end = events;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use heimdall_features::FeatureMap;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{dataset, feature_map, header, label};

    const SHUFFLED: BatchOrder = BatchOrder::Shuffled { seed: 5, epoch: 1 };

    #[test]
    fn batch_holds_the_arrays_of_its_events() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = dataset(folder.path(), 5);
        let batcher = Batcher::new(&dataset, 2).unwrap();

        let batches: Vec<Batch> =
            batcher.iter(SHUFFLED, &Device::flex()).collect::<Result<_, _>>().unwrap();

        assert_eq!(batches.iter().map(|batch| batch.events.len()).collect::<Vec<_>>(), [2, 3]);
        for batch in batches {
            assert_eq!(batch.levels.dims(), [batch.events.len(), 2, 4, 3]);
            let levels_db: Vec<f32> = batch.levels.try_into_vec_as().unwrap();
            let expected: Vec<f32> = batch
                .events
                .iter()
                .flat_map(|&event| feature_map(header(2, 4, 3).shape, event).levels_db)
                .collect();
            assert_eq!(levels_db, expected);
            let positions_km: Vec<f32> = batch.position_km.try_into_vec_as().unwrap();
            let expected: Vec<f32> =
                batch.events.iter().flat_map(|&e| [e as f32, -0.5 * e as f32]).collect();
            assert_eq!(positions_km, expected);
        }
    }

    #[test]
    fn side_inputs_are_those_of_the_events() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = dataset(folder.path(), 3);
        let batcher = Batcher::new(&dataset, 3).unwrap();

        let batch = batcher.iter(BatchOrder::Stored, &Device::flex()).next().unwrap().unwrap();

        let maps: Vec<_> = (0..3).map(|e| feature_map(header(2, 4, 3).shape, e)).collect();
        let values = |tensor: Tensor<3>| tensor.try_into_vec_as::<f32>().unwrap();
        let rows = |tensor: Tensor<2>| tensor.try_into_vec_as::<f32>().unwrap();
        let scalars: Vec<f32> = maps.iter().flat_map(FeatureMap::scalar_rows).collect();
        assert_eq!(batch.scalars.dims(), [3, 2, 6]);
        assert_eq!(values(batch.scalars), scalars);
        assert_eq!(rows(batch.mask), maps.iter().flat_map(FeatureMap::mask).collect::<Vec<_>>());
        // All receivers stand at the origin.
        assert_eq!(batch.receivers_km.dims(), [3, 2, 2]);
        assert!(values(batch.receivers_km).iter().all(|km| km.abs() < 1e-9));
        assert_eq!(rows(batch.fix_km), [0.0, 0.0, 1.5, -1.0, 2.5, -2.0]);
        assert_eq!(rows(batch.fix_covariance_km2), [0.0, 0.0, 0.0, 2.0, 0.25, 2.0, 3.0, 0.25, 2.0]);
        assert_eq!(rows(batch.fix_status), [0.0, 1.0, 2.0]);
    }

    /// Receivers are missing when the order is one to learn from, and only then.
    #[test]
    fn receivers_are_dropped_in_a_shuffled_order_only() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = dataset(folder.path(), 40);
        let batcher = Batcher::new(&dataset, 40)
            .unwrap()
            .with_augmentation(Augmentation { receiver_drop_out: 0.5, ..Augmentation::NONE })
            .unwrap();
        let present = |order| {
            let batch = batcher.iter(order, &Device::flex()).next().unwrap().unwrap();
            batch.mask.sum().into_scalar::<f32>()
        };

        let stored = present(BatchOrder::Stored);
        let shuffled = present(SHUFFLED);

        // 13 events have two receivers there; one of them goes in three of four.
        assert!((stored - 53.0).abs() < 0.1, "{stored}");
        assert!(shuffled < stored && (shuffled - present(SHUFFLED)).abs() < 1e-6, "{shuffled}");
    }

    /// Of two receivers, the one that is there detects events in turn.
    #[test]
    fn events_count_by_how_many_receivers_detect_them() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = dataset(folder.path(), 6);
        let batcher = Batcher::new(&dataset, 6).unwrap().with_weights(Some(vec![5.0, 2.0, 1.0]));

        let batch = batcher.iter(BatchOrder::Stored, &Device::flex()).next().unwrap().unwrap();

        let expected: Vec<f32> = (0..6)
            .map(|event| feature_map(header(2, 4, 3).shape, event).scalars)
            .map(|scalars| [5.0, 2.0, 1.0][scalars.iter().flatten().filter(|s| s.detected).count()])
            .collect();
        assert!(expected.contains(&5.0) && expected.contains(&2.0));
        assert_eq!(batch.weight.unwrap().try_into_vec_as::<f32>().unwrap(), expected);
    }

    #[test]
    fn order_depends_on_seed_and_epoch_alone() {
        let order = |seed, epoch| event_order(100, BatchOrder::Shuffled { seed, epoch });

        assert_eq!(order(3, 7), order(3, 7));
        assert_ne!(order(3, 7), order(3, 8));
        assert_ne!(order(3, 7), order(4, 7));
    }

    /// Each of the 3! orders of three events has a sixth of 6,000 draws: 1,000 ± 5 · 29.
    #[test]
    fn every_order_is_as_likely_as_another() {
        let mut counts = std::collections::HashMap::new();
        for epoch in 0..6000 {
            let order = event_order(3, BatchOrder::Shuffled { seed: 1, epoch });
            *counts.entry(order).or_insert(0_i32) += 1;
        }

        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|count| (count - 1000).abs() < 145), "{counts:?}");
    }

    #[test]
    fn iterator_may_be_dropped_early() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = dataset(folder.path(), 40);
        let batcher = Batcher::new(&dataset, 1).unwrap().with_prefetch(0);

        let mut batches = batcher.iter(BatchOrder::Stored, &Device::flex());
        let first = batches.next().unwrap().unwrap();
        drop(batches);

        assert_eq!(first.events, [0]);
    }

    #[test]
    fn unreadable_shard_is_an_error_and_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = dataset(folder.path(), 4);
        let batcher = Batcher::new(&dataset, 2).unwrap();
        let shard = folder.path().join("shard-00000.safetensors");
        std::fs::File::options().write(true).open(&shard).unwrap().set_len(100).unwrap();

        let results: Vec<_> = batcher.iter(BatchOrder::Stored, &Device::flex()).collect();

        assert_eq!(results.len(), 1);
        let error = results[0].as_ref().unwrap_err().to_string();
        assert!(error.contains("shard-00000.safetensors"), "{error}");
    }

    #[test]
    fn event_without_position_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let header = header(2, 4, 3);
        let mut writer = crate::ShardWriter::create(folder.path(), &header).unwrap();
        let unknown = crate::EventLabel { position_km: None, ..label(3) };
        writer.push(unknown, &feature_map(header.shape, 0)).unwrap();
        writer.finish().unwrap();
        let dataset = HeimdallDataset::open(folder.path()).unwrap();

        let error = Batcher::new(&dataset, 2).unwrap_err();

        assert!(error.to_string().contains("event-0003"), "{error}");
    }

    proptest! {
        /// Every event comes once, and no batch that trains has a single event.
        #[test]
        fn batches_lose_nothing(
            events in 2_usize..200,
            batch_size in 2_usize..50,
            seed in any::<u64>(),
            shuffled in any::<bool>(),
        ) {
            let order = match shuffled {
                true => BatchOrder::Shuffled { seed, epoch: 1 },
                false => BatchOrder::Stored,
            };

            let indices = event_order(events, order);
            let ranges = batch_ranges(events, batch_size, order);

            let mut sorted = indices.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..events).collect::<Vec<_>>());
            prop_assert_eq!(ranges.iter().map(ExactSizeIterator::len).sum::<usize>(), events);
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
            prop_assert!(ranges.iter().all(|range| range.len() <= batch_size + 1));
            prop_assert!(!shuffled || ranges.iter().all(|range| range.len() > 1));
        }
    }
}
