//! `features`: writes the spectrum, the mel bands or the cepstrum of a recording as an array.

mod array;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use heimdall_data::{DataError, IqFile, ReadOptions};
use heimdall_features::{
    BandScaling, EmptyBands, FeatureError, FilterBankConfig, FilterBankKind, Framing, MelScale,
    SpectralConfig, SpectralExtractor, SpectralRows, SpectrumUnit,
};
use tokio::task::block_in_place;
use tracing::warn;

use self::array::ArrayWriter;
use super::Surroundings;
use crate::PipelineError;
use crate::output::OutputPlace;

/// Samples that are read at a time.
const CHUNK_SAMPLES: u64 = 1 << 18;
/// A rate that differs by more than this share is not the one that the file tells: crystals of
/// receivers are off by less.
const SAMPLE_RATE_RATIO_MAX: f64 = 1e-3;

/// Arguments of `features`.
#[derive(Debug, Args)]
pub struct FeaturesArgs {
    /// Recording: SigMF, WAV, NumPy or raw samples
    pub file: PathBuf,

    /// Sample rate; needed where the file does not tell it, and taken instead of what it tells
    #[arg(long, value_name = "HZ")]
    pub sample_rate: Option<f64>,

    /// What the rows of the array are
    #[arg(long, value_enum)]
    pub kind: FeatureKind,

    /// Length of a transform, in samples
    #[arg(long, value_name = "N", default_value_t = 2048)]
    pub fft: usize,

    /// Distance between the starts of two frames, in samples; a quarter of the transform by default
    #[arg(long, value_name = "H")]
    pub hop: Option<usize>,

    /// Number of bands
    #[arg(long, value_name = "M", default_value_t = 128)]
    pub bands: usize,

    /// Mel scale; triangles have equal areas with `slaney`, and equal heights with `htk`, as librosa
    /// has them by default
    #[arg(long, value_enum, default_value_t = Scale::Slaney)]
    pub scale: Scale,

    /// Where the bands lie; `mel` with `--real` by default, else `mel-folded`
    #[arg(long, value_enum)]
    pub bank: Option<Bank>,

    /// Number of cepstral coefficients
    #[arg(long, value_name = "K", default_value_t = 13)]
    pub coefficients: usize,

    /// Take the real part of the samples, as librosa takes real signals
    #[arg(long)]
    pub real: bool,

    /// Center frames where they would have started, with zeros beyond both ends
    #[arg(long, conflicts_with = "frames")]
    pub center: bool,

    /// Make so many frames of the recording, whatever its length; the hop follows from it
    #[arg(long, value_name = "T")]
    pub frames: Option<usize>,

    /// Let bands without a bin be silent instead of refusing them; `--real` does, as librosa does
    #[arg(long)]
    pub allow_empty_bands: bool,

    /// Array to write, `float32` of shape `[rows, frames]`
    #[arg(long, value_name = "X.npy")]
    pub output: PathBuf,
}

/// What the rows of an array are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FeatureKind {
    /// Power spectral density, in dB(FS²/Hz), from minus half of the sample rate upwards
    PsdDb,
    /// Power in mel bands, in dB
    MelDb,
    /// Cepstral coefficients of the mel bands
    Mfcc,
}

/// A mel scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scale {
    /// Linear below 1 kHz, logarithmic above
    Slaney,
    /// 2595 log10(1 + f / 700)
    Htk,
}

/// Where bands lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Bank {
    /// Equally wide, over both sides of the center
    Linear,
    /// Half of them below the center and half above
    MelSymmetric,
    /// Both sides of the center averaged
    MelFolded,
    /// The upper side alone
    Mel,
}

impl FeaturesArgs {
    /// Writes the array, or leaves nothing at its place.
    pub(crate) async fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        if self.sample_rate.is_some_and(|rate_hz| !(rate_hz.is_finite() && rate_hz > 0.0)) {
            let (option, expected) = ("--sample-rate", "a positive number of hertz");
            return Err(PipelineError::InvalidOption { option, expected });
        }
        let place = OutputPlace::check("--output", &self.output, std::slice::from_ref(&self.file))?;
        let file = self.open().await?;
        let metadata = file.metadata();
        // A number of samples in a file fits.
        let sample_count = metadata.sample_count as usize;
        self.check_frames(sample_count)?;
        // Double precision: a bin far below a carrier is exact, too.
        let extractor = self.extractor(self.sample_rate.unwrap_or(metadata.sample_rate_hz))?;
        let (rows, frames) = (extractor.rows(), extractor.frame_count(sample_count).map_err(told)?);
        let mut stream = extractor.stream(Some(sample_count)).map_err(told)?;
        let mut array = ArrayWriter::new(place, rows, frames);
        let mut chunks = file.chunks(CHUNK_SAMPLES);
        while let Some(mut samples) = chunks.next_chunk().await? {
            block_in_place(|| {
                if self.real {
                    samples.iter_mut().for_each(|sample| sample.im = 0.0);
                }
                stream.push(&samples, |frame| array.push(frame))
            })
            .map_err(told)?;
            array.check()?;
        }
        stream.finish(|frame| array.push(frame)).map_err(told)?;
        array.finish()?;
        surroundings
            .print(&format!("{}: {rows} rows, {frames} frames\n", self.output.display()))?;
        Ok(0)
    }

    /// Opens the recording, and says so where it is not whole or its sample rate is overruled.
    async fn open(&self) -> Result<IqFile, PipelineError> {
        let mut opened = IqFile::open(&self.file, &ReadOptions::default()).await;
        if opened.is_err() && self.sample_rate.is_some() {
            let sample_rate_hz = self.sample_rate;
            let options = ReadOptions { sample_rate_hz, ..ReadOptions::default() };
            opened = IqFile::open(&self.file, &options).await;
        }
        let file = opened.map_err(|error| match error {
            DataError::MissingFact { fact: "sample rate", .. } => {
                PipelineError::NoSampleRate { file: self.file.clone() }
            }
            error => PipelineError::Recording(error),
        })?;
        let (told_hz, name) = (file.metadata().sample_rate_hz, self.file.display());
        if let Some(missing_s) = file.metadata().missing_s() {
            warn!(file = %name, missing_s, "the file was cut off: its header promises more");
        }
        match self.sample_rate {
            Some(used_hz) if (told_hz / used_hz - 1.0).abs() > SAMPLE_RATE_RATIO_MAX => {
                warn!(told_hz, used_hz, "the file tells another sample rate");
            }
            _ => {}
        }
        Ok(file)
    }

    /// Refuses more frames than there are samples, at which they could start.
    fn check_frames(&self, sample_count: usize) -> Result<(), PipelineError> {
        match self.frames {
            Some(frames) if frames > sample_count.max(1) => Err(PipelineError::FeatureOption {
                option: "--frames",
                expected: format!("at most the number of samples, {sample_count}"),
                actual: frames as f64,
            }),
            _ => Ok(()),
        }
    }

    /// Plans the extraction, and says so where bands stay silent.
    fn extractor(&self, sample_rate_hz: f64) -> Result<SpectralExtractor<f64>, PipelineError> {
        let planned =
            |empty_bands| SpectralExtractor::new(&self.config(empty_bands), sample_rate_hz);
        match planned(EmptyBands::Refuse) {
            Err(error @ FeatureError::EmptyFilter { .. })
                if self.real || self.allow_empty_bands =>
            {
                warn!(error = %told(error), "bands without a bin are silent, as in librosa");
                planned(EmptyBands::Silent)
            }
            extractor => extractor,
        }
        .map_err(told)
    }

    fn config(&self, empty_bands: EmptyBands) -> SpectralConfig {
        let framing = match self.frames {
            Some(frames) => Framing::Count { frames },
            None => {
                let hop_length = self.hop.unwrap_or(self.fft / 4);
                Framing::Hop { hop_length, center: self.center }
            }
        };
        let unit = match self.kind {
            FeatureKind::PsdDb => SpectrumUnit::Density,
            FeatureKind::MelDb | FeatureKind::Mfcc => SpectrumUnit::Power,
        };
        let bank = self.bank_config(empty_bands);
        let rows = match self.kind {
            FeatureKind::PsdDb => SpectralRows::Bins,
            FeatureKind::MelDb => SpectralRows::Bands { bank },
            FeatureKind::Mfcc => SpectralRows::Cepstrum { bank, coefficients: self.coefficients },
        };
        SpectralConfig { fft_length: self.fft, framing, unit, rows, ..SpectralConfig::default() }
    }

    fn bank_config(&self, empty_bands: EmptyBands) -> FilterBankConfig {
        let default = if self.real { Bank::Mel } else { Bank::MelFolded };
        let kind = match self.bank.unwrap_or(default) {
            Bank::Linear => FilterBankKind::Linear,
            Bank::MelSymmetric => FilterBankKind::MelSymmetric,
            Bank::MelFolded => FilterBankKind::MelFolded,
            Bank::Mel => FilterBankKind::Mel,
        };
        let (scale, scaling) = match self.scale {
            Scale::Slaney => (MelScale::Slaney, BandScaling::Slaney),
            Scale::Htk => (MelScale::Htk, BandScaling::Peak),
        };
        FilterBankConfig {
            bands: self.bands,
            kind,
            scale,
            scaling,
            bandwidth_hz: None,
            empty_bands,
        }
    }
}

/// Names the options that an error is about, rather than the fields that they set.
fn told(error: FeatureError) -> PipelineError {
    match error {
        FeatureError::InvalidConfig { field, expected, actual } => {
            let option = match field {
                "fft_length" => "--fft",
                "hop_length" => "--hop",
                "frames" => "--frames",
                "bands" => "--bands",
                "coefficients" => "--coefficients",
                "sample_rate_hz" => "--sample-rate",
                // No other field is set by an option.
                field => field,
            };
            PipelineError::FeatureOption { option, expected, actual }
        }
        FeatureError::EmptyFilter { empty, bands, fft_length, fft_length_min, .. } => {
            PipelineError::EmptyBands { empty, bands, fft_length, fft_length_min }
        }
        error => PipelineError::Features(error),
    }
}
