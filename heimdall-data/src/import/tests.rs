//! Tests of the import of folders.

use std::fs as files;
use std::path::PathBuf;

use heimdall_features::UtcTime;
use heimdall_geo::Position;
use tempfile::{TempDir, tempdir};

use super::*;
use crate::recording::kiwi_fixture::KiwiFile;

mod formats;

const RECEIVERS: &str = "receiver,latitude,longitude,note\na,46,8,x\nb_b,51,11,\nc-ü,51,3,\n";
const TRANSMITTER: &str = "source,frequency_hz,latitude,longitude\nDCF77,77500,50.0155,9.0108\n";

/// A folder with a file of each station, from 2021-05-04T03:02:01Z on.
fn folder() -> TempDir {
    let folder = tempdir().unwrap();
    files::write(folder.path().join("receivers.csv"), RECEIVERS).unwrap();
    files::write(folder.path().join("transmitter.csv"), TRANSMITTER).unwrap();
    for (index, station) in ["a", "b_b", "c-ü"].into_iter().enumerate() {
        let name = format!("20210504T030201Z_77500_{station}_iq.wav");
        let start = UtcTime { seconds: 1_620_097_321, nanoseconds: 100_000_000 * index as u32 };
        let rate_hz = 12_000.0 + index as f64;
        let file = KiwiFile { rate_hz, ..KiwiFile::starting(start) };
        files::write(folder.path().join(name), file.bytes()).unwrap();
    }
    folder
}

fn path_of(folder: &TempDir, station: &str) -> PathBuf {
    folder.path().join(format!("20210504T030201Z_77500_{station}_iq.wav"))
}

async fn import(folder: &TempDir) -> Result<(Recordings, ImportReport), DataError> {
    let recordings = Recordings::in_memory().await?;
    let config = ImportConfig::default();
    let report = import_folder(folder.path(), &recordings, &config).await?;
    Ok((recordings, report))
}

#[tokio::test]
async fn files_of_one_emission_become_one_event() {
    let folder = folder();

    let (recordings, report) = import(&folder).await.unwrap();

    assert_eq!((report.receivers, report.events, report.recordings), (3, 1, 3));
    assert_eq!(report.quarantined, []);
    assert_eq!(report.remarks.len(), 3, "two stale blocks in each: {:?}", report.remarks);
    let receivers = recordings.catalog().receivers().await.unwrap();
    let names: Vec<_> = receivers.iter().map(|receiver| receiver.name.as_str()).collect();
    assert_eq!(names, ["a", "b_b", "c-ü"]);
    let events = recordings.catalog().events().await.unwrap();
    let event = &events[0];
    assert_eq!((event.id.as_str(), event.source.as_str()), ("20210504T030201Z_77500", "DCF77"));
    assert_eq!(event.position, Position::new(50.0155, 9.0108).ok());
    for (index, entry) in event.recordings.iter().enumerate() {
        assert_eq!(entry.receiver, names[index]);
        let recording = recordings.load(entry).await.unwrap();
        assert_eq!(recording.samples.len(), 30 * 512);
        assert_eq!((recording.start, recording.clock), (entry.start, entry.clock));
        assert!((recording.sample_rate_hz - 12_000.0 - index as f64).abs() < 1e-4);
    }
}

#[tokio::test]
async fn importing_twice_gives_the_same_files() {
    let source = folder();
    let target = tempdir().unwrap();
    let mut catalogs = Vec::new();
    for name in ["first", "second"] {
        let recordings = Recordings::create(&target.path().join(name)).await.unwrap();
        let config = ImportConfig::default();
        import_folder(source.path(), &recordings, &config).await.unwrap();
        recordings.close().await.unwrap();
        catalogs.push(files::read(target.path().join(name).join("catalog.db")).unwrap());
    }
    assert!(catalogs[0] == catalogs[1]);
}

#[tokio::test]
async fn missing_file_leaves_an_event_of_two_recordings() {
    let folder = folder();
    files::remove_file(path_of(&folder, "b_b")).unwrap();
    files::remove_file(folder.path().join("transmitter.csv")).unwrap();

    let (recordings, report) = import(&folder).await.unwrap();

    assert_eq!((report.receivers, report.events, report.recordings), (3, 1, 2));
    assert_eq!(recordings.catalog().events().await.unwrap()[0].position, None);
}

#[tokio::test]
async fn file_that_was_cut_in_half_is_imported_with_a_remark() {
    let folder = folder();
    let bytes = files::read(path_of(&folder, "a")).unwrap();
    files::write(path_of(&folder, "a"), &bytes[..bytes.len() / 2]).unwrap();

    let (_, report) = import(&folder).await.unwrap();

    assert_eq!(report.recordings, 3);
    let remarks: Vec<_> =
        report.remarks.iter().filter(|remark| remark.text.contains("was cut off")).collect();
    assert_eq!(remarks.len(), 1, "{remarks:?}");
    assert_eq!(remarks[0].file, "20210504T030201Z_77500_a_iq.wav");
    assert!(remarks[0].text.contains(" 0.725 s more"), "{remarks:?}");
}

/// Its time stamps do not tell in which week they are.
#[tokio::test]
async fn kiwi_file_of_another_name_is_left_out_and_says_why() {
    let folder = folder();
    files::rename(path_of(&folder, "a"), folder.path().join("a.wav")).unwrap();

    let (_, report) = import(&folder).await.unwrap();

    assert_eq!(report.recordings, 2);
    assert_eq!(report.quarantined[0].file, "a.wav");
    let reason = &report.quarantined[0].reason;
    assert!(reason.contains("`a.wav` has no `_iq.wav` at its end"), "{reason}");
}

#[tokio::test]
async fn unusable_file_is_listed_with_its_reason() {
    let folder = folder();
    let bytes = files::read(path_of(&folder, "a")).unwrap();
    files::write(path_of(&folder, "a"), &bytes[..30]).unwrap();
    files::write(folder.path().join("notes.wav"), "x").unwrap();
    // Samples after the first 36 bytes of header and 26 of stamp and chunk, in each block.
    let mut silent = files::read(path_of(&folder, "b_b")).unwrap();
    silent[36..].chunks_mut(18 + 8 + 2048).for_each(|block| block[26..].fill(0));
    files::write(path_of(&folder, "b_b"), silent).unwrap();

    let (_, report) = import(&folder).await.unwrap();

    assert_eq!((report.events, report.recordings), (1, 1));
    let reasons: Vec<_> =
        report.quarantined.iter().map(|file| (file.file.as_str(), file.reason.as_str())).collect();
    assert_eq!(reasons[0].0, "20210504T030201Z_77500_a_iq.wav");
    assert!(reasons[0].1.ends_with("10 bytes, where the file ends"), "{}", reasons[0].1);
    assert_eq!(reasons[1], ("20210504T030201Z_77500_b_b_iq.wav", "all 15360 samples are zero"));
    assert_eq!(reasons[2].0, "notes.wav");

    let recordings = Recordings::in_memory().await.unwrap();
    let config = ImportConfig { strict: true, ..ImportConfig::default() };
    match import_folder(folder.path(), &recordings, &config).await {
        Err(DataError::Unusable { path, .. }) => assert_eq!(path, path_of(&folder, "a")),
        other => panic!("a strict import gives {other:?}"),
    }
}

#[tokio::test]
async fn station_that_is_not_in_the_table_is_told() {
    let folder = folder();
    files::rename(path_of(&folder, "b_b"), path_of(&folder, "b")).unwrap();

    match import(&folder).await {
        Err(DataError::UnknownReceiver { recording, receiver, known }) => {
            assert_eq!((receiver.as_str(), known.as_str()), ("b", "a, b_b, c-ü"));
            assert!(recording.contains("_b_iq.wav"), "{recording}");
        }
        other => panic!("it gives {other:?}"),
    }
}

#[tokio::test]
async fn copy_of_a_recording_is_told() {
    let folder = folder();
    files::copy(path_of(&folder, "a"), folder.path().join("20210504T030202Z_77500_a_iq.wav"))
        .unwrap();

    let error = import(&folder).await.unwrap_err();

    assert!(matches!(error, DataError::OverlappingRecordings { .. }), "{error:?}");
}

#[tokio::test]
async fn folder_without_tables_or_files_is_told() {
    let folder = folder();
    for station in ["a", "b_b", "c-ü"] {
        files::remove_file(path_of(&folder, station)).unwrap();
    }
    assert!(matches!(import(&folder).await, Err(DataError::NothingToImport { .. })));
    files::remove_file(folder.path().join("receivers.csv")).unwrap();
    match import(&folder).await {
        Err(DataError::Read { path, .. }) => assert!(path.ends_with("receivers.csv")),
        other => panic!("it gives {other:?}"),
    }
}

mod with_shared_data {
    //! Recordings of real receivers.

    use super::*;

    #[tokio::test]
    #[ignore = "needs ../shared/data"]
    async fn real_files_become_one_event() {
        let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap() + "/../../shared/data/dcf77";
        let folder = Path::new(&folder);
        let recordings = Recordings::in_memory().await.unwrap();
        let config = ImportConfig { strict: true, ..ImportConfig::default() };

        let report = import_folder(folder, &recordings, &config).await.unwrap();

        assert_eq!((report.receivers, report.events, report.recordings), (3, 1, 3));
        let event = recordings.catalog().events().await.unwrap().remove(0);
        assert_eq!((event.source.as_str(), event.frequency_hz), ("DCF77", 77_500.0));
        for entry in &event.recordings {
            assert!(recordings.load(entry).await.unwrap().duration_s() > 29.0);
        }
    }
}
