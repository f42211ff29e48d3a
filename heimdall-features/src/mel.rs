//! The scales in which bands of equal width are equally far apart to the ear.

use serde::{Deserialize, Serialize};

/// What makes a hertz a mel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MelScale {
    /// Linear below 1 kHz, logarithmic above.
    #[default]
    Slaney,
    /// `2595 log10(1 + f / 700)`.
    Htk,
}

/// Hertz per mel of the linear part of Slaney's scale.
const SLANEY_HZ_PER_MEL: f64 = 200.0 / 3.0;
/// Frequency from which Slaney's scale is logarithmic.
const SLANEY_BREAK_HZ: f64 = 1000.0;
/// Slaney's scale at that frequency.
const SLANEY_BREAK_MEL: f64 = SLANEY_BREAK_HZ / SLANEY_HZ_PER_MEL;
/// A factor of 6.4 in frequency is this many mels on the logarithmic part of Slaney's scale.
const SLANEY_MELS_PER_STEP: f64 = 27.0;

impl MelScale {
    /// Converts a frequency to mels.
    ///
    /// # References
    ///
    /// M. Slaney, "Auditory toolbox", version 2, Interval Research Corporation, technical report
    /// 1998-010; S. Young et al., *The HTK book*, version 3.4, equation 5.13.
    pub fn mel(self, frequency_hz: f64) -> f64 {
        match self {
            Self::Slaney if frequency_hz < SLANEY_BREAK_HZ => frequency_hz / SLANEY_HZ_PER_MEL,
            Self::Slaney => {
                let octaves = (frequency_hz / SLANEY_BREAK_HZ).ln() / 6.4_f64.ln();
                SLANEY_BREAK_MEL + octaves * SLANEY_MELS_PER_STEP
            }
            Self::Htk => 2595.0 * (1.0 + frequency_hz / 700.0).log10(),
        }
    }

    /// Converts mels to a frequency, in Hz.
    pub fn frequency_hz(self, mel: f64) -> f64 {
        match self {
            Self::Slaney if mel < SLANEY_BREAK_MEL => mel * SLANEY_HZ_PER_MEL,
            Self::Slaney => {
                let octaves = (mel - SLANEY_BREAK_MEL) / SLANEY_MELS_PER_STEP;
                SLANEY_BREAK_HZ * 6.4_f64.powf(octaves)
            }
            Self::Htk => 700.0 * (10_f64.powf(mel / 2595.0) - 1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn slaney_scale_has_its_defining_points() {
        // 1 kHz is 15 mel, 6.4 kHz is 27 mel more, and below 1 kHz all is linear.
        for (frequency_hz, mel) in [(0.0, 0.0), (500.0, 7.5), (1000.0, 15.0), (6400.0, 42.0)] {
            assert!((MelScale::Slaney.mel(frequency_hz) - mel).abs() < 1e-12);
        }
    }

    #[test]
    fn htk_scale_has_its_defining_points() {
        // 6300 / 700 = 9, and log10(1 + 9) = 1.
        for (frequency_hz, mel) in [(0.0, 0.0), (6300.0, 2595.0)] {
            assert!((MelScale::Htk.mel(frequency_hz) - mel).abs() < 1e-9);
        }
    }

    proptest! {
        /// Scales are inverted exactly, and rise.
        #[test]
        fn mel_and_hertz_are_inverse(frequency_hz in 0.0..1e6_f64) {
            for scale in [MelScale::Slaney, MelScale::Htk] {
                let back = scale.frequency_hz(scale.mel(frequency_hz));
                prop_assert!((back - frequency_hz).abs() < 1e-9 * (1.0 + frequency_hz));
                prop_assert!(scale.mel(frequency_hz + 1.0) > scale.mel(frequency_hz));
            }
        }
    }
}
