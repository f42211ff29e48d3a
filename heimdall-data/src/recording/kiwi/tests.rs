//! Tests of the `KiwiSDR` reader.

use heimdall_features::UtcTime;
use num_complex::Complex32;
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::file::{IqFile, ReadRecording};
use super::super::kiwi_fixture::{KiwiFile, iq};
use super::*;
use crate::testing::block_on;

const NAME: &str = "20200813T065220Z_77500_HB9ODP_iq.wav";
/// 2020-08-13T06:52:20.25Z.
const START: UtcTime = UtcTime { seconds: 1_597_301_540, nanoseconds: 250_000_000 };
/// `RIFF`, size, `WAVE`, and the `fmt ` chunk.
const HEADER_BYTES: usize = 12 + 24;
/// A `kiwi` chunk and a `data` chunk.
const BLOCK_BYTES: usize = 18 + 8 + 2048;

fn file() -> KiwiFile {
    KiwiFile::starting(START)
}

fn read_as(name: &str, bytes: &[u8]) -> Result<ReadRecording, DataError> {
    block_on(async {
        let options = ReadOptions::default();
        IqFile::from_bytes(name, bytes.to_vec(), &options).await?.read().await
    })
}

fn read(bytes: &[u8]) -> Result<ReadRecording, DataError> {
    read_as(NAME, bytes)
}

#[test]
fn samples_rate_and_start_are_those_of_the_fresh_blocks() {
    let kiwi = read(&file().bytes()).unwrap();

    let metadata = &kiwi.metadata;
    assert_eq!(metadata.format, FileFormat::KiwiWav);
    assert_eq!(metadata.receiver.as_deref(), Some("HB9ODP"));
    assert_eq!((metadata.dropped_sample_count, metadata.gap_count), (2 * 512, 0));
    assert_eq!((metadata.stale_stamp_count, metadata.cut_byte_count), (0, 0));
    let stamps = metadata.stamps.unwrap();
    assert_eq!((stamps.stamp_count, stamps.rejected_stamp_count), (30, 0));
    assert!(stamps.residual_rms_s < 1e-9, "{stamps:?}");
    let recording = kiwi.recording;
    assert!(recording.start.seconds_since(&START).abs() <= 1e-9, "{:?}", recording.start);
    // Whole nanoseconds over 30 blocks of 43 ms leave less than 1 ns in 1.2 s.
    assert!((recording.sample_rate_hz / 12_000.6 - 1.0).abs() < 1e-9);
    assert!((recording.center_frequency_hz - 77_500.0).abs() < 1e-9);
    let expected = (2 * 512..32 * 512)
        .map(iq)
        .map(|(re, im)| Complex32::new(f32::from(re), f32::from(im)) / 32_768.0);
    assert!(recording.samples.into_iter().eq(expected));
}

#[test]
fn recording_across_the_end_of_a_week_is_in_one_piece() {
    // Satellite weeks end at 23:59:42 UTC on Saturdays; 2023-03-04 was one.
    let start = UtcTime { seconds: 1_677_974_381, nanoseconds: 500_000_000 };
    let bytes = KiwiFile::starting(start).bytes();

    for name in ["20230304T235941Z_1_x_iq.wav", "20230305T000100Z_1_x_iq.wav"] {
        let kiwi = read_as(name, &bytes).unwrap();

        assert_eq!(kiwi.metadata.stamps.unwrap().stamp_count, 30);
        assert!(kiwi.recording.start.seconds_since(&start).abs() <= 1e-9, "{name}");
    }
}

#[test]
fn both_rates_of_the_receivers_are_fitted() {
    for rate_hz in [12_000.123, 20_250.456] {
        let kiwi = read(&KiwiFile { rate_hz, ..file() }.bytes()).unwrap();

        let found_hz = kiwi.recording.sample_rate_hz;
        assert!((found_hz / rate_hz - 1.0).abs() < 1e-8, "{found_hz} is not {rate_hz}");
    }
}

/// A recorder that was stopped leaves the size that it began with, or none.
#[test]
fn header_without_a_size_promises_nothing() {
    for size in [0, 92, u32::MAX] {
        let mut bytes = file().bytes();
        bytes[4..8].copy_from_slice(&size.to_le_bytes());

        let kiwi = read(&bytes).unwrap();

        assert_eq!(kiwi.metadata.missing_s(), None, "{size}");
    }
    let whole = file().bytes();
    let half = read(&whole[..whole.len() / 2]).unwrap().metadata;
    assert!((half.missing_s().unwrap() - 17.0 * 512.0 / 12_000.6).abs() < 1e-6, "{half:?}");
}

#[test]
fn file_of_another_name_has_samples_and_a_rate_but_no_start() {
    let kiwi = read_as("HB9ODP.wav", &file().bytes()).unwrap();

    let metadata = &kiwi.metadata;
    assert_eq!((metadata.start, metadata.clock), (None, ClockQuality::Unknown));
    assert_eq!(kiwi.recording.samples.len(), 30 * 512);
    assert!((metadata.sample_rate_hz / 12_000.6 - 1.0).abs() < 1e-9);
}

#[test]
fn options_tell_what_a_name_does_not() {
    let options = ReadOptions { start: Some(START), ..ReadOptions::default() };

    let file = block_on(IqFile::from_bytes("HB9ODP.wav", file().bytes(), &options)).unwrap();

    let metadata = file.metadata();
    assert!(metadata.start.unwrap().seconds_since(&START).abs() <= 1e-9);
    assert_eq!((&metadata.receiver, metadata.center_frequency_hz), (&None, None));
}

#[test]
fn leap_seconds_are_those_of_the_year() {
    // 2016-02-29T12:00:00Z, when satellite time was 17 s ahead.
    let start = UtcTime { seconds: 1_456_747_200, nanoseconds: 0 };
    let bytes = KiwiFile { leap_s: 17, ..KiwiFile::starting(start) }.bytes();

    let kiwi = read_as("20160229T120003Z_60000_a_b_iq.wav", &bytes).unwrap();

    assert!(kiwi.recording.start.seconds_since(&start).abs() <= 1e-9);
}

#[test]
fn file_that_ends_anywhere_is_cut_to_whole_blocks() {
    let bytes = file().bytes();
    for end in (0..HEADER_BYTES + 8 * BLOCK_BYTES).step_by(7) {
        let whole_blocks = end.saturating_sub(HEADER_BYTES) / BLOCK_BYTES;
        match read(&bytes[..end]) {
            // Two blocks of the file are stale, and three steady stamps make a line.
            Ok(kiwi) => {
                assert!(whole_blocks >= 5, "{end} bytes give {kiwi:?}");
                assert_eq!(kiwi.recording.samples.len(), (whole_blocks - 2) * 512);
                let cut = (end - HEADER_BYTES) % BLOCK_BYTES;
                assert_eq!(kiwi.metadata.cut_byte_count, cut as u64);
                // The header promises two stale blocks and thirty others.
                let missing = (32 - whole_blocks) * 512;
                assert_eq!(kiwi.metadata.missing_sample_count, missing as u64);
            }
            Err(DataError::Malformed { file, .. }) => {
                assert_eq!((file.as_str(), whole_blocks), (NAME, 0), "{end} bytes");
            }
            Err(DataError::UnsteadyStamps { block_count, .. }) => {
                assert_eq!(block_count, whole_blocks);
                assert!(whole_blocks < 5);
            }
            Err(other) => panic!("{end} bytes give {other}"),
        }
    }
}

#[test]
fn each_kind_of_wrong_file_has_its_own_error() {
    let good = file().bytes();
    let changed = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        read(&bytes).unwrap_err()
    };
    let cases = [
        (changed(0, b'X'), "byte 0", "`RIFF`"),
        (changed(8, b'X'), "byte 0", "`RIFF`"),
        (changed(12, b'X'), "byte 54", "a `fmt ` chunk before"),
        (changed(12, 0), "byte 12", "the name of a chunk"),
        (changed(20, 3), "`fmt `", "integers of 8, 16, 24 or 32 bits"),
        (changed(22, 3), "`fmt `, channels", "2, for"),
        (changed(34, 24), "`fmt `, bytes of a sample", "6"),
        (changed(16, 14), "byte 12", "a `fmt ` chunk of 16 bytes"),
        (changed(40, 12), "byte 36", "a `kiwi` chunk of 10 bytes"),
        (changed(58, 3), "byte 54", "a `data` chunk of whole samples"),
        (read(&good[..HEADER_BYTES]).unwrap_err(), "its end", "after a `data` chunk"),
    ];
    for (error, expected_place, expected_rule) in cases {
        match &error {
            DataError::Malformed { place, expected, .. } => {
                assert_eq!(place, expected_place, "{error}");
                assert!(expected.starts_with(expected_rule), "{error}");
            }
            other => panic!("{expected_place} gives {other:?}"),
        }
    }
    assert!(matches!(changed(22, 1), DataError::NotIq { .. }));
}

#[test]
fn file_without_a_recent_fix_is_refused() {
    for fix_age in [254, 255] {
        let bytes = KiwiFile { fix_age, stale: Vec::new(), ..file() }.bytes();
        assert!(matches!(read(&bytes), Err(DataError::StaleStamps { block_count: 30, .. })));
    }
    let stale: Vec<_> = (0..9).map(|second| (0, second * second, 0)).collect();
    let bytes = KiwiFile { stale, block_count: 2, ..file() }.bytes();
    assert!(matches!(read(&bytes), Err(DataError::UnsteadyStamps { block_count: 11, .. })));
}

proptest! {
    #[test]
    fn damaged_file_is_read_or_refused(
        places in vec((0..HEADER_BYTES + 9 * BLOCK_BYTES, any::<u8>()), 1..40),
        end in 0..HEADER_BYTES + 9 * BLOCK_BYTES,
    ) {
        let mut bytes = KiwiFile { block_count: 7, ..file() }.bytes();
        for (at, value) in places {
            bytes[at] = value;
        }
        let _ = read(&bytes);
        let _ = read(&bytes[..end]);
    }

    #[test]
    fn any_bytes_are_read_or_refused(tail in vec(any::<u8>(), 0..400)) {
        let _ = read(&tail);
        let _ = read(&[&file().bytes()[..HEADER_BYTES], &tail].concat());
        let _ = read(&[&file().bytes()[..HEADER_BYTES + 3 * BLOCK_BYTES], &tail].concat());
    }

    #[test]
    fn any_name_is_read_or_refused(name in "\\PC{0,40}", date in "[0-9]{8}T[0-9]{6}Z") {
        let bytes = KiwiFile { block_count: 3, ..file() }.bytes();
        let _ = read_as(&name, &bytes);
        let _ = read_as(&format!("{date}_77500_{name}_iq.wav"), &bytes);
    }
}

mod with_shared_data {
    //! Recordings of real receivers.

    use super::*;

    /// The figures that a separate reading of these files with least squares has given.
    #[test]
    #[ignore = "needs ../shared/data"]
    fn stamps_of_real_files_lie_on_a_line() {
        let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap() + "/../../shared/data/dcf77";
        for (station, dropped) in [("HB9ODP", 2), ("JO51xl", 1), ("pa0rdt", 1)] {
            let name = format!("20200813T065220Z_77500_{station}_iq.wav");
            let bytes = std::fs::read(format!("{folder}/{name}")).unwrap();

            let kiwi = read_as(&name, &bytes).unwrap();

            let (metadata, stamps) = (&kiwi.metadata, kiwi.metadata.stamps.unwrap());
            assert_eq!(metadata.receiver.as_deref(), Some(station));
            assert_eq!(metadata.dropped_sample_count, dropped * 512);
            assert!((0.02e-6..0.08e-6).contains(&stamps.residual_rms_s), "{stamps:?}");
            assert!(stamps.rejected_stamp_count * 50 < stamps.stamp_count, "{stamps:?}");
            let late_s = kiwi.recording.start.seconds_since(&metadata.named_start.unwrap());
            assert!((0.0..2.0).contains(&late_s), "{late_s}");
            assert!((kiwi.recording.sample_rate_hz - 12_001.0).abs() < 1.0);
        }
    }
}
