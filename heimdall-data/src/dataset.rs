//! Features on disk, read event by event.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use half::f16;
use heimdall_features::{ArrivalTime, ClassicalFix, FeatureMap, ReceiverScalars};
use safetensors::tensor::Metadata;
use serde::Deserialize;

use crate::shard::{ARRIVAL_NUMBERS, INDEX_FILE, Index, Precision, shard_layout};
use crate::{DataError, EventLabel, FEATURE_FORMAT_VERSION, FeatureHeader, Part};

/// Longest header of a shard that is believed, in bytes; a real one has some three hundred.
const SHARD_HEADER_BYTES_MAX: u64 = 1 << 20;

/// Events of a folder of features, or some of them, with their labels in memory and their features
/// on disk.
///
/// Only the bytes of the events that are asked for are read. Clones and subsets share the open
/// files.
#[derive(Clone, Debug)]
pub struct HeimdallDataset {
    folder: Arc<OpenFolder>,
    /// Events of the folder that belong to this set.
    indices: Vec<usize>,
    labels: Vec<EventLabel>,
    /// Receivers that are taken away from each event.
    removed: Vec<usize>,
}

/// A folder whose shards are open and have the right shapes.
#[derive(Debug)]
struct OpenFolder {
    header: FeatureHeader,
    precision: Precision,
    shards: Vec<OpenShard>,
}

/// An open shard, and where its tensors start.
#[derive(Debug)]
struct OpenShard {
    path: PathBuf,
    file: Mutex<File>,
    /// Event of the folder that is the first one here.
    first: usize,
    /// Absent in version 1.
    arrivals_start: Option<u64>,
    scalars_start: u64,
    /// Version 1 of the format has none.
    fix_start: Option<u64>,
    levels_start: u64,
    present_start: u64,
}

/// As much of the description as every version has.
#[derive(Deserialize)]
struct VersionedIndex {
    header: VersionedHeader,
}

/// The only field of a header that is looked at before it is understood.
#[derive(Deserialize)]
struct VersionedHeader {
    format_version: u32,
}

impl HeimdallDataset {
    /// Opens a folder of features, and checks that every shard is complete.
    ///
    /// # Errors
    ///
    /// - [`DataError::Read`] if the description or a shard cannot be read.
    /// - [`DataError::NewerFeatures`] if a newer release wrote the folder.
    /// - [`DataError::DamagedFeatures`] if a file is truncated, or is not what the description says.
    pub fn open(folder: &Path) -> Result<Self, DataError> {
        let index = read_index(&folder.join(INDEX_FILE))?;
        let mut shards = Vec::with_capacity(index.shards.len());
        let mut first = 0;
        for entry in &index.shards {
            let path = folder.join(&entry.file);
            shards.push(OpenShard::open(path, &index, first, entry.events)?);
            first += entry.events;
        }
        if first != index.events.len() {
            return Err(DataError::DamagedFeatures {
                path: folder.join(INDEX_FILE),
                expected: format!("{first} events, as many as its shards have"),
                actual: index.events.len().to_string(),
            });
        }
        Ok(Self {
            indices: (0..index.events.len()).collect(),
            labels: index.events,
            removed: Vec::new(),
            folder: Arc::new(OpenFolder {
                header: index.header,
                precision: index.precision,
                shards,
            }),
        })
    }

    /// What the features are.
    pub fn header(&self) -> &FeatureHeader {
        &self.folder.header
    }

    /// How the levels are stored.
    pub fn precision(&self) -> Precision {
        self.folder.precision
    }

    /// Labels of the events, in the order of the indices.
    pub fn labels(&self) -> &[EventLabel] {
        &self.labels
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there are no events.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// Reads an event.
    ///
    /// # Errors
    ///
    /// [`DataError::Read`] if the shard cannot be read any more.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`len`](Self::len).
    pub fn get(&self, index: usize) -> Result<(EventLabel, FeatureMap), DataError> {
        let mut features = self.folder.read(self.indices[index])?;
        for &receiver in &self.removed {
            let detected = features.scalars[receiver].is_some_and(|scalars| scalars.detected);
            if detected {
                features.fix = None;
            }
            features.remove_receiver(receiver);
        }
        Ok((self.labels[index].clone(), features))
    }

    /// Takes a receiver away from all events, as if it had recorded nothing. The classical fix of an
    /// event that it detects goes with it: who knows what it would have been without.
    ///
    /// # Panics
    ///
    /// If there is no receiver of this number.
    #[must_use]
    pub fn without_receiver(&self, receiver: usize) -> Self {
        assert!(receiver < self.header().receivers.len(), "the network has no receiver {receiver}");
        let removed = self.removed.iter().copied().chain([receiver]).collect();
        Self { removed, ..self.clone() }
    }

    /// Takes some of the events, in this order. Nothing is copied but labels.
    ///
    /// # Panics
    ///
    /// If one of `indices` is not below [`len`](Self::len).
    #[must_use]
    pub fn subset(&self, indices: &[usize]) -> Self {
        Self {
            folder: Arc::clone(&self.folder),
            indices: indices.iter().map(|&index| self.indices[index]).collect(),
            labels: indices.iter().map(|&index| self.labels[index].clone()).collect(),
            removed: self.removed.clone(),
        }
    }

    /// Takes the events of one part of a [`split`](crate::split).
    ///
    /// # Panics
    ///
    /// If `parts` has another length than the set.
    #[must_use]
    pub fn part(&self, parts: &[Part], part: Part) -> Self {
        assert_eq!(parts.len(), self.len(), "a split names one part for each event");
        let indices: Vec<usize> = (0..parts.len()).filter(|&index| parts[index] == part).collect();
        self.subset(&indices)
    }
}

impl OpenFolder {
    /// Reads the features of an event of the folder.
    fn read(&self, event: usize) -> Result<FeatureMap, DataError> {
        let after = self.shards.partition_point(|shard| shard.first <= event);
        let shard = &self.shards[after - 1];
        shard
            .read(event - shard.first, &self.header, self.precision)
            .map_err(|source| DataError::Read { path: shard.path.clone(), source })
    }
}

impl OpenShard {
    /// Opens a shard and compares its tensors with those that it must have.
    fn open(path: PathBuf, index: &Index, first: usize, events: usize) -> Result<Self, DataError> {
        let unreadable = |source| DataError::Read { path: path.clone(), source };
        let damaged = |expected: String, actual: String| DataError::DamagedFeatures {
            path: path.clone(),
            expected,
            actual,
        };
        let mut file = File::open(&path).map_err(unreadable)?;
        let byte_count = file.metadata().map_err(unreadable)?.len();
        if byte_count < 8 {
            return Err(damaged("a header".to_owned(), format!("{byte_count} bytes")));
        }
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(unreadable)?;
        let length = u64::from_le_bytes(length);
        if length > SHARD_HEADER_BYTES_MAX || length > byte_count - 8 {
            let expected = format!("a header of {length} bytes");
            return Err(damaged(expected, format!("{byte_count} bytes in all")));
        }
        // At most 1 MiB, as was just checked.
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(unreadable)?;
        let metadata: Metadata = serde_json::from_slice(&header).map_err(|error| {
            damaged("a header in JSON".to_owned(), format!("one with an error: {error}"))
        })?;

        let layout = shard_layout(&index.header, index.precision, events);
        for (name, expected) in &layout {
            let describe = |dtype, shape: &[usize]| format!("`{name}` as {dtype} {shape:?}");
            let Some(actual) = metadata.info(name) else {
                return Err(damaged(
                    describe(expected.dtype, &expected.shape),
                    "no such tensor".to_owned(),
                ));
            };
            if (actual.dtype, &actual.shape) != (expected.dtype, &expected.shape) {
                return Err(damaged(
                    describe(expected.dtype, &expected.shape),
                    describe(actual.dtype, &actual.shape),
                ));
            }
        }
        let expected = 8 + length + metadata.data_len() as u64;
        if byte_count != expected {
            return Err(damaged(format!("{expected} bytes"), format!("{byte_count} bytes")));
        }

        let found = |name: &str| {
            let has = layout.iter().any(|(expected, _)| *expected == name);
            let info = metadata.info(name).filter(|_| has)?;
            Some(8 + length + info.data_offsets.0 as u64)
        };
        let start = |name| found(name).expect("the layout was just compared");
        Ok(Self {
            arrivals_start: found("arrivals"),
            scalars_start: start("scalars"),
            fix_start: found("fix"),
            levels_start: start("levels"),
            present_start: start("present"),
            file: Mutex::new(file),
            first,
            path,
        })
    }

    /// Reads the features of an event of the shard.
    fn read(
        &self,
        event: usize,
        header: &FeatureHeader,
        precision: Precision,
    ) -> Result<FeatureMap, io::Error> {
        let shape = header.shape;
        let mut levels = vec![0; shape.len() * precision.bytes()];
        let mut scalars = vec![0; shape.receivers * ReceiverScalars::COUNT * 4];
        let mut fix = vec![0; ClassicalFix::COUNT * 4];
        let mut present = vec![0; shape.receivers];
        let mut arrivals = vec![0; shape.receivers * ARRIVAL_NUMBERS * 8];
        {
            // A thread that panicked while it held the file left nothing half-changed behind.
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            let tensors = [
                (Some(self.levels_start), &mut levels),
                (Some(self.scalars_start), &mut scalars),
                (self.fix_start, &mut fix),
                (Some(self.present_start), &mut present),
                (self.arrivals_start, &mut arrivals),
            ];
            for (start, buffer) in tensors {
                let Some(start) = start else { continue };
                file.seek(SeekFrom::Start(start + (event * buffer.len()) as u64))?;
                file.read_exact(buffer)?;
            }
        }

        let (pairs, _) = levels.as_chunks::<2>();
        let levels_db = match precision {
            Precision::F16 => pairs.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
            Precision::F32 => floats(&levels),
        };
        let scalars = floats(&scalars);
        let (rows, _) = scalars.as_chunks();
        let scalars = rows
            .iter()
            .zip(&present)
            .map(|(&row, &present)| (present != 0).then(|| ReceiverScalars::from_row(row)))
            .collect();
        let fix = floats(&fix).try_into().expect("the row has its length");
        let fix = ClassicalFix::from_row(fix);
        let arrivals = match self.arrivals_start {
            Some(_) => arrivals_from_bytes(&arrivals),
            None => vec![None; shape.receivers],
        };
        Ok(FeatureMap { shape, levels_db, scalars, arrivals, fix })
    }
}

/// Takes little-endian bytes for single precision.
fn floats(bytes: &[u8]) -> Vec<f32> {
    let (quads, _) = bytes.as_chunks::<4>();
    quads.iter().map(|&quad| f32::from_le_bytes(quad)).collect()
}

/// Undoes what the writer does with arrivals.
fn arrivals_from_bytes(bytes: &[u8]) -> Vec<Option<ArrivalTime>> {
    let (values, _) = bytes.as_chunks::<8>();
    let values: Vec<f64> = values.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect();
    let (rows, _) = values.as_chunks::<ARRIVAL_NUMBERS>();
    rows.iter()
        .map(|&[time_s, sigma_s]| (!time_s.is_nan()).then_some(ArrivalTime { time_s, sigma_s }))
        .collect()
}

/// Reads the description of a folder, its version first.
fn read_index(path: &Path) -> Result<Index, DataError> {
    let text =
        fs::read(path).map_err(|source| DataError::Read { path: path.to_owned(), source })?;
    let malformed = |error: serde_json::Error| DataError::DamagedFeatures {
        path: path.to_owned(),
        expected: "a description of features".to_owned(),
        actual: format!("JSON with an error: {error}"),
    };
    let versioned: VersionedIndex = serde_json::from_slice(&text).map_err(malformed)?;
    let actual = versioned.header.format_version;
    if actual > FEATURE_FORMAT_VERSION {
        return Err(DataError::NewerFeatures {
            path: path.to_owned(),
            actual,
            supported: FEATURE_FORMAT_VERSION,
        });
    }
    serde_json::from_slice(&text).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use heimdall_features::{FeatureShape, ReceiverScalars};

    use super::*;
    use crate::ShardWriter;
    use crate::testing::{dataset, feature_map, header, label};

    /// Changes a file of a folder, and says how opening the folder fails.
    fn error_after(file: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
        let folder = tempfile::tempdir().unwrap();
        dataset(folder.path(), 3);
        let path = folder.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
        HeimdallDataset::open(folder.path()).unwrap_err().to_string()
    }

    /// Replaces a piece of text by one of the same length.
    fn replace(bytes: &mut [u8], from: &str, to: &str) {
        let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();

        let dataset = dataset(folder.path(), 7);

        assert_eq!(dataset.len(), 7);
        assert_eq!(dataset.header(), &header(2, 4, 3));
        for event in 0..7 {
            let expected = (label(event), feature_map(header(2, 4, 3).shape, event));
            assert_eq!(dataset.get(event).unwrap(), expected);
        }
    }

    /// Numbers without levels, and numbers that nobody measured, survive; NaN is told by its bits.
    #[test]
    fn measurements_without_samples_survive() {
        let folder = tempfile::tempdir().unwrap();
        let header = FeatureHeader {
            shape: FeatureShape::without_levels(2),
            features: None,
            sample_rate_hz: None,
            ..header(2, 4, 3)
        };
        let measured = feature_map(header.shape, 2).scalars[0].expect("another one is absent");
        let scalars = ReceiverScalars { noise_psd_db: f32::NAN, ..measured };
        let arrival = ArrivalTime { time_s: 1.234_567_890_123e-3, sigma_s: 1e-7 };
        let mut writer = ShardWriter::create(folder.path(), &header).unwrap();
        let features =
            FeatureMap::of_measurements(vec![Some(scalars), None], vec![None, Some(arrival)]);
        writer.push(label(0), &features).unwrap();
        writer.finish().unwrap();

        let (_, read) = HeimdallDataset::open(folder.path()).unwrap().get(0).unwrap();

        assert_eq!(read.arrivals, features.arrivals);
        assert_eq!((read.levels_db.len(), read.scalars[1]), (0, None));
        let scalars = read.scalars[0].unwrap();
        assert!(scalars.noise_psd_db.is_nan() && !scalars.power_db.is_nan());
    }

    /// Version 1 is version 2 without fixes and arrivals, and without times and waveforms of the events.
    #[test]
    fn first_version_is_read_without_fixes_and_arrivals() {
        let folder = tempfile::tempdir().unwrap();
        dataset(folder.path(), 3);
        let index = folder.path().join(INDEX_FILE);
        let mut json: serde_json::Value =
            serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
        json["header"]["format_version"] = 1.into();
        for event in json["events"].as_array_mut().unwrap() {
            let event = event.as_object_mut().unwrap();
            event.remove("time").unwrap();
            event.remove("waveform").unwrap();
        }
        fs::write(&index, json.to_string()).unwrap();
        let shard = folder.path().join("shard-00000.safetensors");
        let bytes = fs::read(&shard).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let is_new = |name| ["arrivals", "fix"].contains(&name);
        let kept: Vec<_> = tensors.iter().filter(|(name, _)| !is_new(*name)).collect();
        fs::write(&shard, safetensors::serialize(kept, None).unwrap()).unwrap();

        let dataset = HeimdallDataset::open(folder.path()).unwrap();

        let expected = FeatureMap {
            arrivals: vec![None; 2],
            fix: None,
            ..feature_map(header(2, 4, 3).shape, 1)
        };
        assert_eq!(
            dataset.get(1).unwrap(),
            (EventLabel { time: None, waveform: None, ..label(1) }, expected)
        );
    }

    #[test]
    fn subset_of_a_subset_has_the_right_events() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = dataset(folder.path(), 7);

        let subset = dataset.subset(&[6, 4, 2]).subset(&[2, 0]);

        assert_eq!(subset.labels(), [label(2), label(6)]);
        assert_eq!(subset.get(1).unwrap().1, feature_map(header(2, 4, 3).shape, 6));
    }

    #[test]
    fn receiver_that_is_taken_away_recorded_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = dataset(folder.path(), 7);

        let without = dataset.without_receiver(1).subset(&[0, 1, 2, 3, 4]);

        for event in 0..5 {
            let (_, mut expected) = dataset.get(event).unwrap();
            if expected.scalars[1].is_some_and(|scalars| scalars.detected) {
                expected.fix = None;
            }
            expected.scalars[1] = None;
            expected.arrivals[1] = None;
            expected.levels_db[12..].fill(0.0);
            assert_eq!(without.get(event).unwrap(), (label(event), expected), "event {event}");
        }
    }

    #[test]
    fn truncated_shard_is_refused_by_name() {
        for missing in [1, 100] {
            let error = error_after("shard-00000.safetensors", |bytes| {
                bytes.truncate(bytes.len() - missing);
            });

            assert!(error.contains("shard-00000.safetensors"), "{error}");
        }
        let error = error_after("shard-00000.safetensors", |bytes| bytes.truncate(5));
        assert!(error.contains("shard-00000.safetensors"), "{error}");
        let error = error_after("shard-00000.safetensors", |bytes| bytes.truncate(50));
        assert!(error.contains("shard-00000.safetensors"), "{error}");
    }

    #[test]
    fn shard_of_another_shape_is_refused_by_name() {
        let error = error_after("shard-00000.safetensors", |bytes| {
            replace(bytes, "[3,2,4,3]", "[3,2,3,4]");
        });

        assert!(error.contains("shard-00000.safetensors"), "{error}");
        assert!(error.contains("[3, 2, 4, 3]") && error.contains("[3, 2, 3, 4]"), "{error}");
    }

    #[test]
    fn newer_version_is_refused_by_name_even_if_it_has_other_fields() {
        let error = error_after(INDEX_FILE, |bytes| {
            *bytes = br#"{"header": {"format_version": 99, "colour": 1}, "more": []}"#.to_vec();
        });

        assert!(error.contains("features.json") && error.contains("99"), "{error}");
    }

    #[test]
    fn description_without_its_end_is_refused_by_name() {
        let error = error_after(INDEX_FILE, |bytes| bytes.truncate(bytes.len() / 2));

        assert!(error.contains("features.json"), "{error}");
    }

    #[test]
    fn missing_shard_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        dataset(folder.path(), 3);
        fs::remove_file(folder.path().join("shard-00000.safetensors")).unwrap();

        let error = HeimdallDataset::open(folder.path()).unwrap_err();

        assert!(error.to_string().contains("shard-00000.safetensors"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Half precision keeps 11 significant bits, and single precision everything.
        #[test]
        fn levels_survive(
            levels_db in prop::collection::vec(-200_f32..200.0, 24),
            precision in prop_oneof![Just(Precision::F16), Just(Precision::F32)],
        ) {
            let folder = tempfile::tempdir().unwrap();
            let header = header(2, 4, 3);
            let features = FeatureMap { levels_db, ..feature_map(header.shape, 1) };

            let mut writer =
                ShardWriter::create(folder.path(), &header).unwrap().with_precision(precision);
            writer.push(label(1), &features).unwrap();
            writer.finish().unwrap();
            let (_, read) = HeimdallDataset::open(folder.path()).unwrap().get(0).unwrap();

            prop_assert_eq!(&read.scalars, &features.scalars);
            let tolerance = if precision == Precision::F32 { 0.0 } else { 0.5_f32.powi(11) };
            for (read, written) in read.levels_db.iter().zip(&features.levels_db) {
                // Below 2⁻¹⁴ half precision has fewer bits left.
                let allowed = (tolerance * written.abs()).max(tolerance * 0.5_f32.powi(14));
                prop_assert!((read - written).abs() <= allowed, "{} is not {}", read, written);
            }
        }
    }
}
