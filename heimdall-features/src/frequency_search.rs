//! Search for the difference in frequency between two recordings of the same signal.

use num_complex::Complex64;
use rustfft::FftPlanner;

/// What is searched through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrequencySearch {
    /// Rate of both signals.
    pub(crate) sample_rate_hz: f64,
    /// Longest delay in either direction.
    pub(crate) delay_s_max: f64,
    /// Largest difference in either direction.
    pub(crate) difference_hz_max: f64,
    /// Upper edge of the band.
    pub(crate) band_high_hz: f64,
}

/// Bins of the search per bin that the length of the signal resolves.
const PADDING: usize = 4;

impl FrequencySearch {
    /// Number of differences that the given time tells apart.
    pub(crate) fn cells(&self, duration_s: f64) -> usize {
        (2.0 * self.difference_hz_max * duration_s) as usize + 1 // Rounded down.
    }

    /// Finds the difference with the highest peak of the ambiguity function, in Hz.
    ///
    /// For each delay, the product of one signal with the other's conjugate is a carrier at the
    /// difference; summed over short blocks, which the largest difference turns by a quarter at
    /// most, it is transformed, and the highest bin of all delays is the answer, interpolated with
    /// a parabola.
    ///
    /// # Shapes
    ///
    /// - `base`, `other`: `[n]`, spectra in the order of the transform
    pub(crate) fn run(
        &self,
        base: &[Complex64],
        other: &[Complex64],
        planner: &mut FftPlanner<f64>,
    ) -> f64 {
        let length = base.len();
        let inverse = planner.plan_fft_inverse(length);
        let (mut base, mut other) = (base.to_vec(), other.to_vec());
        inverse.process(&mut base);
        inverse.process(&mut other);

        // All rounded down, and at least one.
        let block = (self.sample_rate_hz / (4.0 * self.difference_hz_max)).max(1.0) as usize;
        let block = block.min(length / 4).max(1);
        let lag_step = (self.sample_rate_hz / (4.0 * self.band_high_hz)).max(1.0) as usize;
        let lags = (self.delay_s_max * self.sample_rate_hz).ceil() as i64;

        let blocks = length.div_ceil(block);
        let padded = (PADDING * blocks).next_power_of_two();
        let forward = planner.plan_fft_forward(padded);
        let mut scratch = vec![Complex64::ZERO; forward.get_inplace_scratch_len()];
        let mut surface = vec![Complex64::ZERO; padded];
        let bin_width_hz = self.sample_rate_hz / (block * padded) as f64;
        let reach = ((self.difference_hz_max / bin_width_hz).ceil() as usize).min(padded / 2 - 1);

        let mut best = (f64::MIN, 0.0);
        for lag in (-lags..=lags).step_by(lag_step) {
            surface.fill(Complex64::ZERO);
            for (sum, index) in surface[..blocks].iter_mut().zip(0..) {
                let start = index * block;
                let end = (start + block).min(length);
                *sum = (start..end)
                    .filter_map(|n| Some((n, n.checked_add_signed(lag as isize)?)))
                    .filter_map(|(n, later)| Some(base[n].conj() * other.get(later)?))
                    .sum();
            }
            forward.process_with_scratch(&mut surface, &mut scratch);
            let magnitude = |bin: i64| surface[bin.rem_euclid(padded as i64) as usize].norm();
            for bin in -(reach as i64)..=reach as i64 {
                let height = magnitude(bin);
                if height > best.0 {
                    let offset = parabola(magnitude(bin - 1), height, magnitude(bin + 1));
                    best = (height, (bin as f64 + offset) * bin_width_hz);
                }
            }
        }
        best.1
    }
}

/// Finds the vertex of the parabola through three equidistant points, relative to the middle one,
/// which is the highest.
pub(crate) fn parabola(before: f64, middle: f64, after: f64) -> f64 {
    let curvature = before - 2.0 * middle + after;
    if curvature < 0.0 { (0.5 * (before - after) / curvature).clamp(-0.5, 0.5) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{carrier, gaussian_noise};

    fn spectrum(samples: impl Iterator<Item = num_complex::Complex32>) -> Vec<Complex64> {
        let mut spectrum: Vec<_> =
            samples.map(|x| Complex64::new(x.re.into(), x.im.into())).collect();
        FftPlanner::new().plan_fft_forward(spectrum.len()).process(&mut spectrum);
        spectrum
    }

    #[test]
    fn vertex_of_a_parabola_is_found() {
        let value = |x: f64| 3.0 - 2.0 * (x - 0.3).powi(2);

        assert!((parabola(value(-1.0), value(0.0), value(1.0)) - 0.3).abs() < 1e-12);
    }

    #[test]
    fn difference_is_found_between_the_bins() {
        let search = FrequencySearch {
            sample_rate_hz: 8_000.0,
            delay_s_max: 2e-3,
            difference_hz_max: 300.0,
            band_high_hz: 4_000.0,
        };
        let noise = gaussian_noise(8_000, 4);
        for (difference_hz, delay) in [(0.0, 0_usize), (123.4, 5), (-299.7, 15), (0.3, 9)] {
            let shift = carrier(8_000, difference_hz / 8_000.0);
            let delayed = (0..8_000)
                .map(|n: usize| n.checked_sub(delay).map_or(0.0.into(), |n| noise[n]) * shift[n]);
            let other = spectrum(delayed);

            let found_hz =
                search.run(&spectrum(noise.iter().copied()), &other, &mut FftPlanner::new());

            // One second resolves 1 Hz; the noise of the signal itself moves the peak a little.
            assert!((found_hz - difference_hz).abs() < 0.02, "{found_hz} for {difference_hz}");
        }
    }
}
