//! Signals with known properties, for the tests of this crate.

use num_complex::{Complex32, Complex64};

use crate::{ClockQuality, IqRecording, UtcTime};

/// A carrier of amplitude 1 that makes `cycles` full turns per sample.
pub(crate) fn carrier(length: usize, cycles: f64) -> Vec<Complex32> {
    (0..length)
        .map(|n| {
            let value = Complex64::cis(std::f64::consts::TAU * (cycles * n as f64).fract());
            Complex32::new(value.re as f32, value.im as f32)
        })
        .collect()
}

/// Complex white Gaussian noise of power 1.
pub(crate) fn gaussian_noise(length: usize, seed: u64) -> Vec<Complex32> {
    let mut state = seed;
    (0..length)
        .map(|_| {
            let radius = (-uniform(&mut state).ln()).sqrt();
            let value = Complex64::from_polar(radius, std::f64::consts::TAU * uniform(&mut state));
            Complex32::new(value.re as f32, value.im as f32)
        })
        .collect()
}

/// A number in `(0, 1]` from the generator `SplitMix64`.
pub(crate) fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut x = *state;
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^= x >> 31;
    ((x >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

/// A signal that is known at every instant: many carriers in a band around the center.
pub(crate) struct Signal {
    /// Frequency in Hz, amplitude, phase in turns.
    carriers: Vec<(f64, f64, f64)>,
    center_frequency_hz: f64,
}

impl Signal {
    /// A flat band, as the sum of so many carriers that it never repeats.
    pub(crate) fn flat(low_hz: f64, high_hz: f64, seed: u64) -> Self {
        let mut state = seed;
        let carriers = (0..400)
            .map(|_| {
                let distance_hz = low_hz + (high_hz - low_hz) * uniform(&mut state);
                let side = if uniform(&mut state) < 0.5 { -1.0 } else { 1.0 };
                (side * distance_hz, 0.05, uniform(&mut state))
            })
            .collect();
        Self { carriers, center_frequency_hz: 145e6 }
    }

    /// Changes the amplitude of all carriers.
    pub(crate) fn scaled(mut self, factor: f64) -> Self {
        self.carriers.iter_mut().for_each(|(_, amplitude, _)| *amplitude *= factor);
        self
    }

    /// Adds a carrier, `offset_hz` from the center.
    pub(crate) fn with_carrier(mut self, offset_hz: f64, amplitude: f64) -> Self {
        self.carriers.push((offset_hz, amplitude, 0.1));
        self
    }
}

/// A receiver: when the signal arrives, how it samples, and what it adds.
#[derive(Clone, Copy)]
pub(crate) struct Station {
    pub(crate) delay_s: f64,
    pub(crate) start: UtcTime,
    pub(crate) sample_rate_hz: f64,
    pub(crate) samples: usize,
    pub(crate) center_offset_hz: f64,
    pub(crate) oscillator_offset_hz: f64,
    pub(crate) noise: f64,
    pub(crate) seed: u64,
}

impl Station {
    pub(crate) fn new(delay_s: f64, seed: u64) -> Self {
        Self {
            delay_s,
            start: UtcTime { seconds: 1_600_000_000, nanoseconds: 0 },
            sample_rate_hz: 24_000.0,
            samples: 6_000,
            center_offset_hz: 0.0,
            oscillator_offset_hz: 0.0,
            noise: 0.0,
            seed,
        }
    }

    pub(crate) fn record(&self, signal: &Signal) -> IqRecording {
        let noise = gaussian_noise(self.samples, self.seed);
        let reference = UtcTime { seconds: 1_600_000_000, nanoseconds: 0 };
        let start_s = self.start.seconds_since(&reference);
        let shift_hz = self.oscillator_offset_hz - self.center_offset_hz;
        let mut samples = Vec::with_capacity(self.samples);
        for (n, noise) in noise.iter().enumerate() {
            let time_s = start_s + n as f64 / self.sample_rate_hz;
            let mixer = Complex64::cis(std::f64::consts::TAU * (shift_hz * time_s).fract());
            let sum: Complex64 = signal
                .carriers
                .iter()
                .map(|&(frequency_hz, amplitude, phase)| {
                    let turns = frequency_hz * (time_s - self.delay_s) + phase;
                    Complex64::from_polar(amplitude, std::f64::consts::TAU * turns.fract())
                })
                .sum();
            let sample = sum * mixer;
            let noise = noise * self.noise as f32;
            samples.push(Complex32::new(sample.re as f32, sample.im as f32) + noise);
        }
        IqRecording {
            samples,
            sample_rate_hz: self.sample_rate_hz,
            center_frequency_hz: signal.center_frequency_hz + self.center_offset_hz,
            start: self.start,
            clock: ClockQuality::Disciplined { sigma_s: 0.0 },
        }
    }
}
