//! Files of samples: opened once, read in parts.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use heimdall_features::{ClockQuality, IqRecording};
use num_complex::Complex32;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use tokio::fs;

use super::layout::Layout;
use super::metadata::{FileFormat, RecordingMetadata};
use super::options::ReadOptions;
use super::quality::SampleCheck;
use super::raw::{self, RawType};
use super::sample_type::SampleType;
use super::sidecar::Sidecar;
use super::source::Source;
use super::{npy, riff, sigmf, wav};
use crate::DataError;
use crate::store::object_error;

/// How much of a file tells its format.
const START_BYTES: u64 = 12;
/// Samples that are looked at together while a whole file is read.
const CHUNK_SAMPLES: u64 = 1 << 20;
/// Bytes that are written again together.
const PIECE_BYTES: u64 = 4 * 1024 * 1024;

/// What the reader of a format has found.
pub(super) struct Opened {
    pub(super) layout: Layout,
    pub(super) metadata: RecordingMetadata,
}

/// A file of samples whose head was read, and whose samples can be read in parts.
///
/// The format is told by the first bytes, and where these say nothing, by the extension:
///
/// | format | told by |
/// |---|---|
/// | WAV and KiwiSDR WAV | `RIFF`, `RF64` or `BW64`, and `WAVE` |
/// | NumPy | `\x93NUMPY` |
/// | SigMF | `.sigmf-meta`, `.sigmf-data`, `.sigmf` |
/// | raw | `.cu8`, `.cs8`, `.ci8`, `.cs16`, `.ci16`, `.cf32`, `.fc32`, `.cfile`, or a type that is given |
///
/// Memory is bounded by the samples that are asked for at a time, whatever the length of the file
/// and whatever its header says. Of a KiwiSDR file, opening it reads all of its time stamps, and
/// keeps some bytes for each block of 512 samples.
///
/// # Sidecars
///
/// A file `NAME.json` beside the file `NAME` may tell what the file does not. All fields may be
/// left out, and others are refused:
///
/// ```json
/// {
///   "datatype": "cu8",
///   "sample_rate_hz": 2048000,
///   "center_frequency_hz": 145500000,
///   "start": "2024-05-01T12:00:00.123456789Z",
///   "clock": { "kind": "disciplined", "sigma_s": 1e-7 },
///   "gain": { "kind": "fixed", "gain_db": 40.2 },
///   "receiver": "north"
/// }
/// ```
///
/// A `clock` that is disciplined makes the milliseconds that a WAV file is stamped with no better: it
/// takes a `start` beside it. `datatype` is for raw files, with the names of [`RawType::from_name`]. In the sidecar of an array
/// of several receivers, `receivers` lists one name for each. SigMF has fields of its own for all
/// of this, and no sidecar.
#[derive(Clone, Debug)]
pub struct IqFile {
    source: Source,
    layout: Layout,
    metadata: RecordingMetadata,
}

/// A file that was read as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadRecording {
    /// The samples. Where the file does not tell them, the center frequency is 0 Hz, and the
    /// start that of 1970 with a clock of unknown quality; `metadata` says what was told.
    pub recording: IqRecording,
    /// What the file says.
    pub metadata: RecordingMetadata,
    /// Share of the samples that are at the end of the scale.
    pub clipping_share: f64,
}

impl IqFile {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// - [`DataError::Read`], [`DataError::Object`] if it cannot be read.
    /// - [`DataError::UnknownFormat`] if nothing tells its format.
    /// - [`DataError::Malformed`], [`DataError::Unsupported`], [`DataError::HashMismatch`] if it
    ///   breaks a rule of its format, or makes use of what is not understood.
    /// - [`DataError::NotIq`] if its samples are real numbers.
    /// - [`DataError::ChannelNotChosen`], [`DataError::NoSuchPart`] if it has several channels, or
    ///   not the one that is asked for.
    /// - [`DataError::MissingFact`] if nothing tells the sample rate.
    /// - [`DataError::StaleStamps`], [`DataError::UnsteadyStamps`] if the sample rate of a KiwiSDR
    ///   recording cannot be known.
    pub async fn open(path: &Path, options: &ReadOptions) -> Result<Self, DataError> {
        let (store, key) = local_object(path).await?;
        Self::open_object(store, &key, options).await
    }

    /// Opens an object of a store.
    ///
    /// # Errors
    ///
    /// Those of [`IqFile::open`].
    pub async fn open_object(
        store: Arc<dyn ObjectStore>,
        key: &ObjectPath,
        options: &ReadOptions,
    ) -> Result<Self, DataError> {
        Self::from_source(Source::open(store, key.clone()).await?, options).await
    }

    /// Opens a file that is in memory, with nothing beside it.
    ///
    /// # Errors
    ///
    /// Those of [`IqFile::open`].
    pub async fn from_bytes(
        name: &str,
        bytes: impl Into<Bytes>,
        options: &ReadOptions,
    ) -> Result<Self, DataError> {
        Self::from_source(Source::memory(name, bytes.into()), options).await
    }

    async fn from_source(source: Source, options: &ReadOptions) -> Result<Self, DataError> {
        if options.raw_type.is_none() && sigmf::is_sigmf(source.file_name()) {
            let (source, opened) = sigmf::open(source, options).await?;
            return Self::finish(source, opened, options);
        }
        let sidecar = Sidecar::beside(&source).await?;
        let options = sidecar.complete(options);
        let start = source.range(0..START_BYTES.min(source.size)).await?;
        let from_name = || RawType::from_file_name(source.file_name());
        let mut opened = if let Some(raw_type) = options.raw_type {
            raw::open(&source, raw_type)
        } else if riff::is_wav(&start) || has_extension(source.file_name(), "wav") {
            wav::open(&source, &options).await?
        } else if npy::is_npy(&start) || has_extension(source.file_name(), "npy") {
            npy::open(&source, &options).await?
        } else if let Some(raw_type) = from_name() {
            raw::open(&source, raw_type)
        } else {
            return Err(DataError::UnknownFormat { file: source.file });
        };
        sidecar.name_receiver(&source, options.channel.unwrap_or(0), &mut opened.metadata)?;
        let is_disciplined = matches!(options.clock, Some(ClockQuality::Disciplined { .. }));
        let RecordingMetadata { format, start, .. } = &opened.metadata;
        // Its stamp is good to a millisecond, however good the clock was.
        if *format == FileFormat::Wav
            && start.is_some()
            && is_disciplined
            && options.start.is_none()
        {
            let expected = "told together with a clock that is disciplined";
            return Err(source.malformed("its start", expected, "the millisecond in the file"));
        }
        Self::finish(source, opened, &options)
    }

    /// Lets the options stand above what the file says.
    fn finish(source: Source, opened: Opened, options: &ReadOptions) -> Result<Self, DataError> {
        let Opened { layout, mut metadata } = opened;
        let is_fitted = metadata.stamps.is_some();
        metadata.sample_rate_hz = options.sample_rate_hz.unwrap_or(metadata.sample_rate_hz);
        metadata.center_frequency_hz = options.center_frequency_hz.or(metadata.center_frequency_hz);
        metadata.start = options.start.filter(|_| !is_fitted).or(metadata.start);
        metadata.clock = options.clock.unwrap_or(metadata.clock);
        metadata.gain = options.gain.or(metadata.gain);
        if metadata.sample_rate_hz.is_nan() {
            return Err(DataError::MissingFact { file: source.file, fact: "sample rate" });
        }
        if !(metadata.sample_rate_hz.is_finite() && metadata.sample_rate_hz > 0.0) {
            let expected = "a positive number of hertz";
            let actual = metadata.sample_rate_hz.to_string();
            return Err(source.malformed("its sample rate", expected, &actual));
        }
        Ok(Self { source, layout, metadata })
    }

    /// What the file says about its samples.
    pub fn metadata(&self) -> &RecordingMetadata {
        &self.metadata
    }

    /// Name of the file, or key of the object.
    pub fn name(&self) -> &str {
        &self.source.file
    }

    /// Reads a range of samples.
    ///
    /// # Shapes
    ///
    /// - returns: `[range.end - range.start]`, relative to full scale
    ///
    /// # Errors
    ///
    /// - [`DataError::NoSuchPart`] if the range goes beyond the samples of the file.
    /// - [`DataError::Object`], [`DataError::Malformed`] if they cannot be read any more.
    pub async fn samples(&self, range: Range<u64>) -> Result<Vec<Complex32>, DataError> {
        let sample_count = self.metadata.sample_count;
        if range.start > range.end || range.end > sample_count {
            return Err(DataError::NoSuchPart {
                file: self.source.file.clone(),
                part: format!("samples {} to {}", range.start, range.end),
                actual: format!("{sample_count} samples"),
            });
        }
        self.layout.read(&self.source, range).await
    }

    /// Reads the samples in order, in chunks of equal length but for the last one.
    ///
    /// # Panics
    ///
    /// If `chunk_length` is zero.
    pub fn chunks(&self, chunk_length: u64) -> SampleChunks<'_> {
        assert!(chunk_length > 0, "a chunk takes a sample");
        SampleChunks { file: self, chunk_length, next: 0 }
    }

    /// Reads all samples.
    ///
    /// # Errors
    ///
    /// Those of [`IqFile::samples`].
    pub async fn read(&self) -> Result<ReadRecording, DataError> {
        let mut samples = Vec::with_capacity(self.metadata.sample_count as usize);
        let mut check = self.sample_check();
        let mut chunks = self.chunks(CHUNK_SAMPLES);
        while let Some(chunk) = chunks.next_chunk().await? {
            check.push(&chunk);
            samples.extend(chunk);
        }
        let metadata = self.metadata.clone();
        Ok(ReadRecording {
            recording: IqRecording {
                samples,
                sample_rate_hz: metadata.sample_rate_hz,
                center_frequency_hz: metadata.center_frequency_hz.unwrap_or(0.0),
                start: metadata.start.unwrap_or_default(),
                clock: metadata.clock,
            },
            clipping_share: check.clipping_share(),
            metadata,
        })
    }

    /// The bytes of the file as they are.
    pub(crate) fn as_is(&self) -> Encoded<'_> {
        Encoded { file: self, encoding: Encoding::AsIs, next: 0 }
    }

    /// The samples as a `complex64` array of NumPy.
    pub(crate) fn as_npy(&self) -> Encoded<'_> {
        Encoded { file: self, encoding: Encoding::Npy, next: 0 }
    }

    /// The samples as `cf32_le`, with nothing before and after them.
    pub(crate) fn as_floats(&self) -> Encoded<'_> {
        Encoded { file: self, encoding: Encoding::Floats, next: 0 }
    }

    /// A check that knows at which value the samples of this file are clipped.
    pub(crate) fn sample_check(&self) -> SampleCheck {
        SampleCheck::new(self.layout.sample_type.full_scale())
    }
}

/// Reads a file of samples as a whole: SigMF, WAV, KiwiSDR WAV, NumPy or raw.
///
/// # Errors
///
/// Those of [`IqFile::open`] and [`IqFile::samples`].
pub async fn read_recording(
    path: &Path,
    options: &ReadOptions,
) -> Result<ReadRecording, DataError> {
    IqFile::open(path, options).await?.read().await
}

/// The samples of a file, chunk after chunk.
#[derive(Debug)]
pub struct SampleChunks<'a> {
    file: &'a IqFile,
    chunk_length: u64,
    next: u64,
}

impl SampleChunks<'_> {
    /// Reads the next chunk; `None` after the last one.
    ///
    /// # Errors
    ///
    /// Those of [`IqFile::samples`].
    pub async fn next_chunk(&mut self) -> Result<Option<Vec<Complex32>>, DataError> {
        let start = self.next;
        let end = start.saturating_add(self.chunk_length).min(self.file.metadata.sample_count);
        if start == end {
            return Ok(None);
        }
        self.next = end;
        self.file.samples(start..end).await.map(Some)
    }
}

/// How a file is written again.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Encoding {
    AsIs,
    Npy,
    Floats,
}

/// The bytes of a file or of its samples, piece after piece.
#[derive(Debug)]
pub(crate) struct Encoded<'a> {
    file: &'a IqFile,
    encoding: Encoding,
    /// Pieces that were read.
    next: u64,
}

impl Encoded<'_> {
    /// Goes back to the start.
    pub(crate) fn rewind(&mut self) {
        self.next = 0;
    }

    /// Reads the next piece; `None` after the last one.
    pub(crate) async fn next_bytes(&mut self) -> Result<Option<Bytes>, DataError> {
        let IqFile { source, metadata, .. } = self.file;
        let (piece, header_pieces) = (self.next, u64::from(self.encoding == Encoding::Npy));
        self.next += 1;
        if piece < header_pieces {
            return Ok(Some(npy::header(metadata.sample_count).into()));
        }
        let (length, piece_length) = match self.encoding {
            Encoding::AsIs => (source.size, PIECE_BYTES),
            Encoding::Npy | Encoding::Floats => {
                (metadata.sample_count, PIECE_BYTES / SampleType::CF32.bytes() as u64)
            }
        };
        let start = (piece - header_pieces) * piece_length;
        if start >= length {
            return Ok(None);
        }
        let range = start..length.min(start + piece_length);
        if self.encoding == Encoding::AsIs {
            return source.range(range).await.map(Some);
        }
        let samples = self.file.samples(range).await?;
        let parts = samples.iter().flat_map(|sample| [sample.re, sample.im]);
        let bytes: Vec<u8> = parts.flat_map(f32::to_le_bytes).collect();
        Ok(Some(bytes.into()))
    }
}

/// Whether a name ends in a dot and `extension`, in any case.
pub(super) fn has_extension(file_name: &str, extension: &str) -> bool {
    file_name.rsplit_once('.').is_some_and(|(_, found)| found.eq_ignore_ascii_case(extension))
}

/// A store of the folder that a file lies in, and the key of the file there.
pub(super) async fn local_object(
    path: &Path,
) -> Result<(Arc<dyn ObjectStore>, ObjectPath), DataError> {
    let unreadable = |source| DataError::Read { path: path.to_owned(), source };
    if fs::metadata(path).await.map_err(unreadable)?.is_dir() {
        return Err(unreadable(std::io::ErrorKind::IsADirectory.into()));
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = path.file_name().unwrap_or(path.as_os_str());
    let key = name
        .to_str()
        .and_then(|name| ObjectPath::parse(name).ok())
        .ok_or_else(|| unreadable(std::io::ErrorKind::InvalidFilename.into()))?;
    let store = LocalFileSystem::new_with_prefix(folder)
        .map_err(object_error(&folder.to_string_lossy(), "reached"))?;
    Ok((Arc::new(store), key))
}

#[cfg(test)]
mod tests;
