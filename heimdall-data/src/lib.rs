//! Recordings, catalogs, object stores, feature shards, splits and batches.
//!
//! ```text
//! SigMF, WAV, KiwiSDR WAV, .npy, raw ──▶ IqFile ──▶ IqRecording
//! folders of them ──▶ Recordings: catalog.db + objects/ ──▶ (feature extraction)
//! tables of levels and times ──▶ MeasurementTables ──▶ MeasuredNetwork ──▶ ShardWriter
//! FeatureMap ──▶ ShardWriter ──▶ shards on disk ──▶ HeimdallDataset ──▶ split ──▶ Batcher ──▶ Batch
//! ```
//!
//! # Example
//!
//! ```
//! use heimdall_data::{read_npy, write_npy};
//! use num_complex::Complex32;
//!
//! let samples = [Complex32::new(0.5, -0.25), Complex32::new(0.0, 1.0)];
//!
//! assert_eq!(read_npy(&write_npy(&samples))?, samples);
//! # Ok::<(), heimdall_data::DataError>(())
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
