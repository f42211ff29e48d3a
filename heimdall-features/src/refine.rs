//! Frames that single precision cannot do, transformed again in double precision.

use num_complex::Complex32;
use pulp::{Arch, Simd, WithSimd};

use crate::filter_bank::FilterBank;
use crate::real::Real;
use crate::transform::{Scratch, Transform};

/// What the transform may add to the error of a level, in dB; rounding has the rest of 1e-4 dB.
const LEVEL_ERROR_DB_MAX: f64 = 8e-5;
/// How many standard deviations of the error of a level must be smaller than that.
const SIGMAS: f64 = 6.0;
/// Values that are added at a time.
const LANES: usize = 16;

/// Makes the levels of single precision as exact as those of double precision, but for rounding.
///
/// The error is about the same for all bins of a transform: some 1e-7 of the root of their mean
/// power. A frame with a level so low that this matters is transformed again in double precision.
/// How large the error is, is measured when the transform is planned.
#[derive(Clone, Debug)]
pub(crate) struct Refiner<T> {
    exact: Transform<f64>,
    /// The lowest power of each row that is exact enough, over the sum of all bins.
    power_min: Vec<T>,
    arch: Arch,
}

/// Memory that a refiner works in.
#[derive(Clone, Debug)]
pub(crate) struct RefinerScratch {
    exact: Scratch<f64>,
    bins: Vec<f64>,
}

impl<T: Real> Refiner<T> {
    /// Plans for a transform and the bands that are made of its bins; for the bins themselves where
    /// there are none.
    pub(crate) fn new(transform: &Transform<T>, bank: Option<&FilterBank>) -> Self {
        let exact = transform.in_double_precision();
        let relative_error = LEVEL_ERROR_DB_MAX * std::f64::consts::LN_10 / 10.0;
        // A bin `X` with an error `e` has the power `|X|² + 2 Re(X* e)`, so that a weighted sum `P`
        // of powers has an error with a variance of `2 |e|² Σ w² |X|² ≤ 2 |e|² w_max P`.
        let power_min =
            2.0 * SIGMAS.powi(2) / relative_error.powi(2) * error_power(transform, &exact);
        let row = |weight: f32| T::rounded(f64::from(weight) * power_min);
        let power_min = match bank {
            Some(bank) => bank.largest_weights().map(row).collect(),
            None => vec![row(1.0); exact.length()],
        };
        Self { exact, power_min, arch: Arch::new() }
    }

    pub(crate) fn scratch(&self) -> RefinerScratch {
        RefinerScratch { exact: self.exact.scratch(), bins: vec![0.0; self.exact.length()] }
    }

    /// Computes the bins of a frame anew if they are not exact enough for the powers of all rows;
    /// returns whether it did. Powers below `floor` count as this.
    pub(crate) fn refine(
        &self,
        frame: &[Complex32],
        powers: &[T],
        floor: T,
        bins: &mut [T],
        scratch: &mut RefinerScratch,
    ) -> bool {
        let power_min = &self.power_min;
        let total = self.arch.dispatch(Total(&*bins));
        if !self.arch.dispatch(AnyBelow { powers, power_min, total, floor }) {
            return false;
        }
        self.exact.run(frame, &mut scratch.exact, &mut scratch.bins);
        for (bin, &exact) in bins.iter_mut().zip(&scratch.bins) {
            *bin = T::rounded(exact);
        }
        true
    }
}

/// Measures the mean square of what a transform is off in a bin, over the sum of all bins.
fn error_power<T: Real>(transform: &Transform<T>, exact: &Transform<f64>) -> f64 {
    let length = exact.length();
    let frame = noise(length);
    let (mut bins, mut exact_bins) = (vec![T::zero(); length], vec![0.0; length]);
    transform.run(&frame, &mut transform.scratch(), &mut bins);
    exact.run(&frame, &mut exact.scratch(), &mut exact_bins);
    let squares = bins.iter().zip(&exact_bins).map(|(&bin, &exact)| {
        let difference: f64 = bin.into() - exact;
        difference * difference / (2.0 * exact)
    });
    squares.sum::<f64>() / length as f64 / exact_bins.iter().sum::<f64>()
}

/// White noise of a generator that is good enough for it, *Numerical Recipes*' quick one.
fn noise(length: usize) -> Vec<Complex32> {
    let mut state = 1_u32;
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..length).map(|_| Complex32::new(uniform(), uniform())).collect()
}

/// Looks for powers that are not exact enough.
struct AnyBelow<'a, T> {
    powers: &'a [T],
    /// Over `total`.
    power_min: &'a [T],
    total: T,
    floor: T,
}

impl<T: Real> WithSimd for AnyBelow<'_, T> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> bool {
        let Self { powers, power_min, total, floor } = self;
        powers.iter().zip(power_min).fold(false, |any, (&power, &power_min)| {
            let power = if power > floor { power } else { floor };
            any | (power < power_min * total)
        })
    }
}

/// The sum of all bins.
struct Total<'a, T>(&'a [T]);

impl<T: Real> WithSimd for Total<'_, T> {
    type Output = T;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> T {
        let mut lanes = [T::zero(); LANES];
        let mut chunks = self.0.chunks_exact(LANES);
        for chunk in &mut chunks {
            for (lane, &bin) in lanes.iter_mut().zip(chunk) {
                *lane += bin;
            }
        }
        lanes.iter().chain(chunks.remainder()).fold(T::zero(), |sum, &bin| sum + bin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{carrier, gaussian_noise};
    use crate::{
        BandScaling, EmptyBands, FilterBankConfig, FilterBankKind, Framing, SpectralConfig,
        SpectralExtractor, SpectralRows, SpectrumUnit,
    };

    /// Powers of two, others with small factors, and lengths with a large prime factor.
    const FFT_LENGTHS: [usize; 8] = [16, 64, 96, 202, 512, 1_000, 2_048, 1_994];

    /// Noise and a carrier between two bins, `snr_db` above it.
    fn signal(length: usize, snr_db: f64, cycles: f64) -> Vec<Complex32> {
        let amplitude = 10_f64.powf(-snr_db / 20.0) as f32;
        let noise = gaussian_noise(length, 8);
        carrier(length, cycles).iter().zip(noise).map(|(c, n)| c + n * amplitude).collect()
    }

    /// However far below a carrier they are: single bins, narrow bands and wide ones.
    #[test]
    fn levels_of_both_precisions_are_within_a_ten_thousandth_of_a_decibel() {
        let bank = |bands, kind| FilterBankConfig {
            bands,
            kind,
            scaling: BandScaling::Slaney,
            empty_bands: EmptyBands::Silent,
            ..FilterBankConfig::default()
        };
        for fft_length in FFT_LENGTHS {
            let all_rows = [
                SpectralRows::Bins,
                SpectralRows::Bands { bank: bank(fft_length / 4, FilterBankKind::MelFolded) },
                SpectralRows::Bands {
                    bank: bank(fft_length / 8 * 2, FilterBankKind::MelSymmetric),
                },
                SpectralRows::Bands { bank: bank(fft_length / 8, FilterBankKind::Linear) },
            ];
            for rows in all_rows {
                let framing = Framing::Hop { hop_length: fft_length / 2 + 1, center: false };
                let config = SpectralConfig {
                    fft_length,
                    framing,
                    rows,
                    unit: SpectrumUnit::Power,
                    exact_levels: true,
                };
                let single = SpectralExtractor::<f32>::new(&config, 8_000.0).unwrap();
                let double = SpectralExtractor::<f64>::new(&config, 8_000.0).unwrap();
                for snr_db in [-300.0, 0.0, 20.0, 40.0, 70.0, 100.0] {
                    for cycles in [0.1, 0.250_13, -0.4] {
                        let samples = signal(20 * fft_length, snr_db, cycles);
                        let double = double.extract(&samples).unwrap();

                        let single = single.extract(&samples).unwrap();

                        for (single, double) in single.values.iter().zip(&double.values) {
                            let difference_db = f64::from(*single) - double;
                            assert!(
                                difference_db.abs() < 1e-4,
                                "{fft_length}, {:?}, {snr_db} dB: {double} is off by {difference_db}",
                                config.rows
                            );
                        }
                    }
                }
            }
        }
    }

    /// Without it, the test above would show nothing.
    #[test]
    fn single_precision_alone_is_not_exact_beside_a_carrier() {
        let transform = Transform::<f32>::power(2_048);
        let refiner = Refiner::new(&transform, None);
        let mut scratch = refiner.scratch();
        let frame = signal(2_048, 60.0, 0.1);
        let mut bins = vec![0.0; 2_048];
        transform.run(&frame, &mut transform.scratch(), &mut bins);
        refiner.exact.run(&frame, &mut scratch.exact, &mut scratch.bins);

        let off_db = |bins: &[f32], exact: &[f64]| {
            let ratios = bins.iter().zip(exact).map(|(&bin, exact)| f64::from(bin) / exact);
            ratios.map(|ratio| 10.0 * ratio.log10().abs()).fold(0.0, f64::max)
        };
        assert!(off_db(&bins, &scratch.bins) > 1e-3);
        let exact = scratch.bins.clone();
        assert!(refiner.refine(&frame, &bins.clone(), 0.0, &mut bins, &mut scratch));
        assert!(off_db(&bins, &exact) < 1e-6);
    }
}
