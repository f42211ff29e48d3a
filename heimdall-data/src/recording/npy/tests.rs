//! Tests of the reader of NumPy arrays.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::file::IqFile;
use super::*;
use crate::testing::block_on;

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
fn double_precision_is_rounded() {
    let body = [1.0_f64.to_le_bytes(), 0.1_f64.to_le_bytes()].concat();

    let samples = read_npy(&file(1, &header("'<c16'", "False", "(1,)"), &body)).unwrap();

    assert_eq!(samples, [Complex32::new(1.0, 0.1)]);
}

#[test]
fn other_types_are_refused_by_name() {
    for name in ["<f4", "<f8", "|i1", "<c32"] {
        match read_npy(&file(1, &header(&format!("'{name}'"), "False", "(1,)"), &[0; 8])) {
            Err(DataError::NotIq { actual, .. }) => assert!(actual.contains(name), "{actual}"),
            other => panic!("{name} gives {other:?}"),
        }
    }
    let record = header("[('i', '<i2'), ('q', '<i2')]", "False", "(1,)");
    assert!(matches!(read_npy(&file(1, &record, &[0; 8])), Err(DataError::NotIq { .. })));
}

#[test]
fn other_shapes_are_refused() {
    for shape in ["()", "(1, 1)", "(-1,)", "(1, 1, 1)", "(1,", "1", "(1.0,)"] {
        match read_npy(&file(1, &header("'<c8'", "False", shape), &[0; 8])) {
            Err(DataError::Malformed { place, .. }) => assert_eq!(place, "`shape`", "{shape}"),
            other => panic!("{shape} gives {other:?}"),
        }
    }
}

#[test]
fn wrong_length_is_refused() {
    let bytes = write_npy(&[Complex32::ZERO; 10]);
    let longer = [bytes.as_slice(), &[0]].concat();
    for (bytes, length) in
        [(&bytes[..bytes.len() - 1], 79), (&bytes[..bytes.len() - 80], 0), (&longer, 81)]
    {
        let error = read_npy(bytes).unwrap_err().to_string();
        assert!(error.contains("must be the 80 bytes"), "{error}");
        assert!(error.ends_with(&format!("but is {length} bytes long")), "{error}");
    }
    for shape in ["(18446744073709551615,)", "(4294967296, 4294967296)", "(0, 1)"] {
        let lying = file(1, &header("'<c8'", "False", shape), &[]);
        let options =
            ReadOptions { channel: Some(0), sample_rate_hz: Some(1.0), ..Default::default() };
        let opened = block_on(IqFile::from_bytes("x.npy", lying, &options));
        assert!(matches!(opened, Err(DataError::Malformed { .. })), "{shape} gives {opened:?}");
    }
    for end in 0..128 {
        assert!(read_npy(&bytes[..end]).is_err(), "{end} bytes");
    }
}

/// Three receivers with four samples each: `receiver + sample i`.
#[test]
fn receivers_are_channels_in_either_order() {
    let value = |receiver: usize, sample: usize| Complex32::new(receiver as f32, sample as f32);
    let c_order = (0..12).map(|index| value(index / 4, index % 4));
    let fortran_order = (0..12).map(|index| value(index % 3, index / 3));
    let bytes_of = |samples: Vec<Complex32>| write_npy(&samples)[128..].to_vec();
    for (order, body) in
        [("False", bytes_of(c_order.collect())), ("True", bytes_of(fortran_order.collect()))]
    {
        let bytes = file(1, &header("'<c8'", order, "(3, 4)"), &body);
        let open = |channel| {
            let options = ReadOptions { channel, sample_rate_hz: Some(1.0), ..Default::default() };
            block_on(IqFile::from_bytes("x.npy", bytes.clone(), &options))
        };
        for channel in 0..3 {
            let file = open(Some(channel)).unwrap();
            assert_eq!((file.metadata().channel_count, file.metadata().sample_count), (3, 4));
            let expected: Vec<_> = (1..3).map(|sample| value(channel, sample)).collect();
            assert_eq!(block_on(file.samples(1..3)).unwrap(), expected, "{order}");
        }
        assert!(matches!(open(None), Err(DataError::ChannelNotChosen { channel_count: 3, .. })));
        assert!(matches!(open(Some(3)), Err(DataError::NoSuchPart { .. })));
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
