//! What a file says about its samples.

use heimdall_features::{ClockQuality, UtcTime};
use heimdall_geo::Position;
use serde::{Deserialize, Serialize};

/// Format of a file of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileFormat {
    /// A pair of metadata and samples of the SigMF standard, or an archive of both.
    Sigmf,
    /// A WAV file with two channels.
    Wav,
    /// A WAV file of a KiwiSDR, with a time stamp on every block.
    KiwiWav,
    /// An array of NumPy.
    Npy,
    /// Samples and nothing else.
    Raw,
}

/// How much a receiver amplifies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Gain {
    /// The same throughout, so that levels can be compared.
    Fixed {
        /// Gain relative to an unstated reference, in dB.
        gain_db: f64,
    },
    /// Changed by the receiver as it saw fit.
    Automatic,
}

/// Where a receiver stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// Latitude and longitude.
    pub position: Position,
    /// Altitude of the ground, in meters, if somebody knows.
    pub altitude_m: Option<f64>,
}

/// Something that somebody noticed in a range of samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Annotation {
    /// Index of its first sample, as the file counts.
    pub sample_start: u64,
    /// How many samples it is about; `None` if that is open.
    pub sample_count: Option<u64>,
    /// Lower edge, in Hz.
    pub frequency_lower_hz: Option<f64>,
    /// Upper edge, in Hz.
    pub frequency_upper_hz: Option<f64>,
    /// Short description.
    pub label: Option<String>,
    /// Longer description.
    pub comment: Option<String>,
}

/// How well the time stamps of a file lie on a straight line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StampQuality {
    /// Time stamps that lie on the line.
    pub stamp_count: usize,
    /// Time stamps that are off the line, or stale, among the samples that are kept.
    pub rejected_stamp_count: usize,
    /// Root mean square of what the stamps are off the line, in seconds.
    pub residual_rms_s: f64,
}

/// What a file says about its samples, and what was noticed when it was opened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RecordingMetadata {
    /// Format of the file.
    pub format: FileFormat,
    /// Channels in the file, of which one can be read.
    pub channel_count: usize,
    /// Samples that can be read.
    pub sample_count: u64,
    /// Sample rate, fitted to the time stamps where every block has one, in Hz.
    pub sample_rate_hz: f64,
    /// Frequency that was mixed down to zero, in Hz.
    pub center_frequency_hz: Option<f64>,
    /// Instant of the first sample; of a KiwiSDR file, `None` if nothing tells in which week its
    /// time stamps are.
    pub start: Option<UtcTime>,
    /// How far `start` and `sample_rate_hz` can be trusted.
    pub clock: ClockQuality,
    /// Gain of the receiver.
    pub gain: Option<Gain>,
    /// Name of the receiver.
    pub receiver: Option<String>,
    /// Height of the receiver's antenna above ground, in meters.
    pub antenna_height_m: Option<f64>,
    /// Where the receiver stands.
    pub place: Option<Place>,
    /// Start of the recording by the name of its file, to the second.
    pub named_start: Option<UtcTime>,
    /// Time stamps, where every block of samples has one.
    pub stamps: Option<StampQuality>,
    /// Gaps in time and changes of frequency, gain or clock, at which the file falls into runs; one of
    /// these runs can be read.
    pub gap_count: usize,
    /// Samples that are in the file, but not in the run that can be read.
    pub dropped_sample_count: u64,
    /// Blocks whose time stamp is stale, as the receiver had no recent satellite fix.
    pub stale_stamp_count: usize,
    /// Bytes at the end that make no whole sample or block.
    pub cut_byte_count: u64,
    /// Samples that the header promises and the file does not have.
    pub missing_sample_count: u64,
    /// What people wrote about ranges of samples.
    pub annotations: Vec<Annotation>,
}

impl RecordingMetadata {
    /// Of a file that says no more than how many samples it has.
    pub(super) fn of_samples(format: FileFormat, sample_count: u64) -> Self {
        Self {
            format,
            channel_count: 1,
            sample_count,
            sample_rate_hz: f64::NAN,
            center_frequency_hz: None,
            start: None,
            clock: ClockQuality::Unknown,
            gain: None,
            receiver: None,
            antenna_height_m: None,
            place: None,
            named_start: None,
            stamps: None,
            gap_count: 0,
            dropped_sample_count: 0,
            stale_stamp_count: 0,
            cut_byte_count: 0,
            missing_sample_count: 0,
            annotations: Vec::new(),
        }
    }

    /// Duration of what the header promises and the file does not have, in seconds; `None` if it
    /// has everything.
    pub fn missing_s(&self) -> Option<f64> {
        let is_cut = self.missing_sample_count > 0;
        is_cut.then(|| self.missing_sample_count as f64 / self.sample_rate_hz)
    }

    /// Duration, in seconds.
    pub fn duration_s(&self) -> f64 {
        self.sample_count as f64 / self.sample_rate_hz
    }
}
