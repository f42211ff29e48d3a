//! Arrays of complex samples in the format of NumPy.

use num_complex::Complex32;

use super::file::Opened;
use super::layout::{Layout, Segment};
use super::metadata::{FileFormat, RecordingMetadata};
use super::options::ReadOptions;
use super::sample_type::{Number, SampleType};
use super::source::Source;
use crate::DataError;

/// How an array file starts.
const MAGIC: &[u8] = b"\x93NUMPY";
/// Samples start at a multiple of this many bytes, as NumPy writes them.
const ALIGNMENT: usize = 64;
/// Longest header that is looked at: NumPy itself refuses those beyond 10,000 bytes.
const HEADER_BYTES_MAX: u64 = 64 * 1024;
/// Most receivers whose samples may alternate.
const CHANNELS_MAX: u64 = 1000;

/// Whether bytes start like an array of NumPy.
pub(super) fn is_npy(start: &[u8]) -> bool {
    start.starts_with(MAGIC)
}

/// Opens an array of `complex64`, or of `complex128`, which is rounded to single precision, in
/// the format of NumPy, versions 1 to 3, in the order of C or of Fortran.
///
/// Its shape is `(samples,)` or `(receivers, samples)`: the receivers are its channels.
///
/// # References
///
/// NumPy developers, "NEP 1: A simple file format for NumPy arrays", 2007.
pub(super) async fn open(source: &Source, options: &ReadOptions) -> Result<Opened, DataError> {
    let start = source.range(0..source.size.min(HEADER_BYTES_MAX)).await?;
    let header = Header::parse(&source.file, &start)?;
    let (channel_count, sample_count) = header.check_size(&source.file, source.size)?;
    let sample_bytes = header.sample_type.bytes() as u64;
    let channel = options.channel_of(&source.file, channel_count)?;
    let (stride, offset) = match header.fortran_order {
        true if channel_count > CHANNELS_MAX => {
            let expected = "of at most 1000 receivers where their samples alternate";
            return Err(source.malformed("`shape`", expected, &channel_count.to_string()));
        }
        true => (channel_count * sample_bytes, channel * sample_bytes),
        false => (sample_bytes, channel * sample_count * sample_bytes),
    };
    let segment = Segment { offset: header.length + offset, count: sample_count };
    let metadata = RecordingMetadata {
        channel_count: channel_count as usize,
        ..RecordingMetadata::of_samples(FileFormat::Npy, sample_count)
    };
    Ok(Opened { layout: Layout::new(header.sample_type, stride, vec![segment]), metadata })
}

/// Reads a one-dimensional `complex64` or `complex128` array in the format of NumPy, versions 1
/// to 3.
///
/// # Shapes
///
/// - returns: `[n]`, relative to full scale
///
/// # Errors
///
/// - [`DataError::Malformed`] if the header is not one, the array has no or several axes, or the
///   file is shorter or longer than its shape.
/// - [`DataError::NotIq`] if the elements are real numbers.
pub fn read_npy(bytes: &[u8]) -> Result<Vec<Complex32>, DataError> {
    const NAME: &str = "the .npy file";
    let header = Header::parse(NAME, bytes)?;
    if header.shape.len() != 1 {
        return Err(malformed(NAME, "`shape`", "`(samples,)`", &header.shape_text()));
    }
    let (_, sample_count) = header.check_size(NAME, bytes.len() as u64)?;
    // Both fit, since the bytes are in memory.
    let (start, count) = (header.length as usize, sample_count as usize);
    let mut samples = Vec::with_capacity(count);
    header.sample_type.decode(&bytes[start..], header.sample_type.bytes(), count, &mut samples);
    Ok(samples)
}

/// Writes a one-dimensional `complex64` array in the format of NumPy, version 1.
///
/// # Shapes
///
/// - `samples`: `[n]`, relative to full scale
pub fn write_npy(samples: &[Complex32]) -> Vec<u8> {
    let mut bytes = header(samples.len() as u64);
    bytes.reserve(samples.len() * SampleType::CF32.bytes());
    for sample in samples {
        bytes.extend_from_slice(&sample.re.to_le_bytes());
        bytes.extend_from_slice(&sample.im.to_le_bytes());
    }
    bytes
}

/// Writes what stands before the values of a `float32` array `[rows, columns]` in the format of
/// NumPy, version 1: they follow row by row, little-endian.
pub fn npy_table_header(rows: usize, columns: usize) -> Vec<u8> {
    header_of("<f4", &format!("({rows}, {columns})"))
}

/// Writes what stands before `sample_count` samples of `complex64`.
pub(super) fn header(sample_count: u64) -> Vec<u8> {
    header_of("<c8", &format!("({sample_count},)"))
}

fn header_of(dtype: &str, shape: &str) -> Vec<u8> {
    let mut header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}");
    // Spaces and a line feed bring the samples to their place.
    let length = (MAGIC.len() + 4 + header.len() + 1).next_multiple_of(ALIGNMENT);
    let header_length = length - MAGIC.len() - 4;
    header = format!("{header:<width$}\n", width = header_length - 1);

    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[1, 0]);
    // The header of few axes is shorter than 2^16 bytes.
    let [low, high, ..] = header_length.to_le_bytes();
    bytes.extend_from_slice(&[low, high]);
    bytes.extend_from_slice(header.as_bytes());
    bytes
}

/// What stands before the elements.
struct Header {
    sample_type: SampleType,
    fortran_order: bool,
    shape: Vec<u64>,
    /// Bytes before the first element.
    length: u64,
}

impl Header {
    /// Reads the header of an array of complex numbers.
    fn parse(file: &str, bytes: &[u8]) -> Result<Self, DataError> {
        let (text, length) = split_header(file, bytes)?;
        let (_, descr) = field(file, text, "descr")?;
        let descr = descr.trim_matches(['\'', '"']);
        let (big_endian, number) = match descr {
            "<c8" => (false, Number::F32),
            ">c8" => (true, Number::F32),
            "<c16" => (false, Number::F64),
            ">c16" => (true, Number::F64),
            other => {
                let actual = format!("elements of the type `{other}`");
                return Err(DataError::NotIq { file: file.to_owned(), actual });
            }
        };
        let fortran_order = match field(file, text, "fortran_order")? {
            (_, "True") => true,
            (_, "False") => false,
            (place, other) => return Err(malformed(file, place, "`True` or `False`", other)),
        };
        let (place, shape) = field(file, text, "shape")?;
        let axes = shape.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        let expected = "`(samples,)` or `(receivers, samples)`";
        let shape = axes
            .and_then(|axes| {
                let axes = axes.strip_suffix(',').unwrap_or(axes);
                axes.split(',').map(|axis| axis.trim().parse().ok()).collect::<Option<Vec<u64>>>()
            })
            .filter(|axes| matches!(axes.len(), 1 | 2))
            .ok_or_else(|| malformed(file, place, expected, shape))?;
        Ok(Self { sample_type: SampleType { number, big_endian }, fortran_order, shape, length })
    }

    /// Compares the shape with the size of the file, and returns channels and samples of each.
    fn check_size(&self, file: &str, size: u64) -> Result<(u64, u64), DataError> {
        let (channel_count, sample_count) = match self.shape[..] {
            [channel_count, sample_count] => (channel_count, sample_count),
            _ => (1, self.shape[0]),
        };
        if channel_count == 0 {
            let expected = "of at least one receiver";
            return Err(malformed(file, "`shape`", expected, &self.shape_text()));
        }
        let sample_bytes = self.sample_type.bytes() as u64;
        let expected = channel_count.saturating_mul(sample_count).saturating_mul(sample_bytes);
        let actual = size - self.length;
        if actual != expected {
            let expected = format!("the {expected} bytes of its shape");
            let actual = format!("{actual} bytes long");
            return Err(malformed(file, "the array", &expected, &actual));
        }
        Ok((channel_count, sample_count))
    }

    fn shape_text(&self) -> String {
        format!("{:?}", self.shape)
    }
}

/// Splits the text in braces off the start of a file, and returns it with the bytes before the
/// first element.
fn split_header<'a>(file: &str, bytes: &'a [u8]) -> Result<(&'a str, u64), DataError> {
    let wrong = |expected| malformed(file, "its header", expected, "not");
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| wrong("after `\\x93NUMPY`"))?;
    let complete = || wrong("complete");
    let (&[major, _minor], rest) = rest.split_first_chunk().ok_or_else(complete)?;
    let (length, rest) = match major {
        1 => {
            let (length, rest) = rest.split_first_chunk().ok_or_else(complete)?;
            (usize::from(u16::from_le_bytes(*length)), rest)
        }
        2 | 3 => {
            let (length, rest) = rest.split_first_chunk().ok_or_else(complete)?;
            (u32::from_le_bytes(*length) as usize, rest)
        }
        _ => return Err(wrong("of version 1, 2 or 3")),
    };
    let (header, _) = rest.split_at_checked(length).ok_or_else(complete)?;
    let start = bytes.len() - rest.len() + length;
    let text = str::from_utf8(header).map_err(|_| wrong("text"))?.trim();
    let text = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    Ok((text.ok_or_else(|| wrong("in braces"))?, start as u64))
}

/// Finds the value of a key in the header: a string, a word, a tuple or a list. Returns it after
/// the place, for messages.
fn field<'a>(file: &str, header: &'a str, key: &str) -> Result<(&'static str, &'a str), DataError> {
    let place = match key {
        "descr" => "`descr`",
        "shape" => "`shape`",
        _ => "`fortran_order`",
    };
    let missing = || malformed(file, place, "in the header", "not");
    let quoted = [format!("'{key}'"), format!("\"{key}\"")];
    let (at, length) = quoted
        .iter()
        .find_map(|quoted| header.find(quoted.as_str()).map(|at| (at, quoted.len())))
        .ok_or_else(missing)?;
    let value = header[at + length..].trim_start().strip_prefix(':').ok_or_else(missing)?;
    let value = value.trim_start();
    let end = match value.as_bytes().first() {
        Some(b'(') => value.find(')').map(|end| end + 1),
        Some(b'[') => value.find(']').map(|end| end + 1),
        _ => Some(value.find(',').unwrap_or(value.len())),
    };
    Ok((place, value[..end.ok_or_else(missing)?].trim_end()))
}

fn malformed(file: &str, place: &str, expected: &str, actual: &str) -> DataError {
    DataError::Malformed {
        file: file.to_owned(),
        place: place.to_owned(),
        expected: expected.to_owned(),
        actual: actual.to_owned(),
    }
}

#[cfg(test)]
mod tests;
