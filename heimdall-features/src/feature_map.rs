//! What the network sees of one event.

use serde::{Deserialize, Serialize};

/// Shape of the features of one event: written down here, and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureShape {
    /// Receivers of the network, in its order.
    pub receivers: usize,
    /// Frequency bands, from the lowest up.
    pub bands: usize,
    /// Frames, from the first on.
    pub frames: usize,
}

impl FeatureShape {
    /// Values of one event.
    pub fn len(&self) -> usize {
        self.receivers * self.bands * self.frames
    }

    /// Whether an event has no values at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Numbers about one recording that a spectrogram does not show directly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiverScalars {
    /// Mean power in the occupied band, in dB relative to full scale.
    pub power_db: f32,
    /// Power spectral density of the noise, in dB relative to full scale squared per Hz.
    pub noise_psd_db: f32,
    /// Power in the occupied band above the noise there, in dB.
    pub snr_db: f32,
    /// Width that holds 99 % of the power above the noise, in Hz.
    pub bandwidth_hz: f32,
    /// Kurtosis of the samples, `E|x|⁴ / (E|x|²)²`: 2 for Gaussian noise, 1 for a carrier.
    pub kurtosis: f32,
    /// Whether the signal stands above the detection threshold.
    pub detected: bool,
}

/// Features of what one receiver recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceiverFeatures {
    /// Level above the receiver's own noise floor (or as configured), `[bands, frames]`, in dB.
    pub levels_db: Vec<f32>,
    /// Numbers about the whole recording.
    pub scalars: ReceiverScalars,
}

/// Features of one event: every receiver of the network, those that are absent too.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureMap {
    /// Axes of `levels_db`.
    pub shape: FeatureShape,
    /// `[receivers, bands, frames]`, in dB; zero (the noise floor) where a receiver is absent.
    pub levels_db: Vec<f32>,
    /// `[receivers]`; `None` where a receiver recorded nothing.
    pub scalars: Vec<Option<ReceiverScalars>>,
}
