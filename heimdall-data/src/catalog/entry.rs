//! What a catalog says of events and of what receivers have of them.

use heimdall_features::{ClockQuality, UtcTime};
use heimdall_geo::Position;
use serde::{Deserialize, Serialize};

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
    /// What receivers measured that record no samples, or beside them; at most one of each receiver.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<LevelEntry>,
}

/// What one receiver measured of an event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LevelEntry {
    /// Name of the receiver.
    pub receiver: String,
    /// Received level, in dB relative to any reference of the receiver.
    pub rss_db: Option<f64>,
    /// Level above the receiver's noise, in dB.
    pub snr_db: Option<f64>,
    /// The receiver's noise, on the scale of `rss_db`.
    pub noise_db: Option<f64>,
    /// Time of arrival after the earliest one of the event, in seconds.
    pub arrival_s: Option<f64>,
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
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Npy => "npy",
            Self::KiwiWav => "kiwi_wav",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Self::Npy, Self::KiwiWav].into_iter().find(|format| format.name() == name)
    }
}

/// Whether the events of a session may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
    /// All decisions.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Approved, Self::Rejected];

    /// Returns the name that tables and messages use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|approval| approval.name() == name)
    }
}

/// A session, and how much there is of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionEntry {
    /// Name, unique in the catalog.
    pub name: String,
    /// What emitted.
    pub source: String,
    /// Where the source was; `None` if nobody knows.
    pub position: Option<Position>,
    /// Whether its events may be used.
    pub approval: Approval,
    /// Events in it.
    pub events: u64,
    /// Recordings of them.
    pub recordings: u64,
    /// Levels of receivers without or beside recordings.
    pub levels: u64,
    /// When the first of the events began; `None` if there is none.
    pub start: Option<UtcTime>,
    /// When the last of the events began; `None` if there is none.
    pub last_start: Option<UtcTime>,
}

/// How much there is in a catalog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogStats {
    /// Receivers of the network.
    pub receivers: u64,
    /// Sources that emitted.
    pub sources: u64,
    /// Sources whose position is known.
    pub located_sources: u64,
    /// Sessions on which nobody has decided.
    pub pending_sessions: u64,
    /// Sessions that may be used.
    pub approved_sessions: u64,
    /// Sessions that may not be used.
    pub rejected_sessions: u64,
    /// Events in all of them.
    pub events: u64,
    /// Recordings of them.
    pub recordings: u64,
    /// Samples of the recordings.
    pub samples: u64,
    /// Levels of receivers without or beside recordings.
    pub levels: u64,
}
