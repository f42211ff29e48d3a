//! How samples become features.

use serde::{Deserialize, Serialize};

use crate::FeatureError;
use crate::filter_bank::{FilterBankConfig, FilterBankKind};
use crate::frames::check_frames;
use crate::mel::MelScale;
use crate::stft::check_fft_length;

/// What a level of zero decibels is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LevelReference {
    /// The receiver's own noise floor in this recording; unknown gain drops out.
    #[default]
    NoiseFloor,
    /// Full scale squared per Hz.
    Absolute,
}

/// How samples become features; the defaults are for recordings of some 24 kHz.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FeatureConfig {
    /// Number of bands, from the lowest frequency up.
    pub bands: usize,
    /// Number of frames, whatever the length of the recording.
    pub frames: usize,
    /// Length of a transform, in samples; even.
    pub fft_length: usize,
    /// Where the bands lie.
    pub bank: FilterBankKind,
    /// Mel scale, where bands are equally wide in mels.
    pub scale: MelScale,
    /// Width of all bands together, centered, in Hz; the sample rate where left out.
    pub bandwidth_hz: Option<f64>,
    /// What a level of zero decibels is.
    pub level: LevelReference,
    /// Width of the channel around the center in which the signal is measured, in Hz; half of the
    /// sample rate where left out. The noise is measured beside it.
    pub channel_bandwidth_hz: Option<f64>,
    /// SNR in the channel from which on a signal counts as detected, in dB.
    pub detection_snr_db: f32,
}

impl Default for FeatureConfig {
    fn default() -> Self {
        Self {
            bands: 128,
            frames: 32,
            fft_length: 256,
            bank: FilterBankKind::Linear,
            scale: MelScale::Slaney,
            bandwidth_hz: None,
            level: LevelReference::NoiseFloor,
            channel_bandwidth_hz: None,
            detection_snr_db: 3.0,
        }
    }
}

impl FeatureConfig {
    /// Checks the rules that the types of the fields cannot express and that hold for every sample
    /// rate; [`FeatureExtractor::new`](crate::FeatureExtractor::new) checks the rest.
    ///
    /// # Errors
    ///
    /// Returns [`FeatureError::InvalidConfig`] for the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), FeatureError> {
        let invalid = |field, expected: &str, actual| {
            Err(FeatureError::InvalidConfig { field, expected: expected.to_owned(), actual })
        };
        self.filter_bank().validate()?;
        check_fft_length(self.fft_length)?;
        check_frames(self.frames)?;
        if let Some(width_hz) = self.channel_bandwidth_hz
            && !(width_hz.is_finite() && width_hz > 0.0)
        {
            return invalid("channel_bandwidth_hz", "a positive number", width_hz);
        }
        if !self.detection_snr_db.is_finite() {
            let actual = f64::from(self.detection_snr_db);
            return invalid("detection_snr_db", "a finite number", actual);
        }
        Ok(())
    }

    /// The bands, as the filter bank has them.
    pub(crate) fn filter_bank(&self) -> FilterBankConfig {
        let &Self { bands, bank: kind, scale, bandwidth_hz, .. } = self;
        FilterBankConfig { bands, kind, scale, bandwidth_hz, ..FilterBankConfig::default() }
    }
}
