//! Tests of recordings folders.

use std::fs;

use heimdall_features::{ClockQuality, UtcTime};
use num_complex::Complex32;
use tempfile::tempdir;

use super::*;
use crate::recording::kiwi_fixture::KiwiFile;
use crate::write_npy;

fn samples() -> Vec<Complex32> {
    (0..1000).map(|n| Complex32::cis(n as f32)).collect()
}

fn entry(key: &str, digest: String) -> RecordingEntry {
    RecordingEntry {
        receiver: "north".to_owned(),
        object: key.to_owned(),
        format: RecordingFormat::Npy,
        sample_rate_hz: 8000.5,
        center_frequency_hz: 145.5e6,
        start: UtcTime { seconds: 1, nanoseconds: 2 },
        clock: ClockQuality::Unknown,
        sample_count: 1000,
        digest,
    }
}

#[tokio::test]
async fn recording_is_loaded_as_it_was_put() {
    let folder = tempdir().unwrap();
    let written = Recordings::create(folder.path()).await.unwrap();
    let digest = written.put("a/b.npy", write_npy(&samples())).await.unwrap();
    written.close().await.unwrap();

    let entry = entry("a/b.npy", digest);
    let recording = Recordings::open(folder.path()).await.unwrap().load(&entry).await.unwrap();

    assert_eq!(recording.samples, samples());
    assert_eq!((recording.sample_rate_hz, recording.start), (8000.5, entry.start));
    assert_eq!(fs::read(folder.path().join("objects/a/b.npy")).unwrap(), write_npy(&samples()));
}

#[tokio::test]
async fn any_text_is_a_key_that_stays_within_the_folder() {
    let folder = tempdir().unwrap();
    let inner = folder.path().join("recordings");
    let recordings = Recordings::create(&inner).await.unwrap();
    let keys = [
        "with space/ü 東京.npy",
        "b/../../outside",
        "..",
        "a/../../b",
        "/etc/absolute",
        "c:\\d",
        "x#1",
        "100%",
        "%2E%2E",
        "a\nb",
        ".",
        "~",
        "*?",
        "con",
    ];
    for (index, key) in keys.iter().enumerate() {
        let samples = [Complex32::new(index as f32, 1.0)];
        let digest = recordings.put(key, write_npy(&samples)).await.unwrap();
        let entry = RecordingEntry { sample_count: 1, ..entry(key, digest) };
        assert_eq!(recordings.load(&entry).await.unwrap().samples, samples, "{key}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let outside: Vec<_> = fs::read_dir(&inner)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !["catalog.db", "objects"].contains(&name.as_str()))
        .collect();
    assert_eq!(outside, Vec::<String>::new());
}

#[tokio::test]
async fn object_that_is_not_the_stored_one_is_refused() {
    let recordings = Recordings::in_memory().await.unwrap();
    let digest = recordings.put("x", write_npy(&samples())).await.unwrap();

    let load = async |entry: RecordingEntry| recordings.load(&entry).await.unwrap_err();
    let error = load(entry("y", digest.clone())).await;
    assert!(matches!(&error, DataError::Object { key, .. } if key == "y"), "{error:?}");
    let error = load(RecordingEntry { sample_count: 999, ..entry("x", digest.clone()) }).await;
    let mismatch = matches!(error, DataError::SampleCountMismatch { actual: 1000, .. });
    assert!(mismatch, "{error:?}");
    let format = RecordingFormat::KiwiWav;
    let error = load(RecordingEntry { format, ..entry("x", digest.clone()) }).await;
    assert!(matches!(error, DataError::Undecodable { .. }), "{error:?}");

    recordings.put("x", write_npy(&samples()[1..])).await.unwrap();
    let error = load(entry("x", digest)).await;
    assert!(matches!(error, DataError::DigestMismatch { .. }), "{error:?}");
}

#[tokio::test]
async fn file_of_a_kiwi_is_loaded_without_its_name() {
    let start = UtcTime { seconds: 1_597_301_540, nanoseconds: 250_000_000 };
    let bytes = KiwiFile::starting(start).bytes();
    let name = "20200813T065220Z_77500_x_iq.wav";
    let file = IqFile::from_bytes(name, bytes.clone(), &ReadOptions::default()).await.unwrap();
    let expected = file.read().await.unwrap().recording;
    let recordings = Recordings::in_memory().await.unwrap();
    let digest = recordings.put("k", bytes).await.unwrap();

    let entry = RecordingEntry {
        format: RecordingFormat::KiwiWav,
        center_frequency_hz: 77_500.0,
        start: expected.start,
        sample_count: expected.samples.len() as u64,
        ..entry("k", digest)
    };

    assert_eq!(recordings.load(&entry).await.unwrap(), expected);
    let file = recordings.open_recording(&entry).await.unwrap();
    assert_eq!(file.samples(700..9000).await.unwrap(), expected.samples[700..9000]);
}

#[tokio::test]
async fn folder_is_neither_made_nor_mended_by_opening() {
    let folder = tempdir().unwrap();
    let missing = folder.path().join("missing");
    assert!(matches!(Recordings::open(&missing).await, Err(DataError::Read { .. })));
    assert!(!missing.exists());

    Recordings::create(&missing).await.unwrap().close().await.unwrap();
    assert!(matches!(Recordings::create(&missing).await, Err(DataError::AlreadyExists { .. })));
    fs::remove_dir(missing.join("objects")).unwrap();
    assert!(matches!(Recordings::open(&missing).await, Err(DataError::Read { .. })));
}

/// What was read once is read again without its store, and what is damaged here is not.
#[tokio::test]
async fn object_of_a_far_store_is_kept() {
    let folder = tempdir().unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let cache = ObjectCache::open(&folder.path().join("kept"), 1 << 20).unwrap();
    let catalog = Catalog::in_memory().await.unwrap();
    let recordings = Recordings::new(catalog, Arc::clone(&store)).with_cache(cache);
    let digest = recordings.put("x", write_npy(&samples())).await.unwrap();
    let entry = entry("x", digest.clone());
    recordings.load(&entry).await.unwrap();
    store.delete(&ObjectPath::from("x")).await.unwrap();

    assert_eq!(recordings.load(&entry).await.unwrap().samples, samples());
    let opened = recordings.open_recording(&entry).await.unwrap();
    assert_eq!(opened.samples(7..9).await.unwrap(), samples()[7..9]);
    fs::write(folder.path().join("kept").join(digest), "damage").unwrap();
    let error = recordings.load(&entry).await.unwrap_err();
    assert!(matches!(error, DataError::Object { .. }), "{error:?}");
}
