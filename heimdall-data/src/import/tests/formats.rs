//! Tests of the import of each format.

use heimdall_features::ClockQuality;
use num_complex::Complex32;

use super::*;
use crate::{RecordingFormat, write_npy};

const SIDECAR: &str = r#"{"sample_rate_hz": 1000, "center_frequency_hz": 145500000,
    "start": "2021-05-04T03:02:01.123456789Z", "clock": {"kind": "disciplined", "sigma_s": 1e-6}}"#;

fn samples(seed: usize, count: usize) -> Vec<Complex32> {
    (0..count).map(|n| Complex32::from_polar(0.5, ((seed + 2) * n) as f32)).collect()
}

fn network() -> TempDir {
    let folder = tempdir().unwrap();
    files::write(folder.path().join("receivers.csv"), RECEIVERS).unwrap();
    folder
}

async fn import_as(
    folder: &TempDir,
    config: ImportConfig,
) -> Result<(Recordings, ImportReport), DataError> {
    let recordings = Recordings::in_memory().await?;
    let report = import_folder(folder.path(), &recordings, &config).await?;
    Ok((recordings, report))
}

fn format(format: ImportFormat) -> ImportConfig {
    ImportConfig { format, strict: true, ..ImportConfig::default() }
}

#[tokio::test]
async fn arrays_of_several_receivers_are_one_event() {
    let folder = network();
    let (first, second) = (samples(1, 500), samples(2, 500));
    let mut bytes = write_npy(&[first.clone(), second.clone()].concat());
    let at = bytes.windows(7).position(|text| text == b"(1000,)").unwrap();
    bytes[at..at + 7].copy_from_slice(b"(2,500)");
    files::write(folder.path().join("x.npy"), bytes).unwrap();
    let sidecar = SIDECAR.replacen('{', r#"{"receivers": ["b_b", "a"], "#, 1);
    files::write(folder.path().join("x.npy.json"), sidecar).unwrap();

    let (recordings, report) = import_as(&folder, format(ImportFormat::Npy)).await.unwrap();

    assert_eq!((report.events, report.recordings), (1, 2));
    let event = recordings.catalog().events().await.unwrap().remove(0);
    let by_receiver = [("a", second), ("b_b", first)];
    for (entry, (receiver, samples)) in event.recordings.iter().zip(by_receiver) {
        assert_eq!((entry.receiver.as_str(), entry.format), (receiver, RecordingFormat::Npy));
        let recording = recordings.load(entry).await.unwrap();
        assert_eq!(recording.samples, samples);
        assert_eq!(recording.start, UtcTime { seconds: 1_620_097_321, nanoseconds: 123_456_789 });
        assert_eq!(recording.clock, ClockQuality::Disciplined { sigma_s: 1e-6 });
    }
}

#[tokio::test]
async fn name_or_folder_tells_the_receiver() {
    let folder = network();
    files::create_dir(folder.path().join("c-ü")).unwrap();
    for name in ["a.cs8", "b_b_2021.cs8", "c-ü/anything.cs8"] {
        let path = folder.path().join(name);
        let bytes: Vec<u8> = (0..400).map(|n| n as u8).filter(|byte| *byte < 120).collect();
        files::write(&path, bytes).unwrap();
        files::write(path.with_added_extension("json"), SIDECAR).unwrap();
    }

    let (recordings, report) = import_as(&folder, format(ImportFormat::Raw)).await.unwrap();

    assert_eq!((report.events, report.recordings), (1, 3));
    let event = recordings.catalog().events().await.unwrap().remove(0);
    let receivers: Vec<_> = event.recordings.iter().map(|entry| entry.receiver.as_str()).collect();
    assert_eq!(receivers, ["a", "b_b", "c-ü"]);

    let stray = folder.path().join("stray.cs8");
    files::write(&stray, [1; 400]).unwrap();
    files::write(stray.with_added_extension("json"), SIDECAR).unwrap();
    match import_as(&folder, format(ImportFormat::Raw)).await {
        Err(DataError::Unusable { path, source }) => {
            assert_eq!(path, stray);
            assert!(matches!(*source, DataError::MissingFact { fact: "receiver", .. }), "{source}");
        }
        other => panic!("it gives {other:?}"),
    }
}

#[tokio::test]
async fn facts_of_the_import_hold_for_all_files() {
    let folder = network();
    let bytes: Vec<u8> = samples(1, 300)
        .iter()
        .flat_map(|sample| [(sample.re * 100.0) as i8 as u8, (sample.im * 100.0) as i8 as u8])
        .collect();
    files::write(folder.path().join("a.bin"), bytes).unwrap();
    let start = r#"{"start": "2021-05-04T03:02:01Z"}"#;
    files::write(folder.path().join("a.bin.json"), start).unwrap();
    let config = ImportConfig {
        datatype: RawType::from_name("cs8"),
        sample_rate_hz: Some(2000.0),
        center_frequency_hz: Some(1e8),
        ..format(ImportFormat::Raw)
    };

    let (recordings, _) = import_as(&folder, config).await.unwrap();

    let entry = recordings.catalog().events().await.unwrap().remove(0).recordings.remove(0);
    assert_eq!((entry.sample_rate_hz, entry.center_frequency_hz), (2000.0, 1e8));
    assert_eq!((entry.sample_count, entry.clock), (300, ClockQuality::Unknown));
}

#[tokio::test]
async fn ordinary_wav_files_are_no_recordings_of_a_kiwi() {
    let folder = network();
    let mut wav =
        b"RIFF\xb4\x04\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0\xe8\x03\0\0\xa0\x0f\0\0\x04\0\x10\0"
            .to_vec();
    let mut auxi: Vec<u8> =
        [2021_u16, 5, 2, 4, 3, 2, 1, 250].iter().flat_map(|field| field.to_le_bytes()).collect();
    auxi.resize(32, 0);
    auxi.extend(7_100_000_u32.to_le_bytes());
    wav.extend(b"auxi\x24\0\0\0");
    wav.extend(auxi);
    wav.extend(b"data\xb0\x04\0\0");
    wav.extend((0..1200).map(|n| (n * 7 % 90) as u8));
    files::write(folder.path().join("a.wav"), wav).unwrap();

    let (recordings, _) = import_as(&folder, format(ImportFormat::Wav)).await.unwrap();

    let entry = recordings.catalog().events().await.unwrap().remove(0).recordings.remove(0);
    assert_eq!((entry.center_frequency_hz, entry.sample_count), (7.1e6, 300));
    assert_eq!(entry.start, UtcTime { seconds: 1_620_097_321, nanoseconds: 250_000_000 });
    match import_as(&folder, format(ImportFormat::Kiwi)).await {
        Err(DataError::Unusable { source, .. }) => {
            assert!(matches!(*source, DataError::NoStamps { .. }), "{source}");
        }
        other => panic!("it gives {other:?}"),
    }
}

#[tokio::test]
async fn loose_sigmf_recordings_become_events_by_their_overlap() {
    let folder = tempdir().unwrap();
    for (receiver, second) in [("north", 1), ("south", 1), ("north", 31)] {
        let meta = serde_json::json!({
            "global": { "core:datatype": "cf32_le", "core:version": "1.2.0",
                "core:sample_rate": 1000, "heimdall:receiver": receiver },
            "captures": [{ "core:sample_start": 0, "core:frequency": 1e6,
                "core:datetime": format!("2021-05-04T03:02:{second:02}Z"),
                "core:geolocation": { "type": "Point",
                    "coordinates": [8.5, if receiver == "north" { 47.0 } else { 46.0 }] } }],
            "annotations": [],
        });
        let stem = folder.path().join(format!("{receiver}-{second}"));
        files::write(stem.with_extension("sigmf-meta"), meta.to_string()).unwrap();
        let data = write_npy(&samples(second, 500))[128..].to_vec();
        files::write(stem.with_extension("sigmf-data"), data).unwrap();
    }

    let (recordings, report) = import_as(&folder, format(ImportFormat::Sigmf)).await.unwrap();

    assert_eq!((report.receivers, report.events, report.recordings), (2, 2, 3));
    let receivers = recordings.catalog().receivers().await.unwrap();
    assert_eq!(receivers[0].position, Position::new(47.0, 8.5).unwrap());

    // One receiver cannot be in two places.
    let meta = folder.path().join("north-31.sigmf-meta");
    let moved = files::read_to_string(&meta).unwrap().replace("47.0", "47.5");
    files::write(&meta, moved).unwrap();
    let error = import_as(&folder, format(ImportFormat::Sigmf)).await.unwrap_err();
    assert!(matches!(error, DataError::Contradiction { kind: "receiver", .. }), "{error}");
}
