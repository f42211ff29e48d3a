//! Features on disk: how a folder of shards is laid out, and how it is written.
//!
//! ```text
//! features.json                what the features are, the events in order, the shards; written last
//! shard-00000.safetensors      arrivals [events, receivers, 2]              f64, in s
//! shard-00001.safetensors      scalars  [events, receivers, 6]              f32
//! …                            fix      [events, 6]                         f32, in km and km²
//! …                            levels   [events, receivers, bands, frames]  f16 or f32, in dB
//!                              present  [events, receivers]                 u8, 0 or 1
//! ```
//!
//! An arrival is its time and its standard deviation. What was not measured is NaN. Where nothing
//! was measured by samples, there are no bands and no frames. Version 1 had no `arrivals` and no
//! `fix`, and events had neither time nor waveform.

use std::collections::HashSet;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use half::f16;
use heimdall_features::{
    ClassicalFix, FeatureConfig, FeatureMap, FeatureShape, ReceiverScalars, UtcTime,
};
use heimdall_geo::{LocalFrame, LocalPosition, Receiver};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::{Deserialize, Serialize};

use crate::DataError;

/// Version of the layout that is written, and the newest one that is read.
pub const FEATURE_FORMAT_VERSION: u32 = 2;

/// Name of the file that describes a folder of features.
pub(crate) const INDEX_FILE: &str = "features.json";

/// Oldest version whose shards hold arrivals and the classical fix of each event.
const SECOND_FORMAT_VERSION: u32 = 2;

/// Numbers that are kept of each arrival: time and standard deviation.
pub(crate) const ARRIVAL_NUMBERS: usize = 2;

/// Most events in a shard.
const EVENTS_PER_SHARD_MAX: usize = 1024;

/// Most bytes of levels in a shard, unless a single event takes more: the writer holds one shard.
const SHARD_BYTES_MAX: usize = 64 << 20;

/// What the features of a folder are, and how they came to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureHeader {
    /// Version of the layout, [`FEATURE_FORMAT_VERSION`] when written by this release.
    pub format_version: u32,
    /// Axes of the levels of an event.
    pub shape: FeatureShape,
    /// Receivers of the network, in the order of the first axis.
    pub receivers: Vec<Receiver>,
    /// Plane of the positions.
    pub frame: LocalFrame,
    /// How the features were extracted; `None` where they were measured without samples, and
    /// together with the sample rate.
    pub features: Option<FeatureConfig>,
    /// Sample rate that the extractor was planned for, in Hz.
    pub sample_rate_hz: Option<f64>,
}

/// What is known of an event besides its features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventLabel {
    /// Name of the event, unique in its folder.
    pub event: String,
    /// Name of its session.
    pub session: String,
    /// Name of its source.
    pub source: String,
    /// Where the source was, in the plane of the header; `None` if nobody knows.
    pub position_km: Option<LocalPosition>,
    /// When it was; `None` if nobody knows.
    #[serde(default)]
    pub time: Option<UtcTime>,
    /// What was transmitted, such as `nbfm_voice`; `None` if nobody knows.
    #[serde(default)]
    pub waveform: Option<String>,
}

/// How levels are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Half precision: 11 significant bits, so 0.03 dB at 50 dB.
    #[default]
    F16,
    /// Single precision: exactly what the extractor computed.
    F32,
}

impl Precision {
    /// Bytes of a level.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    /// Type of the tensor.
    pub(crate) fn dtype(self) -> Dtype {
        match self {
            Self::F16 => Dtype::F16,
            Self::F32 => Dtype::F32,
        }
    }
}

/// The file that describes a folder of features.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Index {
    pub(crate) header: FeatureHeader,
    pub(crate) precision: Precision,
    pub(crate) shards: Vec<ShardEntry>,
    pub(crate) events: Vec<EventLabel>,
}

impl Index {
    /// Writes the description for people to read.
    fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("plain structs become JSON");
        text.push(b'\n');
        text
    }
}

/// A shard, as the index knows it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShardEntry {
    pub(crate) file: String,
    pub(crate) events: usize,
}

/// Writes features event by event, holding at most one shard in memory.
///
/// The same events in the same order give the same bytes. Every file is written under a temporary
/// name and then renamed, the description last: a folder without `features.json` is not finished.
#[derive(Debug)]
pub struct ShardWriter {
    folder: PathBuf,
    header: FeatureHeader,
    precision: Precision,
    shards: Vec<ShardEntry>,
    events: Vec<EventLabel>,
    names: HashSet<String>,
    pending: PendingShard,
}

/// The shard that is being filled: each field is one tensor, little-endian.
#[derive(Debug, Default)]
struct PendingShard {
    events: usize,
    arrivals: Vec<u8>,
    scalars: Vec<u8>,
    fix: Vec<u8>,
    levels: Vec<u8>,
    present: Vec<u8>,
}

impl ShardWriter {
    /// Starts a folder of features, making the folder if there is none.
    ///
    /// # Errors
    ///
    /// - [`DataError::AlreadyExists`] if the folder has a `features.json`.
    /// - [`DataError::HeaderMismatch`] if the header contradicts itself.
    /// - [`DataError::Write`] if the folder cannot be made.
    pub fn create(folder: &Path, header: &FeatureHeader) -> Result<Self, DataError> {
        let mismatch = |field, expected: usize, actual: usize| {
            Err(DataError::HeaderMismatch {
                field,
                expected: expected.to_string(),
                actual: actual.to_string(),
            })
        };
        let index = folder.join(INDEX_FILE);
        if index.exists() {
            return Err(DataError::AlreadyExists { path: index });
        }
        if header.shape.receivers != header.receivers.len() {
            return mismatch("shape.receivers", header.receivers.len(), header.shape.receivers);
        }
        let FeatureShape { receivers, bands, frames } = header.shape;
        if receivers == 0 || (bands == 0) != (frames == 0) {
            return Err(DataError::HeaderMismatch {
                field: "shape",
                expected: "at least one receiver, and bands and frames or none of them".to_owned(),
                actual: format!("{:?}", header.shape),
            });
        }
        if header.features.is_some() != header.sample_rate_hz.is_some() {
            return Err(DataError::HeaderMismatch {
                field: "sample_rate_hz",
                expected: "given together with `features`".to_owned(),
                actual: format!("{:?}", header.sample_rate_hz),
            });
        }
        fs::create_dir_all(folder)
            .map_err(|source| DataError::Write { path: folder.to_owned(), source })?;
        Ok(Self {
            folder: folder.to_owned(),
            header: FeatureHeader { format_version: FEATURE_FORMAT_VERSION, ..header.clone() },
            precision: Precision::default(),
            shards: Vec::new(),
            events: Vec::new(),
            names: HashSet::new(),
            pending: PendingShard::default(),
        })
    }

    /// Stores levels in this precision instead of half.
    ///
    /// # Panics
    ///
    /// If an event was pushed already.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        assert!(self.events.is_empty(), "the precision is chosen before the first event");
        self.precision = precision;
        self
    }

    /// Adds an event.
    ///
    /// # Errors
    ///
    /// - [`DataError::Duplicate`] if there is an event of this name.
    /// - [`DataError::HeaderMismatch`] if the features have another shape than the header says.
    /// - [`DataError::UnstorableLevel`] if a level is not finite in the precision of the folder.
    /// - [`DataError::InvalidFix`] if the classical fix is no position with a covariance.
    /// - [`DataError::Write`] if a shard is full and cannot be written.
    pub fn push(&mut self, label: EventLabel, features: &FeatureMap) -> Result<(), DataError> {
        let shape = self.header.shape;
        let fits = features.shape == shape
            && features.levels_db.len() == shape.len()
            && features.scalars.len() == shape.receivers
            && features.arrivals.len() == shape.receivers;
        if !fits {
            return Err(DataError::HeaderMismatch {
                field: "shape",
                expected: format!("{shape:?}"),
                actual: format!(
                    "{:?} with {} levels in event `{}`",
                    features.shape,
                    features.levels_db.len(),
                    label.event
                ),
            });
        }
        if !self.names.insert(label.event.clone()) {
            return Err(DataError::Duplicate { kind: "event", name: label.event });
        }
        let unstorable = |&&level: &&f32| match self.precision {
            Precision::F16 => !f16::from_f32(level).is_finite(),
            Precision::F32 => !level.is_finite(),
        };
        if let Some(&level_db) = features.levels_db.iter().find(unstorable) {
            return Err(DataError::UnstorableLevel { event: label.event, level_db });
        }
        if let Some(fix) = features.fix
            && !fix.is_valid()
        {
            return Err(DataError::InvalidFix { event: label.event, fix });
        }

        self.pending.push(features, self.precision);
        self.events.push(label);
        if self.pending.events == events_per_shard(shape, self.precision) {
            self.write_shard()?;
        }
        Ok(())
    }

    /// Writes what is left, and the description of the folder.
    ///
    /// # Errors
    ///
    /// [`DataError::Write`] if one of the files cannot be written.
    pub fn finish(mut self) -> Result<(), DataError> {
        if self.pending.events > 0 {
            self.write_shard()?;
        }
        let index = Index {
            header: self.header,
            precision: self.precision,
            shards: self.shards,
            events: self.events,
        };
        write_renamed(&self.folder.join(INDEX_FILE), &[&index.to_json()])
    }

    /// Writes the pending shard and starts the next.
    fn write_shard(&mut self) -> Result<(), DataError> {
        let pending = std::mem::take(&mut self.pending);
        let file = format!("shard-{:05}.safetensors", self.shards.len());
        let layout = shard_layout(&self.header, self.precision, pending.events);
        let tensors = layout.into_iter().map(|(name, info)| (name.to_owned(), info)).collect();
        let metadata = Metadata::new(None, tensors).expect("the layout has no gaps");
        let mut header = serde_json::to_vec(&metadata).expect("names and numbers become JSON");
        // The tensors start at a multiple of eight bytes.
        header.resize(header.len().next_multiple_of(8), b' ');

        let length = (header.len() as u64).to_le_bytes();
        write_renamed(
            &self.folder.join(&file),
            &[
                &length,
                &header,
                &pending.arrivals,
                &pending.scalars,
                &pending.fix,
                &pending.levels,
                &pending.present,
            ],
        )?;
        self.shards.push(ShardEntry { file, events: pending.events });
        Ok(())
    }
}

impl PendingShard {
    /// Appends an event.
    fn push(&mut self, features: &FeatureMap, precision: Precision) {
        let rows = features.scalars.iter().flat_map(|scalars| {
            scalars.as_ref().map_or([0.0; ReceiverScalars::COUNT], ReceiverScalars::to_row)
        });
        self.scalars.extend(rows.flat_map(f32::to_le_bytes));
        self.present.extend(features.scalars.iter().map(|scalars| u8::from(scalars.is_some())));
        self.fix.extend(ClassicalFix::to_row(features.fix).into_iter().flat_map(f32::to_le_bytes));
        for arrival in &features.arrivals {
            let row = arrival.map_or([f64::NAN; ARRIVAL_NUMBERS], |a| [a.time_s, a.sigma_s]);
            self.arrivals.extend(row.iter().flat_map(|value| value.to_le_bytes()));
        }
        let levels = features.levels_db.iter();
        match precision {
            Precision::F16 => {
                self.levels.extend(levels.flat_map(|&level| f16::from_f32(level).to_le_bytes()));
            }
            Precision::F32 => self.levels.extend(levels.flat_map(|level| level.to_le_bytes())),
        }
        self.events += 1;
    }
}

/// Events that a full shard has.
fn events_per_shard(shape: FeatureShape, precision: Precision) -> usize {
    (SHARD_BYTES_MAX / (shape.len() * precision.bytes()).max(1)).clamp(1, EVENTS_PER_SHARD_MAX)
}

/// Tensors of a shard in the order of their bytes, the ones with the larger elements first.
pub(crate) fn shard_layout(
    header: &FeatureHeader,
    precision: Precision,
    events: usize,
) -> Vec<(&'static str, TensorInfo)> {
    let FeatureShape { receivers, bands, frames } = header.shape;
    let arrivals = ("arrivals", Dtype::F64, 8, vec![events, receivers, ARRIVAL_NUMBERS]);
    let scalars = ("scalars", Dtype::F32, 4, vec![events, receivers, ReceiverScalars::COUNT]);
    let fix = ("fix", Dtype::F32, 4, vec![events, ClassicalFix::COUNT]);
    let levels =
        ("levels", precision.dtype(), precision.bytes(), vec![events, receivers, bands, frames]);
    let present = ("present", Dtype::U8, 1, vec![events, receivers]);

    let is_second = header.format_version >= SECOND_FORMAT_VERSION;
    let (arrivals, fix) = (is_second.then_some(arrivals), is_second.then_some(fix));
    let mut from = 0;
    [arrivals, Some(scalars), fix, Some(levels), Some(present)]
        .into_iter()
        .flatten()
        .map(|(name, dtype, element_bytes, shape)| {
            let to = from + element_bytes * shape.iter().product::<usize>();
            let info = TensorInfo { dtype, shape, data_offsets: (from, to) };
            from = to;
            (name, info)
        })
        .collect()
}

/// Writes a file under a temporary name, and renames it when it is complete.
fn write_renamed(path: &Path, pieces: &[&[u8]]) -> Result<(), DataError> {
    let temporary = path.with_extension("part");
    let write = || {
        let mut file = BufWriter::new(fs::File::create(&temporary)?);
        for piece in pieces {
            file.write_all(piece)?;
        }
        file.into_inner()?.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|source| DataError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{feature_map, header, label};

    #[test]
    fn same_events_give_the_same_bytes() {
        let header = header(2, 4, 3);
        let write = |folder: &Path| {
            let mut writer = ShardWriter::create(folder, &header).unwrap();
            for event in 0..5 {
                writer.push(label(event), &feature_map(header.shape, event)).unwrap();
            }
            writer.finish().unwrap();
        };
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());

        write(first.path());
        write(second.path());

        for file in [INDEX_FILE, "shard-00000.safetensors"] {
            let read = |folder: &tempfile::TempDir| fs::read(folder.path().join(file)).unwrap();
            assert_eq!(read(&first), read(&second), "{file}");
        }
        assert_eq!(fs::read_dir(first.path()).unwrap().count(), 2);
    }

    #[test]
    fn shard_is_read_by_the_safetensors_crate() {
        let folder = tempfile::tempdir().unwrap();
        let header = header(2, 4, 3);
        let mut writer = ShardWriter::create(folder.path(), &header).unwrap();
        for event in 0..3 {
            writer.push(label(event), &feature_map(header.shape, event)).unwrap();
        }

        writer.finish().unwrap();

        let bytes = fs::read(folder.path().join("shard-00000.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(tensors.tensor("levels").unwrap().shape(), [3, 2, 4, 3]);
        assert_eq!(tensors.tensor("levels").unwrap().dtype(), Dtype::F16);
        assert_eq!(tensors.tensor("scalars").unwrap().shape(), [3, 2, ReceiverScalars::COUNT]);
        let present = tensors.tensor("present").unwrap();
        let expected: Vec<u8> = (0..3)
            .flat_map(|event| feature_map(header.shape, event).scalars)
            .map(|scalars| u8::from(scalars.is_some()))
            .collect();
        assert_eq!(present.data(), expected);
    }

    #[test]
    fn shard_takes_at_most_its_share_of_memory() {
        let reference = FeatureShape { receivers: 7, bands: 128, frames: 32 };
        let huge = FeatureShape { receivers: 7, bands: 4096, frames: 4096 };

        assert_eq!(events_per_shard(reference, Precision::F16), 1024);
        assert_eq!(events_per_shard(reference, Precision::F32), 585);
        assert_eq!(events_per_shard(huge, Precision::F16), 1);
    }

    #[test]
    fn folder_with_features_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let header = header(2, 4, 3);
        ShardWriter::create(folder.path(), &header).unwrap().finish().unwrap();

        let error = ShardWriter::create(folder.path(), &header).unwrap_err();

        assert!(matches!(error, DataError::AlreadyExists { .. }), "{error}");
    }

    #[test]
    fn features_of_another_shape_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = ShardWriter::create(folder.path(), &header(2, 4, 3)).unwrap();
        let other = FeatureShape { receivers: 2, bands: 4, frames: 4 };

        let error = writer.push(label(0), &feature_map(other, 0)).unwrap_err();

        assert!(matches!(error, DataError::HeaderMismatch { field: "shape", .. }), "{error}");
    }

    #[test]
    fn level_beyond_half_precision_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let header = header(2, 4, 3);
        let mut features = feature_map(header.shape, 0);
        features.levels_db[7] = 70_000.0;

        let half = ShardWriter::create(folder.path(), &header).unwrap().push(label(0), &features);
        let single = ShardWriter::create(folder.path(), &header)
            .unwrap()
            .with_precision(Precision::F32)
            .push(label(0), &features);

        let error = half.unwrap_err();
        assert!(error.to_string().contains("event-0000"), "{error}");
        assert!(single.is_ok());
    }

    #[test]
    fn fix_without_a_covariance_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let header = header(2, 4, 3);
        let mut features = feature_map(header.shape, 1);
        features.fix.as_mut().unwrap().covariance_km2 = [1.0, 1.0, 1.0];

        let mut writer = ShardWriter::create(folder.path(), &header).unwrap();
        let error = writer.push(label(1), &features).unwrap_err();

        assert!(matches!(error, DataError::InvalidFix { .. }), "{error}");
        assert!(error.to_string().contains("event-0001"), "{error}");
    }

    #[test]
    fn second_event_of_a_name_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let header = header(2, 4, 3);
        let mut writer = ShardWriter::create(folder.path(), &header).unwrap();
        writer.push(label(0), &feature_map(header.shape, 0)).unwrap();

        let error = writer.push(label(0), &feature_map(header.shape, 1)).unwrap_err();

        assert!(matches!(error, DataError::Duplicate { kind: "event", .. }), "{error}");
    }
}
