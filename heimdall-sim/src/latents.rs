//! What really happened in an event: known to the simulation, and to nobody else.

use heimdall_features::UtcTime;
use heimdall_geo::Position;
use serde::{Deserialize, Serialize};

use crate::{TransmitterLatents, WaveformKind};

/// Width of the channel that signal-to-noise ratios refer to, in Hz.
pub const CHANNEL_WIDTH_HZ: f64 = 12_500.0;

/// Signal-to-noise ratio from which a receiver hears a transmission, in dB in 12.5 kHz.
pub const DETECTION_SNR_DB: f64 = 3.0;

/// The truth about one event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventLatents {
    /// Index of the event in its world.
    pub index: usize,
    /// Session that it belongs to.
    pub session: usize,
    /// Where the transmitter was.
    pub position: Position,
    /// Instant of the first sample by a perfect clock.
    pub start: UtcTime,
    /// Who transmitted.
    pub transmitter: TransmitterLatents,
    /// What was transmitted. Powers are means over the recording.
    pub waveform: WaveformKind,
    /// `[receivers]`, in the order of the network; those that are out of order too.
    pub links: Vec<LinkLatents>,
}

impl EventLatents {
    /// Counts the receivers that recorded the event and hear it.
    pub fn receivers_heard(&self) -> usize {
        self.links.iter().filter(|link| link.is_heard()).count()
    }
}

/// The truth about the way from a transmitter to one receiver.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkLatents {
    /// Whether the receiver is out of order and records nothing.
    pub outage: bool,
    /// Length of the geodesic, in km.
    pub distance_km: f64,
    /// Median loss at this distance, in dB.
    pub path_loss_db: f64,
    /// Loss beyond the median by shadowing, in dB.
    pub shadowing_db: f64,
    /// Gain by the sum of all paths during this event, in dB.
    pub fading_db: f64,
    /// Power at the antenna, in dBm.
    pub received_dbm: f64,
    /// Power spectral density of the noise at the antenna, in dBm/Hz.
    pub noise_dbm_per_hz: f64,
    /// Gain of the receiver during this event, in dB around the mean of all receivers.
    pub gain_db: f64,
    /// Power in the recording, in dB relative to full scale.
    pub signal_dbfs: f64,
    /// Power spectral density of the noise in the recording, in dB relative to full scale² per Hz.
    pub noise_dbfs_per_hz: f64,
    /// Power of the signal over that of the noise in 12.5 kHz, in dB.
    pub snr_db: f64,
    /// Time of travel on the first path, in s.
    pub delay_s: f64,
    /// Part of the delay that a straight path would not have, in s.
    pub excess_delay_s: f64,
    /// How much later than stamped the samples were taken, in s.
    pub clock_error_s: f64,
    /// Frequency of the carrier in the recording, in Hz.
    pub frequency_offset_hz: f64,
}

impl LinkLatents {
    /// Whether the receiver recorded the event with at least [`DETECTION_SNR_DB`].
    pub fn is_heard(&self) -> bool {
        !self.outage && self.snr_db >= DETECTION_SNR_DB
    }

    /// Time of arrival in the receiver's time stamps relative to the time of emission, in s.
    pub fn stamped_delay_s(&self) -> f64 {
        self.delay_s - self.clock_error_s
    }
}
