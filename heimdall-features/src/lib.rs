//! From IQ samples to feature maps and delays.
//!
//! This crate is pure signal processing: slices in, arrays out, no files, no network, no tensors.
//!
//! ```text
//!              ┌─ Stft ─▶ Spectrogram ─ FilterBank ─▶ ReceiverFeatures ─ assemble ─▶ FeatureMap
//! IqRecording ─┤           [frames, bins] FS²/Hz      [bands, frames] dB    [receivers, bands, frames] dB
//!     [n]      └─ measure_delay ─▶ DelayEstimate, of two receivers with disciplined clocks
//! ```
//!
//! [`FeatureExtractor`] does the upper line at once, in exactly as many frames as the network takes,
//! whatever the length of the recording. [`SpectralExtractor`] computes spectra, mel bands and
//! cepstra as SciPy and librosa do, in single or double precision. Both take recordings in chunks,
//! too, and [`iq_to_mel_spectrogram`] is the shortest way of all. A spectrogram says how strong a
//! signal is and nothing about when it arrived; that is what [`measure_delay`] is for.
//!
//! # Example
//!
//! A carrier a quarter of the sample rate above the center stands out in the bands three quarters
//! up, in decibels above the receiver's own noise floor:
//!
//! ```
//! use heimdall_features::{FeatureConfig, FeatureExtractor, FeatureMap, FeatureShape};
//! use num_complex::Complex32;
//!
//! let config = FeatureConfig { bands: 16, frames: 4, ..FeatureConfig::default() };
//! let extractor = FeatureExtractor::new(&config, 24_000.0)?;
//! let carrier: Vec<Complex32> =
//!     (0..2400).map(|n| Complex32::cis(std::f32::consts::FRAC_PI_2 * (n % 4) as f32)).collect();
//!
//! let features = extractor.extract(&carrier)?;
//! let shape = FeatureShape { receivers: 2, bands: 16, frames: 4 };
//! let map = FeatureMap::assemble(shape, vec![Some(features), None]);
//!
//! // [receivers, bands, frames]: the first frame of bands 12 and 4 of receiver 0.
//! assert!(map.levels_db[12 * 4] > map.levels_db[4 * 4] + 60.0);
//! assert!(map.scalars[1].is_none());
//! # Ok::<(), heimdall_features::FeatureError>(())
//! ```
//!
//! # Units
//!
//! Samples are relative to full scale, `FS`; densities are in `FS²/Hz`; levels are in dB. Frequencies
//! are in hertz, times in seconds.

mod accuracy;
mod averager;
mod band;
mod cepstrum;
mod correlate;
mod decibel;
mod delay;
mod delay_config;
mod error;
mod extractor;
mod feature_config;
mod feature_map;
mod filter_bank;
mod framer;
mod frames;
mod frequency_search;
mod iq;
mod mel;
mod mel_spectrogram;
mod moments;
mod normalize;
mod real;
mod refine;
mod resample;
mod scalars;
mod segment;
mod spectral;
mod spectral_config;
mod stft;
#[cfg(test)]
mod testing;
mod transform;

pub use accuracy::ScalarAccuracy;
pub use delay::{DelayEstimate, measure_delay};
pub use delay_config::DelayConfig;
pub use error::{FeatureError, Which};
pub use extractor::{FeatureExtractor, FeatureStream};
pub use feature_config::{FeatureConfig, LevelReference};
pub use feature_map::{
    ArrivalTime, ClassicalFix, FeatureMap, FeatureShape, ReceiverFeatures, ReceiverScalars,
};
pub use filter_bank::{BandScaling, EmptyBands, FilterBank, FilterBankConfig, FilterBankKind};
pub use frames::FramePlan;
pub use iq::{ClockQuality, IqRecording, UtcTime};
pub use mel::MelScale;
pub use mel_spectrogram::{
    MelSpectrogram, MelSpectrogramConfig, compute_mfcc, iq_to_mel_spectrogram,
};
pub use normalize::{LevelStatistics, Moments, Normalization, normalize_features};
pub use real::Real;
pub use spectral::{SpectralExtractor, SpectralMap, SpectralStream};
pub use spectral_config::{Framing, SpectralConfig, SpectralRows, SpectrumUnit};
pub use stft::{Spectrogram, Stft, StftConfig};
