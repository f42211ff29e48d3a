//! Tests on databases as installations have them, awkward rows included.

/// The tables of `current` form, as an installation makes them.
const TABLES: &str = "
CREATE SCHEMA heimdall;
CREATE TYPE heimdall.decision AS ENUM ('pending', 'approved', 'rejected');
CREATE TABLE heimdall.websdr_stations (
    id uuid PRIMARY KEY, name varchar(255) UNIQUE NOT NULL, latitude double precision NOT NULL,
    longitude double precision NOT NULL, altitude_asl integer, frequency_min_hz bigint,
    frequency_max_hz bigint, is_active boolean DEFAULT true
);
CREATE TABLE heimdall.known_sources (
    id uuid PRIMARY KEY, name varchar(255) NOT NULL, frequency_hz bigint,
    latitude double precision, longitude double precision, power_dbm real,
    error_margin_meters real DEFAULT 50, is_validated boolean DEFAULT false
);
CREATE TABLE heimdall.recording_sessions (
    id uuid PRIMARY KEY, known_source_id uuid REFERENCES heimdall.known_sources,
    session_name varchar(255), session_start timestamptz NOT NULL, session_end timestamptz,
    duration_seconds real, celery_task_id text, status varchar(20) DEFAULT 'pending',
    approval_status heimdall.decision DEFAULT 'pending', updated_at timestamptz DEFAULT now()
);
INSERT INTO heimdall.websdr_stations VALUES
    ('00000000-0000-0000-0000-000000000001', 'Aquila', 45.03, 7.27, 600, NULL, NULL, true),
    ('00000000-0000-0000-0000-000000000002', 'Monte Giarolo', 44.6, 9.1, NULL, NULL, NULL, false),
    ('00000000-0000-0000-0000-000000000003', 'Zürich', 47.3, 8.5, 400, NULL, NULL, true);
INSERT INTO heimdall.known_sources VALUES
    ('10000000-0000-0000-0000-000000000000', 'beacon', 145500000, 45.1, 8.2, 10, 50, true),
    ('20000000-0000-0000-0000-000000000000', 'half known', 432000000, 45.1, NULL, 10, 50, true),
    ('30000000-0000-0000-0000-000000000000', 'off the Earth', 7100000, 95.0, 8.0, 10, 50, true),
    ('40000000-0000-0000-0000-000000000000', 'beacon', 145700000, 46.0, 9.0, 10, 50, true);
";

/// The tenth of May, from noon on: 2024-05-10T12:00:00Z is second 1,715,342,400.
const SESSIONS: &str = "
INSERT INTO heimdall.recording_sessions
    (id, known_source_id, session_name, session_start, session_end, duration_seconds,
     celery_task_id, approval_status)
VALUES
    ('a1000000-0000-0000-0000-000000000000', '10000000-0000-0000-0000-000000000000', 'noon',
     '2024-05-10 12:00:00Z', '2024-05-10 12:01:00Z', NULL, 'task-1', 'approved'),
    -- Without an end, but with a duration; at the same time as the first one.
    ('a2000000-0000-0000-0000-000000000000', '20000000-0000-0000-0000-000000000000', 'beside',
     '2024-05-10 12:00:30Z', NULL, 60, 'task-2', 'approved'),
    -- Neither an end nor a duration.
    ('a3000000-0000-0000-0000-000000000000', '10000000-0000-0000-0000-000000000000', 'endless',
     '2024-05-10 13:00:00Z', NULL, NULL, NULL, 'approved'),
    -- Of a source that nobody knows.
    ('a4000000-0000-0000-0000-000000000000', NULL, 'unknown',
     '2024-05-10 14:00:00Z', '2024-05-10 14:01:00Z', NULL, NULL, 'approved'),
    ('a5000000-0000-0000-0000-000000000000', '30000000-0000-0000-0000-000000000000', 'nowhere',
     '2024-05-10 15:00:00Z', '2024-05-10 15:01:00Z', NULL, NULL, 'approved'),
    ('a6000000-0000-0000-0000-000000000000', '40000000-0000-0000-0000-000000000000', 'noon',
     '2024-05-11 12:00:00Z', '2024-05-11 12:01:00Z', NULL, NULL, 'pending'),
    ('a7000000-0000-0000-0000-000000000000', '40000000-0000-0000-0000-000000000000', NULL,
     '2024-05-12 12:00:00Z', '2024-05-12 12:01:00Z', NULL, NULL, 'rejected'),
    -- Ends before it starts.
    ('a8000000-0000-0000-0000-000000000000', '10000000-0000-0000-0000-000000000000', 'backwards',
     '2024-05-10 16:01:00Z', '2024-05-10 16:00:00Z', NULL, NULL, 'approved');
";

const CURRENT: &str = "
CREATE TABLE heimdall.measurements (
    \"timestamp\" timestamptz NOT NULL, id uuid NOT NULL, websdr_station_id uuid,
    frequency_hz bigint, signal_strength_db real, snr_db real, frequency_offset_hz integer,
    iq_data_location text, iq_data_format varchar(20), iq_sample_rate integer,
    iq_samples_count bigint, duration_seconds real, created_at timestamptz DEFAULT now(),
    PRIMARY KEY (\"timestamp\", id)
);
INSERT INTO heimdall.measurements
    (\"timestamp\", id, websdr_station_id, frequency_hz, signal_strength_db, snr_db,
     iq_data_location, iq_data_format, iq_sample_rate, iq_samples_count, duration_seconds, created_at)
VALUES
    -- One emission at two stations, one of which is no longer active; the other one's clock is odd.
    ('2024-05-10 12:00:10.250001Z', 'b1000000-0000-0000-0000-000000000000',
     '00000000-0000-0000-0000-000000000001', 145500000, -60.5, 12.25,
     's3://heimdall-raw-iq/sessions/task-1/websdr_1.npy', 'npy', 12000, 60000, 5,
     '2024-05-10 12:00:20Z'),
    ('2024-05-10 12:00:10.75Z', 'b2000000-0000-0000-0000-000000000000',
     '00000000-0000-0000-0000-000000000002', 145500000, -70, NULL,
     's3://heimdall-raw-iq/sessions/task-1/nothing.npy', 'npy', 12000, 60000, 5,
     '2024-05-10 12:00:20Z'),
    -- The same station a moment later: the same again.
    ('2024-05-10 12:00:10.9Z', 'b3000000-0000-0000-0000-000000000000',
     '00000000-0000-0000-0000-000000000002', 145500000, -71, NULL, NULL, NULL, NULL, NULL, NULL,
     '2024-05-10 12:00:20Z'),
    -- In two sessions at a time, of which one has its frequency.
    ('2024-05-10 12:00:40Z', 'b4000000-0000-0000-0000-000000000000',
     '00000000-0000-0000-0000-000000000003', 145500500, -80, 3, NULL, NULL, NULL, NULL, 10,
     '2024-05-10 12:00:50Z'),
    ('2024-05-10 12:00:41Z', 'b5000000-0000-0000-0000-000000000000',
     '00000000-0000-0000-0000-000000000003', 432000000, -81, 4, NULL, NULL, NULL, NULL, 10,
     '2024-05-10 12:00:51Z'),
    -- And one that has neither.
    ('2024-05-10 12:00:42Z', 'b6000000-0000-0000-0000-000000000000',
     '00000000-0000-0000-0000-000000000003', 7100000, -82, 5, NULL, NULL, NULL, NULL, 10,
     '2024-05-10 12:00:52Z'),
    -- A station that is gone, and none; no frequency; a level that is no number.
    ('2024-05-10 12:00:05Z', 'b7000000-0000-0000-0000-000000000000',
     '99999999-0000-0000-0000-000000000000', 145500000, -83, 5, NULL, NULL, NULL, NULL, 1, NULL),
    ('2024-05-10 12:00:06Z', 'b8000000-0000-0000-0000-000000000000',
     NULL, 145500000, -83, 5, NULL, NULL, NULL, NULL, 1, NULL),
    ('2024-05-10 12:00:07Z', 'b9000000-0000-0000-0000-000000000000',
     '00000000-0000-0000-0000-000000000001', NULL, -83, 5, NULL, NULL, NULL, NULL, 1, NULL),
    ('2024-05-10 12:00:25Z', 'ba000000-0000-0000-0000-000000000000',
     '00000000-0000-0000-0000-000000000001', 145500000, 'NaN', 'Infinity', NULL, NULL, NULL, NULL, 1,
     NULL),
    -- Made long before it was entered, within the session of an unknown source.
    ('2024-05-01 00:00:00Z', 'bb000000-0000-0000-0000-000000000000',
     '00000000-0000-0000-0000-000000000003', 3500000, -50, 30, NULL, NULL, NULL, NULL, 2,
     '2024-05-10 14:00:30Z'),
    -- Of no session at all.
    ('2024-05-20 00:00:00Z', 'bc000000-0000-0000-0000-000000000000',
     '00000000-0000-0000-0000-000000000003', 3500000, -50, 30, NULL, NULL, NULL, NULL, 2,
     '2024-05-20 00:00:30Z'),
    ('2024-05-11 12:00:30Z', 'bd000000-0000-0000-0000-000000000000',
     '00000000-0000-0000-0000-000000000003', 145700000, -50, 30, NULL, NULL, NULL, NULL, 2, NULL);
";

const OLDER: &str = "
CREATE TABLE heimdall.measurements (
    id bigserial PRIMARY KEY, task_id varchar(36), websdr_id integer, timestamp_utc timestamp,
    frequency_mhz double precision, sample_rate_khz double precision, power_dbm double precision,
    s3_path text
);
INSERT INTO heimdall.measurements
    (task_id, websdr_id, timestamp_utc, frequency_mhz, sample_rate_khz, power_dbm, s3_path)
VALUES
    ('task-1', 1, '2024-05-10 12:00:10.5', 145.5, 12.5, -60,
     's3://heimdall-raw-iq/sessions/task-1/websdr_1.npy'),
    ('task-1', 3, '2024-05-10 12:00:10.5', 145.5, 12.5, -65,
     's3://heimdall-raw-iq/sessions/task-1/websdr_3.npy'),
    -- The number of no station, and a time outside of the session, whose task it is all the same.
    ('task-1', 9, '2024-05-10 12:00:10.5', 145.5, 12.5, -65, NULL),
    ('task-1', 1, '2024-05-09 12:00:00', 145.5, 12.5, -61, NULL),
    -- Without a task, in the session of an unknown source; and of a task, at its time.
    (NULL, 1, '2024-05-10 14:00:30', 3.5, 12.5, -40, NULL),
    ('task-2', 3, '2024-05-10 14:00:30', 3.5, 12.5, -41, NULL);
";

mod with_postgres {
    use num_complex::Complex32;

    use super::super::*;
    use super::*;
    use crate::testing::bucket::{BUCKET, Server};
    use crate::testing::postgres;
    use crate::{Catalog, ImportConfig, Recordings, StoreAddress, import_installation, write_npy};

    /// A database of the given form, and a user that may read and nothing else.
    async fn installation(measurements: &str, stations: BTreeMap<i64, String>) -> Installation {
        let url = postgres::new_database();
        let database = url.split(['/', '?']).nth(3).unwrap();
        let reader = format!("reader_of_{database}");
        postgres::run(&url, TABLES);
        postgres::run(&url, SESSIONS);
        postgres::run(&url, measurements);
        postgres::run(
            &url,
            &format!(
                "CREATE ROLE {reader} LOGIN; GRANT USAGE ON SCHEMA heimdall TO {reader};
                 GRANT SELECT ON ALL TABLES IN SCHEMA heimdall TO {reader};"
            ),
        );
        let url = url.replace("user=postgres", &format!("user={reader}"));
        Installation::connect(&url, stations).await.unwrap()
    }

    /// All events and all rows that are left out, as lines.
    async fn read(installation: &Installation, filter: &EventFilter) -> (Vec<String>, Vec<String>) {
        let (mut events, mut left_out) = (Vec::new(), Vec::new());
        let take = async |session: InstalledSession| {
            events.extend(session.events.iter().map(|event| {
                let levels = event.levels.iter().map(|level| {
                    let [rss, snr] = [level.rss_db, level.snr_db]
                        .map(|db| db.map_or("-".to_owned(), |db| db.to_string()));
                    format!("{} {rss} {snr}", level.receiver)
                });
                let recordings = event
                    .recordings
                    .iter()
                    .map(|recording| format!("{} {}", recording.receiver, recording.location));
                format!(
                    "{} | {} | {} | {} | {}",
                    event.session,
                    event.source,
                    event.id,
                    levels.collect::<Vec<_>>().join(", "),
                    recordings.collect::<Vec<_>>().join(", "),
                )
            }));
            left_out
                .extend(session.left_out.iter().map(|row| format!("{}: {}", row.row, row.reason)));
            Ok(())
        };
        installation.read(filter, take).await.unwrap();
        (events, left_out)
    }

    #[tokio::test]
    #[ignore = "needs PostgreSQL"]
    async fn rows_become_events_or_are_left_out_with_a_reason() {
        let installation = installation(CURRENT, BTreeMap::new()).await;

        let (events, left_out) = read(&installation, &EventFilter::default()).await;

        assert_eq!(
            events,
            [
                "noon (a1000000) | beacon (10000000) | a1000000_20240510T120010Z_145500000 \
                 | Aquila -60.5 12.25, Monte Giarolo -70 - \
                 | Aquila s3://heimdall-raw-iq/sessions/task-1/websdr_1.npy, \
                 Monte Giarolo s3://heimdall-raw-iq/sessions/task-1/nothing.npy",
                "noon (a1000000) | beacon (10000000) | a1000000_20240510T120025Z_145500000 |  | ",
                "noon (a1000000) | beacon (10000000) | a1000000_20240510T120040Z_145500500 \
                 | Zürich -80 3 | ",
                "beside | half known | a2000000_20240510T120041Z_432000000 | Zürich -81 4 | ",
                "unknown | unknown of unknown | a4000000_20240501T000000Z_3500000 \
                 | Zürich -50 30 | ",
            ]
        );
        let expected = [
            "source `off the Earth`: its position Some((95.0, 8.0)) is not on the Earth",
            "session `nowhere`: its source `30000000-0000-0000-0000-000000000000` cannot be used",
            "measurement `b7000000-0000-0000-0000-000000000000`: its station \
             `99999999-0000-0000-0000-000000000000` is not among the known ones",
            "measurement `b8000000-0000-0000-0000-000000000000`: its station `NULL` is not among \
             the known ones",
            "measurement `b9000000-0000-0000-0000-000000000000`: it has no frequency above 0",
            "measurement `b6000000-0000-0000-0000-000000000000`: it may be of several sessions at \
             that time: `noon (a1000000)`, `beside`",
            "measurement `b3000000-0000-0000-0000-000000000000`: `Monte Giarolo` has measured the \
             same already, in `b2000000-0000-0000-0000-000000000000`",
            "measurement `b6000000-0000-0000-0000-000000000000`: it may be of several sessions at \
             that time: `noon (a1000000)`, `beside`",
            "session `endless`: it has neither an end nor a duration, so that nothing tells what \
             is of it",
            "session `backwards`: it has neither an end nor a duration, so that nothing tells what \
             is of it",
        ];
        assert_eq!(left_out, expected);
    }

    #[tokio::test]
    #[ignore = "needs PostgreSQL"]
    async fn receivers_are_the_stations_active_or_not() {
        let receivers = installation(CURRENT, BTreeMap::new()).await.receivers().await.unwrap();

        let shown: Vec<_> =
            receivers.iter().map(|r| format!("{} {} m", r.name, r.altitude_m)).collect();
        assert_eq!(shown, ["Aquila 600 m", "Monte Giarolo 0 m", "Zürich 400 m"]);
    }

    #[tokio::test]
    #[ignore = "needs PostgreSQL"]
    async fn times_are_exact_to_the_microsecond() {
        let installation = installation(CURRENT, BTreeMap::new()).await;
        let mut starts = Vec::new();
        let take = async |session: InstalledSession| {
            starts.extend(session.events.iter().map(|event| event.start));
            Ok(())
        };

        installation.read(&EventFilter::default(), take).await.unwrap();

        assert_eq!(starts[0], UtcTime { seconds: 1_715_342_410, nanoseconds: 250_001_000 });
    }

    #[tokio::test]
    #[ignore = "needs PostgreSQL"]
    async fn sessions_and_conditions_select() {
        let installation = installation(CURRENT, BTreeMap::new()).await;
        let ids = async |filter: &str| {
            let filter = serde_json::from_str(filter).unwrap();
            let (events, _) = read(&installation, &filter).await;
            let hour = |event: &String| event.split('_').nth(1).unwrap()[9..15].to_owned();
            events.iter().map(hour).collect::<Vec<_>>().join(" ")
        };

        assert_eq!(ids(r#"{"sessions": ["beside"]}"#).await, "120041");
        assert_eq!(ids(r#"{"approval": ["pending"]}"#).await, "120030");
        assert_eq!(ids(r#"{"where": {"receivers_min": 2}}"#).await, "120010");
        assert_eq!(ids(r#"{"where": {"sources": ["half known"]}}"#).await, "120041");
        assert_eq!(ids(r#"{"where": {"is_located": false}}"#).await, "120041 000000");
        assert_eq!(ids(r#"{"where": {"frequency_hz_max": 4e6}}"#).await, "000000");
        assert_eq!(ids(r#"{"where": {"from": "2024-05-10T12:00:41Z"}}"#).await, "120041");
        let filter = EventFilter { sessions: vec!["no such".to_owned()], ..EventFilter::default() };
        let error = installation.sessions(&filter).await.unwrap_err();
        assert!(matches!(error, DataError::UnknownSession { .. }), "{error:?}");
    }

    #[tokio::test]
    #[ignore = "needs PostgreSQL"]
    async fn sessions_are_listed_with_their_decisions() {
        let installation = installation(CURRENT, BTreeMap::new()).await;

        let sessions = installation.sessions(&EventFilter::any()).await.unwrap();

        let shown: Vec<_> = sessions
            .iter()
            .map(|s| format!("{} {} {} {}", s.name, s.approval.name(), s.events, s.recordings))
            .collect();
        assert_eq!(
            shown,
            [
                "a7000000-0000-0000-0000-000000000000 rejected 0 0",
                "backwards approved 0 0",
                "beside approved 1 0",
                "endless approved 0 0",
                "noon (a1000000) approved 3 2",
                "noon (a6000000) pending 1 0",
                "unknown approved 1 0",
            ]
        );
    }

    #[tokio::test]
    #[ignore = "needs PostgreSQL"]
    async fn older_form_is_joined_by_its_tasks() {
        let stations =
            [(1, "Aquila"), (3, "Zürich")].map(|(number, name)| (number, name.to_owned()));
        let installation = installation(OLDER, stations.into()).await;

        let (events, left_out) = read(&installation, &EventFilter::default()).await;

        assert_eq!(
            events,
            [
                "noon (a1000000) | beacon (10000000) | a1000000_20240509T120000Z_145500000 \
                 | Aquila -61 - | ",
                "noon (a1000000) | beacon (10000000) | a1000000_20240510T120010Z_145500000 \
                 | Aquila -60 -, Zürich -65 - \
                 | Aquila s3://heimdall-raw-iq/sessions/task-1/websdr_1.npy, \
                 Zürich s3://heimdall-raw-iq/sessions/task-1/websdr_3.npy",
                "beside | half known | a2000000_20240510T140030Z_3500000 | Zürich -41 - | ",
                "unknown | unknown of unknown | a4000000_20240510T140030Z_3500000 \
                 | Aquila -40 - | ",
            ]
        );
        let unknown = left_out.iter().find(|line| line.contains("its station `9`"));
        assert!(unknown.is_some_and(|line| line.contains("task-1 9 2024-05-10")), "{left_out:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs PostgreSQL, and Python with moto"]
    async fn approved_sessions_are_imported_with_their_samples() {
        let installation = installation(CURRENT, BTreeMap::new()).await;
        let server = Server::start();
        let environment = server.environment();
        let bucket: StoreAddress = format!("s3://{BUCKET}").parse().unwrap();
        let samples: Vec<_> = (0..60_000).map(|n| Complex32::cis(n as f32)).collect();
        let raw = Recordings::new(
            Catalog::in_memory().await.unwrap(),
            bucket.open(&environment, StoreAddress::PATIENCE).unwrap(),
        );
        raw.put("sessions/task-1/websdr_1.npy", write_npy(&samples)).await.unwrap();
        let into = Recordings::in_memory().await.unwrap();
        let (filter, config) = (EventFilter::default(), ImportConfig::default());
        let import = async || {
            import_installation(&installation, &environment, &filter, &into, &config).await
        };

        let report = import().await.unwrap();
        let again = import().await.unwrap();

        let merged = &report.merged;
        let counts = (merged.events_added, merged.recordings_added, merged.levels_added);
        assert_eq!(counts, (5, 1, 5));
        assert_eq!((again.merged.events_added, again.merged.recordings_known), (0, 1));
        let missing = report.quarantined.iter().find(|row| row.file.ends_with("/nothing.npy"));
        assert!(missing.is_some_and(|row| row.reason.contains("cannot be read")), "{report:?}");
        assert_eq!(report.quarantined.len(), 11);
        let events = into.catalog().events().await.unwrap();
        let heard = events.iter().find(|event| !event.recordings.is_empty()).unwrap();
        assert_eq!((&*heard.session, heard.levels.len()), ("noon (a1000000)", 2));
        let loaded = into.load(&heard.recordings[0]).await.unwrap();
        assert_eq!((loaded.samples, loaded.sample_rate_hz), (samples, 12_000.0));
        let strict = ImportConfig { strict: true, ..ImportConfig::default() };
        let refused =
            import_installation(&installation, &environment, &filter, &into, &strict).await;
        assert!(matches!(refused, Err(DataError::Unusable { .. })), "{refused:?}");
    }

    #[tokio::test]
    #[ignore = "needs PostgreSQL"]
    async fn nothing_can_be_written() {
        let installation = installation(CURRENT, BTreeMap::new()).await;
        // Beyond what the type offers.
        let mut reading = installation.database.read().await.unwrap();
        let read = reading.execute(Statement::new("DELETE FROM heimdall.measurements")).await;
        let mut writing = installation.database.write().await.unwrap();
        let written = writing.execute(Statement::new("CREATE TABLE heimdall.x ()")).await;

        for refused in [read, written] {
            let error = refused.unwrap_err().to_string();
            assert!(error.contains("read-only transaction"), "{error}");
        }
    }

    #[tokio::test]
    #[ignore = "needs PostgreSQL"]
    async fn database_of_something_else_is_refused() {
        let error =
            Installation::connect(&postgres::new_database(), BTreeMap::new()).await.unwrap_err();
        let unknown = BTreeMap::from([(4, "no such".to_owned())]);
        let wrong = installation(OLDER, unknown).await;
        let station = wrong.sessions(&EventFilter::default()).await.unwrap_err();

        assert!(error.to_string().contains("heimdall.measurements"), "{error}");
        assert!(station.to_string().contains("the number 4"), "{station}");
    }
}
