//! Audio that resembles speech: where its energy lies, and how it comes and goes.

use std::f64::consts::TAU;

use num_complex::Complex64;

use crate::random::RandomStream;

/// Lowest and highest audio frequency, in Hz.
pub(super) const AUDIO_BAND_HZ: [f64; 2] = [300.0, 3000.0];

/// A voice: the spectrum of its noise, and the rhythm of its syllables.
#[derive(Clone, Debug)]
pub(super) struct Voice {
    /// Center and width of each formant, in Hz.
    formants: [[f64; 2]; 3],
    syllable_hz: f64,
    syllable_phase: f64,
}

impl Voice {
    pub(super) fn draw(random: &mut RandomStream) -> Self {
        let mut formant = |low, high| [random.between(low, high), random.between(80.0, 250.0)];
        Self {
            formants: [formant(350.0, 850.0), formant(900.0, 2000.0), formant(2200.0, 2900.0)],
            syllable_hz: random.between(3.0, 6.0),
            syllable_phase: random.angle(),
        }
    }

    /// Draws noise that comes and goes with the syllables; [`gain`](Self::gain) makes it a voice.
    pub(super) fn excitation(
        &self,
        points: usize,
        rate_hz: f64,
        random: &mut RandomStream,
    ) -> Vec<Complex64> {
        (0..points)
            .map(|n| {
                let angle = TAU * self.syllable_hz * n as f64 / rate_hz + self.syllable_phase;
                Complex64::new(random.normal() * (0.6 + 0.4 * angle.cos()), 0.0)
            })
            .collect()
    }

    /// Amplitude at a frequency; zero outside of the band.
    pub(super) fn gain(&self, frequency_hz: f64) -> f64 {
        if !(AUDIO_BAND_HZ[0]..=AUDIO_BAND_HZ[1]).contains(&frequency_hz) {
            return 0.0;
        }
        let bump = |&[center, width]: &[f64; 2]| (-((frequency_hz - center) / width).powi(2)).exp();
        0.25 + self.formants.iter().map(bump).sum::<f64>()
    }
}
