//! An array that is written frame by frame, though its rows lie one after the other.

use std::os::unix::fs::FileExt;

use heimdall_data::npy_table_header;

use crate::PipelineError;
use crate::output::OutputPlace;
use crate::replace::Replacement;

/// Values that are kept until they are written.
const PENDING_MAX: usize = 1 << 22;

/// Writes `float32` arrays of NumPy, `[rows, frames]`, in bounded memory.
pub(super) struct ArrayWriter {
    place: OutputPlace,
    file: Option<Replacement>,
    rows: usize,
    frames: usize,
    /// Frames that are written.
    written: usize,
    /// Values of the frames since then, `[frames, rows]`.
    pending: Vec<f32>,
    /// What went wrong first.
    error: Option<PipelineError>,
}

impl ArrayWriter {
    pub(super) fn new(place: OutputPlace, rows: usize, frames: usize) -> Self {
        Self { place, file: None, rows, frames, written: 0, pending: Vec::new(), error: None }
    }

    /// Takes the next frame, `[rows]`; what goes wrong is told by [`Self::check`].
    pub(super) fn push(&mut self, frame: &[f64]) {
        self.pending.extend(frame.iter().map(|&value| value as f32));
        if self.pending.len() + self.rows > PENDING_MAX && self.error.is_none() {
            self.error = self.flush().err();
        }
    }

    /// Tells what went wrong up to now.
    pub(super) fn check(&mut self) -> Result<(), PipelineError> {
        self.error.take().map_or(Ok(()), Err)
    }

    /// Writes what is left, and moves the array to its place.
    pub(super) fn finish(mut self) -> Result<(), PipelineError> {
        self.check()?;
        self.flush()?;
        assert_eq!(self.written, self.frames, "there are as many frames as were announced");
        let file = self.file.take().expect("it was flushed");
        file.finish().map_err(|error| self.place.failed(error))
    }

    /// Writes the pending frames, a piece of each row.
    fn flush(&mut self) -> Result<(), PipelineError> {
        let header = npy_table_header(self.rows, self.frames);
        let pending = std::mem::take(&mut self.pending);
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(self.place.begin()?),
        };
        let mut write = |bytes: &[u8], offset: u64| {
            file.file().write_all_at(bytes, offset).map_err(|error| self.place.failed(error))
        };
        write(&header, 0)?;
        let mut piece = Vec::new();
        for row in 0..self.rows {
            piece.clear();
            let values = pending.iter().skip(row).step_by(self.rows);
            piece.extend(values.flat_map(|value| value.to_le_bytes()));
            let index = (row * self.frames + self.written) as u64;
            write(&piece, header.len() as u64 + 4 * index)?;
        }
        self.written += pending.len() / self.rows;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn array_in_pieces_is_that_in_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        // More than twice what is kept, and a rest.
        let (rows, frames) = (1_024, 10_000);
        let place = OutputPlace::check("--output", &path, &[]).unwrap();
        let mut writer = ArrayWriter::new(place, rows, frames);
        let value = |row: usize, frame: usize| (row * 7 + frame) as f32;

        for frame in 0..frames {
            let values: Vec<f64> = (0..rows).map(|row| value(row, frame).into()).collect();
            writer.push(&values);
            assert!(writer.pending.len() <= PENDING_MAX);
        }
        writer.finish().unwrap();

        let bytes = std::fs::read(&path).unwrap();
        let header = npy_table_header(rows, frames);
        assert!(bytes.starts_with(&header));
        let numbers = bytes[header.len()..].chunks_exact(4);
        assert_eq!(numbers.len(), rows * frames);
        for (index, number) in numbers.enumerate() {
            let expected = value(index / frames, index % frames);
            assert_eq!(number, expected.to_le_bytes());
        }
    }
}
