//! Chunks of WAV files: RIFF, and its relatives for files beyond 4 GB.

use std::ops::Range;

use super::source::{Source, Window};
use crate::DataError;

/// A size that is not known, or told by the `ds64` chunk.
const SIZE_ELSEWHERE: u32 = u32::MAX;
/// Bytes of `RIFF`, a size and `WAVE`.
const HEADER_BYTES: u64 = 12;

/// A chunk: a name, a size and a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) id: [u8; 4],
    /// Byte at which its name starts.
    pub(super) start: u64,
    /// Its body, as far as the file goes.
    pub(super) body: Range<u64>,
    /// Bytes that the body should have; `None` where the header leaves that open.
    pub(super) size: Option<u64>,
}

/// The chunks of a file, one after the other.
pub(super) struct Chunks<'a> {
    source: &'a Source,
    window: Window<'a>,
    next: u64,
    /// Bytes that the file has by its header; `None` where that leaves it open.
    pub(super) whole_size: Option<u64>,
    /// Size of the `data` chunk by the `ds64` chunk.
    data_size: Option<u64>,
}

/// Whether bytes start like a WAV file.
pub(super) fn is_wav(start: &[u8]) -> bool {
    let form =
        start.get(..4).is_some_and(|form| [b"RIFF", b"RF64", b"BW64"].iter().any(|f| form == *f));
    form && start.get(8..12) == Some(b"WAVE")
}

impl<'a> Chunks<'a> {
    /// Checks how the file starts.
    pub(super) async fn open(source: &'a Source) -> Result<Self, DataError> {
        let mut window = Window::new(source);
        let header = window.read(0, HEADER_BYTES as usize).await?;
        let Some(header) = header.filter(|header| is_wav(header)) else {
            let expected = "`RIFF`, `RF64` or `BW64`, a size and `WAVE`";
            return Err(source.malformed("byte 0", expected, "something else"));
        };
        let whole_size = Some(u32_at(header, 4)).filter(|size| *size != SIZE_ELSEWHERE);
        let whole_size = whole_size.map(|size| u64::from(size) + 8);
        Ok(Self { source, window, next: HEADER_BYTES, whole_size, data_size: None })
    }

    /// Byte after the last chunk.
    pub(super) fn position(&self) -> u64 {
        self.next
    }

    /// Finds the next chunk; `None` where the file ends, even within the head of a chunk.
    pub(super) async fn next_chunk(&mut self) -> Result<Option<Chunk>, DataError> {
        let start = self.next;
        let Some(head) = self.window.read(start, 8).await? else { return Ok(None) };
        let id = [head[0], head[1], head[2], head[3]];
        let declared = u32_at(head, 4);
        if !id.iter().all(|byte| (b' '..=b'~').contains(byte)) {
            let actual = format!("`{}`", id.escape_ascii());
            return Err(self.source.malformed(
                &format!("byte {start}"),
                "the name of a chunk",
                &actual,
            ));
        }
        let size = match (declared, &id) {
            (SIZE_ELSEWHERE, b"data") => self.data_size,
            (SIZE_ELSEWHERE, _) => None,
            (size, _) => Some(u64::from(size)),
        };
        let body_start = start + 8;
        let end = size.and_then(|size| body_start.checked_add(size)).unwrap_or(u64::MAX);
        // Chunks start at even places.
        self.next = end.saturating_add(end % 2);
        let body = body_start..end.min(self.source.size);
        if &id == b"ds64" {
            self.data_size = self.read_data_size(&body).await?;
        }
        Ok(Some(Chunk { id, start, body, size }))
    }

    async fn read_data_size(&mut self, body: &Range<u64>) -> Result<Option<u64>, DataError> {
        // The size of the whole stands before that of the samples.
        let size = self.window.read(body.start, 16).await?.filter(|_| body.end - body.start >= 16);
        let Some(size) = size else {
            let place = format!("byte {}", body.start - 8);
            return Err(self.source.malformed(
                &place,
                "a `ds64` chunk of 28 bytes",
                "a shorter one",
            ));
        };
        Ok(Some(u64::from(u32_at(size, 8)) | u64::from(u32_at(size, 12)) << 32))
    }

    /// Reads the body of a short chunk, or its start.
    pub(super) async fn body(
        &mut self,
        chunk: &Chunk,
        size_max: usize,
    ) -> Result<&[u8], DataError> {
        let length = usize::try_from(chunk.body.end - chunk.body.start).unwrap_or(usize::MAX);
        let body = self.window.read(chunk.body.start, length.min(size_max)).await?;
        Ok(body.expect("a body lies within the file"))
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
