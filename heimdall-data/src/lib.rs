//! Recordings, catalogs, object stores, feature shards, splits and batches.
//!
//! ```text
//! SigMF, WAV, KiwiSDR WAV, .npy, raw ──▶ IqFile ──▶ IqRecording
//! folders of them, an Installation ──▶ Recordings: a Catalog and its objects ──▶ (feature extraction)
//! tables of levels and times ──▶ MeasurementTables ──▶ MeasuredNetwork ──▶ ShardWriter
//! FeatureMap ──▶ ShardWriter ──▶ shards on disk ──▶ HeimdallDataset ──▶ split ──▶ Batcher ──▶ Batch
//! ```
//!
//! # Example
//!
//! Another program reads a folder of features, event by event:
//!
//! ```
//! # use heimdall_data::{EventLabel, FEATURE_FORMAT_VERSION, FeatureHeader, ShardWriter};
//! # use heimdall_features::{FeatureMap, FeatureShape};
//! # use heimdall_geo::{LocalFrame, LocalPosition, Position, Receiver};
//! # let folder = tempfile::tempdir()?;
//! # let origin = Position::new(45.0, 8.0)?;
//! # let name = "north".to_owned();
//! # let north = Receiver { name, position: origin, altitude_m: 300.0, antenna_height_m: 10.0 };
//! # let shape = FeatureShape { receivers: 1, bands: 2, frames: 3 };
//! # let header = FeatureHeader {
//! #     format_version: FEATURE_FORMAT_VERSION,
//! #     shape,
//! #     receivers: vec![north],
//! #     frame: LocalFrame { origin },
//! #     features: None,
//! #     sample_rate_hz: None,
//! # };
//! # let label = EventLabel {
//! #     event: "event".to_owned(),
//! #     session: "evening".to_owned(),
//! #     source: "beacon".to_owned(),
//! #     position_km: Some(LocalPosition { east_km: 1.5, north_km: -2.0 }),
//! #     time: None,
//! #     waveform: None,
//! # };
//! # let features = FeatureMap {
//! #     shape,
//! #     levels_db: vec![1.0; 6],
//! #     scalars: vec![None],
//! #     arrivals: vec![None],
//! #     fix: None,
//! # };
//! # let mut writer = ShardWriter::create(folder.path(), &header)?;
//! # writer.push(label, &features)?;
//! # writer.finish()?;
//! use heimdall_data::HeimdallDataset;
//!
//! let dataset = HeimdallDataset::open(folder.path())?;
//! assert_eq!(dataset.len(), 1);
//! let (label, features) = dataset.get(0)?;
//!
//! let receivers = &dataset.header().receivers;
//! assert_eq!((label.session.as_str(), receivers[0].name.as_str()), ("evening", "north"));
//! assert_eq!(label.position_km.map(|position| position.east_km), Some(1.5));
//! assert_eq!(features.levels_db, [1.0; 6]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod augmentation;
mod batch;
mod catalog;
mod dataset;
mod error;
mod import;
mod object;
mod recording;
mod shard;
mod split;
mod store;
#[cfg(test)]
mod testing;

pub use augmentation::Augmentation;
pub use batch::{Batch, BatchOrder, Batcher, Batches};
pub use catalog::{
    Approval, Catalog, CatalogStats, EventConditions, EventEntry, EventFilter, Installation,
    InstalledEvent, InstalledRecording, InstalledSession, LeftOut, LevelEntry, Merged,
    RecordingEntry, RecordingFormat, SessionEntry,
};
pub use dataset::HeimdallDataset;
pub use error::DataError;
pub use import::{
    ImportConfig, ImportFormat, ImportReport, KnownSource, MeasuredEvent, MeasuredNetwork,
    Measurement, MeasurementTables, MissingLine, Quarantined, Remark, TableConfig, TableReport,
    import_folder, import_installation, read_measurement_tables, read_receivers, read_sources,
};
pub use object::{ObjectCache, StoreAddress};
pub use recording::{
    Annotation, FileFormat, Gain, IqFile, Place, RawType, ReadOptions, ReadRecording,
    RecordingLimits, RecordingMetadata, SampleChunks, SigmfCollection, SigmfExport, StampQuality,
    check_recording, export_sigmf, npy_table_header, read_npy, read_recording, write_npy,
};
pub use shard::{EventLabel, FEATURE_FORMAT_VERSION, FeatureHeader, Precision, ShardWriter};
pub use split::{Part, SplitBy, SplitConfig, SplitLists, SplitRatio, groups, split};
pub use store::Recordings;
