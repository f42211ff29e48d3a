//! IQ recordings of KiwiSDR receivers: WAV files with a satellite time stamp on every block.

use std::ops::Range;

use heimdall_features::{ClockQuality, IqRecording, UtcTime};
use num_complex::Complex32;

use super::gps::{WEEK_S, utc_of_week_time};
use super::kiwi_name::KiwiName;
use super::stamp::{Block, ClockLine, fit_clock};
use crate::DataError;

/// Standard deviation of the time of a satellite receiver of a KiwiSDR, in seconds.
const RECEIVER_SIGMA_S: f64 = 100e-9;
/// From this many seconds on, the age of the last fix is a code: 254 is old, 255 is never.
const FIX_AGE_STALE: u8 = 254;
/// Bytes of one sample: two 16-bit integers.
const SAMPLE_BYTES: usize = 4;

/// A recording of a KiwiSDR, and what was noticed while it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct KiwiRecording {
    /// The samples, with the rate and start that were fitted to the time stamps.
    pub recording: IqRecording,
    /// Name of the station, from the name of the file.
    pub station: String,
    /// When the recording began by the name of the file; it only picks the week.
    pub named_start: UtcTime,
    /// Time stamps that lie on the fitted line.
    pub stamp_count: usize,
    /// Time stamps that were rejected, within the blocks that were kept.
    pub rejected_stamp_count: usize,
    /// Root mean square of what the stamps are off the line, in seconds.
    pub residual_rms_s: f64,
    /// Blocks that were dropped because their time is not known: stale ones at the start, and
    /// those on the other side of a gap.
    pub dropped_block_count: usize,
    /// Jumps of time within the file.
    pub gap_count: usize,
    /// Bytes of an incomplete block at the end that were cut off.
    pub cut_byte_count: usize,
}

/// Reads an IQ recording of a KiwiSDR.
///
/// The file alternates between `kiwi` chunks (a time stamp) and `data` chunks (a block of
/// samples), to its end. Blocks are kept from the first one on whose stamp is followed by another
/// one a block later; a straight line through all stamps, without those beyond 3 σ, gives the
/// sample rate and the start. The rate in the header is rounded, and not used. Stamps tell the
/// second of the week: `file_name`, `YYYYMMDDThhmmssZ_FREQUENCY_STATION_iq.wav`, tells which week.
///
/// # Errors
///
/// - [`DataError::KiwiFileName`] if the name lacks a part.
/// - [`DataError::NotWav`], [`DataError::MissingFormat`], [`DataError::WrongWavFormat`],
///   [`DataError::MalformedChunk`] if it is some other kind of file, and
///   [`DataError::TruncatedHeader`] if it has not even one block.
/// - [`DataError::NoStamps`], [`DataError::StaleStamps`], [`DataError::UnsteadyStamps`] if the
///   time of the samples cannot be known.
///
/// # References
///
/// The KiwiSDR project, `kiwirecorder.py` of `kiwiclient`, GPS time stamps of IQ files.
pub fn read_kiwi_wav(bytes: &[u8], file_name: &str) -> Result<KiwiRecording, DataError> {
    let name = KiwiName::parse(file_name)?;
    let decoded = decode_kiwi_wav(bytes, file_name, name.start, name.frequency_hz)?;
    Ok(KiwiRecording { station: name.station, ..decoded })
}

/// Reads a KiwiSDR file whose date and frequency are known from elsewhere.
///
/// `station` is left empty, and `file` is for messages only.
pub(crate) fn decode_kiwi_wav(
    bytes: &[u8],
    file: &str,
    near: UtcTime,
    center_frequency_hz: f64,
) -> Result<KiwiRecording, DataError> {
    let chunks = Chunks::read(bytes, file)?;
    let block_count = chunks.blocks.len();
    let rate_field_hz = chunks.rate_field_hz.map_or(0.0, f64::from);
    let line = fit_clock(&chunks.blocks, rate_field_hz)
        .ok_or_else(|| DataError::UnsteadyStamps { file: file.to_owned(), block_count })?;

    let kept = &chunks.blocks[line.blocks.clone()];
    let samples = kept.iter().flat_map(|block| samples_of(&bytes[block.bytes.clone()])).collect();
    Ok(KiwiRecording {
        recording: IqRecording {
            samples,
            sample_rate_hz: line.rate_hz,
            center_frequency_hz,
            start: utc_of_week_time(line.start_ns, near),
            clock: ClockQuality::Disciplined { sigma_s: start_sigma_s(&line) },
        },
        station: String::new(),
        named_start: near,
        stamp_count: line.stamp_count,
        rejected_stamp_count: line.rejected_count,
        residual_rms_s: line.residual_rms_s,
        dropped_block_count: block_count - kept.len(),
        gap_count: line.gap_count,
        cut_byte_count: chunks.cut_byte_count,
    })
}

/// The receiver's own uncertainty, and that of a line through noisy stamps at its end.
fn start_sigma_s(line: &ClockLine) -> f64 {
    RECEIVER_SIGMA_S.hypot(2.0 * line.residual_rms_s / (line.stamp_count as f64).sqrt())
}

fn samples_of(block: &[u8]) -> impl Iterator<Item = Complex32> + '_ {
    let part = |low: u8, high: u8| f32::from(i16::from_le_bytes([low, high])) / 32_768.0;
    block
        .chunks_exact(SAMPLE_BYTES)
        .map(move |iq| Complex32::new(part(iq[0], iq[1]), part(iq[2], iq[3])))
}

/// What the chunks of a file say.
#[derive(Default)]
struct Chunks {
    blocks: Vec<Block>,
    rate_field_hz: Option<u32>,
    /// Age of the fix and time of the stamp that was read last, until its block comes.
    stamp: Option<(u8, i64)>,
    stamp_count: usize,
    fresh_stamp_count: usize,
    sample_count: usize,
    cut_byte_count: usize,
}

impl Chunks {
    /// Walks over the chunks to the end of the file; the size of the whole in its header is
    /// ignored, since a recorder that was stopped does not correct it.
    fn read(bytes: &[u8], file: &str) -> Result<Self, DataError> {
        let starts_with = |at: usize, expected: &[u8]| {
            bytes.iter().skip(at).zip(expected).all(|(actual, expected)| actual == expected)
        };
        if !starts_with(0, b"RIFF") || !starts_with(8, b"WAVE") {
            return Err(DataError::NotWav { file: file.to_owned() });
        }

        let mut chunks = Self::default();
        let mut offset = 12;
        while let Some(header) = bytes.get(offset..offset + 8) {
            let id = [header[0], header[1], header[2], header[3]];
            if !id.iter().all(|byte| (b' '..=b'~').contains(byte)) {
                let actual = format!("`{}`", id.escape_ascii());
                return Err(malformed(file, offset, "the name of a chunk", actual));
            }
            let size = u32_at(header, 4) as usize;
            let Some(end) = (offset + 8).checked_add(size).filter(|end| *end <= bytes.len()) else {
                break;
            };
            chunks.take(id, bytes, offset + 8..end, file)?;
            // Chunks start at even places.
            offset = end + size % 2;
        }

        let ends_with_a_chunk = offset > 12 && bytes.len() <= offset;
        let block_count = chunks.blocks.len();
        let file = file.to_owned();
        if chunks.rate_field_hz.is_none() && ends_with_a_chunk {
            return Err(DataError::MissingFormat { file });
        }
        match (block_count, chunks.stamp_count, chunks.fresh_stamp_count) {
            (0, ..) => Err(DataError::TruncatedHeader { file, byte_count: bytes.len() }),
            (_, 0, _) => Err(DataError::NoStamps { file }),
            (_, _, 0) => Err(DataError::StaleStamps { file, block_count }),
            _ => {
                // A stamp at the very end belongs to the block that is missing.
                let stamp_byte_count = if chunks.stamp.is_some() { 18 } else { 0 };
                chunks.cut_byte_count = bytes.len().saturating_sub(offset) + stamp_byte_count;
                Ok(chunks)
            }
        }
    }

    /// Takes in one chunk whose content is at `range`.
    fn take(
        &mut self,
        id: [u8; 4],
        bytes: &[u8],
        range: Range<usize>,
        file: &str,
    ) -> Result<(), DataError> {
        let body = &bytes[range.clone()];
        let wrong_size = |expected| {
            malformed(file, range.start - 8, expected, format!("one of {} bytes", body.len()))
        };
        match &id {
            b"fmt " if body.len() < 16 => return Err(wrong_size("a `fmt ` chunk of 16 bytes")),
            b"fmt " => {
                check_format(body, file)?;
                self.rate_field_hz = Some(u32_at(body, 4));
            }
            b"kiwi" if body.len() != 10 => return Err(wrong_size("a `kiwi` chunk of 10 bytes")),
            b"kiwi" => {
                let week_time_ns = week_time_ns(u32_at(body, 2), u32_at(body, 6));
                self.stamp = week_time_ns.map(|time_ns| (body[0], time_ns));
                self.stamp_count += 1;
            }
            b"data" if self.rate_field_hz.is_none() => {
                return Err(DataError::MissingFormat { file: file.to_owned() });
            }
            b"data" if !body.len().is_multiple_of(SAMPLE_BYTES) => {
                return Err(wrong_size("a `data` chunk of whole samples"));
            }
            b"data" if !body.is_empty() => {
                let fresh = self.stamp.take().filter(|(fix_age, _)| *fix_age < FIX_AGE_STALE);
                self.fresh_stamp_count += usize::from(fresh.is_some());
                let sample = self.sample_count;
                self.sample_count += body.len() / SAMPLE_BYTES;
                let week_time_ns = fresh.map(|(_, time_ns)| time_ns);
                self.blocks.push(Block { sample, bytes: range, week_time_ns });
            }
            _ => {}
        }
        Ok(())
    }
}

fn malformed(file: &str, offset: usize, expected: &'static str, actual: String) -> DataError {
    DataError::MalformedChunk { file: file.to_owned(), offset, expected, actual }
}

/// Brings second and nanosecond together, unless one of them cannot be.
fn week_time_ns(second_of_week: u32, nanoseconds: u32) -> Option<i64> {
    let in_range = i64::from(second_of_week) < WEEK_S && nanoseconds < 1_000_000_000;
    in_range.then(|| i64::from(second_of_week) * 1_000_000_000 + i64::from(nanoseconds))
}

fn check_format(body: &[u8], file: &str) -> Result<(), DataError> {
    for (field, at, expected) in
        [("encoding", 0, 1), ("channels", 2, 2), ("bits per value", 14, 16)]
    {
        let actual = u16::from_le_bytes([body[at], body[at + 1]]);
        if actual != expected {
            return Err(DataError::WrongWavFormat {
                file: file.to_owned(),
                field,
                expected,
                actual,
            });
        }
    }
    Ok(())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests;
