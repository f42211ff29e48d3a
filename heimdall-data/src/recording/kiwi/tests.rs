//! Tests of the `KiwiSDR` reader.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::kiwi_fixture::{KiwiFile, iq};
use super::*;

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

fn read(bytes: &[u8]) -> Result<KiwiRecording, DataError> {
    read_kiwi_wav(bytes, NAME)
}

#[test]
fn samples_rate_and_start_are_those_of_the_fresh_blocks() {
    let kiwi = read(&file().bytes()).unwrap();

    assert_eq!((kiwi.station.as_str(), kiwi.dropped_block_count), ("HB9ODP", 2));
    assert_eq!((kiwi.stamp_count, kiwi.rejected_stamp_count), (30, 0));
    assert_eq!((kiwi.gap_count, kiwi.cut_byte_count), (0, 0));
    assert!(kiwi.residual_rms_s < 1e-9, "{}", kiwi.residual_rms_s);
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
        let kiwi = read_kiwi_wav(&bytes, name).unwrap();

        assert_eq!(kiwi.stamp_count, 30);
        assert!(kiwi.recording.start.seconds_since(&start).abs() <= 1e-9, "{name}");
    }
}

#[test]
fn leap_seconds_are_those_of_the_year() {
    // 2016-02-29T12:00:00Z, when satellite time was 17 s ahead.
    let start = UtcTime { seconds: 1_456_747_200, nanoseconds: 0 };
    let bytes = KiwiFile { leap_s: 17, ..KiwiFile::starting(start) }.bytes();

    let kiwi = read_kiwi_wav(&bytes, "20160229T120003Z_60000_a_b_iq.wav").unwrap();

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
                assert_eq!(kiwi.cut_byte_count, (end - HEADER_BYTES) % BLOCK_BYTES);
            }
            Err(DataError::TruncatedHeader { byte_count, .. }) => {
                assert_eq!((byte_count, whole_blocks), (end, 0));
            }
            Err(DataError::MissingFormat { .. }) => panic!("{end} bytes have a format to come"),
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
    assert!(matches!(changed(0, b'X'), DataError::NotWav { .. }));
    assert!(matches!(changed(8, b'X'), DataError::NotWav { .. }));
    assert!(matches!(changed(12, b'X'), DataError::MissingFormat { .. }));
    assert!(matches!(changed(12, 0), DataError::MalformedChunk { offset: 12, .. }));
    assert!(matches!(
        changed(20, 3),
        DataError::WrongWavFormat { field: "encoding", expected: 1, actual: 3, .. }
    ));
    assert!(matches!(
        changed(22, 1),
        DataError::WrongWavFormat { field: "channels", expected: 2, actual: 1, .. }
    ));
    assert!(matches!(
        changed(34, 8),
        DataError::WrongWavFormat { field: "bits per value", expected: 16, actual: 8, .. }
    ));
    assert!(matches!(changed(16, 14), DataError::MalformedChunk { offset: 12, .. }));
    assert!(matches!(changed(40, 12), DataError::MalformedChunk { offset: 36, .. }));
    assert!(matches!(changed(58, 3), DataError::MalformedChunk { offset: 54, .. }));

    let only_format = &good[..HEADER_BYTES];
    assert!(matches!(read(only_format), Err(DataError::TruncatedHeader { byte_count: 36, .. })));
    let mut ordinary = good[..HEADER_BYTES].to_vec();
    ordinary.extend_from_slice(&good[54..HEADER_BYTES + BLOCK_BYTES]);
    assert!(matches!(read(&ordinary), Err(DataError::NoStamps { .. })));
    let name = read_kiwi_wav(&good, "HB9ODP.wav");
    assert!(matches!(name, Err(DataError::KiwiFileName { .. })));
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
        let _ = read_kiwi_wav(&bytes, &name);
        let _ = read_kiwi_wav(&bytes, &format!("{date}_77500_{name}_iq.wav"));
    }
}

/// The figures that a separate reading of these files with least squares has given.
#[test]
#[ignore = "needs ../shared/data"]
fn stamps_of_real_files_lie_on_a_line() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/dcf77");
    for (station, dropped) in [("HB9ODP", 2), ("JO51xl", 1), ("pa0rdt", 1)] {
        let name = format!("20200813T065220Z_77500_{station}_iq.wav");
        let bytes = std::fs::read(format!("{folder}/{name}")).unwrap();

        let kiwi = read_kiwi_wav(&bytes, &name).unwrap();

        assert_eq!((kiwi.station.as_str(), kiwi.dropped_block_count), (station, dropped));
        assert!((0.02e-6..0.08e-6).contains(&kiwi.residual_rms_s), "{}", kiwi.residual_rms_s);
        assert!(kiwi.rejected_stamp_count * 50 < kiwi.stamp_count, "{kiwi:?}");
        let late_s = kiwi.recording.start.seconds_since(&kiwi.named_start);
        assert!((0.0..2.0).contains(&late_s), "{late_s}");
        assert!((kiwi.recording.sample_rate_hz - 12_001.0).abs() < 1.0);
    }
}
