//! Tests that what is exported comes back.

use std::fs as files;

use heimdall_features::{ClockQuality, IqRecording};
use num_complex::Complex32;
use tempfile::tempdir;

use super::*;
use crate::recording::kiwi_fixture::KiwiFile;
use crate::{ImportConfig, ImportFormat, RecordingFormat, import_folder, write_npy};

const START: UtcTime = UtcTime { seconds: 1_620_097_321, nanoseconds: 123_456_789 };

/// Two events of three receivers: floating-point samples, and those of KiwiSDR files.
async fn recordings() -> Recordings {
    let recordings = Recordings::in_memory().await.unwrap();
    let receiver = |name: &str, latitude: f64, longitude: f64| Receiver {
        name: name.to_owned(),
        position: Position::new(latitude, longitude).unwrap(),
        altitude_m: 1234.5,
        antenna_height_m: 7.25,
    };
    let receivers = [
        receiver("nord/süd", 46.499_351_234_567, 8.798_828),
        receiver("b, \"c\"", -0.1, -179.999_999_9),
        receiver("silent", 0.0, 0.0),
    ];
    recordings.catalog().add_receivers(&receivers).await.unwrap();

    let clock = ClockQuality::Disciplined { sigma_s: 1.234_567e-7 };
    let mut entries = Vec::new();
    for (index, receiver) in receivers[..2].iter().enumerate() {
        let mut samples: Vec<_> = (0..700_000)
            .map(|n| Complex32::from_polar(0.1, (n * (index + 1)) as f32 * 0.37))
            .collect();
        // Equal to others, but of other bits.
        samples[1] = Complex32::new(-0.0, 0.0);
        samples[699_999] = Complex32::new(f32::MIN_POSITIVE / 2.0, -0.0);
        let key = format!("{index}.npy");
        let digest = recordings.put(&key, write_npy(&samples)).await.unwrap();
        entries.push(RecordingEntry {
            receiver: receiver.name.clone(),
            object: key,
            format: RecordingFormat::Npy,
            sample_rate_hz: 192_000.123_456_789,
            center_frequency_hz: 145_500_000.000_000_03,
            start: UtcTime { nanoseconds: START.nanoseconds + index as u32, ..START },
            clock: [clock, ClockQuality::Unknown][index],
            sample_count: samples.len() as u64,
            digest,
        });
    }
    let bytes = KiwiFile::starting(START).bytes();
    let digest = recordings.put("kiwi", bytes.clone()).await.unwrap();
    let near = crate::ReadOptions { start: Some(START), ..Default::default() };
    let file = IqFile::from_bytes("kiwi", bytes, &near).await.unwrap();
    let kiwi = RecordingEntry {
        receiver: "silent".to_owned(),
        object: "kiwi".to_owned(),
        format: RecordingFormat::KiwiWav,
        sample_rate_hz: file.metadata().sample_rate_hz,
        center_frequency_hz: 77_500.0,
        start: file.metadata().start.unwrap(),
        clock: file.metadata().clock,
        sample_count: file.metadata().sample_count,
        digest,
    };
    let event = |id: &str, position, recordings| EventEntry {
        id: id.to_owned(),
        session: format!("session of {id}"),
        source: format!("source of {id}"),
        position,
        frequency_hz: 145.51e6,
        start: UtcTime { seconds: START.seconds - 1, nanoseconds: 999_999_999 },
        waveform: (id == "d").then(|| "cw".to_owned()),
        recordings,
        levels: Vec::new(),
    };
    let position = Position::new(45.123_456_789_012_3, 7.5).ok();
    let events = [event("a.b/../c", position, entries), event("d", None, vec![kiwi])];
    recordings.catalog().add_events(&events).await.unwrap();
    recordings
}

/// Everything about an event but where its samples are stored.
async fn content(recordings: &Recordings) -> Vec<(EventEntry, Vec<(RecordingEntry, IqRecording)>)> {
    let mut all = Vec::new();
    for event in recordings.catalog().events().await.unwrap() {
        let mut heard = Vec::new();
        for entry in &event.recordings {
            let samples = recordings.load(entry).await.unwrap();
            let (object, digest) = (String::new(), String::new());
            let format = RecordingFormat::Npy;
            heard.push((RecordingEntry { object, digest, format, ..entry.clone() }, samples));
        }
        all.push((EventEntry { recordings: Vec::new(), ..event }, heard));
    }
    all
}

fn bits(recording: &IqRecording) -> impl Iterator<Item = (u32, u32)> {
    recording.samples.iter().map(|sample| (sample.re.to_bits(), sample.im.to_bits()))
}

async fn import(folder: &Path) -> Result<Recordings, DataError> {
    let recordings = Recordings::in_memory().await.unwrap();
    let config =
        ImportConfig { format: ImportFormat::Sigmf, strict: true, ..ImportConfig::default() };
    import_folder(folder, &recordings, &config).await?;
    Ok(recordings)
}

#[tokio::test]
async fn exported_events_come_back_bit_for_bit() {
    let folder = tempdir().unwrap();
    let original = recordings().await;

    let export = export_sigmf(&original, folder.path()).await.unwrap();

    assert_eq!(export, SigmfExport { collections: 2, recordings: 3 });
    let back = import(folder.path()).await.unwrap();
    let receivers = back.catalog().receivers().await.unwrap();
    assert_eq!(receivers, original.catalog().receivers().await.unwrap());
    let (expected, found) = (content(&original).await, content(&back).await);
    assert_eq!(expected.len(), 2);
    for ((event, heard), (expected_event, expected_heard)) in found.iter().zip(&expected) {
        assert_eq!(event, expected_event);
        for ((entry, samples), (expected_entry, expected)) in heard.iter().zip(expected_heard) {
            assert_eq!(entry, expected_entry);
            assert!(bits(samples).eq(bits(expected)), "samples of {}", entry.receiver);
            let bare =
                |recording: &IqRecording| IqRecording { samples: Vec::new(), ..recording.clone() };
            assert_eq!(bare(samples), bare(expected));
        }
        assert_eq!(heard.len(), expected_heard.len());
    }

    // Without the table, the recordings tell the receivers; the silent one is in the second event.
    files::remove_file(folder.path().join("receivers.csv")).unwrap();
    let back = import(folder.path()).await.unwrap();
    let mut named = back.catalog().receivers().await.unwrap();
    named.sort_by(|a, b| b.name.cmp(&a.name));
    let mut expected = receivers;
    expected.sort_by(|a, b| b.name.cmp(&a.name));
    assert_eq!(named, expected);
}

/// One bit in the middle of the samples: their number is right.
#[tokio::test]
async fn damaged_recording_is_not_exported_with_a_fresh_hash() {
    let folder = tempdir().unwrap();
    let recordings = recordings().await;
    let mut samples = vec![Complex32::new(0.5, 0.25); 700_000];
    samples[350_000].re = 0.75;
    recordings.put("1.npy", write_npy(&samples)).await.unwrap();

    match export_sigmf(&recordings, folder.path()).await {
        Err(DataError::DigestMismatch { key, .. }) => assert_eq!(key, "1.npy"),
        other => panic!("it gives {other:?}"),
    }
    let names = files::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    assert!(!names.iter().any(|name| name.ends_with("collection")), "{names:?}");
    let of_damaged = |name: &String| name.contains("b%2C") && name.contains("sigmf");
    assert!(!names.iter().any(of_damaged), "{names:?}");
}

#[tokio::test]
async fn export_writes_over_nothing() {
    let folder = tempdir().unwrap();
    let recordings = recordings().await;
    export_sigmf(&recordings, folder.path()).await.unwrap();
    let names = || {
        let entries = files::read_dir(folder.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let written = names();

    let again = export_sigmf(&recordings, folder.path()).await;

    assert!(matches!(again, Err(DataError::AlreadyExists { .. })), "{again:?}");
    assert_eq!(names(), written);
    assert!(written.contains(&"a%2Eb%2F%2E%2E%2Fc.sigmf-collection".into()), "{written:?}");
}

#[tokio::test]
async fn changed_metadata_are_told_by_the_collection() {
    let folder = tempdir().unwrap();
    export_sigmf(&recordings().await, folder.path()).await.unwrap();
    let meta = folder.path().join("d.silent.sigmf-meta");
    let text = files::read_to_string(&meta).unwrap().replace("77500.0", "77501.0");
    files::write(&meta, text).unwrap();

    match import(folder.path()).await {
        Err(DataError::Unusable { path, source }) => {
            assert!(path.ends_with("d.sigmf-collection"), "{}", path.display());
            assert!(matches!(*source, DataError::HashMismatch { .. }), "{source}");
        }
        other => panic!("it gives {other:?}"),
    }
}
