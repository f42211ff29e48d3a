//! A recording of complex baseband samples by one receiver.

use num_complex::Complex32;
use serde::{Deserialize, Serialize};

/// An instant of UTC, exact to the nanosecond (an `f64` of seconds since 1970 resolves 240 ns).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct UtcTime {
    /// Whole seconds since 1970-01-01T00:00:00Z, leap seconds not counted.
    pub seconds: i64,
    /// Nanoseconds after that second, below 1,000,000,000.
    pub nanoseconds: u32,
}

impl UtcTime {
    /// Computes the time from `earlier` to this instant, in seconds.
    pub fn seconds_since(&self, earlier: &Self) -> f64 {
        (self.seconds - earlier.seconds) as f64
            + (f64::from(self.nanoseconds) - f64::from(earlier.nanoseconds)) * 1e-9
    }
}

/// How far the time stamps of a recording can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ClockQuality {
    /// Disciplined to a common time scale: good for time differences.
    Disciplined {
        /// Standard deviation of the start time, in seconds.
        sigma_s: f64,
    },
    /// Of unknown quality: delays measured with it mean nothing.
    Unknown,
}

/// Samples of one receiver, with what is needed to interpret them.
#[derive(Clone, Debug, PartialEq)]
pub struct IqRecording {
    /// Samples, `[n]`, relative to full scale.
    pub samples: Vec<Complex32>,
    /// Sample rate, fitted to the time stamps where there are any, in Hz.
    pub sample_rate_hz: f64,
    /// Frequency that was mixed down to zero, in Hz.
    pub center_frequency_hz: f64,
    /// Instant of the first sample.
    pub start: UtcTime,
    /// How far `start` and `sample_rate_hz` can be trusted.
    pub clock: ClockQuality,
}

impl IqRecording {
    /// Duration, in seconds.
    pub fn duration_s(&self) -> f64 {
        self.samples.len() as f64 / self.sample_rate_hz
    }
}
