//! The short-time Fourier transform.

use num_complex::Complex32;
use serde::{Deserialize, Serialize};

use crate::FeatureError;
use crate::averager::Averager;
use crate::framer::Framer;
use crate::transform::Transform;

/// How a signal is cut into frames, and each frame is transformed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StftConfig {
    /// Length of a frame and of its transform, in samples; even.
    pub fft_length: usize,
    /// Distance between the starts of two frames, in samples.
    pub hop_length: usize,
    /// Whether frame `m` is centered at sample `m * hop_length`, with zeros beyond both ends,
    /// rather than started there.
    pub center: bool,
}

impl Default for StftConfig {
    fn default() -> Self {
        Self { fft_length: 2048, hop_length: 512, center: false }
    }
}

impl StftConfig {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// Returns [`FeatureError::InvalidConfig`] for the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), FeatureError> {
        check_fft_length(self.fft_length)?;
        check_hop_length(self.hop_length)
    }
}

/// Checks that a transform of this length has a bin at the center and a Hann window.
pub(crate) fn check_fft_length(fft_length: usize) -> Result<(), FeatureError> {
    if fft_length < 4 || !fft_length.is_multiple_of(2) {
        return Err(FeatureError::InvalidConfig {
            field: "fft_length",
            expected: "an even number of at least 4".to_owned(),
            actual: fft_length as f64,
        });
    }
    Ok(())
}

/// Checks that frames do not all start at the same sample.
pub(crate) fn check_hop_length(hop_length: usize) -> Result<(), FeatureError> {
    if hop_length == 0 {
        return Err(FeatureError::InvalidConfig {
            field: "hop_length",
            expected: "at least 1".to_owned(),
            actual: 0.0,
        });
    }
    Ok(())
}

/// Counts the frames that start, or are centered, every `hop_length` samples.
///
/// # Errors
///
/// [`FeatureError::Empty`] and [`FeatureError::TooShort`] if there is none.
pub(crate) fn count_frames(
    sample_count: usize,
    fft_length: usize,
    hop_length: usize,
    center: bool,
) -> Result<usize, FeatureError> {
    match sample_count.checked_sub(fft_length) {
        _ if sample_count == 0 => Err(FeatureError::Empty),
        _ if center => Ok(1 + sample_count / hop_length),
        Some(rest) => Ok(1 + rest / hop_length),
        None => Err(FeatureError::TooShort { frame_length: fft_length, sample_count }),
    }
}

/// Checks that a sample rate is a positive number.
pub(crate) fn check_sample_rate(sample_rate_hz: f64) -> Result<(), FeatureError> {
    if sample_rate_hz.is_finite() && sample_rate_hz > 0.0 {
        return Ok(());
    }
    Err(FeatureError::InvalidConfig {
        field: "sample_rate_hz",
        expected: "a positive number".to_owned(),
        actual: sample_rate_hz,
    })
}

/// Checks that there are samples and that all of them are finite.
pub(crate) fn check_samples(samples: &[Complex32]) -> Result<(), FeatureError> {
    if samples.is_empty() {
        return Err(FeatureError::Empty);
    }
    // Without an early exit inside of a chunk, several samples are looked at per instruction.
    let is_finite = |sample: &Complex32| sample.re.is_finite() & sample.im.is_finite();
    let chunk_is_finite =
        |chunk: &[Complex32]| chunk.iter().fold(true, |all, sample| all & is_finite(sample));
    for (number, chunk) in samples.chunks(CHECK_CHUNK).enumerate() {
        if chunk_is_finite(chunk) {
            continue;
        }
        let first = chunk.iter().position(|sample| !is_finite(sample));
        if let Some(index) = first {
            return Err(FeatureError::NotFinite { index: number * CHECK_CHUNK + index });
        }
    }
    Ok(())
}

/// Samples that [`check_samples`] looks at together.
const CHECK_CHUNK: usize = 4096;

/// A transform that is planned for one frame length and sample rate.
#[derive(Clone, Debug)]
pub struct Stft {
    transform: Transform<f64>,
    hop_length: usize,
    center: bool,
}

impl Stft {
    /// Plans the transform.
    ///
    /// # Errors
    ///
    /// Returns [`FeatureError::InvalidConfig`] if `config` breaks one of its rules or
    /// `sample_rate_hz` is not positive.
    pub fn new(config: &StftConfig, sample_rate_hz: f64) -> Result<Self, FeatureError> {
        config.validate()?;
        check_sample_rate(sample_rate_hz)?;
        let &StftConfig { fft_length, hop_length, center } = config;
        Ok(Self { transform: Transform::density(fft_length, sample_rate_hz), hop_length, center })
    }

    /// Samples of a frame, and bins of its spectrum.
    pub fn fft_length(&self) -> usize {
        self.transform.length()
    }

    /// Computes the number of frames of a signal.
    ///
    /// # Errors
    ///
    /// [`FeatureError::Empty`] if there is no sample, and [`FeatureError::TooShort`] if the signal
    /// is shorter than a frame and frames are not centered.
    pub fn frame_count(&self, sample_count: usize) -> Result<usize, FeatureError> {
        count_frames(sample_count, self.fft_length(), self.hop_length, self.center)
    }

    /// Computes the power spectral density of every frame of a signal.
    ///
    /// Row `r` of a frame is the density `|X|² / (fs Σw²)` at `(r - fft_length / 2) fs / fft_length`,
    /// so the center frequency is at row `fft_length / 2`. The window is a periodic Hann window. The
    /// transform is in double precision, so that a strong carrier leaves the bins beside it exact.
    ///
    /// # Shapes
    ///
    /// - `samples`: `[n]`, relative to full scale
    /// - returns: `[frames, fft_length]`, in full scale squared per Hz, with
    ///   `frames = 1 + (n - fft_length) / hop_length`, or `1 + n / hop_length` where centered
    ///
    /// # Errors
    ///
    /// - [`FeatureError::Empty`] and [`FeatureError::TooShort`] if there is no whole frame.
    /// - [`FeatureError::NotFinite`] for the first sample that is not a finite number.
    ///
    /// # References
    ///
    /// P. D. Welch, "The use of fast Fourier transform for the estimation of power spectra", *IEEE
    /// Transactions on Audio and Electroacoustics* 15(2), 1967,
    /// [doi:10.1109/TAU.1967.1161901](https://doi.org/10.1109/TAU.1967.1161901).
    pub fn spectrogram(&self, samples: &[Complex32]) -> Result<Spectrogram, FeatureError> {
        check_samples(samples)?;
        let frames = self.frame_count(samples.len())?;
        let bins = self.fft_length();
        let framer = Framer::new(bins, self.hop_length);
        let framer = if self.center { framer.centered() } else { framer };
        let mut averager = Averager::each(framer, &self.transform);
        let mut psd = Vec::with_capacity(frames * bins);
        let mut keep = |densities: &[f64]| {
            psd.extend(densities.iter().map(|&density| density as f32));
            true
        };
        averager.push(samples, &self.transform, &mut keep)?;
        averager.finish(&self.transform, &mut keep)?;
        Ok(Spectrogram { psd, bins })
    }
}

/// Power spectral density over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Spectrogram {
    psd: Vec<f32>,
    bins: usize,
}

impl Spectrogram {
    /// Frames, from the first on.
    pub fn frames(&self) -> usize {
        self.psd.len() / self.bins
    }

    /// Bins, from `-sample_rate / 2` upwards.
    pub fn bins(&self) -> usize {
        self.bins
    }

    /// Returns the density of one frame, `[bins]`, in full scale squared per Hz.
    ///
    /// # Panics
    ///
    /// Panics if there is no such frame.
    pub fn frame(&self, index: usize) -> &[f32] {
        &self.psd[index * self.bins..(index + 1) * self.bins]
    }

    /// Returns the bin with the highest density in a frame.
    ///
    /// # Panics
    ///
    /// Panics if there is no such frame.
    pub fn loudest_bin(&self, index: usize) -> usize {
        let frame = self.frame(index);
        (0..frame.len()).max_by(|&a, &b| frame[a].total_cmp(&frame[b])).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use num_complex::Complex64;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{carrier, gaussian_noise};
    use crate::transform::hann;

    fn stft(fft_length: usize, hop_length: usize, center: bool) -> Stft {
        Stft::new(&StftConfig { fft_length, hop_length, center }, 1000.0).unwrap()
    }

    /// The definition, term by term in double precision.
    fn slow_psd(frame: &[Complex32], sample_rate_hz: f64) -> Vec<f64> {
        let length = frame.len();
        let window: Vec<f64> = hann(length).collect();
        let power: f64 = window.iter().map(|weight| weight * weight).sum();
        let bin = |row: usize| {
            let turns = (row as f64 - (length / 2) as f64) / length as f64;
            let term = |k: usize| {
                let sample = Complex64::new(f64::from(frame[k].re), f64::from(frame[k].im));
                sample * window[k] * Complex64::cis(-std::f64::consts::TAU * turns * k as f64)
            };
            let sum: Complex64 = (0..length).map(term).sum();
            sum.norm_sqr() / (sample_rate_hz * power)
        };
        (0..length).map(bin).collect()
    }

    #[test]
    fn carrier_below_center_lands_in_lower_half() {
        let spectrogram = stft(16, 16, false).spectrogram(&carrier(16, -3.0 / 16.0)).unwrap();

        assert_eq!(spectrogram.loudest_bin(0), 8 - 3);
    }

    #[test]
    fn spectrum_equals_the_definition() {
        for length in [4, 10, 48, 256] {
            let samples = gaussian_noise(length, 7);

            let spectrogram = stft(length, 1, false).spectrogram(&samples).unwrap();

            let expected = slow_psd(&samples, 1000.0);
            let total: f64 = expected.iter().sum();
            for (row, (&actual, expected)) in spectrogram.frame(0).iter().zip(expected).enumerate()
            {
                // Rounded to single precision, which has a relative error of 6e-8.
                let difference = (f64::from(actual) - expected).abs();
                assert!(difference < 1e-7 * expected + 1e-15 * total, "row {row} of {length}");
            }
        }
    }

    #[test]
    fn centered_frames_equal_those_of_the_padded_signal() {
        let samples = gaussian_noise(103, 3);
        let zeros = vec![Complex32::ZERO; 16];
        let padded = [zeros.clone(), samples.clone(), zeros].concat();

        let centered = stft(32, 10, true).spectrogram(&samples).unwrap();

        let expected = stft(32, 10, false).spectrogram(&padded).unwrap();
        assert_eq!(centered.frames(), 1 + 103 / 10);
        assert_eq!(centered, expected);
    }

    #[test]
    fn centered_frames_exist_for_signals_shorter_than_a_frame() {
        let spectrogram = stft(32, 4, true).spectrogram(&carrier(5, 0.0)).unwrap();

        assert_eq!(spectrogram.frames(), 2);
    }

    #[test]
    fn signal_shorter_than_a_frame_is_refused() {
        let error = stft(16, 4, false).spectrogram(&carrier(15, 0.0)).unwrap_err();

        assert_eq!(error, FeatureError::TooShort { frame_length: 16, sample_count: 15 });
        assert_eq!(error.to_string(), "a frame takes 16 samples, but the signal has 15");
    }

    #[test]
    fn samples_that_are_not_finite_are_refused_by_index() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut samples = carrier(10_000, 0.1);
            samples[9_000].im = value;
            samples[9_500].re = value;

            let error = stft(16, 4, false).spectrogram(&samples).unwrap_err();

            assert_eq!(error, FeatureError::NotFinite { index: 9_000 });
        }
    }

    #[test]
    fn largest_finite_samples_pass_the_check() {
        let samples = [Complex32::new(f32::MAX, f32::MAX), Complex32::new(f32::MIN, -0.0)];

        assert_eq!(check_samples(&samples), Ok(()));
    }

    #[test]
    fn impossible_configurations_are_refused_by_field() {
        let cases = [(15, 4, "fft_length"), (2, 1, "fft_length"), (16, 0, "hop_length")];
        for (fft_length, hop_length, field) in cases {
            let config = StftConfig { fft_length, hop_length, center: false };

            let error = Stft::new(&config, 1.0).unwrap_err();

            assert!(error.to_string().contains(field), "{error}");
        }
        let error = Stft::new(&StftConfig::default(), f64::NAN).unwrap_err();
        assert!(error.to_string().contains("sample_rate_hz"), "{error}");
    }

    proptest! {
        /// Parseval: the density of a carrier of amplitude 1 integrates to a power of 1.
        #[test]
        fn power_is_conserved(
            fft_length in (2_usize..300).prop_map(|half| 2 * half),
            extra in 0_usize..500,
            cycles in -0.5_f64..0.5,
        ) {
            let hop_length = fft_length.div_ceil(4);

            let spectrogram = stft(fft_length, hop_length, false)
                .spectrogram(&carrier(fft_length + extra, cycles))
                .unwrap();

            prop_assert_eq!(spectrogram.frames(), 1 + extra / hop_length);
            for frame in 0..spectrogram.frames() {
                let bin_width_hz = 1000.0 / fft_length as f32;
                let power = spectrogram.frame(frame).iter().sum::<f32>() * bin_width_hz;
                prop_assert!((power - 1.0).abs() < 1e-4, "frame {} has {}", frame, power);
            }
        }

        /// Parseval: the density of any signal integrates to its mean power under the square of the
        /// window.
        #[test]
        fn power_of_noise_is_conserved(
            fft_length in (2_usize..300).prop_map(|half| 2 * half),
            seed in 0_u64..1_000,
            strength in 1e-3_f32..1e3,
        ) {
            let samples: Vec<_> =
                gaussian_noise(fft_length, seed).iter().map(|sample| sample * strength).collect();

            let spectrogram = stft(fft_length, fft_length, false).spectrogram(&samples).unwrap();

            let weights: Vec<f64> = crate::transform::hann(fft_length).map(|w| w * w).collect();
            let weighted = samples.iter().zip(&weights).map(|(x, w)| f64::from(x.norm_sqr()) * w);
            let expected = weighted.sum::<f64>() / weights.iter().sum::<f64>();
            let density: f64 = spectrogram.frame(0).iter().map(|&density| f64::from(density)).sum();
            let power = density * 1000.0 / fft_length as f64;
            prop_assert!((power / expected - 1.0).abs() < 1e-4, "{} is not {}", power, expected);
        }

        /// Linearity, as powers show it: those of the sum and of the difference of two signals add up
        /// to twice those of the signals (the parallelogram law).
        #[test]
        fn powers_of_sum_and_difference_are_twice_those_of_the_parts(seed in 0_u64..100) {
            let (a, b) = (gaussian_noise(200, seed), gaussian_noise(200, seed + 1_000));
            let both = |sign: f32| a.iter().zip(&b).map(|(a, b)| a + b * sign).collect::<Vec<_>>();
            let stft = stft(64, 16, true);
            let spectrum = |samples: &[Complex32]| stft.spectrogram(samples).unwrap().psd;

            let (sum, difference) = (spectrum(&both(1.0)), spectrum(&both(-1.0)));

            let mean = sum.iter().sum::<f32>() / sum.len() as f32;
            let parts = spectrum(&a).into_iter().zip(spectrum(&b));
            for ((sum, difference), (a, b)) in sum.iter().zip(&difference).zip(parts) {
                // Sums of samples in single precision are off by 6e-8 of the largest.
                prop_assert!((sum + difference - 2.0 * (a + b)).abs() < 1e-5 * mean);
            }
        }

        /// A signal that is delayed by whole hops has the same frames, bit for bit.
        #[test]
        fn delay_by_whole_hops_moves_the_frames(hops in 1_usize..5, seed in 0_u64..100) {
            let samples = gaussian_noise(300, seed);
            let stft = stft(64, 16, false);

            let all = stft.spectrogram(&samples).unwrap();
            let later = stft.spectrogram(&samples[hops * 16..]).unwrap();

            for frame in 0..later.frames() {
                prop_assert_eq!(later.frame(frame), all.frame(frame + hops));
            }
        }

        /// Mixing by whole bins rotates the rows.
        #[test]
        fn shift_in_frequency_moves_the_rows(bins in 0_usize..64, seed in 0_u64..100) {
            let samples = gaussian_noise(64, seed);
            let shift = carrier(64, bins as f64 / 64.0);
            let shifted: Vec<_> = samples.iter().zip(&shift).map(|(x, y)| x * y).collect();
            let stft = stft(64, 16, false);

            let before = stft.spectrogram(&samples).unwrap();
            let after = stft.spectrogram(&shifted).unwrap();

            let total: f32 = before.frame(0).iter().sum();
            for row in 0..64 {
                let difference = after.frame(0)[(row + bins) % 64] - before.frame(0)[row];
                prop_assert!(difference.abs() < 1e-5 * total);
            }
        }
    }
}
