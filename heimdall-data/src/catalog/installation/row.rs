//! Rows of the tables of an installation.
//!
//! Times are read in whole microseconds, which is what the database keeps; every value that this
//! program needs is cast, so that the types of the columns may be those of any version.

use sqlx::FromRow;

use super::super::database::Statement;

/// A session of more measurements is none of one transmission, and does not fit into memory.
pub(super) const MEASUREMENTS_MAX: usize = 1_000_000;

#[derive(Clone, Debug, FromRow)]
pub(super) struct StationRow {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) latitude: f64,
    pub(super) longitude: f64,
    pub(super) altitude_asl: Option<f64>,
}

pub(super) fn stations() -> Statement {
    Statement::new(
        "SELECT id::text AS id, name::text AS name, latitude::float8 AS latitude,
                longitude::float8 AS longitude, altitude_asl::float8 AS altitude_asl
         FROM heimdall.websdr_stations
         ORDER BY name::text COLLATE \"C\"",
    )
}

#[derive(Clone, Debug, FromRow)]
pub(super) struct SourceRow {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) frequency_hz: Option<f64>,
    pub(super) latitude: Option<f64>,
    pub(super) longitude: Option<f64>,
}

pub(super) fn sources() -> Statement {
    Statement::new(
        "SELECT id::text AS id, name::text AS name, frequency_hz::float8 AS frequency_hz,
                latitude::float8 AS latitude, longitude::float8 AS longitude
         FROM heimdall.known_sources
         ORDER BY id::text COLLATE \"C\"",
    )
}

#[derive(Clone, Debug, FromRow)]
pub(super) struct SessionRow {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) source: Option<String>,
    pub(super) task: Option<String>,
    pub(super) approval: String,
    pub(super) start_us: Option<i64>,
    pub(super) end_us: Option<i64>,
}

pub(super) fn sessions() -> Statement {
    Statement::new(
        "SELECT id::text AS id, coalesce(nullif(session_name::text, ''), id::text) AS name,
                known_source_id::text AS source, nullif(celery_task_id::text, '') AS task,
                coalesce(approval_status::text, 'pending') AS approval,
                (extract(epoch FROM session_start) * 1000000)::bigint AS start_us,
                (extract(epoch FROM coalesce(
                     session_end, session_start + duration_seconds * interval '1 second'
                 )) * 1000000)::bigint AS end_us
         FROM heimdall.recording_sessions
         ORDER BY session_start, id::text COLLATE \"C\"",
    )
}

#[derive(Clone, Debug, FromRow)]
pub(super) struct MeasurementRow {
    pub(super) id: String,
    pub(super) station: Option<String>,
    pub(super) start_us: Option<i64>,
    pub(super) created_us: Option<i64>,
    pub(super) frequency_hz: Option<f64>,
    pub(super) rss_db: Option<f64>,
    pub(super) snr_db: Option<f64>,
    pub(super) location: Option<String>,
    pub(super) format: Option<String>,
    pub(super) sample_rate_hz: Option<f64>,
    pub(super) sample_count: Option<f64>,
    pub(super) duration_s: Option<f64>,
}

/// Measurements that were made or entered within a span, in microseconds since 1970.
pub(super) fn current_by_time((start_us, end_us): (i64, i64)) -> Statement {
    let statement = Statement::new(
        "SELECT id::text AS id, websdr_station_id::text AS station,
                (extract(epoch FROM \"timestamp\") * 1000000)::bigint AS start_us,
                (extract(epoch FROM created_at) * 1000000)::bigint AS created_us,
                frequency_hz::float8 AS frequency_hz, signal_strength_db::float8 AS rss_db,
                snr_db::float8 AS snr_db, nullif(iq_data_location::text, '') AS location,
                nullif(iq_data_format::text, '') AS format,
                iq_sample_rate::float8 AS sample_rate_hz,
                iq_samples_count::float8 AS sample_count, duration_seconds::float8 AS duration_s
         FROM heimdall.measurements
         WHERE ",
    );
    let statement = within(statement, "created_at BETWEEN ", start_us, end_us).sql(" OR ");
    let statement = within(statement, "\"timestamp\" BETWEEN ", start_us, end_us);
    in_order(statement, " ORDER BY \"timestamp\", id::text COLLATE \"C\" LIMIT ")
}

const OLDER: &str =
    "SELECT concat(task_id::text, ' ', websdr_id::text, ' ', timestamp_utc::text) AS id,
        websdr_id::text AS station,
        (extract(epoch FROM timestamp_utc) * 1000000)::bigint AS start_us,
        NULL::bigint AS created_us,
        round(frequency_mhz::numeric * 1000000, 3)::float8 AS frequency_hz,
        power_dbm::float8 AS rss_db, NULL::float8 AS snr_db,
        nullif(s3_path::text, '') AS location, NULL::text AS format,
        (sample_rate_khz::float8 * 1000) AS sample_rate_hz,
        NULL::float8 AS sample_count, NULL::float8 AS duration_s
 FROM heimdall.measurements
 WHERE ";
const OLDER_ORDER: &str = " ORDER BY timestamp_utc, websdr_id LIMIT ";

/// Measurements of a task, in their older form.
pub(super) fn older_by_task(task: &str) -> Statement {
    in_order(Statement::new(OLDER).sql("task_id::text = ").value(task), OLDER_ORDER)
}

/// Measurements within a span that no session names the task of, in their older form.
pub(super) fn older_by_time((start_us, end_us): (i64, i64)) -> Statement {
    let statement = within(Statement::new(OLDER), "timestamp_utc BETWEEN ", start_us, end_us).sql(
        " AND NOT EXISTS (
              SELECT FROM heimdall.recording_sessions
              WHERE celery_task_id::text = measurements.task_id::text
          )",
    );
    in_order(statement, OLDER_ORDER)
}

fn within(statement: Statement, between: &'static str, start_us: i64, end_us: i64) -> Statement {
    statement
        .sql(between)
        .sql("'epoch'::timestamptz + ")
        .value(start_us)
        .sql(" * interval '1 microsecond' AND 'epoch'::timestamptz + ")
        .value(end_us)
        .sql(" * interval '1 microsecond'")
}

fn in_order(statement: Statement, order: &'static str) -> Statement {
    // One more tells that there are more.
    statement.sql(order).value(MEASUREMENTS_MAX as i64 + 1)
}
