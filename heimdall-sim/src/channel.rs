//! From a transmission to the samples of one receiver.

use num_complex::{Complex32, Complex64};

use crate::latents::LinkLatents;
use crate::multipath::Paths;
use crate::random::RandomStream;
use crate::waveform::Emission;

/// What a recording consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Signal and noise: a real recording.
    All,
    /// What a receiver without noise would record.
    #[cfg(test)]
    SignalOnly,
    /// What is recorded when nobody transmits.
    #[cfg(test)]
    NoiseOnly,
}

/// Computes what one receiver records of a transmission.
///
/// # Shapes
///
/// - returns: `[sample_count]`, relative to full scale
pub(crate) fn receive(
    emission: &Emission,
    link: &LinkLatents,
    paths: &Paths,
    sample_rate_hz: f64,
    sample_count: usize,
    noise: &mut RandomStream,
    content: Content,
) -> Vec<Complex32> {
    let mut samples = vec![Complex32::ZERO; sample_count];
    let (with_signal, with_noise) = match content {
        Content::All => (true, true),
        #[cfg(test)]
        Content::SignalOnly => (true, false),
        #[cfg(test)]
        Content::NoiseOnly => (false, true),
    };
    if with_signal {
        let amplitude = amplitude(link.signal_dbfs - link.fading_db);
        let straight_s = link.delay_s - link.excess_delay_s;
        for path in &paths.0 {
            let start_s = link.clock_error_s - straight_s - path.delay_s;
            let gain = path.gain * amplitude;
            // Samples are `f32`, so their factors may be.
            let gain = Complex32::new(gain.re as f32, gain.im as f32);
            emission.add_to(&mut samples, gain, start_s, sample_rate_hz);
        }
        shift_frequency(&mut samples, link.frequency_offset_hz, sample_rate_hz);
    }
    if with_noise {
        let noise_dbfs = link.noise_dbfs_per_hz + 10.0 * sample_rate_hz.log10();
        let amplitude = amplitude(noise_dbfs) as f32;
        for sample in &mut samples {
            *sample += noise.complex_normal() * amplitude;
        }
    }
    samples
}

/// Amplitude of a power in dB.
fn amplitude(power_db: f64) -> f64 {
    10_f64.powf(power_db / 20.0)
}

/// Shifts a signal in frequency; the first sample stays as it is.
fn shift_frequency(samples: &mut [Complex32], offset_hz: f64, sample_rate_hz: f64) {
    /// After so many products of `f64` phasors the modulus is still 1 within 10⁻¹².
    const BLOCK: usize = 1024;

    let turns_per_sample = offset_hz / sample_rate_hz;
    let step = Complex64::cis(std::f64::consts::TAU * turns_per_sample);
    for (block, samples) in samples.chunks_mut(BLOCK).enumerate() {
        let turns = (turns_per_sample * (block * BLOCK) as f64).fract();
        let mut phasor = Complex64::cis(std::f64::consts::TAU * turns);
        for sample in samples {
            *sample *= Complex32::new(phasor.re as f32, phasor.im as f32);
            phasor *= step;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shifted_constant_is_a_carrier() {
        let (offset_hz, rate_hz) = (-1234.5, 24_000.0);
        let mut samples = vec![Complex32::ONE; 5000];

        shift_frequency(&mut samples, offset_hz, rate_hz);

        for n in [0, 1, 1023, 1024, 4999] {
            let expected = Complex64::cis(std::f64::consts::TAU * offset_hz * n as f64 / rate_hz);
            let sample = Complex64::new(f64::from(samples[n].re), f64::from(samples[n].im));
            assert!((sample - expected).norm() < 1e-6, "{sample} is not {expected} at {n}");
        }
    }
}
