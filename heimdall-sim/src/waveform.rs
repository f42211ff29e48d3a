//! What is transmitted: narrow-band FM with audio that resembles speech.

use std::f64::consts::TAU;
use std::fmt;
use std::sync::Arc;

use num_complex::{Complex32, Complex64};
use rustfft::{Fft, FftPlanner};
use serde::{Deserialize, Serialize};

use crate::SimError;
use crate::error::require;
use crate::random::RandomStream;

/// Rate at which the phase is tabulated, in Hz: sixteen times the highest audio frequency.
const TABLE_RATE_HZ: f64 = 48_000.0;

/// How much longer than a recording the tabulated signal is, in s: 30,000 km at the speed of light.
const MARGIN_S: f64 = 0.1;

/// Lowest and highest audio frequency, in Hz.
const AUDIO_BAND_HZ: [f64; 2] = [300.0, 3000.0];

/// Kind of transmission.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Waveform {
    /// Speech in a channel of 12.5 kHz, by frequency modulation.
    NbfmVoice {
        /// Lowest peak deviation of an event, in Hz.
        deviation_hz_min: f64,
        /// Highest peak deviation of an event, in Hz.
        deviation_hz_max: f64,
    },
}

impl Default for Waveform {
    fn default() -> Self {
        Self::NbfmVoice { deviation_hz_min: 2500.0, deviation_hz_max: 3000.0 }
    }
}

impl Waveform {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// [`SimError::InvalidConfig`] if the deviations do not fit into the channel or are reversed.
    pub fn validate(&self) -> Result<(), SimError> {
        let Self::NbfmVoice { deviation_hz_min, deviation_hz_max } = *self;
        require(deviation_hz_min > 0.0, "waveform.deviation_hz_min", "positive", deviation_hz_min)?;
        require(
            (deviation_hz_min..=5000.0).contains(&deviation_hz_max),
            "waveform.deviation_hz_max",
            "between `waveform.deviation_hz_min` and 5000",
            deviation_hz_max,
        )
    }
}

/// Makes transmissions of one kind and duration; planned once.
#[derive(Clone)]
pub(crate) struct Modulator {
    waveform: Waveform,
    forward: Arc<dyn Fft<f64>>,
    inverse: Arc<dyn Fft<f64>>,
}

impl fmt::Debug for Modulator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let points = self.forward.len();
        formatter
            .debug_struct("Modulator")
            .field("waveform", &self.waveform)
            .field("points", &points)
            .finish_non_exhaustive()
    }
}

impl Modulator {
    pub(crate) fn new(waveform: Waveform, duration_s: f64) -> Self {
        // The configuration limits the duration to a minute.
        let points = ((duration_s + MARGIN_S) * TABLE_RATE_HZ).ceil() as usize;
        let points = points.next_power_of_two();
        let mut planner = FftPlanner::new();
        Self {
            waveform,
            forward: planner.plan_fft_forward(points),
            inverse: planner.plan_fft_inverse(points),
        }
    }

    /// Makes one transmission.
    pub(crate) fn emit(&self, random: &mut RandomStream) -> Emission {
        match self.waveform {
            Waveform::NbfmVoice { deviation_hz_min, deviation_hz_max } => {
                let deviation_hz = random.between(deviation_hz_min, deviation_hz_max);
                self.frequency_modulated(&VoiceSpectrum::draw(random), deviation_hz, random)
            }
        }
    }

    /// Shapes noise into audio, and modulates the frequency with it.
    fn frequency_modulated(
        &self,
        voice: &VoiceSpectrum,
        deviation_hz: f64,
        random: &mut RandomStream,
    ) -> Emission {
        let points = self.forward.len();
        let syllable_hz = random.between(3.0, 6.0);
        let syllable_phase = random.angle();
        let mut audio: Vec<Complex64> = (0..points)
            .map(|n| {
                let angle = TAU * syllable_hz * n as f64 / TABLE_RATE_HZ + syllable_phase;
                Complex64::new(random.normal() * (0.6 + 0.4 * angle.cos()), 0.0)
            })
            .collect();

        // The audio is shaped by frequency and integrated to the phase at once: both are real, so
        // that one transform back gives the phase as its real and the audio as its imaginary part.
        self.forward.process(&mut audio);
        for (bin, value) in audio.iter_mut().enumerate() {
            let signed_bin =
                if bin <= points / 2 { bin as f64 } else { bin as f64 - points as f64 };
            let frequency_hz = signed_bin * TABLE_RATE_HZ / points as f64;
            let gain = voice.gain(frequency_hz.abs());
            *value = if gain > 0.0 {
                let integral = 1.0 / Complex64::new(0.0, TAU * frequency_hz);
                *value * gain * (integral + Complex64::I)
            } else {
                Complex64::ZERO
            };
        }
        self.inverse.process(&mut audio);

        let peak = audio.iter().map(|value| value.im.abs()).fold(f64::MIN_POSITIVE, f64::max);
        let scale = TAU * deviation_hz / peak;
        let nodes = audio
            .iter()
            // Rounding to the nearest `f32` is an error of a millionth of a turn.
            .map(|value| [(value.re * scale) as f32, (value.im * scale / TABLE_RATE_HZ) as f32])
            .collect();
        Emission { nodes }
    }
}

/// Where the energy of a voice lies.
#[derive(Clone, Debug)]
struct VoiceSpectrum {
    /// Center and width of each formant, in Hz.
    formants: [[f64; 2]; 3],
}

impl VoiceSpectrum {
    fn draw(random: &mut RandomStream) -> Self {
        let mut formant = |low, high| [random.between(low, high), random.between(80.0, 250.0)];
        Self { formants: [formant(350.0, 850.0), formant(900.0, 2000.0), formant(2200.0, 2900.0)] }
    }

    /// Amplitude at a frequency; zero outside of the band.
    fn gain(&self, frequency_hz: f64) -> f64 {
        if !(AUDIO_BAND_HZ[0]..=AUDIO_BAND_HZ[1]).contains(&frequency_hz) {
            return 0.0;
        }
        let bump = |&[center, width]: &[f64; 2]| (-((frequency_hz - center) / width).powi(2)).exp();
        0.25 + self.formants.iter().map(bump).sum::<f64>()
    }
}

/// A transmission whose phase is known at any instant, not only at those of samples.
///
/// The phase is tabulated with its exact derivative, and interpolated by cubic Hermite polynomials:
/// their error is below 10⁻⁴ rad. It repeats after the table's end.
#[derive(Clone, Debug)]
pub(crate) struct Emission {
    /// Phase in rad and its derivative in rad per step; their number is a power of two.
    nodes: Vec<[f32; 2]>,
}

impl Emission {
    /// Adds `gain` times the transmission, as it was at `start_s` and later, to samples.
    pub(crate) fn add_to(
        &self,
        samples: &mut [Complex32],
        gain: Complex32,
        start_s: f64,
        sample_rate_hz: f64,
    ) {
        let step = TABLE_RATE_HZ / sample_rate_hz;
        let first = start_s * TABLE_RATE_HZ;
        for (n, sample) in samples.iter_mut().enumerate() {
            *sample += gain * Complex32::cis(self.phase(first + step * n as f64));
        }
    }

    /// Phase at a place in the table, counted in steps, in rad.
    #[inline]
    fn phase(&self, place: f64) -> f32 {
        let floor = place.floor();
        let x = (place - floor) as f32;
        // Wraps below zero as well, since the length is a power of two.
        let index = floor as i64 as usize & (self.nodes.len() - 1);
        let [y0, d0] = self.nodes[index];
        let [y1, d1] = self.nodes[(index + 1) & (self.nodes.len() - 1)];
        let rise = y1 - y0;
        y0 + x * (d0 + x * ((3.0 * rise - 2.0 * d0 - d1) + x * (d0 + d1 - 2.0 * rise)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, StreamKey};

    fn emission(event: usize) -> Emission {
        let modulator = Modulator::new(Waveform::default(), 0.15);
        modulator.emit(&mut RandomStream::new(3, StreamKey::at(Purpose::Waveform, event)))
    }

    /// Between two nodes the phase is compared with the trigonometric polynomial through all of
    /// them, the exact one, evaluated term by term.
    #[test]
    fn phase_between_nodes_is_that_of_the_band_limited_signal() {
        let emission = emission(0);
        let points = emission.nodes.len();
        let mut spectrum: Vec<Complex64> =
            emission.nodes.iter().map(|node| Complex64::new(f64::from(node[0]), 0.0)).collect();
        FftPlanner::new().plan_fft_forward(points).process(&mut spectrum);

        for place in [100.5, 1234.25, 4321.9, 8000.0 + 1.0 / 3.0] {
            let exact: f64 = (1..points / 2)
                .map(|bin| {
                    let angle = TAU * bin as f64 * place / points as f64;
                    2.0 * (spectrum[bin] * Complex64::cis(angle)).re / points as f64
                })
                .sum();
            let interpolated = f64::from(emission.phase(place));
            assert!((interpolated - exact).abs() < 1e-4, "{interpolated} is not {exact}");
        }
    }

    #[test]
    fn peak_deviation_is_within_its_limits() {
        for event in 0..5 {
            let nodes = emission(event).nodes;
            let peak = nodes.iter().map(|node| node[1].abs()).fold(0.0, f32::max);
            let peak_hz = f64::from(peak) * TABLE_RATE_HZ / TAU;
            assert!((2499.9..=3000.1).contains(&peak_hz), "{peak_hz} Hz");
        }
    }

    /// Carson's rule puts 98 % of the power of FM into 2 (3 kHz + 3 kHz) = 12 kHz.
    #[test]
    fn transmission_stays_in_its_channel() {
        let (points, rate_hz) = (1 << 13, 48_000.0);
        let mut samples = vec![Complex32::ZERO; points];
        emission(1).add_to(&mut samples, Complex32::ONE, 0.0, rate_hz);
        for (n, sample) in samples.iter_mut().enumerate() {
            *sample *= 0.5 - 0.5 * (std::f32::consts::TAU * n as f32 / points as f32).cos();
        }

        FftPlanner::new().plan_fft_forward(points).process(&mut samples);

        let power = |bins: &[Complex32]| bins.iter().map(Complex32::norm_sqr).sum::<f32>();
        let half = (6_250.0 * points as f64 / rate_hz) as usize;
        let inside = power(&samples[..half]) + power(&samples[points - half..]);
        let share = inside / power(&samples);
        assert!(share > 0.98, "{share} of the power is in the channel");
    }

    #[test]
    fn transmission_has_constant_power() {
        let mut samples = vec![Complex32::ZERO; 500];

        emission(2).add_to(&mut samples, Complex32::new(0.0, 2.0), -0.01, 24_000.0);

        assert!(samples.iter().all(|sample| (sample.norm() - 2.0).abs() < 1e-5));
    }

    #[test]
    fn reversed_deviations_are_refused() {
        let waveform = Waveform::NbfmVoice { deviation_hz_min: 3000.0, deviation_hz_max: 2500.0 };

        assert!(matches!(
            waveform.validate(),
            Err(SimError::InvalidConfig { field: "waveform.deviation_hz_max", .. })
        ));
    }
}
