//! Tests of the reader of WAV files.

use heimdall_features::{ClockQuality, UtcTime};
use num_complex::Complex32;
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::file::{IqFile, ReadRecording};
use super::*;
use crate::testing::block_on;

/// 100 samples of 16 bits: index and its opposite.
fn samples() -> Vec<Complex32> {
    (0..100_i16).map(|n| Complex32::new(f32::from(n), f32::from(-n)) / 32_768.0).collect()
}

fn data() -> Vec<u8> {
    (0..100_i16).flat_map(|n| [n.to_le_bytes(), (-n).to_le_bytes()].concat()).collect()
}

fn chunk(id: &[u8; 4], size: u32, body: &[u8]) -> Vec<u8> {
    let padding = vec![0; body.len() % 2];
    [id.as_slice(), &size.to_le_bytes(), body, &padding].concat()
}

fn format(encoding: u16, channels: u16, bits: u16) -> Vec<u8> {
    let frame = channels * bits / 8;
    let mut body = [encoding.to_le_bytes(), channels.to_le_bytes()].concat();
    body.extend(192_000_u32.to_le_bytes());
    body.extend((192_000 * u32::from(frame)).to_le_bytes());
    body.extend(frame.to_le_bytes());
    body.extend(bits.to_le_bytes());
    chunk(b"fmt ", 16, &body)
}

/// 2021-05-04T03:02:01.250Z at 7.1 MHz.
fn auxi() -> Vec<u8> {
    let start = [2021_u16, 5, 2, 4, 3, 2, 1, 250];
    let mut body: Vec<u8> = start.iter().flat_map(|field| field.to_le_bytes()).collect();
    body.resize(32, 0);
    body.extend(7_100_000_u32.to_le_bytes());
    body.resize(68, 0);
    chunk(b"auxi", 68, &body)
}

fn file(form: &[u8; 4], chunks: &[Vec<u8>]) -> Vec<u8> {
    let chunks = chunks.concat();
    [form.as_slice(), &(chunks.len() as u32 + 4).to_le_bytes(), b"WAVE", &chunks].concat()
}

fn ordinary() -> Vec<u8> {
    file(b"RIFF", &[format(PCM, 2, 16), auxi(), chunk(b"data", 400, &data())])
}

fn read(bytes: &[u8]) -> Result<ReadRecording, DataError> {
    block_on(async {
        let options = ReadOptions::default();
        IqFile::from_bytes("x.wav", bytes.to_vec(), &options).await?.read().await
    })
}

#[test]
fn samples_time_and_frequency_are_read() {
    let wav = read(&ordinary()).unwrap();

    assert_eq!(wav.metadata.format, FileFormat::Wav);
    assert_eq!(wav.recording.samples, samples());
    let (rate_hz, center_hz) = (wav.metadata.sample_rate_hz, wav.metadata.center_frequency_hz);
    assert_eq!((rate_hz, center_hz), (192_000.0, Some(7.1e6)));
    let start = UtcTime { seconds: 1_620_097_321, nanoseconds: 250_000_000 };
    assert_eq!(wav.metadata.start, Some(start));
    assert_eq!(wav.recording.clock, ClockQuality::Unknown, "milliseconds are no good for delays");
}

/// A good clock makes no good time of a stamp in milliseconds: it takes a start that is told with it.
#[test]
fn clock_without_a_start_does_not_make_milliseconds_good_for_delays() {
    let clock = Some(ClockQuality::Disciplined { sigma_s: 1e-7 });
    let start = Some(UtcTime { seconds: 1_620_097_321, nanoseconds: 250_123_456 });
    let open = |options: ReadOptions| {
        block_on(IqFile::from_bytes("x.wav", ordinary(), &options))
            .map(|file| (file.metadata().start, file.metadata().clock))
    };

    let refused = open(ReadOptions { clock, ..ReadOptions::default() });
    let told = open(ReadOptions { clock, start, ..ReadOptions::default() }).unwrap();
    let unknown = Some(ClockQuality::Unknown);
    let coarse = open(ReadOptions { clock: unknown, ..ReadOptions::default() }).unwrap();

    match refused {
        Err(DataError::Malformed { place, .. }) => assert_eq!(place, "its start"),
        other => panic!("{other:?}"),
    }
    assert_eq!(told, (start, ClockQuality::Disciplined { sigma_s: 1e-7 }));
    assert_eq!(coarse.1, ClockQuality::Unknown);
}

#[test]
fn chunks_may_come_in_any_order_and_be_of_odd_length() {
    let list = chunk(b"LIST", 3, b"abc");
    let data = chunk(b"data", 400, &data());
    let bytes =
        file(b"RIFF", &[list.clone(), format(PCM, 2, 16), list.clone(), data, list, auxi()]);

    let wav = read(&bytes).unwrap();

    assert_eq!(wav.recording.samples, samples());
    assert_eq!(wav.metadata.center_frequency_hz, Some(7.1e6));
    assert_eq!((wav.metadata.cut_byte_count, wav.metadata.missing_sample_count), (0, 0));
}

/// Samples that were counted by one format are not read by another.
#[test]
fn second_format_is_refused() {
    let chunks = [format(PCM, 2, 16), chunk(b"data", 400, &data()), format(FLOAT, 2, 32)];

    let error = read(&file(b"RIFF", &chunks)).unwrap_err();

    assert!(error.to_string().contains("a single `fmt ` chunk"), "{error}");
}

/// The byte that fills up a last chunk of odd length may be missing; what comes after the samples is
/// none of them all the same.
#[test]
fn last_chunk_of_odd_length_may_lack_its_padding() {
    let mut bytes = file(
        b"RIFF",
        &[format(PCM, 2, 16), chunk(b"data", 400, &data()), chunk(b"note", 3, b"odd")],
    );
    bytes.pop();

    let recording = read(&bytes).unwrap();

    assert_eq!(recording.recording.samples, samples());
    assert_eq!(recording.metadata.cut_byte_count, 0);
}

#[test]
fn every_encoding_of_two_channels_is_read() {
    let half_and_quarter: [(u16, u16, Vec<u8>); 6] = [
        (PCM, 8, vec![192, 160]),
        (PCM, 16, vec![0, 0x40, 0, 0x20]),
        (PCM, 24, vec![0, 0, 0x40, 0, 0, 0x20]),
        (PCM, 32, vec![0, 0, 0, 0x40, 0, 0, 0, 0x20]),
        (FLOAT, 32, [0.5_f32.to_le_bytes(), 0.25_f32.to_le_bytes()].concat()),
        (FLOAT, 64, [0.5_f64.to_le_bytes(), 0.25_f64.to_le_bytes()].concat()),
    ];
    for (encoding, bits, body) in half_and_quarter {
        let data = chunk(b"data", body.len() as u32, &body);
        let plain = file(b"RIFF", &[format(encoding, 2, bits), data.clone()]);
        let mut extensible = format(EXTENSIBLE, 2, bits)[8..].to_vec();
        extensible.extend([22, 0, bits as u8, 0, 3, 0, 0, 0]);
        extensible.extend(encoding.to_le_bytes());
        extensible.extend(EXTENSION_TAIL);
        let extensible = file(b"RIFF", &[chunk(b"fmt ", 40, &extensible), data]);
        for bytes in [plain, extensible] {
            let wav = read(&bytes).unwrap();
            let expected = [Complex32::new(0.5, 0.25)];
            assert_eq!(wav.recording.samples, expected, "encoding {encoding}, {bits} bits");
        }
    }
}

#[test]
fn size_of_large_files_is_in_a_chunk_of_its_own() {
    let mut ds64 = vec![0; 28];
    ds64[8..16].copy_from_slice(&400_u64.to_le_bytes());
    for form in [b"RF64", b"BW64"] {
        let data = chunk(b"data", u32::MAX, &data());
        let bytes = file(form, &[chunk(b"ds64", 28, &ds64), format(PCM, 2, 16), data, auxi()]);

        let wav = read(&bytes).unwrap();

        assert_eq!(wav.recording.samples, samples());
        assert_eq!(wav.metadata.center_frequency_hz, Some(7.1e6), "it stands after the samples");
    }
}

#[test]
fn recorder_that_was_stopped_leaves_samples_to_the_end() {
    for size in [0, u32::MAX] {
        let mut bytes = file(b"RIFF", &[format(PCM, 2, 16), chunk(b"data", size, &data())]);
        bytes[4..8].copy_from_slice(&size.to_le_bytes());
        bytes.push(7);

        let wav = read(&bytes).unwrap();

        assert_eq!(wav.recording.samples, samples(), "{size}");
        assert_eq!(wav.metadata.cut_byte_count, 1);
    }
    let empty = file(b"RIFF", &[format(PCM, 2, 16), chunk(b"data", 0, &[]), auxi()]);
    assert_eq!(read(&empty).unwrap().recording.samples, [], "a size of zero that is the right one");
}

#[test]
fn promised_samples_that_are_not_there_are_counted() {
    let bytes = file(b"RIFF", &[format(PCM, 2, 16), chunk(b"data", 4_000_000_000, &data())]);

    let wav = read(&bytes[..bytes.len() - 1]).unwrap();

    assert_eq!(wav.recording.samples, samples()[..99]);
    assert_eq!(wav.metadata.missing_sample_count, (4_000_000_000 - 399) / 4);
    assert_eq!(wav.metadata.cut_byte_count, 3);
}

#[test]
fn other_files_are_refused_by_name() {
    let mono = file(b"RIFF", &[format(PCM, 1, 16), chunk(b"data", 400, &data())]);
    match read(&mono) {
        Err(DataError::NotIq { file, actual }) => {
            assert_eq!((file.as_str(), actual.as_str()), ("x.wav", "one channel of real numbers"));
        }
        other => panic!("one channel gives {other:?}"),
    }
    let data = chunk(b"data", 400, &data());
    let cases = [
        (file(b"RIFX", &[format(PCM, 2, 16), data.clone()]), "byte 0"),
        (file(b"RIFF", &[format(PCM, 4, 16), data.clone()]), "`fmt `, channels"),
        (file(b"RIFF", &[format(2, 2, 4), data.clone()]), "`fmt `"),
        (file(b"RIFF", &[format(FLOAT, 2, 16), data.clone()]), "`fmt `"),
        (file(b"RIFF", &[format(EXTENSIBLE, 2, 16), data.clone()]), "byte 12"),
        (file(b"RIFF", &[data.clone(), format(PCM, 2, 16)]), "byte 12"),
        (file(b"RIFF", &[format(PCM, 2, 16)]), "its end"),
        (file(b"RIFF", &[]), "its end"),
        (file(b"RIFF", &[format(PCM, 2, 16), chunk(b"auxi", 8, &[1; 8]), data.clone()]), "byte 36"),
        (file(b"RF64", &[chunk(b"ds64", 8, &[1; 8]), format(PCM, 2, 16), data]), "byte 12"),
    ];
    for (bytes, expected) in cases {
        match read(&bytes) {
            Err(DataError::Malformed { place, .. }) => assert_eq!(place, expected),
            other => panic!("{expected} gives {other:?}"),
        }
    }
}

#[test]
fn file_that_ends_anywhere_is_read_or_refused() {
    let bytes = ordinary();
    let data_start = bytes.len() - 400;
    for end in 0..bytes.len() {
        match read(&bytes[..end]) {
            Ok(wav) => assert_eq!(wav.recording.samples.len(), (end - data_start) / 4),
            Err(DataError::Malformed { .. }) => assert!(end < data_start, "{end} bytes"),
            Err(other) => panic!("{end} bytes give {other:?}"),
        }
    }
}

proptest! {
    #[test]
    fn damaged_file_is_read_or_refused(
        places in vec((0_usize..130, any::<u8>()), 1..8),
        rf64 in any::<bool>(),
    ) {
        let mut bytes = ordinary();
        if rf64 {
            bytes[..4].copy_from_slice(b"RF64");
        }
        for (at, value) in places {
            bytes[at] = value;
        }
        if let Ok(wav) = read(&bytes) {
            prop_assert!(wav.recording.samples.len() <= bytes.len());
        }
    }
}
