//! Tests of the catalog.

use std::fs;

use heimdall_features::{ClockQuality, UtcTime};
use heimdall_geo::Position;
use tempfile::tempdir;

use super::*;
use crate::{RecordingEntry, RecordingFormat};

fn receiver(name: &str) -> Receiver {
    Receiver {
        name: name.to_owned(),
        position: Position::new(45.1, 7.3).unwrap(),
        altitude_m: 250.5,
        antenna_height_m: 20.0,
    }
}

fn recording(receiver: &str) -> RecordingEntry {
    RecordingEntry {
        receiver: receiver.to_owned(),
        object: "a b/ü.npy".to_owned(),
        format: RecordingFormat::Npy,
        sample_rate_hz: 12_000.000_000_1,
        center_frequency_hz: 145.5e6,
        start: UtcTime { seconds: 1_600_000_000, nanoseconds: 999_999_999 },
        clock: ClockQuality::Disciplined { sigma_s: 1.1e-7 },
        sample_count: 1 << 40,
        digest: "0f".repeat(32),
    }
}

fn event(id: &str, source: &str) -> EventEntry {
    EventEntry {
        id: id.to_owned(),
        session: format!("session of {source}"),
        source: source.to_owned(),
        position: Some(Position::new(45.0 + 1.0 / 3.0, -7.0).unwrap()),
        frequency_hz: 145.5e6,
        start: UtcTime { seconds: -1, nanoseconds: 5 },
        waveform: (id != "2").then(|| "nbfm_voice".to_owned()),
        recordings: vec![recording("north"), recording("a'; DROP TABLE events; --")],
    }
}

fn receivers() -> Vec<Receiver> {
    ["north", "east", "a'; DROP TABLE events; --"].map(receiver).into()
}

fn events() -> Vec<EventEntry> {
    let nowhere = EventEntry {
        position: None,
        recordings: vec![RecordingEntry {
            format: RecordingFormat::KiwiWav,
            clock: ClockQuality::Unknown,
            ..recording("east")
        }],
        ..event("3", "nobody knows")
    };
    let unheard = EventEntry { recordings: Vec::new(), ..event("2", "beacon") };
    vec![event("1", "beacon"), unheard, nowhere]
}

async fn filled() -> Catalog {
    let catalog = Catalog::in_memory().await.unwrap();
    catalog.add_receivers(&receivers()).await.unwrap();
    catalog
}

#[tokio::test]
async fn rows_are_read_back_from_a_file_as_they_were_added() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("ca tälog?#%20.db");
    let catalog = Catalog::create(&path).await.unwrap();
    catalog.add_receivers(&receivers()).await.unwrap();
    let mut shuffled = events();
    shuffled.rotate_left(1);
    catalog.add_events(&shuffled).await.unwrap();
    catalog.close().await.unwrap();

    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let catalog = Catalog::open(&path).await.unwrap();
    assert_eq!(catalog.receivers().await.unwrap(), receivers());
    assert_eq!(catalog.events().await.unwrap(), events());
}

#[tokio::test]
async fn same_rows_give_the_same_bytes() {
    let folder = tempdir().unwrap();
    let (first, second) = (folder.path().join("first.db"), folder.path().join("second.db"));

    let catalog = Catalog::create(&first).await.unwrap();
    catalog.add_receivers(&receivers()).await.unwrap();
    catalog.add_events(&events()).await.unwrap();
    catalog.close().await.unwrap();

    // In other steps, another order, and with a failure in between.
    let catalog = Catalog::create(&second).await.unwrap();
    for receiver in receivers() {
        catalog.add_receivers(&[receiver]).await.unwrap();
    }
    for event in events().into_iter().rev() {
        catalog.add_events(std::slice::from_ref(&event)).await.unwrap();
        assert!(catalog.add_events(&[event]).await.is_err());
    }
    catalog.close().await.unwrap();

    assert!(fs::read(first).unwrap() == fs::read(second).unwrap());
}

#[tokio::test]
async fn only_approved_sessions_are_listed() {
    let catalog = filled().await;
    catalog.add_events(&events()).await.unwrap();

    for approval in [Approval::Rejected, Approval::Pending] {
        catalog.set_approval("session of beacon", approval).await.unwrap();
        assert_eq!(catalog.events().await.unwrap(), events()[2..]);
    }
    catalog.set_approval("session of beacon", Approval::Approved).await.unwrap();
    assert_eq!(catalog.events().await.unwrap(), events());

    let unknown = catalog.set_approval("no such", Approval::Approved).await;
    assert!(matches!(unknown, Err(DataError::UnknownSession { .. })));
}

#[tokio::test]
async fn rows_that_contradict_others_are_refused_all_together() {
    let catalog = filled().await;
    catalog.add_events(&events()[..1]).await.unwrap();
    let added = |change: fn(&mut EventEntry)| {
        let mut bad = event("9", "beacon");
        change(&mut bad);
        let catalog = &catalog;
        async move { catalog.add_events(&[event("8", "beacon"), bad]).await.unwrap_err() }
    };

    let error = added(|event| event.id = "1".to_owned()).await;
    assert!(matches!(error, DataError::Duplicate { kind: "event", .. }), "{error:?}");
    let error = added(|event| event.recordings.push(recording("north"))).await;
    assert!(matches!(error, DataError::Duplicate { kind: "recording", .. }), "{error:?}");
    let error = added(|event| event.recordings[0].receiver = "west".to_owned()).await;
    assert!(matches!(error, DataError::UnknownReceiver { .. }), "{error:?}");
    let error = added(|event| event.position = None).await;
    assert!(matches!(error, DataError::Contradiction { kind: "source", .. }), "{error:?}");
    let error = added(|event| event.source = "other".to_owned()).await;
    assert!(matches!(error, DataError::Contradiction { kind: "session", .. }), "{error:?}");
    let error = added(|event| event.start.nanoseconds = 1_000_000_000).await;
    assert!(matches!(error, DataError::Row { field: "start_ns", .. }), "{error:?}");
    let error = added(|event| event.start.seconds = i64::MAX).await;
    assert!(matches!(error, DataError::Row { field: "start_s", .. }), "{error:?}");
    let error = added(|event| event.recordings[0].sample_count = u64::MAX).await;
    assert!(matches!(error, DataError::Row { field: "sample_count", .. }), "{error:?}");
    let error = added(|event| event.frequency_hz = f64::NAN).await;
    assert!(matches!(error, DataError::Catalog { .. }), "{error:?}");
    let error = added(|event| event.recordings[0].digest.clear()).await;
    assert!(matches!(error, DataError::Catalog { .. }), "{error:?}");

    assert_eq!(catalog.events().await.unwrap(), events()[..1]);
}

#[tokio::test]
async fn receiver_may_come_again_unless_it_has_moved() {
    let catalog = filled().await;
    catalog.add_receivers(&[receiver("north"), receiver("west")]).await.unwrap();
    assert_eq!(catalog.receivers().await.unwrap(), [receivers(), vec![receiver("west")]].concat());

    let moved = Receiver { altitude_m: 0.0, ..receiver("north") };
    let error = catalog.add_receivers(&[moved]).await.unwrap_err();
    assert!(matches!(error, DataError::Contradiction { kind: "receiver", .. }), "{error:?}");
    let error = catalog.add_receivers(&[receiver("new"), receiver("new")]).await.unwrap_err();
    assert!(matches!(error, DataError::Duplicate { kind: "receiver", .. }), "{error:?}");
    assert_eq!(catalog.receivers().await.unwrap().len(), 4);
}

#[tokio::test]
async fn nothing_is_written_over() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("catalog.db");
    fs::write(&path, "mine").unwrap();

    assert!(matches!(Catalog::create(&path).await, Err(DataError::AlreadyExists { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    let nowhere = folder.path().join("no/such/catalog.db");
    assert!(matches!(Catalog::create(&nowhere).await, Err(DataError::Write { .. })));
}

#[tokio::test]
async fn file_that_is_no_catalog_is_refused_and_left_alone() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("catalog.db");
    assert!(matches!(Catalog::open(&path).await, Err(DataError::Read { .. })));
    assert!(!path.exists());

    let refused = async |expected: &str| match Catalog::open(&path).await {
        Err(DataError::NotACatalog { actual, .. }) => assert_eq!(actual, expected),
        other => panic!("{expected} gives {other:?}"),
    };
    fs::write(&path, "").unwrap();
    refused("an empty file").await;
    for size in [5, 600, 5000] {
        fs::write(&path, "hello".repeat(size / 5)).unwrap();
        refused("not an SQLite database").await;
    }
    fs::remove_file(&path).unwrap();
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let other = connect(options, 1).await.unwrap();
    sqlx::query("CREATE TABLE events (id INTEGER)").execute(&other).await.unwrap();
    other.close().await;
    refused("an SQLite database of something else").await;
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused("a folder").await;
}

#[tokio::test]
async fn catalog_of_another_version_is_refused() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("catalog.db");
    let catalog = Catalog::create(&path).await.unwrap();
    let later = "UPDATE _sqlx_migrations SET version = 7 WHERE version = 2";
    sqlx::query(later).execute(&catalog.pool).await.unwrap();
    catalog.close().await.unwrap();

    let error = Catalog::open(&path).await.unwrap_err();

    assert!(matches!(error, DataError::CatalogVersion { actual: 7, expected: 2, .. }), "{error:?}");
}

#[tokio::test]
async fn opened_catalog_cannot_be_changed() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("catalog.db");
    Catalog::create(&path).await.unwrap().close().await.unwrap();

    let catalog = Catalog::open(&path).await.unwrap();

    let error = catalog.add_receivers(&receivers()).await.unwrap_err();
    assert!(matches!(error, DataError::Catalog { .. }), "{error:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn catalog_is_read_through_a_link_into_a_folder_that_cannot_be_written() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let folder = tempdir().unwrap();
    let cache = folder.path().join("cache");
    fs::create_dir(&cache).unwrap();
    let path = cache.join("catalog.db");
    let catalog = Catalog::create(&path).await.unwrap();
    catalog.add_receivers(&receivers()).await.unwrap();
    catalog.close().await.unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o555)).unwrap();
    let link = folder.path().join("link.db");
    symlink(&path, &link).unwrap();

    let catalog = Catalog::open(&link).await.unwrap();
    assert_eq!(catalog.receivers().await.unwrap(), receivers());
    catalog.close().await.unwrap();

    fs::set_permissions(&cache, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 1);
}

/// Every byte of a page may be hit; the answer is an error or the old rows, never a panic.
#[tokio::test]
async fn damaged_catalog_is_read_or_refused() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("catalog.db");
    let catalog = Catalog::create(&path).await.unwrap();
    catalog.add_receivers(&receivers()).await.unwrap();
    catalog.add_events(&events()).await.unwrap();
    catalog.close().await.unwrap();
    let good = fs::read(&path).unwrap();

    let mut refused = 0;
    for step in 0..60 {
        let mut bytes = good.clone();
        let at = step * bytes.len() / 60;
        let end = (at + 100).min(bytes.len());
        bytes[at..end].fill(0xa5);
        fs::write(&path, bytes).unwrap();
        match Catalog::open(&path).await {
            Err(_) => refused += 1,
            Ok(catalog) => {
                refused += u32::from(catalog.events().await.is_err());
                catalog.close().await.unwrap();
            }
        }
    }
    assert!(refused > 5, "only {refused} of 60 damages were noticed");
    fs::write(&path, &good[..good.len() / 2]).unwrap();
    let halved = Catalog::open(&path).await;
    let noticed = match halved {
        Err(_) => true,
        Ok(catalog) => catalog.events().await.is_err(),
    };
    assert!(noticed);
}
