//! The catalog: which receivers, sources, sessions and recordings there are, and where the bytes lie.

mod sqlite;

use heimdall_features::{ClockQuality, UtcTime};
use heimdall_geo::Position;
use serde::{Deserialize, Serialize};
pub use sqlite::Catalog;

/// One emission, and who recorded it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventEntry {
    /// Name, unique in the catalog.
    pub id: String,
    /// Session that the event belongs to: one source, one place, some minutes.
    pub session: String,
    /// What emitted.
    pub source: String,
    /// Where the source was; `None` if nobody knows.
    pub position: Option<Position>,
    /// Frequency of the emission, in Hz.
    pub frequency_hz: f64,
    /// When it began.
    pub start: UtcTime,
    /// What was transmitted, such as `nbfm_voice`; `None` if nobody knows.
    pub waveform: Option<String>,
    /// At most one recording of each receiver.
    pub recordings: Vec<RecordingEntry>,
}

/// What one receiver recorded of an event, and where the samples are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordingEntry {
    /// Name of the receiver.
    pub receiver: String,
    /// Key of the samples in the object store.
    pub object: String,
    /// How the samples are encoded there.
    pub format: RecordingFormat,
    /// Sample rate, in Hz.
    pub sample_rate_hz: f64,
    /// Frequency that was mixed down to zero, in Hz.
    pub center_frequency_hz: f64,
    /// Instant of the first sample.
    pub start: UtcTime,
    /// How far `start` and `sample_rate_hz` can be trusted.
    pub clock: ClockQuality,
    /// Samples in the recording.
    pub sample_count: u64,
    /// BLAKE3 of the object, as 64 hexadecimal digits.
    pub digest: String,
}

/// Encoding of the samples in an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordingFormat {
    /// A one-dimensional `complex64` array of NumPy.
    Npy,
    /// A WAV file of a KiwiSDR, with time stamps.
    KiwiWav,
}

impl RecordingFormat {
    fn name(self) -> &'static str {
        match self {
            Self::Npy => "npy",
            Self::KiwiWav => "kiwi_wav",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Npy, Self::KiwiWav].into_iter().find(|format| format.name() == name)
    }
}

/// Whether the events of a session may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approval {
    /// Nobody has decided.
    Pending,
    /// They may.
    Approved,
    /// They may not.
    Rejected,
}

impl Approval {
    fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
        }
    }
}
