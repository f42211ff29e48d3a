//! A transmission that is known at any instant, not only at those of samples.

use num_complex::Complex32;

/// Rate at which transmissions are tabulated, in Hz: sixteen times the highest audio frequency.
pub(super) const TABLE_RATE_HZ: f64 = 48_000.0;

/// A transmission that is known at any instant, not only at those of samples.
///
/// What is tabulated comes with its exact derivative, and is interpolated by cubic Hermite
/// polynomials: their error is below 10⁻⁴ rad, or 10⁻⁴ of the amplitude. It repeats after the
/// table's end.
#[derive(Clone, Debug)]
pub(crate) struct Emission {
    table: Table,
}

/// The tabulated numbers and their derivatives per step; there are a power of two of them.
#[derive(Clone, Debug)]
enum Table {
    /// Phase of a transmission of constant amplitude, in rad.
    Phase(Vec<[f32; 2]>),
    /// Complex envelope: real and imaginary part, and the derivatives of the two.
    Envelope(Vec<[f32; 4]>),
}

impl Emission {
    /// Makes a transmission of amplitude 1 from its phase and the derivative of it per step.
    pub(super) fn from_phase(nodes: Vec<[f32; 2]>) -> Self {
        debug_assert!(nodes.len().is_power_of_two());
        Self { table: Table::Phase(nodes) }
    }

    /// Makes a transmission from its complex envelope and the derivative of it per step.
    pub(super) fn from_envelope(nodes: Vec<[f32; 4]>) -> Self {
        debug_assert!(nodes.len().is_power_of_two());
        Self { table: Table::Envelope(nodes) }
    }

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
        let samples = samples.iter_mut().enumerate();
        match &self.table {
            Table::Phase(nodes) => {
                for (n, sample) in samples {
                    *sample += gain * Complex32::cis(phase(nodes, first + step * n as f64));
                }
            }
            Table::Envelope(nodes) => {
                for (n, sample) in samples {
                    *sample += gain * envelope(nodes, first + step * n as f64);
                }
            }
        }
    }
}

/// Phase at a place in the table, counted in steps, in rad.
#[inline]
fn phase(nodes: &[[f32; 2]], place: f64) -> f32 {
    let (left, right, x) = neighbors(nodes, place);
    hermite(left[0], right[0], left[1], right[1], x)
}

/// Complex envelope at a place in the table, counted in steps.
#[inline]
fn envelope(nodes: &[[f32; 4]], place: f64) -> Complex32 {
    let (left, right, x) = neighbors(nodes, place);
    Complex32::new(
        hermite(left[0], right[0], left[2], right[2], x),
        hermite(left[1], right[1], left[3], right[3], x),
    )
}

/// The nodes on both sides of a place, and how far it is from the left to the right one.
#[inline]
fn neighbors<T: Copy>(nodes: &[T], place: f64) -> (T, T, f32) {
    let floor = place.floor();
    // Wraps below zero as well, since the length is a power of two.
    let index = floor as i64 as usize & (nodes.len() - 1);
    (nodes[index], nodes[(index + 1) & (nodes.len() - 1)], (place - floor) as f32)
}

/// The cubic polynomial with these values and slopes at 0 and 1.
#[inline]
fn hermite(y0: f32, y1: f32, d0: f32, d1: f32, x: f32) -> f32 {
    let rise = y1 - y0;
    y0 + x * (d0 + x * ((3.0 * rise - 2.0 * d0 - d1) + x * (d0 + d1 - 2.0 * rise)))
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use num_complex::Complex64;
    use rustfft::FftPlanner;

    use super::super::{Modulator, WaveformConfig, WaveformKind};
    use super::*;
    use crate::random::{Purpose, RandomStream, StreamKey};

    fn emission(kind: WaveformKind, event: usize) -> Emission {
        let modulator = Modulator::new(&WaveformConfig::default(), 0.15);
        modulator.emit(kind, &mut RandomStream::new(3, StreamKey::at(Purpose::Waveform, event)))
    }

    /// The trigonometric polynomial through all of some values, evaluated term by term.
    fn exact(values: impl Iterator<Item = Complex64>, place: f64) -> Complex64 {
        let mut spectrum: Vec<Complex64> = values.collect();
        let points = spectrum.len();
        FftPlanner::new().plan_fft_forward(points).process(&mut spectrum);
        let terms = spectrum.iter().enumerate().map(|(bin, value)| {
            let bin = if bin <= points / 2 { bin as f64 } else { bin as f64 - points as f64 };
            value * Complex64::cis(TAU * bin * place / points as f64) / points as f64
        });
        terms.sum()
    }

    const PLACES: [f64; 4] = [100.5, 1234.25, 4321.9, 8000.0 + 1.0 / 3.0];

    #[test]
    fn phase_between_nodes_is_that_of_the_band_limited_signal() {
        let Table::Phase(nodes) = emission(WaveformKind::NbfmVoice, 0).table else {
            panic!("frequency modulation has a constant amplitude");
        };

        for place in PLACES {
            let values = nodes.iter().map(|node| Complex64::new(f64::from(node[0]), 0.0));
            let exact = exact(values, place).re;
            let interpolated = f64::from(phase(&nodes, place));
            assert!((interpolated - exact).abs() < 1e-4, "{interpolated} is not {exact}");
        }
    }

    #[test]
    fn envelope_between_nodes_is_that_of_the_band_limited_signal() {
        let Table::Envelope(nodes) = emission(WaveformKind::Ssb, 0).table else {
            panic!("a sideband has an envelope");
        };

        for place in PLACES {
            let values =
                nodes.iter().map(|node| Complex64::new(f64::from(node[0]), f64::from(node[1])));
            let exact = exact(values, place);
            let Complex32 { re, im } = envelope(&nodes, place);
            let error = (Complex64::new(f64::from(re), f64::from(im)) - exact).norm();
            assert!(error < 3e-4, "{error} at {place}");
        }
    }

    #[test]
    fn transmission_has_constant_power() {
        let mut samples = vec![Complex32::ZERO; 500];

        let gain = Complex32::new(0.0, 2.0);
        emission(WaveformKind::NbfmVoice, 2).add_to(&mut samples, gain, -0.01, 24_000.0);

        assert!(samples.iter().all(|sample| (sample.norm() - 2.0).abs() < 1e-5));
    }
}
