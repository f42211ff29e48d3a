//! Rows of the tables, and what they mean.

use heimdall_features::{ClockQuality, UtcTime};
use heimdall_geo::{Position, Receiver};
use sqlx::error::DatabaseError;
use sqlx::{FromRow, SqliteConnection};

use super::super::{Approval, EventEntry, RecordingEntry, RecordingFormat};
use super::refused;
use crate::DataError;

/// Seconds from 1970 to the end of the year 9999, and back to the start of the year −9999.
const UTC_SECONDS: std::ops::RangeInclusive<i64> = -377_705_116_800..=253_402_300_799;

#[derive(FromRow)]
pub(super) struct ReceiverRow {
    name: String,
    latitude_deg: f64,
    longitude_deg: f64,
    altitude_m: f64,
    antenna_height_m: f64,
}

impl TryFrom<ReceiverRow> for Receiver {
    type Error = DataError;

    fn try_from(row: ReceiverRow) -> Result<Self, DataError> {
        let ReceiverRow { name, latitude_deg, longitude_deg, altitude_m, antenna_height_m } = row;
        let position = position(&format!("receiver `{name}`"), latitude_deg, longitude_deg)?;
        Ok(Self { name, position, altitude_m, antenna_height_m })
    }
}

#[derive(FromRow)]
pub(super) struct EventRow {
    id: String,
    session: String,
    source: String,
    latitude_deg: Option<f64>,
    longitude_deg: Option<f64>,
    frequency_hz: f64,
    start_s: i64,
    start_ns: i64,
    waveform: Option<String>,
}

impl TryFrom<EventRow> for EventEntry {
    type Error = DataError;

    fn try_from(row: EventRow) -> Result<Self, DataError> {
        let position = match (row.latitude_deg, row.longitude_deg) {
            (Some(latitude_deg), Some(longitude_deg)) => {
                let source = format!("source `{}`", row.source);
                Some(position(&source, latitude_deg, longitude_deg)?)
            }
            _ => None,
        };
        let start = utc_time(&format!("event `{}`", row.id), row.start_s, row.start_ns)?;
        Ok(Self {
            id: row.id,
            session: row.session,
            source: row.source,
            position,
            frequency_hz: row.frequency_hz,
            start,
            waveform: row.waveform,
            recordings: Vec::new(),
        })
    }
}

#[derive(FromRow)]
pub(super) struct RecordingRow {
    pub(super) event: String,
    receiver: String,
    object: String,
    digest: String,
    format: String,
    sample_rate_hz: f64,
    center_frequency_hz: f64,
    start_s: i64,
    start_ns: i64,
    clock_sigma_s: Option<f64>,
    sample_count: i64,
}

impl TryFrom<RecordingRow> for RecordingEntry {
    type Error = DataError;

    fn try_from(row: RecordingRow) -> Result<Self, DataError> {
        let name = recording_name(&row.event, &row.receiver);
        let format = RecordingFormat::from_name(&row.format)
            .ok_or_else(|| invalid(&name, "format", "`npy` or `kiwi_wav`", &row.format))?;
        let sample_count = u64::try_from(row.sample_count)
            .map_err(|_| invalid(&name, "sample_count", "no less than zero", row.sample_count))?;
        let clock = match row.clock_sigma_s {
            Some(sigma_s) => ClockQuality::Disciplined { sigma_s },
            None => ClockQuality::Unknown,
        };
        Ok(Self {
            receiver: row.receiver,
            object: row.object,
            format,
            sample_rate_hz: row.sample_rate_hz,
            center_frequency_hz: row.center_frequency_hz,
            start: utc_time(&name, row.start_s, row.start_ns)?,
            clock,
            sample_count,
            digest: row.digest,
        })
    }
}

pub(super) async fn insert_receiver(
    connection: &mut SqliteConnection,
    receiver: &Receiver,
    ordinal: usize,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO receivers
             (name, ordinal, latitude_deg, longitude_deg, altitude_m, antenna_height_m)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(&receiver.name)
    .bind(i64::try_from(ordinal).unwrap_or(i64::MAX))
    .bind(receiver.position.latitude_deg())
    .bind(receiver.position.longitude_deg())
    .bind(receiver.altitude_m)
    .bind(receiver.antenna_height_m)
    .execute(connection)
    .await?;
    Ok(())
}

/// Adds the source of an event, unless it is there, at the same place.
pub(super) async fn ensure_source(
    connection: &mut SqliteConnection,
    event: &EventEntry,
) -> Result<(), DataError> {
    let place = event.position.map(|position| (position.latitude_deg(), position.longitude_deg()));
    let there: Option<(Option<f64>, Option<f64>)> =
        sqlx::query_as("SELECT latitude_deg, longitude_deg FROM sources WHERE name = $1")
            .bind(&event.source)
            .fetch_optional(&mut *connection)
            .await
            .map_err(refused(format!("find the source `{}`", event.source)))?;
    match there {
        Some((latitude_deg, longitude_deg)) if latitude_deg.zip(longitude_deg) == place => Ok(()),
        Some(_) => Err(DataError::Contradiction {
            kind: "source",
            name: event.source.clone(),
            field: "position",
        }),
        None => {
            sqlx::query(
                "INSERT INTO sources (name, latitude_deg, longitude_deg) VALUES ($1, $2, $3)",
            )
            .bind(&event.source)
            .bind(place.map(|(latitude_deg, _)| latitude_deg))
            .bind(place.map(|(_, longitude_deg)| longitude_deg))
            .execute(connection)
            .await
            .map_err(refused(format!("add the source `{}`", event.source)))?;
            Ok(())
        }
    }
}

/// Adds the session of an event, unless it is there, of the same source.
pub(super) async fn ensure_session(
    connection: &mut SqliteConnection,
    event: &EventEntry,
) -> Result<(), DataError> {
    let there: Option<String> = sqlx::query_scalar("SELECT source FROM sessions WHERE name = $1")
        .bind(&event.session)
        .fetch_optional(&mut *connection)
        .await
        .map_err(refused(format!("find the session `{}`", event.session)))?;
    match there {
        Some(source) if source == event.source => Ok(()),
        Some(_) => Err(DataError::Contradiction {
            kind: "session",
            name: event.session.clone(),
            field: "source",
        }),
        None => {
            sqlx::query("INSERT INTO sessions (name, source, approval) VALUES ($1, $2, $3)")
                .bind(&event.session)
                .bind(&event.source)
                .bind(Approval::Approved.name())
                .execute(connection)
                .await
                .map_err(refused(format!("add the session `{}`", event.session)))?;
            Ok(())
        }
    }
}

pub(super) async fn insert_event(
    connection: &mut SqliteConnection,
    event: &EventEntry,
) -> Result<(), DataError> {
    check_time(&format!("event `{}`", event.id), event.start)?;
    let inserted = sqlx::query(
        "INSERT INTO events (id, session, frequency_hz, start_s, start_ns, waveform)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(&event.id)
    .bind(&event.session)
    .bind(event.frequency_hz)
    .bind(event.start.seconds)
    .bind(i64::from(event.start.nanoseconds))
    .bind(&event.waveform)
    .execute(connection)
    .await;
    match inserted {
        Ok(_) => Ok(()),
        Err(error) if error.as_database_error().is_some_and(DatabaseError::is_unique_violation) => {
            Err(DataError::Duplicate { kind: "event", name: event.id.clone() })
        }
        Err(error) => Err(refused(format!("add the event `{}`", event.id))(error)),
    }
}

pub(super) async fn insert_recording(
    connection: &mut SqliteConnection,
    event: &str,
    recording: &RecordingEntry,
) -> Result<(), DataError> {
    let name = recording_name(event, &recording.receiver);
    check_time(&name, recording.start)?;
    let sample_count = i64::try_from(recording.sample_count)
        .map_err(|_| invalid(&name, "sample_count", "below 2^63", recording.sample_count))?;
    let clock_sigma_s = match recording.clock {
        ClockQuality::Disciplined { sigma_s } if sigma_s.is_nan() => {
            return Err(invalid(&name, "clock_sigma_s", "a number", sigma_s));
        }
        ClockQuality::Disciplined { sigma_s } => Some(sigma_s),
        ClockQuality::Unknown => None,
    };
    sqlx::query(
        "INSERT INTO recordings
             (event, receiver, object, digest, format, sample_rate_hz, center_frequency_hz,
              start_s, start_ns, clock_sigma_s, sample_count)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(event)
    .bind(&recording.receiver)
    .bind(&recording.object)
    .bind(&recording.digest)
    .bind(recording.format.name())
    .bind(recording.sample_rate_hz)
    .bind(recording.center_frequency_hz)
    .bind(recording.start.seconds)
    .bind(i64::from(recording.start.nanoseconds))
    .bind(clock_sigma_s)
    .bind(sample_count)
    .execute(connection)
    .await
    .map_err(refused(format!("add the {name}")))?;
    Ok(())
}

fn recording_name(event: &str, receiver: &str) -> String {
    format!("recording of `{event}` by `{receiver}`")
}

fn position(row: &str, latitude_deg: f64, longitude_deg: f64) -> Result<Position, DataError> {
    Position::new(latitude_deg, longitude_deg).map_err(|_| {
        let actual = format!("{latitude_deg}, {longitude_deg}");
        invalid(row, "latitude_deg, longitude_deg", "on the Earth", actual)
    })
}

fn utc_time(row: &str, seconds: i64, nanoseconds: i64) -> Result<UtcTime, DataError> {
    let nanoseconds = u32::try_from(nanoseconds)
        .map_err(|_| invalid(row, "start_ns", "below 1,000,000,000", nanoseconds))?;
    let time = UtcTime { seconds, nanoseconds };
    check_time(row, time)?;
    Ok(time)
}

fn check_time(row: &str, time: UtcTime) -> Result<(), DataError> {
    if !UTC_SECONDS.contains(&time.seconds) {
        return Err(invalid(row, "start_s", "within the years -9999 to 9999", time.seconds));
    }
    if time.nanoseconds >= 1_000_000_000 {
        return Err(invalid(row, "start_ns", "below 1,000,000,000", time.nanoseconds));
    }
    Ok(())
}

fn invalid(
    row: &str,
    field: &'static str,
    expected: &'static str,
    actual: impl ToString,
) -> DataError {
    DataError::Row { row: row.to_owned(), field, expected, actual: actual.to_string() }
}
