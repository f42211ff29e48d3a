//! Where in a file each sample lies.

use std::ops::Range;

use num_complex::Complex32;

use super::sample_type::SampleType;
use super::source::Source;
use crate::DataError;
use crate::store::compute;

/// Bytes that are read and decoded at once.
const READ_BYTES: u64 = 4 * 1024 * 1024;
/// What lies between two pieces is read with them if it is shorter than this many bytes.
const GAP_BYTES: u64 = 16 * 1024;
/// Fewer bytes are decoded at once, without handing them to another thread.
const INLINE_BYTES: usize = 64 * 1024;

/// Successive samples at a fixed distance from one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Byte at which the first sample starts.
    pub(super) offset: u64,
    /// Samples in the segment.
    pub(super) count: u64,
}

/// Where each sample of a recording lies, and how it is written.
///
/// Each segment lies within the bytes of its file: whoever makes a layout has checked that.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) sample_type: SampleType,
    /// Bytes from the start of a sample to the start of the next.
    stride: u64,
    segments: Vec<Segment>,
    /// Index of the first sample of each segment.
    starts: Vec<u64>,
    sample_count: u64,
}

/// A range of bytes, and the samples in it.
struct Read {
    bytes: Range<u64>,
    pieces: Vec<Piece>,
}

/// Successive samples within a range of bytes.
struct Piece {
    start: usize,
    count: usize,
}

impl Layout {
    pub(super) fn new(sample_type: SampleType, stride: u64, segments: Vec<Segment>) -> Self {
        assert!(stride >= sample_type.bytes() as u64, "samples do not overlap");
        let mut sample_count = 0;
        let starts = segments
            .iter()
            .map(|segment| {
                let start = sample_count;
                sample_count += segment.count;
                start
            })
            .collect();
        Self { sample_type, stride, segments, starts, sample_count }
    }

    /// One segment of a single channel.
    pub(super) fn plain(sample_type: SampleType, offset: u64, count: u64) -> Self {
        Self::new(sample_type, sample_type.bytes() as u64, vec![Segment { offset, count }])
    }

    pub(super) fn sample_count(&self) -> u64 {
        self.sample_count
    }

    /// Reads and decodes a range of samples that exists.
    pub(super) async fn read(
        &self,
        source: &Source,
        range: Range<u64>,
    ) -> Result<Vec<Complex32>, DataError> {
        // A file has no more samples than bytes, whatever its header says.
        let mut samples = Vec::with_capacity((range.end - range.start) as usize);
        let (sample_type, stride) = (self.sample_type, self.stride as usize);
        for Read { bytes, pieces } in self.reads(range) {
            let bytes = source.range(bytes).await?;
            let is_short = bytes.len() <= INLINE_BYTES;
            let decode = move |mut samples: Vec<Complex32>| {
                for Piece { start, count } in pieces {
                    sample_type.decode(&bytes[start..], stride, count, &mut samples);
                }
                samples
            };
            samples =
                if is_short { decode(samples) } else { compute(move || decode(samples)).await };
        }
        Ok(samples)
    }

    /// Cuts a range of samples into reads of limited length.
    fn reads(&self, range: Range<u64>) -> impl Iterator<Item = Read> + '_ {
        let mut spans = self.spans(range).peekable();
        std::iter::from_fn(move || {
            let (bytes, count) = spans.next()?;
            let mut read = Read { pieces: vec![Piece { start: 0, count }], bytes };
            while let Some((next, count)) = spans.next_if(|(next, _)| {
                (read.bytes.end..=read.bytes.end + GAP_BYTES).contains(&next.start)
                    && next.end - read.bytes.start <= READ_BYTES
            }) {
                let start = (next.start - read.bytes.start) as usize;
                read.pieces.push(Piece { start, count });
                read.bytes.end = next.end;
            }
            Some(read)
        })
    }

    /// Lists the bytes of a range of samples, with the number of samples in them, in spans that
    /// are short enough for one read.
    fn spans(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, usize)> + '_ {
        let sample_bytes = self.sample_type.bytes() as u64;
        let count_max = (READ_BYTES / self.stride).max(1);
        let mut next = range.start;
        let mut index = self.starts.partition_point(|start| *start <= next).saturating_sub(1);
        std::iter::from_fn(move || {
            while next < range.end {
                let (segment, start) = (self.segments.get(index)?, self.starts[index]);
                let segment_end = (start + segment.count).min(range.end);
                if segment_end <= next {
                    index += 1;
                    continue;
                }
                let count = (segment_end - next).min(count_max);
                let first = segment.offset + (next - start) * self.stride;
                next += count;
                return Some((
                    first..first + (count - 1) * self.stride + sample_bytes,
                    count as usize,
                ));
            }
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::sample_type::Number;
    use super::*;

    /// Segments with holes between them, in a file whose samples tell their index.
    fn file(holes_and_counts: &[(u64, u64)], stride: u64) -> (Source, Layout, Vec<Complex32>) {
        let (mut bytes, mut segments) = (Vec::new(), Vec::new());
        let mut samples = Vec::new();
        for &(hole, count) in holes_and_counts {
            bytes.resize(bytes.len() + hole as usize, 0xee);
            segments.push(Segment { offset: bytes.len() as u64, count });
            for _ in 0..count {
                let index = samples.len() as i16;
                samples.push(Complex32::new(f32::from(index), f32::from(-index)) / 32_768.0);
                let end = bytes.len() + stride as usize;
                bytes.extend(index.to_le_bytes());
                bytes.extend((-index).to_le_bytes());
                bytes.resize(end, 0xdd);
            }
        }
        let layout = Layout::new(SampleType::little(Number::I16), stride, segments);
        (Source::memory("x", Bytes::from(bytes)), layout, samples)
    }

    #[test]
    fn pieces_close_to_one_another_are_read_at_once() {
        let (_, layout, _) = file(&[(8, 10), (100, 10), (GAP_BYTES + 1, 10), (0, 0), (1, 5)], 4);

        let reads: Vec<_> = layout.reads(3..35).collect();

        let bytes: Vec<_> = reads.iter().map(|read| read.bytes.clone()).collect();
        let third = 8 + 40 + 100 + 40 + GAP_BYTES + 1;
        assert_eq!(bytes, [20..188, third..third + 40 + 1 + 20]);
        assert_eq!(reads[0].pieces.iter().map(|piece| piece.count).sum::<usize>(), 17);
    }

    #[test]
    fn no_read_is_longer_than_its_limit() {
        let count = 3 * READ_BYTES / 4 + 1;
        let layout = Layout::plain(SampleType::little(Number::I16), 7, count);

        let lengths: Vec<u64> =
            layout.reads(0..count).map(|read| read.bytes.end - read.bytes.start).collect();

        assert_eq!(lengths, [READ_BYTES, READ_BYTES, READ_BYTES, 4]);
    }

    proptest! {
        #[test]
        fn every_range_has_its_samples(
            holes_and_counts in vec((0_u64..40_000, 0_u64..200), 0..6),
            stride in 4_u64..9,
            ends in (0_f64..1.0, 0_f64..1.0),
        ) {
            let (source, layout, samples) = file(&holes_and_counts, stride);
            let place = |end: f64| (end * (samples.len() + 1) as f64) as u64;
            let (from, to) = (place(ends.0.min(ends.1)), place(ends.0.max(ends.1)));

            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let read = runtime.block_on(layout.read(&source, from..to)).unwrap();

            prop_assert_eq!(layout.sample_count(), samples.len() as u64);
            prop_assert_eq!(&read, &samples[from as usize..to as usize]);
        }
    }
}
