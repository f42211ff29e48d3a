//! What every catalog must do, whichever database it lies in.

use heimdall_features::{ClockQuality, UtcTime};
use heimdall_geo::{Position, Receiver};
use tempfile::tempdir;

use super::*;
use crate::testing::postgres;

mod faults;
mod migration;

pub(super) fn receiver(name: &str) -> Receiver {
    Receiver {
        name: name.to_owned(),
        position: Position::new(45.1, 7.3).unwrap(),
        altitude_m: 250.5,
        antenna_height_m: 20.0,
    }
}

pub(super) fn recording(receiver: &str) -> RecordingEntry {
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

pub(super) fn level(receiver: &str, rss_db: f64) -> LevelEntry {
    let receiver = receiver.to_owned();
    LevelEntry { receiver, rss_db: Some(rss_db), arrival_s: Some(1e-9), ..LevelEntry::default() }
}

pub(super) fn event(id: &str, source: &str) -> EventEntry {
    EventEntry {
        id: id.to_owned(),
        session: format!("session of {source}"),
        source: source.to_owned(),
        position: Some(Position::new(45.0 + 1.0 / 3.0, -7.0).unwrap()),
        frequency_hz: 145.5e6,
        start: UtcTime { seconds: -1, nanoseconds: 5 },
        waveform: (id != "2").then(|| "nbfm_voice".to_owned()),
        recordings: vec![recording("north"), recording("a'; DROP TABLE events; --")],
        levels: vec![level("east", -0.1)],
    }
}

pub(super) fn receivers() -> Vec<Receiver> {
    ["north", "east", "a'; DROP TABLE events; --"].map(receiver).into()
}

pub(super) fn events() -> Vec<EventEntry> {
    let nowhere = EventEntry {
        position: None,
        recordings: vec![RecordingEntry {
            format: RecordingFormat::KiwiWav,
            clock: ClockQuality::Unknown,
            ..recording("east")
        }],
        ..event("3", "nobody knows")
    };
    let unheard = EventEntry { recordings: Vec::new(), levels: Vec::new(), ..event("2", "beacon") };
    vec![event("1", "beacon"), unheard, nowhere]
}

/// Writes the tests of one kind of catalog, which an expression makes: empty, and new each time.
macro_rules! contract {
    ($make:expr, $($attribute:tt)*) => {
        contract!(@ rows_are_read_back_as_they_were_added, $make, $($attribute)*);
        contract!(@ only_what_is_wanted_is_listed, $make, $($attribute)*);
        contract!(@ text_of_a_filter_is_never_a_statement, $make, $($attribute)*);
        contract!(@ pages_have_all_events_once, $make, $($attribute)*);
        contract!(@ only_approved_sessions_are_listed, $make, $($attribute)*);
        contract!(@ rows_that_contradict_others_are_refused_all_together, $make, $($attribute)*);
        contract!(@ receiver_may_come_again_unless_it_has_moved, $make, $($attribute)*);
        contract!(@ sessions_and_rows_are_counted, $make, $($attribute)*);
        contract!(@ watermark_knows_what_is_wanted_and_nothing_else, $make, $($attribute)*);
        contract!(@ what_is_there_is_not_added_again, $make, $($attribute)*);
        contract!(@ what_has_grown_is_completed, $make, $($attribute)*);
        contract!(@ what_differs_is_not_merged, $make, $($attribute)*);
    };
    (@ $test:ident, $make:expr, $($attribute:tt)*) => {
        #[tokio::test]
        $($attribute)*
        async fn $test() {
            super::$test($make.await).await;
        }
    };
}

mod in_memory {
    use super::*;

    contract!(async { Catalog::in_memory().await.unwrap() },);
}

mod in_a_file {
    use super::*;

    contract!(async {
        let path = tempdir().unwrap().keep().join("ca tälog?#%20.db");
        Catalog::connect(path.to_str().unwrap()).await.unwrap()
    },);
}

mod with_postgres {
    use super::*;

    contract!(
        async { Catalog::connect(&postgres::new_database()).await.unwrap() },
        #[ignore = "needs PostgreSQL"]
    );
}

async fn filled(catalog: Catalog) -> Catalog {
    catalog.add_receivers(&receivers()).await.unwrap();
    catalog.add_events(&events()).await.unwrap();
    catalog
}

async fn rows_are_read_back_as_they_were_added(catalog: Catalog) {
    catalog.add_receivers(&receivers()).await.unwrap();
    let mut shuffled = events();
    shuffled.rotate_left(1);
    catalog.add_events(&shuffled).await.unwrap();

    assert_eq!(catalog.receivers().await.unwrap(), receivers());
    assert_eq!(catalog.events().await.unwrap(), events());
}

async fn only_what_is_wanted_is_listed(catalog: Catalog) {
    let catalog = filled(catalog).await;
    let late = EventEntry {
        frequency_hz: 7.1e6,
        start: UtcTime { seconds: 3600, nanoseconds: 0 },
        ..event("4", "late")
    };
    catalog.add_events(&[late]).await.unwrap();

    for (filter, expected) in [
        (r"{}", "1 2 3 4"),
        (r#"{"sessions": ["session of late", "session of nobody knows"]}"#, "3 4"),
        (r#"{"where": {"sources": ["beacon"]}}"#, "1 2"),
        (r#"{"where": {"waveforms": ["nbfm_voice"]}}"#, "1 3 4"),
        (r#"{"where": {"frequency_hz_max": 7.1e6}}"#, "4"),
        (r#"{"where": {"frequency_hz_min": 145.5e6}}"#, "1 2 3"),
        (r#"{"where": {"from": "1969-12-31T23:59:59.000000005Z"}}"#, "1 2 3 4"),
        (r#"{"where": {"from": "1969-12-31T23:59:59.000000006Z"}}"#, "4"),
        (r#"{"where": {"until": "1970-01-01T01:00:00Z"}}"#, "1 2 3"),
        (r#"{"where": {"receivers_min": 1}}"#, "1 3 4"),
        (r#"{"where": {"receivers_min": 3}}"#, "1 4"),
        (r#"{"where": {"receivers_min": 4}}"#, ""),
        (r#"{"where": {"is_located": false}}"#, "3"),
        (r#"{"where": {"is_located": true, "sources": ["late"]}}"#, "4"),
    ] {
        let wanted = serde_json::from_str(filter).unwrap();

        let events = catalog.select(&wanted).await.unwrap();

        let ids: Vec<&str> = events.iter().map(|event| event.id.as_str()).collect();
        assert_eq!(ids.join(" "), expected, "{filter}");
    }
}

async fn text_of_a_filter_is_never_a_statement(catalog: Catalog) {
    let catalog = filled(catalog).await;
    let names =
        ["'", "' OR '1' = '1", "x'); DROP TABLE events; --", "$1", "?1", "\\' --", "%", "*"];
    for name in names.map(str::to_owned) {
        let sources = EventConditions { sources: vec![name.clone()], ..Default::default() };
        let waveforms = EventConditions { waveforms: vec![name.clone()], ..Default::default() };
        for conditions in [sources, waveforms] {
            let filter = EventFilter { conditions, ..EventFilter::any() };
            assert_eq!(catalog.select(&filter).await.unwrap(), [], "{name}");
        }
        let filter = EventFilter { sessions: vec![name.clone()], ..EventFilter::any() };
        match catalog.sessions(&filter).await {
            Err(DataError::UnknownSession { session }) => assert_eq!(session, name),
            other => panic!("{name} gives {other:?}"),
        }
    }
    assert_eq!(catalog.events().await.unwrap(), events());
}

async fn pages_have_all_events_once(catalog: Catalog) {
    catalog.add_receivers(&receivers()).await.unwrap();
    let names = ["", "Z", "a", "É", "é", "ü", "東", "😀", "_", "-", "a b", "a\u{301}"];
    let all: Vec<_> = names.iter().map(|name| event(&format!("{name}.1"), "beacon")).collect();
    catalog.add_events(&all).await.unwrap();

    let (mut seen, mut after): (Vec<EventEntry>, Option<String>) = (Vec::new(), None);
    loop {
        let page = catalog.page(&EventFilter::default(), after.as_deref(), 5).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.id.clone());
        seen.extend(page);
    }

    assert_eq!(seen, catalog.events().await.unwrap());
    let mut ids: Vec<String> = all.into_iter().map(|event| event.id).collect();
    ids.sort();
    assert_eq!(seen.iter().map(|event| event.id.clone()).collect::<Vec<_>>(), ids);
}

async fn only_approved_sessions_are_listed(catalog: Catalog) {
    let catalog = filled(catalog).await;

    for approval in [Approval::Rejected, Approval::Pending] {
        catalog.set_approval("session of beacon", approval).await.unwrap();
        assert_eq!(catalog.events().await.unwrap(), events()[2..]);
    }
    catalog.set_approval("session of beacon", Approval::Approved).await.unwrap();
    assert_eq!(catalog.events().await.unwrap(), events());

    let unknown = catalog.set_approval("no such", Approval::Approved).await;
    assert!(matches!(unknown, Err(DataError::UnknownSession { .. })));
}

async fn rows_that_contradict_others_are_refused_all_together(catalog: Catalog) {
    catalog.add_receivers(&receivers()).await.unwrap();
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
    let error = added(|event| event.levels.push(level("east", 1.0))).await;
    assert!(matches!(error, DataError::Duplicate { kind: "level", .. }), "{error:?}");
    let error = added(|event| event.levels[0].snr_db = Some(f64::NAN)).await;
    assert!(matches!(error, DataError::Row { field: "snr_db", .. }), "{error:?}");
    let error = added(|event| event.levels[0].arrival_s = Some(-1.0)).await;
    assert!(matches!(error, DataError::Catalog { .. }), "{error:?}");

    assert_eq!(catalog.events().await.unwrap(), events()[..1]);
}

async fn receiver_may_come_again_unless_it_has_moved(catalog: Catalog) {
    catalog.add_receivers(&receivers()).await.unwrap();
    catalog.add_receivers(&[receiver("north"), receiver("west")]).await.unwrap();
    assert_eq!(catalog.receivers().await.unwrap(), [receivers(), vec![receiver("west")]].concat());

    let moved = Receiver { altitude_m: 0.0, ..receiver("north") };
    let error = catalog.add_receivers(&[moved]).await.unwrap_err();
    assert!(matches!(error, DataError::Contradiction { kind: "receiver", .. }), "{error:?}");
    let error = catalog.add_receivers(&[receiver("new"), receiver("new")]).await.unwrap_err();
    assert!(matches!(error, DataError::Duplicate { kind: "receiver", .. }), "{error:?}");
    assert_eq!(catalog.receivers().await.unwrap().len(), 4);
}

async fn sessions_and_rows_are_counted(catalog: Catalog) {
    assert_eq!(catalog.stats().await.unwrap(), CatalogStats::default());
    let catalog = filled(catalog).await;
    catalog.set_approval("session of nobody knows", Approval::Rejected).await.unwrap();

    let sessions = catalog.sessions(&EventFilter::any()).await.unwrap();
    let stats = catalog.stats().await.unwrap();

    let start = Some(UtcTime { seconds: -1, nanoseconds: 0 });
    let beacon = SessionEntry {
        name: "session of beacon".to_owned(),
        source: "beacon".to_owned(),
        position: events()[0].position,
        approval: Approval::Approved,
        events: 2,
        recordings: 2,
        levels: 1,
        start,
        last_start: start,
    };
    let unknown = SessionEntry {
        name: "session of nobody knows".to_owned(),
        source: "nobody knows".to_owned(),
        position: None,
        approval: Approval::Rejected,
        events: 1,
        recordings: 1,
        levels: 1,
        ..beacon.clone()
    };
    assert_eq!(sessions, [beacon.clone(), unknown]);
    assert_eq!(catalog.sessions(&EventFilter::default()).await.unwrap(), [beacon]);
    let expected = CatalogStats {
        receivers: 3,
        sources: 2,
        located_sources: 1,
        pending_sessions: 0,
        approved_sessions: 1,
        rejected_sessions: 1,
        events: 3,
        recordings: 3,
        samples: 3 << 40,
        levels: 2,
    };
    assert_eq!(stats, expected);
}

async fn watermark_knows_what_is_wanted_and_nothing_else(catalog: Catalog) {
    let catalog = filled(catalog).await;
    let filter =
        EventFilter { sessions: vec!["session of beacon".to_owned()], ..EventFilter::default() };
    let watermark = async || catalog.watermark(&filter).await.unwrap();
    let first = watermark().await;

    catalog.add_events(&[event("9", "other")]).await.unwrap();
    let other_session = watermark().await;
    catalog.add_events(&[event("10", "beacon")]).await.unwrap();
    let more = watermark().await;
    catalog.set_approval("session of beacon", Approval::Pending).await.unwrap();
    let undecided = watermark().await;
    catalog.set_approval("session of beacon", Approval::Approved).await.unwrap();

    assert_eq!(first, other_session);
    assert!(first != more && more != undecided && first != undecided);
    assert_eq!(watermark().await, more);
    catalog.add_receivers(&[receiver("west")]).await.unwrap();
    assert_ne!(watermark().await, more);
}

async fn what_is_there_is_not_added_again(catalog: Catalog) {
    let merge = async || catalog.merge(&receivers(), &events(), Approval::Pending).await.unwrap();

    let first = merge().await;
    let again = merge().await;

    let sessions = ["session of beacon", "session of nobody knows"].map(str::to_owned);
    let expected = Merged {
        receivers_added: 3,
        sessions_added: sessions.into(),
        events_added: 3,
        recordings_added: 3,
        levels_added: 2,
        ..Merged::default()
    };
    assert_eq!(first, expected);
    let expected =
        Merged { events_known: 3, recordings_known: 3, levels_known: 2, ..Merged::default() };
    assert_eq!(again, expected);
    assert_eq!(catalog.events().await.unwrap(), []);
    assert_eq!(catalog.select(&EventFilter::any()).await.unwrap(), events());
}

async fn what_has_grown_is_completed(catalog: Catalog) {
    let catalog = filled(catalog).await;
    // A recording that began earlier has given the event another name and another start.
    let start = UtcTime { seconds: -3, nanoseconds: 0 };
    let early = RecordingEntry { digest: "ab".repeat(32), start, ..recording("east") };
    let mut grown = EventEntry { id: "0".to_owned(), start, ..event("1", "beacon") };
    grown.recordings.insert(0, early.clone());
    grown.levels.push(level("north", 3.0));
    // Another receiver's file of the same second, without the files of those that are there.
    let other = EventEntry {
        start: UtcTime { seconds: -1, nanoseconds: 700_000_000 },
        recordings: vec![RecordingEntry { digest: "cd".repeat(32), ..recording("east") }],
        levels: Vec::new(),
        ..event("2", "beacon")
    };

    let merged = catalog.merge(&[], &[grown, other.clone()], Approval::Pending).await.unwrap();

    let expected = Merged {
        events_known: 2,
        recordings_added: 2,
        recordings_known: 2,
        levels_added: 1,
        levels_known: 1,
        ..Merged::default()
    };
    assert_eq!(merged, expected);
    let mut expected = events();
    expected[0].recordings.insert(1, early);
    expected[0].levels.insert(0, level("north", 3.0));
    expected[1].recordings = other.recordings;
    assert_eq!(catalog.events().await.unwrap(), expected);
}

async fn what_differs_is_not_merged(catalog: Catalog) {
    let catalog = filled(catalog).await;
    let merged = |change: fn(&mut EventEntry)| {
        let mut bad = event("1", "beacon");
        change(&mut bad);
        let catalog = &catalog;
        async move {
            let events = [event("8", "other"), bad];
            catalog.merge(&[], &events, Approval::Approved).await.unwrap_err()
        }
    };
    let digest = |event: &mut EventEntry| {
        for recording in &mut event.recordings {
            recording.digest = "ee".repeat(32);
        }
    };

    let error = merged(digest).await;
    let named = matches!(&error, DataError::Contradiction { kind: "recording", name, .. }
        if name == "north of 1");
    assert!(named, "{error:?}");
    let error = merged(|event| event.levels[0].rss_db = None).await;
    assert!(matches!(error, DataError::Contradiction { kind: "level", .. }), "{error:?}");
    let error = merged(|event| {
        event.recordings.clear();
        event.frequency_hz += 1.0;
    })
    .await;
    let kind =
        matches!(error, DataError::Contradiction { kind: "event", field: "frequency_hz", .. });
    assert!(kind, "{error:?}");
    let error = merged(|event| {
        event.recordings.clear();
        event.start.seconds += 2;
    })
    .await;
    let kind = matches!(error, DataError::Contradiction { kind: "event", field: "start", .. });
    assert!(kind, "{error:?}");
    let error = merged(|event| {
        event.id = "new".to_owned();
        event.recordings[1].digest = "aa".repeat(32);
    })
    .await;
    assert!(matches!(error, DataError::Contradiction { kind: "recording", .. }), "{error:?}");
    assert_eq!(catalog.events().await.unwrap(), events());
}
