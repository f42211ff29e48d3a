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
/// All is planned anew for each call: for many recordings, make a [`FeatureExtractor`].
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
    let (mut column, mut coefficient) = (vec![0.0; bands], vec![0.0; coefficients]);
    for frame in 0..frames {
        for (level, row) in column.iter_mut().zip(levels_db.chunks_exact(frames)) {
            *level = row[frame];
        }
        cepstrum.apply(&column, &mut coefficient);
        for (row, &value) in cepstra.chunks_exact_mut(frames).zip(&coefficient) {
            row[frame] = value;
        }
    }
    Ok(cepstra)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::gaussian_noise;

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
            assert!((constant - sum / 128_f32.sqrt()).abs() < 1e-2);
        }
    }
}
