//! IQ recordings of KiwiSDR receivers: WAV files with a satellite time stamp on every block.

use heimdall_features::ClockQuality;

use super::file::Opened;
use super::gps::{WEEK_S, utc_of_week_time};
use super::kiwi_name::KiwiName;
use super::layout::{Layout, Segment};
use super::metadata::{FileFormat, RecordingMetadata, StampQuality};
use super::options::ReadOptions;
use super::riff::{Chunk, Chunks, u32_at};
use super::sample_type::{Number, SampleType};
use super::source::Source;
use super::stamp::{Block, ClockLine, fit_clock};
use super::wav::{read_format, wrong_chunk};
use crate::DataError;

/// Standard deviation of the time of a satellite receiver of a KiwiSDR, in seconds.
const RECEIVER_SIGMA_S: f64 = 100e-9;
/// From this many seconds on, the age of the last fix is a code: 254 is old, 255 is never.
const FIX_AGE_STALE: u8 = 254;
/// How samples are written.
const SAMPLE_TYPE: SampleType = SampleType::little(Number::I16);
/// Bytes of one sample.
const SAMPLE_BYTES: u64 = 4;
/// Bytes of a `kiwi` chunk with its head.
const STAMP_CHUNK_BYTES: u64 = 18;

/// Opens an IQ recording of a KiwiSDR.
///
/// The file alternates between `kiwi` chunks (a time stamp) and `data` chunks (a block of
/// samples), to its end. Blocks are kept from the first one on whose stamp is followed by another
/// one a block later; a straight line through all stamps, without those beyond 3 σ, gives the
/// sample rate and the start. The rate in the header is rounded, and not used. Stamps tell the
/// second of the week: which week it is, and which leap seconds there were, is told by the start
/// in the options or by the name of the file, `YYYYMMDDThhmmssZ_FREQUENCY_STATION_iq.wav`. Where
/// neither does, the start is not known.
///
/// # References
///
/// The KiwiSDR project, `kiwirecorder.py` of `kiwiclient`, GPS time stamps of IQ files.
pub(super) async fn open(source: &Source, options: &ReadOptions) -> Result<Opened, DataError> {
    let name = KiwiName::parse(source.file_name()).ok();
    let named_start = name.as_ref().map(|name| name.start);
    let start_of = |line: &ClockLine| {
        options.start.or(named_start).map(|near| utc_of_week_time(line.start_ns, near))
    };

    let blocks = Blocks::read(source).await?;
    let block_count = blocks.blocks.len();
    let line = fit_clock(&blocks.blocks, blocks.rate_field_hz.unwrap_or(0.0))
        .ok_or_else(|| DataError::UnsteadyStamps { file: source.file.clone(), block_count })?;

    let segment = |block: &Block| Segment {
        offset: block.bytes.start,
        count: (block.bytes.end - block.bytes.start) / SAMPLE_BYTES,
    };
    let kept = blocks.blocks[line.blocks.clone()].iter().map(segment).collect();
    let layout = Layout::new(SAMPLE_TYPE, SAMPLE_BYTES, kept);
    let sample_count = layout.sample_count();
    let start = start_of(&line);
    let metadata = RecordingMetadata {
        sample_rate_hz: line.rate_hz,
        center_frequency_hz: name.as_ref().map(|name| name.frequency_hz),
        start,
        clock: match start {
            Some(_) => ClockQuality::Disciplined { sigma_s: start_sigma_s(&line) },
            None => ClockQuality::Unknown,
        },
        receiver: name.map(|name| name.station),
        named_start,
        stamps: Some(StampQuality {
            stamp_count: line.stamp_count,
            rejected_stamp_count: line.rejected_count,
            residual_rms_s: line.residual_rms_s,
        }),
        gap_count: line.gap_count,
        dropped_sample_count: blocks.sample_count - sample_count,
        stale_stamp_count: blocks.stamp_count - blocks.fresh_stamp_count,
        cut_byte_count: blocks.cut_byte_count,
        missing_sample_count: blocks.missing_sample_count,
        ..RecordingMetadata::of_samples(FileFormat::KiwiWav, sample_count)
    };
    Ok(Opened { layout, metadata })
}

/// The receiver's own uncertainty, and that of a line through noisy stamps at its end.
fn start_sigma_s(line: &ClockLine) -> f64 {
    RECEIVER_SIGMA_S.hypot(2.0 * line.residual_rms_s / (line.stamp_count as f64).sqrt())
}

/// What the chunks of a file say.
#[derive(Default)]
struct Blocks {
    blocks: Vec<Block>,
    rate_field_hz: Option<f64>,
    /// Age of the fix and time of the stamp that was read last, until its block comes.
    stamp: Option<(u8, Option<i64>)>,
    stamp_count: usize,
    fresh_stamp_count: usize,
    sample_count: u64,
    cut_byte_count: u64,
    /// Samples of the blocks between the last whole one and the end by the header.
    missing_sample_count: u64,
}

impl Blocks {
    /// Walks over the chunks to the end of the file; a size in its header that is too small is
    /// ignored, since a recorder that was stopped does not correct it.
    async fn read(source: &Source) -> Result<Self, DataError> {
        let mut chunks = Chunks::open(source).await?;
        let mut read = Self::default();
        let mut whole_end = chunks.position();
        while let Some(chunk) = chunks.next_chunk().await? {
            if chunk.size != Some(chunk.body.end - chunk.body.start) {
                break;
            }
            let body = chunks.body(&chunk, 40).await?;
            read.take(source, &chunk, body)?;
            whole_end = chunk.body.end;
        }
        let file = source.file.clone();
        let block_count = read.blocks.len();
        match (block_count, read.fresh_stamp_count) {
            (0, _) => {
                let expected = "after a whole block of samples";
                Err(source.malformed("its end", expected, &format!("at byte {}", source.size)))
            }
            (_, 0) => Err(DataError::StaleStamps { file, block_count }),
            _ => {
                // A stamp at the very end belongs to the block that is missing.
                let stamp_bytes = if read.stamp.is_some() { STAMP_CHUNK_BYTES } else { 0 };
                read.cut_byte_count = source.size - whole_end + stamp_bytes;
                let promised_end = chunks.whole_size.unwrap_or(0);
                let missing_bytes = promised_end.saturating_sub(whole_end - stamp_bytes);
                let block_bytes = read.blocks[0].bytes.end - read.blocks[0].bytes.start;
                let missing_blocks = missing_bytes / (STAMP_CHUNK_BYTES + 8 + block_bytes);
                read.missing_sample_count = missing_blocks * block_bytes / SAMPLE_BYTES;
                Ok(read)
            }
        }
    }

    /// Takes in one chunk, of whose body the first bytes are given.
    fn take(&mut self, source: &Source, chunk: &Chunk, body: &[u8]) -> Result<(), DataError> {
        let size = chunk.body.end - chunk.body.start;
        match &chunk.id {
            b"fmt " => {
                let format = read_format(source, chunk, body)?;
                if format.sample_type != SAMPLE_TYPE {
                    return Err(wrong_chunk(source, chunk, "a `fmt ` chunk of 16-bit integers"));
                }
                self.rate_field_hz = Some(format.sample_rate_hz);
            }
            b"kiwi" if size != STAMP_CHUNK_BYTES - 8 => {
                return Err(wrong_chunk(source, chunk, "a `kiwi` chunk of 10 bytes"));
            }
            b"kiwi" => {
                self.stamp = Some((body[0], week_time_ns(u32_at(body, 2), u32_at(body, 6))));
                self.stamp_count += 1;
            }
            b"data" if self.rate_field_hz.is_none() => {
                return Err(wrong_chunk(source, chunk, "a `fmt ` chunk before the samples"));
            }
            b"data" if !size.is_multiple_of(SAMPLE_BYTES) => {
                return Err(wrong_chunk(source, chunk, "a `data` chunk of whole samples"));
            }
            b"data" if size > 0 => {
                let fresh = self.stamp.take().filter(|(fix_age, _)| *fix_age < FIX_AGE_STALE);
                let week_time_ns = fresh.and_then(|(_, time_ns)| time_ns);
                self.fresh_stamp_count += usize::from(week_time_ns.is_some());
                self.blocks.push(Block {
                    sample: self.sample_count,
                    bytes: chunk.body.clone(),
                    week_time_ns,
                });
                self.sample_count += size / SAMPLE_BYTES;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Brings second and nanosecond together, unless one of them cannot be.
fn week_time_ns(second_of_week: u32, nanoseconds: u32) -> Option<i64> {
    let in_range = i64::from(second_of_week) < WEEK_S && nanoseconds < 1_000_000_000;
    in_range.then(|| i64::from(second_of_week) * 1_000_000_000 + i64::from(nanoseconds))
}

#[cfg(test)]
mod tests;
