//! Rows of the tables, and what they mean.

use heimdall_features::{ClockQuality, UtcTime};
use heimdall_geo::{Position, Receiver};
use sqlx::FromRow;

use super::{Approval, EventEntry, LevelEntry, RecordingEntry, RecordingFormat, SessionEntry};
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
        let position = source_position(&row.source, row.latitude_deg, row.longitude_deg)?;
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
            levels: Vec::new(),
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

#[derive(FromRow)]
pub(super) struct LevelRow {
    pub(super) event: String,
    receiver: String,
    rss_db: Option<f64>,
    snr_db: Option<f64>,
    noise_db: Option<f64>,
    arrival_s: Option<f64>,
}

impl From<LevelRow> for LevelEntry {
    fn from(row: LevelRow) -> Self {
        let LevelRow { event: _, receiver, rss_db, snr_db, noise_db, arrival_s } = row;
        Self { receiver, rss_db, snr_db, noise_db, arrival_s }
    }
}

#[derive(FromRow)]
pub(super) struct SessionRow {
    name: String,
    source: String,
    latitude_deg: Option<f64>,
    longitude_deg: Option<f64>,
    approval: String,
    event_count: i64,
    recording_count: i64,
    level_count: i64,
    first_s: Option<i64>,
    last_s: Option<i64>,
}

impl TryFrom<SessionRow> for SessionEntry {
    type Error = DataError;

    fn try_from(row: SessionRow) -> Result<Self, DataError> {
        let position = source_position(&row.source, row.latitude_deg, row.longitude_deg)?;
        let name = format!("session `{}`", row.name);
        let expected = "`pending`, `approved` or `rejected`";
        let approval = Approval::from_name(&row.approval)
            .ok_or_else(|| invalid(&name, "approval", expected, &row.approval))?;
        let second = |seconds: Option<i64>| seconds.map(|s| utc_time(&name, s, 0)).transpose();
        Ok(Self {
            position,
            approval,
            events: row.event_count.unsigned_abs(),
            recordings: row.recording_count.unsigned_abs(),
            levels: row.level_count.unsigned_abs(),
            start: second(row.first_s)?,
            last_start: second(row.last_s)?,
            source: row.source,
            name: row.name,
        })
    }
}

/// Where a source was; `None` if one of its coordinates is not known.
fn source_position(
    source: &str,
    latitude_deg: Option<f64>,
    longitude_deg: Option<f64>,
) -> Result<Option<Position>, DataError> {
    let place = latitude_deg.zip(longitude_deg);
    let of = |(latitude_deg, longitude_deg)| {
        position(&format!("source `{source}`"), latitude_deg, longitude_deg)
    };
    place.map(of).transpose()
}

pub(super) fn recording_name(event: &str, receiver: &str) -> String {
    format!("recording of `{event}` by `{receiver}`")
}

pub(super) fn position(
    row: &str,
    latitude_deg: f64,
    longitude_deg: f64,
) -> Result<Position, DataError> {
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

pub(super) fn check_time(row: &str, time: UtcTime) -> Result<(), DataError> {
    if !UTC_SECONDS.contains(&time.seconds) {
        return Err(invalid(row, "start_s", "within the years -9999 to 9999", time.seconds));
    }
    if time.nanoseconds >= 1_000_000_000 {
        return Err(invalid(row, "start_ns", "below 1,000,000,000", time.nanoseconds));
    }
    Ok(())
}

pub(super) fn invalid(
    row: &str,
    field: &'static str,
    expected: &'static str,
    actual: impl ToString,
) -> DataError {
    DataError::Row { row: row.to_owned(), field, expected, actual: actual.to_string() }
}
