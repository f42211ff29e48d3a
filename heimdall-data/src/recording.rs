//! Recordings as bytes: decoding, and telling the useful ones from the others.

mod auxi;
mod datetime;
mod file;
mod gps;
mod json;
mod kiwi;
#[cfg(test)]
pub(crate) mod kiwi_fixture;
mod kiwi_name;
mod layout;
mod metadata;
mod npy;
mod options;
mod quality;
mod raw;
mod riff;
mod sample_type;
mod sidecar;
mod sigmf;
mod source;
mod stamp;
pub(crate) mod utc_text;
mod wav;

pub(crate) use datetime::{format_utc, parse_utc};
pub(crate) use file::Encoded;
pub use file::{IqFile, ReadRecording, SampleChunks, read_recording};
pub(crate) use kiwi_name::check_kiwi_name;
pub use metadata::{Annotation, FileFormat, Gain, Place, RecordingMetadata, StampQuality};
pub use npy::{npy_table_header, read_npy, write_npy};
pub use options::ReadOptions;
pub use quality::{RecordingLimits, check_recording};
pub use raw::RawType;
pub use sigmf::{SigmfCollection, SigmfExport, export_sigmf};
