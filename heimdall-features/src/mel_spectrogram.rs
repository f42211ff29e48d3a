//! The shortest way from samples to bands and cepstra.

use num_complex::Complex32;
use serde::{Deserialize, Serialize};

use crate::cepstrum::Cepstrum;
use crate::{
    FeatureConfig, FeatureError, FeatureExtractor, FilterBankKind, LevelReference, MelScale,
};

/// How [`iq_to_mel_spectrogram`] does it; the defaults are for a megahertz of spectrum.
///
/// The bands of the default are equally wide: a transform of 2048 samples at 1 MHz has a bin every
/// 488 Hz, and of 128 mel bands, which are made for the ear, the lowest 27 would lie between two
/// bins. Radio signals around the center have no reason to be resolved best there, either. Mel
/// bands take fewer bands or a longer transform; what is too short is refused with the length that
/// would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MelSpectrogramConfig {
    /// Sample rate, in Hz.
    pub sample_rate_hz: f64,
    /// Length of a transform, in samples; even.
    pub fft_length: usize,
    /// Number of bands, from the lowest frequency up.
    pub bands: usize,
    /// Number of frames, whatever the length of the recording.
    pub frames: usize,
    /// Where the bands lie.
    pub bank: FilterBankKind,
    /// Mel scale, where bands are equally wide in mels.
    pub scale: MelScale,
}

impl Default for MelSpectrogramConfig {
    fn default() -> Self {
        Self {
            sample_rate_hz: 1e6,
            fft_length: 2048,
            bands: 128,
            frames: 32,
            bank: FilterBankKind::Linear,
            scale: MelScale::Slaney,
        }
    }
}

/// Levels of bands over time, relative to full scale.
#[derive(Clone, Debug, PartialEq)]
pub struct MelSpectrogram {
    /// Number of bands, from the lowest frequency up.
    pub bands: usize,
    /// Number of frames, from the first on.
    pub frames: usize,
    /// `[bands, frames]`, in dB relative to full scale squared per Hz.
    pub levels_db: Vec<f32>,
    /// Power spectral density of the noise, in the same unit.
    pub noise_psd_db: f32,
}

/// Computes the levels of bands over time of one recording.
///
/// All is planned anew for each call: for many recordings, make a [`FeatureExtractor`]. Levels are in
/// single precision: they are within 1e-4 dB down to 12 dB below those of a frame with the same power in
/// all bins, and less exact below; [`SpectralExtractor`](crate::SpectralExtractor) has exact ones.
///
/// # Shapes
///
/// - `samples`: `[n]`, relative to full scale
///
/// # Errors
///
/// Those of [`FeatureExtractor::new`] and [`FeatureExtractor::extract`].
///
/// # Examples
///
/// ```
/// use heimdall_features::{
///     MelSpectrogramConfig, Normalization, compute_mfcc, iq_to_mel_spectrogram, normalize_features,
/// };
/// use num_complex::Complex32;
///
/// let samples: Vec<Complex32> = (0..100_000).map(|n| Complex32::cis(0.1 * n as f32)).collect();
///
/// let spectrogram = iq_to_mel_spectrogram(&samples, &MelSpectrogramConfig::default())?;
/// let above_noise_db = normalize_features(&spectrogram, &Normalization::NoiseFloor)?;
/// let cepstra = compute_mfcc(&spectrogram, 13)?;
///
/// assert_eq!((above_noise_db.len(), cepstra.len()), (128 * 32, 13 * 32));
/// # Ok::<(), heimdall_features::FeatureError>(())
/// ```
pub fn iq_to_mel_spectrogram(
    samples: &[Complex32],
    config: &MelSpectrogramConfig,
) -> Result<MelSpectrogram, FeatureError> {
    let &MelSpectrogramConfig { sample_rate_hz, fft_length, bands, frames, bank, scale } = config;
    let config = FeatureConfig {
        fft_length,
        bands,
        frames,
        bank,
        scale,
        level: LevelReference::Absolute,
        ..FeatureConfig::default()
    };
    let features = FeatureExtractor::new(&config, sample_rate_hz)?.extract(samples)?;
    let noise_psd_db = features.scalars.noise_psd_db;
    Ok(MelSpectrogram { bands, frames, levels_db: features.levels_db, noise_psd_db })
}

/// Computes the cepstral coefficients of every frame: the orthonormal discrete cosine transform, of
/// the second kind, of the levels over the bands.
///
/// # Shapes
///
/// - returns: `[coefficients, frames]`, from the constant coefficient up
///
/// # Errors
///
/// [`FeatureError::InvalidConfig`] if there are not between one and as many coefficients as bands.
pub fn compute_mfcc(
    spectrogram: &MelSpectrogram,
    coefficients: usize,
) -> Result<Vec<f32>, FeatureError> {
    let &MelSpectrogram { bands, frames, ref levels_db, .. } = spectrogram;
    let cepstrum = Cepstrum::new(bands, coefficients)?;
    let mut cepstra = vec![0.0; coefficients * frames];
    // Sums of a hundred levels lose three digits in single precision.
    let (mut column, mut coefficient) = (vec![0.0_f64; bands], vec![0.0_f64; coefficients]);
    for frame in 0..frames {
        for (level, row) in column.iter_mut().zip(levels_db.chunks_exact(frames)) {
            *level = row[frame].into();
        }
        cepstrum.apply(&column, &mut coefficient);
        for (row, &value) in cepstra.chunks_exact_mut(frames).zip(&coefficient) {
            row[frame] = value as f32;
        }
    }
    Ok(cepstra)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{carrier, gaussian_noise};
    use crate::{
        FilterBankConfig, Framing, SpectralConfig, SpectralExtractor, SpectralMap, SpectralRows,
        SpectrumUnit,
    };

    /// What is computed in double precision from end to end, and compared with SciPy and librosa.
    fn exact(
        samples: &[Complex32],
        config: &MelSpectrogramConfig,
        rows: SpectralRows,
    ) -> SpectralMap<f64> {
        let config = SpectralConfig {
            fft_length: config.fft_length,
            framing: Framing::Count { frames: config.frames },
            unit: SpectrumUnit::Density,
            rows,
            exact_levels: false,
        };
        SpectralExtractor::new(&config, 1e6).unwrap().extract(samples).unwrap()
    }

    fn worst(actual: &[f32], expected: &[f64]) -> f64 {
        assert_eq!(actual.len(), expected.len());
        let pairs = actual.iter().zip(expected);
        pairs.map(|(actual, expected)| (f64::from(*actual) - expected).abs()).fold(0.0, f64::max)
    }

    /// Noise fills all bins alike, so single precision reaches 1e-4 dB; the coefficients of levels
    /// around -60 dB are up to 700, of which single precision has 3e-5. Frames overlap in the shorter
    /// recording, and are means of several transforms in the longer one.
    #[test]
    fn levels_and_cepstra_are_those_of_double_precision() {
        for (length, bank) in
            [(60_000, FilterBankKind::Linear), (300_000, FilterBankKind::MelSymmetric)]
        {
            let config = MelSpectrogramConfig {
                bank,
                bands: 64,
                fft_length: 4096,
                ..MelSpectrogramConfig::default()
            };
            let samples = gaussian_noise(length, 6);
            let filters = FilterBankConfig {
                bands: 64,
                kind: bank,
                scale: config.scale,
                ..Default::default()
            };

            let spectrogram = iq_to_mel_spectrogram(&samples, &config).unwrap();
            let cepstra = compute_mfcc(&spectrogram, 20).unwrap();

            let bands = exact(&samples, &config, SpectralRows::Bands { bank: filters.clone() });
            let rows = SpectralRows::Cepstrum { bank: filters, coefficients: 20 };
            let off_db = worst(&spectrogram.levels_db, &bands.values);
            assert!(off_db < 1e-4, "{bank:?}: {off_db} dB");
            let off = worst(&cepstra, &exact(&samples, &config, rows).values);
            assert!(off < 2e-4, "{bank:?}: {off}");
        }
    }

    /// Beside a carrier, bands are 60 dB and more below the mean of all bins: by the bound of single
    /// precision, 2e-5 · (1 + 10^(x / 20)) dB.
    #[test]
    fn levels_beside_a_carrier_are_off_by_what_single_precision_costs() {
        let config = MelSpectrogramConfig::default();
        let samples: Vec<Complex32> = carrier(60_000, 0.2)
            .iter()
            .zip(gaussian_noise(60_000, 8))
            .map(|(carrier, noise)| carrier + noise * 1e-2)
            .collect();

        let spectrogram = iq_to_mel_spectrogram(&samples, &config).unwrap();

        let bank = FilterBankConfig { bands: 128, kind: config.bank, ..Default::default() };
        let bands = exact(&samples, &config, SpectralRows::Bands { bank });
        // Power one in a megahertz.
        let flat_db = -60.0;
        for (&level_db, &expected_db) in spectrogram.levels_db.iter().zip(&bands.values) {
            let bound_db = 2e-5 + 2e-5 * 10_f64.powf((flat_db - expected_db) / 20.0);
            let off_db = (f64::from(level_db) - expected_db).abs();
            assert!(off_db < bound_db, "{off_db} at {expected_db} dB");
        }
        let lowest_db = bands.values.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(lowest_db < flat_db - 35.0, "{lowest_db}");
    }

    #[test]
    fn defaults_work_on_a_megahertz() {
        let samples = gaussian_noise(60_000, 4);

        let spectrogram =
            iq_to_mel_spectrogram(&samples, &MelSpectrogramConfig::default()).unwrap();

        // Power one in a megahertz.
        assert_eq!(spectrogram.levels_db.len(), 128 * 32);
        assert!((spectrogram.noise_psd_db + 60.0).abs() < 0.2, "{}", spectrogram.noise_psd_db);
    }

    #[test]
    fn mel_bands_of_the_ear_are_refused_on_a_megahertz() {
        let bank = FilterBankKind::MelFolded;
        let config = MelSpectrogramConfig { bank, ..MelSpectrogramConfig::default() };

        let error = iq_to_mel_spectrogram(&gaussian_noise(60_000, 4), &config).unwrap_err();

        let FeatureError::EmptyFilter { empty: 27, fft_length_min, .. } = error else {
            panic!("{error:?}");
        };
        let config = MelSpectrogramConfig { fft_length: fft_length_min, ..config };
        assert!(iq_to_mel_spectrogram(&gaussian_noise(60_000, 4), &config).is_ok());
    }

    /// The zeroth coefficient is the sum of the levels over the root of their number.
    #[test]
    fn constant_coefficient_is_the_mean_level() {
        let samples = gaussian_noise(60_000, 5);
        let spectrogram =
            iq_to_mel_spectrogram(&samples, &MelSpectrogramConfig::default()).unwrap();

        let cepstra = compute_mfcc(&spectrogram, 2).unwrap();

        for (frame, constant) in cepstra[..32].iter().enumerate() {
            let sum: f32 = (0..128).map(|band| spectrogram.levels_db[band * 32 + frame]).sum();
            // A sum in single precision, of 128 levels.
            assert!((constant - sum / 128_f32.sqrt()).abs() < 1e-2);
        }
    }
}
