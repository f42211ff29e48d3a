//! Tests of what all formats have in common.

use std::fs as files;

use heimdall_features::{ClockQuality, UtcTime};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use proptest::prelude::*;
use tempfile::tempdir;

use super::super::kiwi_fixture::KiwiFile;
use super::super::metadata::{FileFormat, Gain};
use super::super::npy::write_npy;
use super::*;
use crate::testing::block_on;

mod large;

/// 50 samples, as different formats write them.
fn samples() -> Vec<Complex32> {
    (0..50).map(|n| Complex32::new(n as f32, -n as f32) / 64.0).collect()
}

fn rate(sample_rate_hz: f64) -> ReadOptions {
    ReadOptions { sample_rate_hz: Some(sample_rate_hz), ..ReadOptions::default() }
}

/// Small valid files of all formats that stand alone.
fn small_files() -> Vec<(&'static str, Vec<u8>, FileFormat)> {
    let raw: Vec<u8> =
        samples().iter().flat_map(|x| [x.re.to_le_bytes(), x.im.to_le_bytes()].concat()).collect();
    let start = UtcTime { seconds: 1_597_301_540, nanoseconds: 250_000_000 };
    let kiwi = KiwiFile { block_count: 4, ..KiwiFile::starting(start) }.bytes();
    let mut wav =
        b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x03\0\x02\0\xe8\x03\0\0\x40\x1f\0\0\x08\0\x20\0".to_vec();
    wav.extend(b"data\x90\x01\0\0");
    wav.extend(&raw);
    vec![
        ("x.npy", write_npy(&samples()), FileFormat::Npy),
        ("x.cf32", raw, FileFormat::Raw),
        ("x.wav", wav, FileFormat::Wav),
        ("20200813T065220Z_77500_HB9ODP_iq.wav", kiwi, FileFormat::KiwiWav),
    ]
}

async fn in_memory(name: &str, bytes: Vec<u8>) -> (Arc<dyn ObjectStore>, ObjectPath) {
    let (store, key) = (InMemory::new(), ObjectPath::from(name));
    store.put(&key, bytes.into()).await.unwrap();
    (Arc::new(store), key)
}

#[tokio::test]
async fn content_tells_the_format_before_the_name_does() {
    for (name, bytes, format) in small_files() {
        let file = IqFile::from_bytes(name, bytes.clone(), &rate(1e3)).await.unwrap();
        assert_eq!(file.metadata().format, format, "{name}");
        if format != FileFormat::Raw && format != FileFormat::KiwiWav {
            let file = IqFile::from_bytes("x.cf32", bytes, &rate(1e3)).await.unwrap();
            assert_eq!(file.metadata().format, format, "{name}");
            assert_eq!(file.read().await.unwrap().recording.samples, samples(), "{name}");
        }
    }
}

#[tokio::test]
async fn a_type_that_is_given_makes_any_file_raw() {
    let options = ReadOptions { raw_type: RawType::from_name("cs8"), ..rate(1e3) };

    let file = IqFile::from_bytes("x.npy", vec![64, 0xc0, 1], &options).await.unwrap();

    assert_eq!((file.metadata().format, file.metadata().cut_byte_count), (FileFormat::Raw, 1));
    assert_eq!(file.samples(0..1).await.unwrap(), [Complex32::new(0.5, -0.5)]);
}

#[tokio::test]
async fn file_of_which_nothing_is_known_is_refused() {
    let open = async |name, bytes: &[u8]| {
        IqFile::from_bytes(name, bytes.to_vec(), &ReadOptions::default()).await.unwrap_err()
    };
    assert!(matches!(open("x.bin", b"abc").await, DataError::UnknownFormat { .. }));
    assert!(matches!(open("", b"").await, DataError::UnknownFormat { .. }));
    let no_rate = open("x.cu8", b"abcd").await;
    assert!(matches!(no_rate, DataError::MissingFact { fact: "sample rate", .. }), "{no_rate}");
    for wrong_hz in [0.0, -1.0, f64::INFINITY] {
        let error = IqFile::from_bytes("x.cu8", vec![0; 4], &rate(wrong_hz)).await.unwrap_err();
        assert!(error.to_string().contains("a positive number of hertz"), "{error}");
    }
}

#[tokio::test]
async fn sidecar_tells_what_the_file_does_not() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("a#1 ü%.cu8");
    files::write(&path, [0, 255, 128, 128]).unwrap();
    let sidecar = r#"{"sample_rate_hz": 2.4e6, "center_frequency_hz": 1e8, "receiver": "north",
        "start": "2020-08-13T06:52:20.25Z", "gain": {"kind": "automatic"},
        "clock": {"kind": "disciplined", "sigma_s": 1e-6}}"#;
    files::write(folder.path().join("a#1 ü%.cu8.json"), sidecar).unwrap();

    let read = read_recording(&path, &ReadOptions::default()).await.unwrap();

    let half_step = 0.5 / 127.5;
    let expected = [Complex32::new(-1.0, 1.0), Complex32::new(half_step, half_step)];
    assert_eq!(read.recording.samples, expected);
    let (rate_hz, center_hz) = (read.recording.sample_rate_hz, read.recording.center_frequency_hz);
    assert_eq!((rate_hz, center_hz), (2.4e6, 1e8));
    assert_eq!(read.recording.clock, ClockQuality::Disciplined { sigma_s: 1e-6 });
    let start = UtcTime { seconds: 1_597_301_540, nanoseconds: 250_000_000 };
    assert_eq!(read.recording.start, start);
    assert_eq!(read.metadata.gain, Some(Gain::Automatic));
    assert_eq!(read.metadata.receiver.as_deref(), Some("north"));
    assert!((read.clipping_share - 0.5).abs() < 1e-12);

    // What is given stands above it.
    let read = read_recording(&path, &rate(1e6)).await.unwrap();
    assert_eq!((read.recording.sample_rate_hz, read.recording.center_frequency_hz), (1e6, 1e8));

    files::write(folder.path().join("a#1 ü%.cu8.json"), r#"{"receivers": ["a", "b"]}"#).unwrap();
    let error = read_recording(&path, &rate(1e6)).await.unwrap_err();
    assert!(error.to_string().contains("as many names as there are channels, 1"), "{error}");
}

#[tokio::test]
async fn missing_file_is_told_with_its_path() {
    let folder = tempdir().unwrap();
    for path in [folder.path().join("missing.wav"), folder.path().to_owned()] {
        match read_recording(&path, &ReadOptions::default()).await {
            Err(DataError::Read { path: told, .. }) => assert_eq!(told, path),
            other => panic!("{} gives {other:?}", path.display()),
        }
    }
}

#[tokio::test]
async fn range_beyond_the_end_is_refused() {
    let file = IqFile::from_bytes("x.npy", write_npy(&samples()), &rate(1e3)).await.unwrap();

    assert_eq!(file.samples(50..50).await.unwrap(), []);
    let reversed = Range { start: 5, end: 4 };
    for range in [0..51, 51..51, 0..u64::MAX, reversed] {
        let error = file.samples(range.clone()).await.unwrap_err();
        assert!(matches!(error, DataError::NoSuchPart { .. }), "{range:?} gives {error}");
    }
}

#[tokio::test]
async fn clipping_is_counted_at_the_end_of_each_scale() {
    let cases: [(&str, &[u8], f64); 4] = [
        ("x.cs8", &[0x7f, 0, 0x80, 0, 0x7e, 0], 2.0 / 3.0),
        ("x.cu8", &[0, 1, 254, 255, 1, 254], 2.0 / 3.0),
        ("x.ci16", &[0xff, 0x7f, 0, 0, 0xfe, 0x7f, 0, 0], 0.5),
        ("x.cf32", &[0, 0, 0x80, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0x3f, 0, 0, 0, 0], 0.5),
    ];
    for (name, bytes, expected) in cases {
        let file = IqFile::from_bytes(name, bytes.to_vec(), &rate(1e3)).await.unwrap();
        let share = file.read().await.unwrap().clipping_share;
        assert!((share - expected).abs() < 1e-12, "{name}: {share}");
    }
}

#[test]
fn file_that_ends_anywhere_is_read_or_refused() {
    for (name, bytes, _) in small_files() {
        let ends = (0..bytes.len()).filter(|end| bytes.len() < 4096 || end % 13 == 0 || *end < 200);
        for end in ends {
            let bytes = bytes[..end].to_vec();
            let opened = block_on(IqFile::from_bytes(name, bytes, &rate(1e3)));
            match opened {
                Ok(file) => {
                    block_on(file.read()).unwrap();
                }
                Err(error) => assert!(error.to_string().contains(name), "{end}: {error}"),
            }
        }
    }
}

proptest! {
    #[test]
    fn parts_are_those_of_the_whole(
        which in 0_usize..4,
        ends in (0_f64..1.0, 0_f64..1.0),
        chunk_length in 1_u64..3000,
    ) {
        let (name, bytes, _) = small_files().swap_remove(which);
        block_on(async {
            let (store, key) = in_memory(name, bytes).await;
            let file = IqFile::open_object(store, &key, &rate(1e3)).await.unwrap();
            let whole = file.read().await.unwrap().recording.samples;
            let place = |end: f64| (end * (whole.len() + 1) as f64) as usize;
            let (from, to) = (place(ends.0.min(ends.1)), place(ends.0.max(ends.1)));

            let part = file.samples(from as u64..to as u64).await.unwrap();
            let (mut chunks, mut joined) = (file.chunks(chunk_length), Vec::new());
            while let Some(chunk) = chunks.next_chunk().await.unwrap() {
                joined.extend(chunk);
            }

            assert_eq!(part, whole[from..to]);
            assert_eq!(joined, whole);
        });
    }
}
