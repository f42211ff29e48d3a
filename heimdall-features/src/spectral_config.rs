//! What is computed of a recording frame by frame.

use serde::{Deserialize, Serialize};

use crate::filter_bank::FilterBankConfig;

/// Where the frames of a signal lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Framing {
    /// A frame every so many samples, one transform each.
    Hop {
        /// Distance between the starts of two frames, in samples.
        hop_length: usize,
        /// Whether frame `m` is centered at sample `m * hop_length`, with zeros beyond both ends,
        /// rather than started there.
        center: bool,
    },
    /// So many frames for a recording of any length, as [`FramePlan`](crate::FramePlan) has them.
    Count {
        /// Number of frames.
        frames: usize,
    },
}

/// What is measured of the bins of a transform.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpectrumUnit {
    /// Density, `|X|² / (fs Σw²)`, in full scale squared per Hz: the same for noise of the same
    /// strength, whatever the length of the transform and the sample rate.
    #[default]
    Density,
    /// Power, `|X|²`: that of librosa.
    Power,
}

impl SpectrumUnit {
    /// What is taken for the smallest value, so that silence has a level.
    pub fn value_min(self) -> f64 {
        match self {
            Self::Density => 1e-30,
            // That of librosa, by default.
            Self::Power => 1e-10,
        }
    }
}

/// What the rows of a result are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum SpectralRows {
    /// Levels of the bins, from `-sample_rate / 2` upwards, in dB.
    #[default]
    Bins,
    /// Levels of bands, from the lowest up, in dB.
    Bands {
        /// The bands.
        bank: FilterBankConfig,
    },
    /// Cepstral coefficients, from the constant one up: the orthonormal cosine transform (of the
    /// second kind) of the levels of bands.
    Cepstrum {
        /// The bands.
        bank: FilterBankConfig,
        /// Number of coefficients.
        coefficients: usize,
    },
}

/// How a recording becomes rows over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpectralConfig {
    /// Length of a transform, in samples; even.
    pub fft_length: usize,
    /// Where the frames lie.
    pub framing: Framing,
    /// What is measured of the bins.
    pub unit: SpectrumUnit,
    /// What the rows are.
    pub rows: SpectralRows,
    /// Whether bins that single precision cannot do are computed in double precision, so that
    /// levels in single precision are within 1e-4 dB, too, however far they lie below the rest of
    /// their frame. With strong carriers that takes longer than double precision throughout.
    pub exact_levels: bool,
}

impl Default for SpectralConfig {
    fn default() -> Self {
        Self {
            fft_length: 2048,
            framing: Framing::Hop { hop_length: 512, center: false },
            unit: SpectrumUnit::default(),
            rows: SpectralRows::default(),
            exact_levels: false,
        }
    }
}
