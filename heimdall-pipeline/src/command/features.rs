//! `features`: writes the spectrum, the mel bands or the cepstrum of a recording as an array.

use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::{Args, ValueEnum};
use heimdall_data::{DataError, IqFile, ReadOptions, write_npy_table};
use heimdall_features::{
    BandScaling, EmptyBands, FeatureError, FilterBankConfig, FilterBankKind, Framing, MelScale,
    SpectralConfig, SpectralExtractor, SpectralRows, SpectrumUnit, UtcTime,
};
use tokio::task::block_in_place;
use tracing::warn;

use super::Surroundings;
use crate::PipelineError;

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
        self.check()?;
        let file = self.open().await?;
        let metadata = file.metadata();
        // Double precision: a bin far below a carrier is exact, too.
        let extractor = self.extractor(metadata.sample_rate_hz)?;
        // A number of samples in a file fits.
        let stream = extractor.stream(Some(metadata.sample_count as usize));
        let mut stream = stream.map_err(PipelineError::Features)?;
        let mut by_frame: Vec<f32> = Vec::new();
        let mut keep = |row: &[f64]| by_frame.extend(row.iter().map(|&value| value as f32));
        let mut chunks = file.chunks(CHUNK_SAMPLES);
        while let Some(mut samples) = chunks.next_chunk().await? {
            block_in_place(|| {
                if self.real {
                    samples.iter_mut().for_each(|sample| sample.im = 0.0);
                }
                stream.push(&samples, &mut keep)
            })
            .map_err(PipelineError::Features)?;
        }
        stream.finish(&mut keep).map_err(PipelineError::Features)?;

        let rows = extractor.rows();
        write_array(&by_frame, rows, &self.output)?;
        let frames = by_frame.len() / rows;
        surroundings
            .print(&format!("{}: {rows} rows, {frames} frames\n", self.output.display()))?;
        Ok(0)
    }

    /// Refuses what would be noticed only after the work, or not at all.
    fn check(&self) -> Result<(), PipelineError> {
        let invalid = |option, expected| Err(PipelineError::InvalidOption { option, expected });
        if self.sample_rate.is_some_and(|rate_hz| !(rate_hz.is_finite() && rate_hz > 0.0)) {
            return invalid("--sample-rate", "a positive number of hertz");
        }
        if fs::metadata(&self.output).is_ok_and(|target| !target.is_file()) {
            return invalid("--output", "a file: a folder or a device is not replaced");
        }
        let (input, output) = (fs::canonicalize(&self.file), fs::canonicalize(&self.output));
        if input.is_ok() && input.ok() == output.ok() {
            return invalid("--output", "another file than the recording");
        }
        Ok(())
    }

    /// Opens the recording, and says so where its sample rate is overruled.
    async fn open(&self) -> Result<IqFile, PipelineError> {
        let told = match IqFile::open(&self.file, &ReadOptions::default()).await {
            // Nothing here depends on the time, which is what the name is needed for.
            Err(DataError::KiwiFileName { .. }) => {
                let start = Some(UtcTime { seconds: 0, nanoseconds: 0 });
                IqFile::open(&self.file, &ReadOptions { start, ..ReadOptions::default() }).await
            }
            told => told,
        };
        let Some(sample_rate_hz) = self.sample_rate else {
            return told.map_err(|error| match error {
                DataError::MissingFact { fact: "sample rate", .. } => {
                    PipelineError::NoSampleRate { file: self.file.clone() }
                }
                error => PipelineError::Recording(error),
            });
        };
        let mut start = None;
        if let Ok(file) = &told {
            let told_hz = file.metadata().sample_rate_hz;
            start = file.metadata().start;
            if (told_hz / sample_rate_hz - 1.0).abs() > SAMPLE_RATE_RATIO_MAX {
                warn!(told_hz, used_hz = sample_rate_hz, "the file tells another sample rate");
            }
        }
        let options =
            ReadOptions { sample_rate_hz: Some(sample_rate_hz), start, ..ReadOptions::default() };
        IqFile::open(&self.file, &options).await.map_err(PipelineError::Recording)
    }

    /// Plans the extraction, and says so where bands stay silent.
    fn extractor(&self, sample_rate_hz: f64) -> Result<SpectralExtractor<f64>, PipelineError> {
        let planned =
            |empty_bands| SpectralExtractor::new(&self.config(empty_bands), sample_rate_hz);
        match planned(EmptyBands::Refuse) {
            Err(error @ FeatureError::EmptyFilter { .. })
                if self.real || self.allow_empty_bands =>
            {
                warn!(%error, "bands without a bin are silent, as in librosa");
                planned(EmptyBands::Silent)
            }
            extractor => extractor,
        }
        .map_err(PipelineError::Features)
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

/// Writes an array beside its place, and moves it there when it is whole.
fn write_array(by_frame: &[f32], rows: usize, path: &Path) -> Result<(), PipelineError> {
    let frames = by_frame.len() / rows;
    let value = |index: usize| by_frame[index % frames * rows + index / frames];
    let values: Vec<f32> = (0..by_frame.len()).map(value).collect();
    let bytes = write_npy_table(&values, rows);
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let write = || -> io::Result<()> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let temporary = folder.join(name);
        let moved = fs::write(&temporary, &bytes).and_then(|()| fs::rename(&temporary, path));
        if moved.is_err() {
            // The first failure is the one to tell.
            let _ = fs::remove_file(&temporary);
        }
        moved
    };
    write().map_err(PipelineError::io("write", path))
}
