//! From captures to samples without a gap.

use std::ops::Range;

use heimdall_features::{ClockQuality, UtcTime};

use super::super::datetime::shift;
use super::super::file::Opened;
use super::super::layout::{Layout, Segment};
use super::super::metadata::{FileFormat, RecordingMetadata};
use super::super::options::ReadOptions;
use super::meta::{Capture, Meta};
use crate::DataError;

/// How far the time stamps of successive captures may be off the samples between them, in
/// seconds: many programs stamp to the millisecond.
const STEP_TOLERANCE_S: f64 = 1e-3;
/// How far a sample clock may be off its rate.
const RATE_TOLERANCE: f64 = 100e-6;

/// A capture and where its samples are.
struct Placed {
    capture: Capture,
    segment: Segment,
}

/// Successive captures at one frequency, without a gap between them.
struct Run {
    captures: Vec<Placed>,
    sample_count: u64,
}

/// Finds the samples of the run that is to be read: the longest, or the one that was chosen.
///
/// A run ends where samples were lost (by `core:global_index`, or by time stamps that are more
/// than 1 ms and 100 ppm off), and where frequency, gain or clock change. Its place is that of its
/// first capture.
///
/// Time and rate of a run are those of its first stamp and of the header. No line is fitted to later
/// stamps, which tell gaps only: the standard does not say how good they are, programs round them to
/// milliseconds or worse, and a rate that is good to some millionths would be lost to them.
pub(super) fn arrange(
    meta: Meta,
    dataset: Range<u64>,
    options: &ReadOptions,
) -> Result<Opened, DataError> {
    let channel = options.channel_of(&meta.file, meta.channel_count)?;
    let (sample_type, channel_count) = (meta.sample_type, meta.channel_count);
    let sample_bytes = sample_type.bytes() as u64;
    let stride = sample_bytes * channel_count;
    let Placement { captures, sample_count: all_count, cut_byte_count } =
        place(&meta, &dataset, stride)?;

    let mut runs: Vec<Run> = Vec::new();
    for placed in captures {
        let count = placed.segment.count;
        match runs.last_mut() {
            Some(run) if follows(&run.captures, &placed.capture, meta.sample_rate_hz) => {
                run.captures.push(placed);
                run.sample_count += count;
            }
            _ => runs.push(Run { captures: vec![placed], sample_count: count }),
        }
    }
    let run_count = runs.len();
    let longest = (0..run_count).rev().max_by_key(|index| runs[*index].sample_count).unwrap_or(0);
    let index = options.run.unwrap_or(longest);
    if index >= run_count {
        return Err(DataError::NoSuchPart {
            file: meta.file,
            part: format!("run {index}"),
            actual: format!("{run_count} runs without a gap, counted from 0"),
        });
    }
    let run = runs.swap_remove(index);
    let segments = run.captures.iter().map(|placed| Segment {
        offset: placed.segment.offset + channel * sample_bytes,
        count: placed.segment.count,
    });
    let layout = Layout::new(sample_type, stride, segments.collect());

    let first = &run.captures[0].capture;
    let metadata = RecordingMetadata {
        channel_count: channel_count as usize,
        sample_rate_hz: meta.sample_rate_hz.unwrap_or(f64::NAN),
        center_frequency_hz: first.frequency_hz,
        start: start_of(&run.captures, meta.sample_rate_hz),
        clock: first.clock.unwrap_or(ClockQuality::Unknown),
        gain: run.captures.iter().find_map(|placed| placed.capture.gain),
        receiver: meta.receiver,
        antenna_height_m: meta.antenna_height_m,
        place: first.place,
        gap_count: run_count - 1,
        dropped_sample_count: all_count - run.sample_count,
        cut_byte_count,
        annotations: meta.annotations,
        ..RecordingMetadata::of_samples(FileFormat::Sigmf, run.sample_count)
    };
    Ok(Opened { layout, metadata })
}

/// Where all captures of a file are.
struct Placement {
    captures: Vec<Placed>,
    sample_count: u64,
    cut_byte_count: u64,
}

/// Finds the bytes of each capture, in a dataset of which the headers and the trailer are no
/// samples. Samples before the first capture belong to none.
fn place(meta: &Meta, dataset: &Range<u64>, stride: u64) -> Result<Placement, DataError> {
    let malformed = |place: String, expected: String, actual: u64| DataError::Malformed {
        file: meta.file.clone(),
        place,
        expected,
        actual: actual.to_string(),
    };
    let size = dataset.end - dataset.start;
    let mut left = size.checked_sub(meta.trailing_bytes).ok_or_else(|| {
        let expected = format!("at most the {size} bytes of the samples");
        malformed("global.core:trailing_bytes".to_owned(), expected, meta.trailing_bytes)
    })?;
    for (index, capture) in meta.captures.iter().enumerate() {
        left = left.checked_sub(capture.header_bytes).ok_or_else(|| {
            let expected = format!("at most the {left} bytes that are left of the samples");
            malformed(
                format!("captures[{index}].core:header_bytes"),
                expected,
                capture.header_bytes,
            )
        })?;
    }
    let sample_count = left / stride;

    let end = meta.offset.saturating_add(sample_count);
    let mut header_bytes = 0;
    let mut captures = Vec::with_capacity(meta.captures.len());
    for (index, capture) in meta.captures.iter().enumerate() {
        let start = capture.sample_start;
        if start < meta.offset || start > end {
            let expected = format!("from {} to {end}, where the samples end", meta.offset);
            return Err(malformed(format!("captures[{index}].core:sample_start"), expected, start));
        }
        let next = meta.captures.get(index + 1).map_or(end, |next| next.sample_start);
        // What comes after the end is refused when its turn comes.
        let count = next.min(end) - start;
        header_bytes += capture.header_bytes;
        let offset = dataset.start + header_bytes + (start - meta.offset) * stride;
        captures.push(Placed { capture: capture.clone(), segment: Segment { offset, count } });
    }
    Ok(Placement { captures, sample_count, cut_byte_count: left % stride })
}

/// Whether a capture goes on where those before it have ended.
fn follows(before: &[Placed], next: &Capture, sample_rate_hz: Option<f64>) -> bool {
    let Some(Placed { capture: last, .. }) = before.last() else { return false };
    let same_frequency = match (last.frequency_hz, next.frequency_hz) {
        (Some(a), Some(b)) => a.total_cmp(&b).is_eq(),
        (None, None) => true,
        _ => false,
    };
    // What one capture says holds until another says something else.
    let gain = before.iter().find_map(|placed| placed.capture.gain);
    let same_gain = gain.zip(next.gain).is_none_or(|(gain, next)| gain == next);
    let clock = before.iter().find_map(|placed| placed.capture.clock);
    let same_clock = next.clock.is_none_or(|next| clock == Some(next));
    let sample_count = next.sample_start - last.sample_start;
    let nothing_lost = next.global_index.checked_sub(last.global_index) == Some(sample_count);
    same_frequency
        && same_gain
        && same_clock
        && nothing_lost
        && stamps_agree(before, next, sample_rate_hz)
}

/// Whether the time stamp of a capture is that which the last one before it leads to.
fn stamps_agree(before: &[Placed], next: &Capture, sample_rate_hz: Option<f64>) -> bool {
    let stamped = before
        .iter()
        .rev()
        .find_map(|placed| placed.capture.start.map(|start| (start, placed.capture.sample_start)));
    let (Some((start, sample)), Some(next_start), Some(rate_hz)) =
        (stamped, next.start, sample_rate_hz)
    else {
        return true;
    };
    let expected_s = (next.sample_start - sample) as f64 / rate_hz;
    let off_s = next_start.seconds_since(&start) - expected_s;
    off_s.abs() <= STEP_TOLERANCE_S + RATE_TOLERANCE * expected_s
}

/// When a run began: told by its first capture with a time stamp.
fn start_of(captures: &[Placed], sample_rate_hz: Option<f64>) -> Option<UtcTime> {
    let first = captures.first()?.capture.sample_start;
    let (start, sample) = captures.iter().find_map(|placed| {
        placed.capture.start.map(|start| (start, placed.capture.sample_start))
    })?;
    match (sample - first, sample_rate_hz) {
        (0, _) => Some(start),
        (_, None) => None,
        (late, Some(rate_hz)) => shift(start, -(late as f64) / rate_hz),
    }
}
