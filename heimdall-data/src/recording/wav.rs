//! WAV files with two channels: the real and the imaginary part.

use super::auxi::{self, Auxi};
use super::file::Opened;
use super::kiwi;
use super::layout::{Layout, Segment};
use super::metadata::{FileFormat, RecordingMetadata};
use super::options::ReadOptions;
use super::riff::{Chunk, Chunks, u16_at, u32_at};
use super::sample_type::{Number, SampleType};
use super::source::Source;
use crate::DataError;

/// Encoding of integers.
const PCM: u16 = 1;
/// Encoding of floating-point numbers.
const FLOAT: u16 = 3;
/// Encoding that is told in an extension of the `fmt ` chunk.
const EXTENSIBLE: u16 = 0xfffe;
/// What follows the encoding in the identifier of an extension.
const EXTENSION_TAIL: &[u8] = b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71";
/// More of an `auxi` chunk is not looked at.
const AUXI_BYTES_MAX: usize = 64 * 1024;

/// How samples are written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Format {
    pub(super) sample_type: SampleType,
    pub(super) sample_rate_hz: f64,
}

/// Opens a WAV file: of a KiwiSDR if time stamps stand before the samples, else an ordinary one.
///
/// An ordinary file may be of more than 4 GB (RF64, BW64), and may have been left by a recorder
/// that never wrote its size. Time stamps of the `auxi` chunk are milliseconds of the clock of a
/// computer: their quality is unknown.
pub(super) async fn open(source: &Source, options: &ReadOptions) -> Result<Opened, DataError> {
    let mut chunks = Chunks::open(source).await?;
    let mut wav = Wav::default();
    loop {
        let chunk = match chunks.next_chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            // What comes after the samples does not matter, except that it may be samples too.
            Err(_) if !wav.segments.is_empty() => {
                wav.take_rest(source, chunks.position());
                break;
            }
            Err(error) => return Err(error),
        };
        match &chunk.id {
            b"fmt " if wav.format.is_some() => {
                return Err(wrong_chunk(source, &chunk, "a single `fmt ` chunk"));
            }
            b"fmt " => {
                wav.format = Some(read_format(source, &chunk, chunks.body(&chunk, 40).await?)?);
            }
            b"kiwi" if wav.segments.is_empty() => return kiwi::open(source, options).await,
            b"auxi" => {
                let auxi = auxi::parse(chunks.body(&chunk, AUXI_BYTES_MAX).await?);
                wav.auxi = auxi.map_err(|expected| wrong_chunk(source, &chunk, expected))?;
            }
            b"data" if wav.take_data(source, &chunk, chunks.whole_size == Some(source.size))? => {
                break;
            }
            _ => {}
        }
    }
    wav.finish(source)
}

/// What was found in a file so far.
#[derive(Default)]
struct Wav {
    format: Option<Format>,
    auxi: Auxi,
    segments: Vec<Segment>,
    cut_byte_count: u64,
    missing_byte_count: u64,
}

impl Wav {
    /// Takes the samples of a chunk, and tells whether they go on to the end of the file.
    fn take_data(
        &mut self,
        source: &Source,
        chunk: &Chunk,
        whole_size_is_right: bool,
    ) -> Result<bool, DataError> {
        let Some(format) = self.format else {
            return Err(wrong_chunk(source, chunk, "a `fmt ` chunk before the samples"));
        };
        // A recorder that was stopped leaves the size that it began with: none, or the largest.
        let is_open = chunk.size.is_none() || chunk.size == Some(0) && !whole_size_is_right;
        let end = if is_open { source.size } else { chunk.body.end };
        let length = end - chunk.body.start;
        if !is_open {
            self.missing_byte_count += chunk.size.unwrap_or(0) - length;
        }
        let sample_bytes = format.sample_type.bytes() as u64;
        self.cut_byte_count += length % sample_bytes;
        self.segments.push(Segment { offset: chunk.body.start, count: length / sample_bytes });
        Ok(is_open)
    }

    /// Takes what follows the samples for samples, where the size in the header has overflowed.
    fn take_rest(&mut self, source: &Source, position: u64) {
        // A last chunk of odd length may lack the byte that fills it up.
        let rest = source.size.saturating_sub(position);
        let (Some(format), [segment]) = (self.format, self.segments.as_mut_slice()) else { return };
        let sample_bytes = format.sample_type.bytes() as u64;
        let length = source.size - segment.offset;
        if rest >= 1 << 32 {
            segment.count = length / sample_bytes;
            self.cut_byte_count = length % sample_bytes;
        }
    }

    fn finish(self, source: &Source) -> Result<Opened, DataError> {
        let Some(format) = self.format else {
            return Err(source.malformed("its end", "after a `fmt ` chunk", "before one"));
        };
        if self.segments.is_empty() {
            return Err(source.malformed("its end", "after a `data` chunk", "before one"));
        }
        let sample_bytes = format.sample_type.bytes() as u64;
        let layout = Layout::new(format.sample_type, sample_bytes, self.segments);
        let metadata = RecordingMetadata {
            sample_rate_hz: format.sample_rate_hz,
            center_frequency_hz: self.auxi.center_frequency_hz,
            start: self.auxi.start,
            cut_byte_count: self.cut_byte_count,
            missing_sample_count: self.missing_byte_count / sample_bytes,
            ..RecordingMetadata::of_samples(FileFormat::Wav, layout.sample_count())
        };
        Ok(Opened { layout, metadata })
    }
}

/// Reads a `fmt ` chunk of two channels.
pub(super) fn read_format(
    source: &Source,
    chunk: &Chunk,
    body: &[u8],
) -> Result<Format, DataError> {
    if body.len() < 16 {
        return Err(wrong_chunk(source, chunk, "a `fmt ` chunk of 16 bytes"));
    }
    let (encoding, channels, bits) = (u16_at(body, 0), u16_at(body, 2), u16_at(body, 14));
    let encoding = match encoding {
        EXTENSIBLE if body.len() < 40 => {
            return Err(wrong_chunk(source, chunk, "an extensible `fmt ` chunk of 40 bytes"));
        }
        EXTENSIBLE if &body[26..40] == EXTENSION_TAIL => u16_at(body, 24),
        other => other,
    };
    if channels == 1 {
        let actual = "one channel of real numbers".to_owned();
        return Err(DataError::NotIq { file: source.file.clone(), actual });
    }
    if channels != 2 {
        let (expected, actual) = ("2, for the real and the imaginary part", channels.to_string());
        return Err(source.malformed("`fmt `, channels", expected, &actual));
    }
    let number = match (encoding, bits) {
        // Of 8 bits, and only of those, numbers have no sign.
        (PCM, 8) => Number::U8,
        (PCM, 16) => Number::I16,
        (PCM, 24) => Number::I24,
        (PCM, 32) => Number::I32,
        (FLOAT, 32) => Number::F32,
        (FLOAT, 64) => Number::F64,
        _ => {
            let expected = "integers of 8, 16, 24 or 32 bits or floating point of 32 or 64 bits";
            let actual = format!("encoding {encoding} with {bits} bits");
            return Err(source.malformed("`fmt `", expected, &actual));
        }
    };
    let sample_type = SampleType::little(number);
    let (expected, actual) = (sample_type.bytes(), usize::from(u16_at(body, 12)));
    if actual != expected {
        return Err(source.malformed(
            "`fmt `, bytes of a sample",
            &expected.to_string(),
            &actual.to_string(),
        ));
    }
    Ok(Format { sample_type, sample_rate_hz: f64::from(u32_at(body, 4)) })
}

pub(super) fn wrong_chunk(source: &Source, chunk: &Chunk, expected: &str) -> DataError {
    let length = chunk.body.end - chunk.body.start;
    let is_cut = chunk.size != Some(length);
    let end = if is_cut { ", where the file ends" } else { "" };
    let actual = format!("`{}` with {length} bytes{end}", chunk.id.escape_ascii());
    source.malformed(&format!("byte {}", chunk.start), expected, &actual)
}

#[cfg(test)]
mod tests;
