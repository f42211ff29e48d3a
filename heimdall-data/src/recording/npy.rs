//! Arrays of complex samples in the format of NumPy.

use num_complex::Complex32;

use crate::DataError;

/// How an array file starts.
const MAGIC: &[u8] = b"\x93NUMPY";
/// Samples start at a multiple of this many bytes, as NumPy writes them.
const ALIGNMENT: usize = 64;
/// Bytes of one sample.
const SAMPLE_BYTES: usize = 8;

/// Reads a one-dimensional `complex64` array in the format of NumPy, versions 1 to 3.
///
/// # Shapes
///
/// - returns: `[n]`, relative to full scale
///
/// # Errors
///
/// - [`DataError::NotNpy`] if the header is not one.
/// - [`DataError::NpyType`] if the elements are of another type, such as the real `<f4`.
/// - [`DataError::NpyShape`] if the array has no or several axes.
/// - [`DataError::NpyLength`] if the file is shorter or longer than its shape.
///
/// # References
///
/// NumPy developers, "NEP 1: A simple file format for NumPy arrays", 2007.
pub fn read_npy(bytes: &[u8]) -> Result<Vec<Complex32>, DataError> {
    let (header, body) = split_header(bytes)?;
    let swapped = match field(header, "descr")? {
        "'<c8'" => false,
        "'>c8'" => true,
        other => return Err(DataError::NpyType { actual: other.trim_matches('\'').to_owned() }),
    };
    // The order of axes does not matter where there is one.
    if !matches!(field(header, "fortran_order")?, "True" | "False") {
        return Err(DataError::NotNpy { expected: "a `fortran_order` that is `True` or `False`" });
    }
    let shape = field(header, "shape")?;
    let count: u64 = shape
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(",)"))
        .and_then(|count| count.trim().parse().ok())
        .ok_or_else(|| DataError::NpyShape { actual: shape.to_owned() })?;

    let actual = body.len() as u64;
    let expected = count.saturating_mul(SAMPLE_BYTES as u64);
    if actual != expected {
        return Err(DataError::NpyLength { expected, actual });
    }
    let part = |b: &[u8]| match swapped {
        false => f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
        true => f32::from_be_bytes([b[0], b[1], b[2], b[3]]),
    };
    let sample = |b: &[u8]| Complex32::new(part(&b[..4]), part(&b[4..]));
    Ok(body.chunks_exact(SAMPLE_BYTES).map(sample).collect())
}

/// Writes a one-dimensional `complex64` array in the format of NumPy, version 1.
///
/// # Shapes
///
/// - `samples`: `[n]`, relative to full scale
pub fn write_npy(samples: &[Complex32]) -> Vec<u8> {
    let mut header =
        format!("{{'descr': '<c8', 'fortran_order': False, 'shape': ({},), }}", samples.len());
    // Spaces and a line feed bring the samples to their place.
    let length = (MAGIC.len() + 4 + header.len() + 1).next_multiple_of(ALIGNMENT);
    let header_length = length - MAGIC.len() - 4;
    header = format!("{header:<width$}\n", width = header_length - 1);

    let mut bytes = Vec::with_capacity(length + samples.len() * SAMPLE_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[1, 0]);
    // The header of one axis is shorter than 2^16 bytes.
    let [low, high, ..] = header_length.to_le_bytes();
    bytes.extend_from_slice(&[low, high]);
    bytes.extend_from_slice(header.as_bytes());
    for sample in samples {
        bytes.extend_from_slice(&sample.re.to_le_bytes());
        bytes.extend_from_slice(&sample.im.to_le_bytes());
    }
    bytes
}

/// Splits a file into the text of its header and the samples.
fn split_header(bytes: &[u8]) -> Result<(&str, &[u8]), DataError> {
    let not_npy = |expected| DataError::NotNpy { expected };
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| not_npy("`\\x93NUMPY` at its start"))?;
    let complete = || not_npy("a complete header");
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
        _ => return Err(not_npy("a format version of 1, 2 or 3")),
    };
    let (header, body) = rest.split_at_checked(length).ok_or_else(complete)?;
    let header = str::from_utf8(header).map_err(|_| not_npy("a header of text"))?.trim();
    let header = header.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    Ok((header.ok_or_else(|| not_npy("a header in braces"))?, body))
}

/// Finds the value of a key in the header: a string, a word, a tuple or a list.
fn field<'a>(header: &'a str, key: &'static str) -> Result<&'a str, DataError> {
    let missing = || DataError::NotNpy {
        expected: match key {
            "descr" => "`descr` in its header",
            "shape" => "`shape` in its header",
            _ => "`fortran_order` in its header",
        },
    };
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
    Ok(value[..end.ok_or_else(missing)?].trim_end())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A file as NumPy writes it, in the given format version.
    fn file(version: u8, header: &str, body: &[u8]) -> Vec<u8> {
        let header = format!("{header}\n");
        let mut bytes = b"\x93NUMPY".to_vec();
        bytes.extend_from_slice(&[version, 0]);
        match version {
            1 => bytes.extend_from_slice(&(header.len() as u16).to_le_bytes()),
            _ => bytes.extend_from_slice(&(header.len() as u32).to_le_bytes()),
        }
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    fn header(descr: &str, order: &str, shape: &str) -> String {
        format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}")
    }

    #[test]
    fn both_versions_and_byte_orders_are_read() {
        let (one, half) = (1_f32, -0.5_f32);
        let little = [one.to_le_bytes(), half.to_le_bytes()].concat();
        let big = [one.to_be_bytes(), half.to_be_bytes()].concat();
        let expected = [Complex32::new(1.0, -0.5)];
        for version in [1, 2, 3] {
            for (descr, body) in [("'<c8'", &little), ("'>c8'", &big)] {
                for order in ["False", "True"] {
                    let bytes = file(version, &header(descr, order, "(1,)"), body);
                    assert_eq!(read_npy(&bytes).unwrap(), expected);
                }
            }
        }
    }

    #[test]
    fn samples_start_at_a_multiple_of_64_bytes() {
        for count in [0, 1, 9, 10, 99_999, 100_000] {
            let bytes = write_npy(&vec![Complex32::new(1.0, 2.0); count]);
            assert_eq!((bytes.len() - count * 8) % 64, 0);
            assert_eq!(bytes[bytes.len() - count * 8 - 1], b'\n');
        }
    }

    #[test]
    fn other_types_are_refused_by_name() {
        for (descr, name) in [("'<f4'", "<f4"), ("'<c16'", "<c16"), ("'|i1'", "|i1")] {
            match read_npy(&file(1, &header(descr, "False", "(1,)"), &[0; 8])) {
                Err(DataError::NpyType { actual }) => assert_eq!(actual, name),
                other => panic!("{descr} gives {other:?}"),
            }
        }
        let record = header("[('i', '<i2'), ('q', '<i2')]", "False", "(1,)");
        assert!(matches!(read_npy(&file(1, &record, &[0; 8])), Err(DataError::NpyType { .. })));
    }

    #[test]
    fn other_shapes_are_refused() {
        for shape in ["()", "(1, 1)", "(-1,)", "(1,", "1"] {
            let result = read_npy(&file(1, &header("'<c8'", "False", shape), &[0; 8]));
            let refused =
                matches!(result, Err(DataError::NpyShape { .. } | DataError::NotNpy { .. }));
            assert!(refused, "{shape} gives {result:?}");
        }
    }

    #[test]
    fn wrong_length_is_refused() {
        let bytes = write_npy(&[Complex32::ZERO; 10]);
        let longer = [bytes.as_slice(), &[0]].concat();
        for bytes in [&bytes[..bytes.len() - 1], &bytes[..bytes.len() - 80], &longer] {
            assert!(matches!(read_npy(bytes), Err(DataError::NpyLength { expected: 80, .. })));
        }
        let huge = file(1, &header("'<c8'", "False", "(18446744073709551615,)"), &[]);
        assert!(matches!(read_npy(&huge), Err(DataError::NpyLength { actual: 0, .. })));
        for end in 0..128 {
            assert!(read_npy(&bytes[..end]).is_err(), "{end} bytes");
        }
    }

    proptest! {
        #[test]
        fn written_samples_are_read_back(parts in vec((any::<f32>(), any::<f32>()), 0..300)) {
            let samples: Vec<_> = parts.iter().map(|&(re, im)| Complex32::new(re, im)).collect();

            let back = read_npy(&write_npy(&samples)).unwrap();

            let bits = |x: &Complex32| (x.re.to_bits(), x.im.to_bits());
            prop_assert!(back.iter().map(bits).eq(samples.iter().map(bits)));
        }

        #[test]
        fn any_bytes_after_the_magic_are_read_or_refused(version in 0_u8..4, rest in vec(any::<u8>(), 0..200)) {
            let bytes = [b"\x93NUMPY".as_slice(), &[version, 0], &rest].concat();
            let _ = read_npy(&bytes);
            let text = String::from_utf8_lossy(&rest).into_owned();
            let _ = read_npy(&file(version, &format!("{{'descr':{text}}}"), &rest));
            let _ = read_npy(&file(version, &header("'<c8'", "False", &text), &rest));
        }
    }
}
