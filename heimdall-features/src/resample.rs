//! Band-limited resampling of a recording onto the time grid of another.

use num_complex::{Complex32, Complex64};

/// Zero crossings of the kernel on each side.
const KERNEL_HALF_WIDTH: usize = 32;
/// Points at which the kernel is tabulated between two zero crossings. Linear interpolation between
/// them is off by at most `(π / 1024)² / 8`, or -118 dB.
const KERNEL_RESOLUTION: usize = 1024;
/// Shape of the Kaiser window: side lobes at -100 dB.
const KAISER_BETA: f64 = 10.0;
/// Share of the lower sample rate that the kernel passes unchanged: the transition takes
/// `(100 - 8) / (2.285 · 2π · 64)`, a tenth of it, half of that on each side of the edge.
pub(crate) const PASSED_SHARE: f64 = 0.88;

/// An affine map from indices of a new grid to (fractional) indices of the old one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GridMap {
    /// Old index of the new sample 0.
    pub(crate) offset: f64,
    /// Old samples per new sample.
    pub(crate) step: f64,
}

/// A windowed sinc.
#[derive(Clone, Debug)]
pub(crate) struct Resampler {
    /// The kernel for non-negative arguments, from the middle outwards.
    table: Vec<f64>,
}

impl Resampler {
    /// Tabulates the kernel.
    ///
    /// # References
    ///
    /// J. F. Kaiser, R. W. Schafer, "On the use of the I₀-sinh window for spectrum analysis", *IEEE
    /// Transactions on Acoustics, Speech, and Signal Processing* 28(1), 1980,
    /// [doi:10.1109/TASSP.1980.1163349](https://doi.org/10.1109/TASSP.1980.1163349).
    pub(crate) fn new() -> Self {
        let length = KERNEL_HALF_WIDTH * KERNEL_RESOLUTION;
        let normalization = bessel_i0(KAISER_BETA);
        let value = |index: usize| {
            let x = index as f64 / KERNEL_RESOLUTION as f64;
            let edge = index as f64 / length as f64;
            let window = bessel_i0(KAISER_BETA * (1.0 - edge * edge).sqrt()) / normalization;
            sinc(x) * window
        };
        // One more than is looked up, for the interpolation at the outer edge.
        let table = (0..=length).map(value).chain([0.0]).collect();
        Self { table }
    }

    /// Evaluates `samples` on another grid. Samples beyond the ends are taken as zero.
    ///
    /// Where the new grid is coarser, the kernel is as much wider, so that nothing is folded.
    pub(crate) fn resample(
        &self,
        samples: &[Complex32],
        map: GridMap,
        length: usize,
    ) -> Vec<Complex64> {
        let scale = (1.0 / map.step).min(1.0);
        let reach = KERNEL_HALF_WIDTH as f64 / scale;
        let last = samples.len() as f64 - 1.0;
        let resolution = KERNEL_RESOLUTION as f64 * scale;
        (0..length)
            .map(|n| {
                let position = map.offset + map.step * n as f64;
                let first = (position - reach).ceil().clamp(0.0, last + 1.0) as usize;
                let end = ((position + reach).floor() + 1.0).clamp(0.0, last + 1.0) as usize;
                let neighbors = samples.get(first..end).unwrap_or_default();
                let mut sum = Complex64::ZERO;
                for (sample, index) in neighbors.iter().zip(first..) {
                    let argument = (position - index as f64).abs() * resolution;
                    let cell = argument as usize; // Rounded down.
                    let (lower, upper) = (self.table[cell], self.table[cell + 1]);
                    let weight = lower + (upper - lower) * (argument - cell as f64);
                    sum += Complex64::new(f64::from(sample.re), f64::from(sample.im)) * weight;
                }
                sum * scale
            })
            .collect()
    }
}

fn sinc(x: f64) -> f64 {
    let angle = std::f64::consts::PI * x;
    if angle.abs() < 1e-9 { 1.0 } else { angle.sin() / angle }
}

/// Modified Bessel function of the first kind and order zero, by its power series.
fn bessel_i0(x: f64) -> f64 {
    let quarter = x * x / 4.0;
    let mut term = 1.0;
    let mut sum = 1.0;
    let mut k = 1.0;
    while term > sum * 1e-17 {
        term *= quarter / (k * k);
        sum += term;
        k += 1.0;
    }
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::carrier;

    #[test]
    fn bessel_function_has_its_tabulated_values() {
        // Abramowitz and Stegun, table 9.8: e^-x I0(x).
        for (x, expected) in [(0.0, 1.0), (1.0, 0.465_759_607_6), (10.0, 0.127_833_337_2)] {
            assert!((bessel_i0(x) * f64::exp(-x) - expected).abs() < 1e-9, "I0({x})");
        }
    }

    #[test]
    fn positions_outside_of_the_signal_are_zero() {
        let map = GridMap { offset: 200.0, step: 1.0 };

        let resampled = Resampler::new().resample(&carrier(100, 0.1), map, 10);

        assert!(resampled.iter().all(|sample| *sample == Complex64::ZERO));
    }

    #[test]
    fn frequencies_above_the_new_rate_are_removed() {
        // 0.3 turns per old sample are 0.9 per new one: beyond half.
        let map = GridMap { offset: 300.0, step: 3.0 };

        let resampled = Resampler::new().resample(&carrier(3_000, 0.3), map, 800);

        assert!(resampled.iter().all(|sample| sample.norm() < 1e-5));
    }

    proptest! {
        /// A carrier stays the carrier that it is, at any fraction of a sample and any rate.
        #[test]
        fn carrier_is_interpolated_exactly(
            cycles in -0.44_f64..0.44,
            offset in 200.0_f64..300.0,
            step in 0.3_f64..2.0,
        ) {
            let cycles = cycles / step.max(1.0);
            let samples = carrier(1_000, cycles);

            let resampled = Resampler::new().resample(&samples, GridMap { offset, step }, 200);

            for (n, actual) in resampled.iter().enumerate() {
                let angle = std::f64::consts::TAU * cycles * (offset + step * n as f64);
                let difference = (actual - Complex64::cis(angle)).norm();
                // The side lobes of the kernel, and samples in single precision.
                prop_assert!(difference < 2e-5, "sample {} is off by {}", n, difference);
            }
        }
    }
}
