//! The database of a Heimdall installation: read as it is, and never written.

mod grouping;
mod row;

use std::collections::{BTreeMap, HashMap, HashSet};

use grouping::group;
use heimdall_features::UtcTime;
use heimdall_geo::{Position, Receiver};
use row::{MeasurementRow, SessionRow, SourceRow, StationRow};

use super::database::{Database, Statement, Transaction};
use super::{Approval, EventFilter, LevelEntry, SessionEntry, patiently, postgres, refused};
use crate::DataError;
use crate::import::ANTENNA_HEIGHT_M_DEFAULT;

/// Distance of a measurement's frequency from that of a source, up to which it may be of it, in Hz,
/// where no sample rate tells how wide the recorded band is.
const BAND_HZ_DEFAULT: f64 = 12_500.0;

/// The database of a Heimdall installation, in the schema `heimdall`.
///
/// Its tables are `websdr_stations`, `known_sources`, `recording_sessions` and `measurements`, the
/// last one in either of its forms: with `websdr_station_id`, or with `websdr_id` and `task_id`. All
/// of it is read in transactions that cannot write, on connections whose default that is.
///
/// No key leads from a measurement to its session. It is of the session between whose start and end
/// it was made or entered; of several such sessions, of the one whose source has its frequency; in
/// the older form, of the session with its task. What cannot be told is left out, with the reason.
#[derive(Debug)]
pub struct Installation {
    database: Database,
    form: Form,
    stations: BTreeMap<i64, String>,
}

/// Which columns measurements have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `websdr_station_id`, `timestamp`, `frequency_hz` and so on.
    Current,
    /// `websdr_id`, `task_id`, `timestamp_utc`, `frequency_mhz` and so on.
    Older,
}

/// One emission, as the database of an installation has it.
#[derive(Clone, Debug, PartialEq)]
pub struct InstalledEvent {
    /// Name, unique in the database, which no later measurement changes.
    pub id: String,
    /// Name of the session.
    pub session: String,
    /// What emitted.
    pub source: String,
    /// Where the source was; `None` if nobody knows.
    pub position: Option<Position>,
    /// Frequency of the emission, in Hz.
    pub frequency_hz: f64,
    /// When it began.
    pub start: UtcTime,
    /// Where the samples are, of those receivers that recorded some.
    pub recordings: Vec<InstalledRecording>,
    /// What receivers measured.
    pub levels: Vec<LevelEntry>,
}

/// Where the samples of one receiver are. Nobody has looked at them.
#[derive(Clone, Debug, PartialEq)]
pub struct InstalledRecording {
    /// Name of the receiver.
    pub receiver: String,
    /// Their address, such as `s3://heimdall-raw-iq/sessions/….npy`.
    pub location: String,
    /// What is said of their encoding.
    pub format: Option<String>,
    /// Sample rate, in Hz, if it is told.
    pub sample_rate_hz: Option<f64>,
    /// Frequency that was mixed down to zero, in Hz.
    pub center_frequency_hz: f64,
    /// Instant of the first sample.
    pub start: UtcTime,
}

/// A row that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The row, such as ``measurement `…` ``.
    pub row: String,
    /// Why it cannot be used.
    pub reason: String,
}

/// What a session of an installation has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InstalledSession {
    /// Its events, in the order of time.
    pub events: Vec<InstalledEvent>,
    /// Rows that seem to be of it and cannot be used.
    pub left_out: Vec<LeftOut>,
}

impl InstalledSession {
    /// A session of which nothing can be used.
    fn left_out(session: &Session, reason: String) -> Self {
        let row = format!("session `{}`", session.name);
        Self { events: Vec::new(), left_out: vec![LeftOut { row, reason }] }
    }
}

/// A session as all others see it.
#[derive(Clone, Debug, PartialEq)]
struct Session {
    id: String,
    name: String,
    source: String,
    position: Option<Position>,
    /// Frequency of its source, if it is told.
    frequency_hz: Option<f64>,
    approval: Approval,
    task: Option<String>,
    /// First and last instant, in microseconds since 1970, if both are told.
    span_us: Option<(i64, i64)>,
}

/// What is needed to make events of the measurements of any session.
#[derive(Debug)]
struct Surroundings {
    /// Names of the stations, by their ids.
    stations: HashMap<String, String>,
    sessions: Vec<Session>,
    left_out: Vec<LeftOut>,
}

impl Installation {
    /// Connects to the database at `postgres://…`.
    ///
    /// `stations` tells which stations the numbers of the older form stand for, where the table of
    /// stations does not have them.
    ///
    /// # Errors
    ///
    /// - [`DataError::Address`] if the address is none.
    /// - [`DataError::Catalog`] if the database cannot be reached, or has no such tables.
    pub async fn connect(
        address: &str,
        stations: BTreeMap<i64, String>,
    ) -> Result<Self, DataError> {
        let options = postgres::options(address)?
            .options([("default_transaction_read_only", "on"), ("TimeZone", "UTC")]);
        postgres::reach(&options, address).await?;
        let pool = postgres::pool(options).await.map_err(refused("be reached"))?;
        let database = Database::Postgres(pool);
        let mut transaction = database.read().await.map_err(refused("begin to read"))?;
        let columns: Vec<(String,)> = transaction
            .all(Statement::new(
                "SELECT column_name::text FROM information_schema.columns
                 WHERE table_schema = 'heimdall' AND table_name = 'measurements'",
            ))
            .await
            .map_err(refused("tell the columns of `heimdall.measurements`"))?;
        let has = |name: &str| columns.iter().any(|(column,)| column == name);
        let form = if has("websdr_station_id") {
            Form::Current
        } else if has("websdr_id") {
            Form::Older
        } else {
            return Err(DataError::Address {
                address: super::without_password(address),
                what: "Heimdall installation",
                reason: "there is no table `heimdall.measurements` with `websdr_station_id` or \
                         `websdr_id`"
                    .to_owned(),
            });
        };
        Ok(Self { database, form, stations })
    }

    /// Lists the stations in the order of their names, those that are not active included: what
    /// they recorded once is as good as ever. The height of their antennas is not told.
    ///
    /// # Errors
    ///
    /// - [`DataError::Catalog`] if the database cannot be read.
    /// - [`DataError::Row`] if a station is not on the Earth.
    pub async fn receivers(&self) -> Result<Vec<Receiver>, DataError> {
        let rows = patiently!(self.begin_read(), mut transaction => stations(&mut transaction))?;
        let receiver = |row: StationRow| {
            Ok(Receiver {
                position: super::row::position(
                    &format!("station `{}`", row.name),
                    row.latitude,
                    row.longitude,
                )?,
                name: row.name,
                altitude_m: row.altitude_asl.unwrap_or(0.0),
                antenna_height_m: ANTENNA_HEIGHT_M_DEFAULT,
            })
        };
        rows.into_iter().map(receiver).collect()
    }

    /// Lists the sessions that are wanted, in the order of their names; conditions on events count
    /// for nothing. Sessions and sources of one name are told apart by the beginning of their ids.
    ///
    /// # Errors
    ///
    /// - [`DataError::InvalidField`] if `filter` breaks one of its rules.
    /// - [`DataError::UnknownSession`] if it names a session that is not there.
    /// - [`DataError::Catalog`] if the database cannot be read.
    pub async fn sessions(&self, filter: &EventFilter) -> Result<Vec<SessionEntry>, DataError> {
        let mut entries = Vec::new();
        for (name, content) in self.contents(filter).await? {
            let starts = || content.events.iter().map(|event| event.start);
            entries.push(SessionEntry {
                name: name.name,
                source: name.source,
                position: name.position,
                approval: name.approval,
                events: content.events.len() as u64,
                recordings: content.events.iter().map(|e| e.recordings.len() as u64).sum(),
                levels: content.events.iter().map(|event| event.levels.len() as u64).sum(),
                start: starts().min(),
                last_start: starts().max(),
            });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Reads the events that are wanted, session after session in the order of their starts, and
    /// hands each session over before the next one is read: memory is bounded by the largest one.
    ///
    /// # Errors
    ///
    /// Those of [`sessions`](Self::sessions), and those of `take`.
    pub async fn read(
        &self,
        filter: &EventFilter,
        mut take: impl AsyncFnMut(InstalledSession) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let surroundings = self.surroundings(filter).await?;
        let left_out = surroundings.left_out.clone();
        take(InstalledSession { events: Vec::new(), left_out }).await?;
        for session in surroundings.wanted(filter) {
            let mut content = self.content(session, &surroundings).await?;
            content.events.retain(|event| fulfills(event, filter));
            take(content).await?;
        }
        Ok(())
    }

    async fn contents(
        &self,
        filter: &EventFilter,
    ) -> Result<Vec<(Session, InstalledSession)>, DataError> {
        let surroundings = self.surroundings(filter).await?;
        let mut contents = Vec::new();
        for session in surroundings.wanted(filter) {
            contents.push((session.clone(), self.content(session, &surroundings).await?));
        }
        Ok(contents)
    }

    async fn begin_read(&self) -> Result<Transaction, DataError> {
        self.database.read().await.map_err(refused("begin to read"))
    }

    async fn surroundings(&self, filter: &EventFilter) -> Result<Surroundings, DataError> {
        filter.validate()?;
        let (stations, sessions, sources) =
            patiently!(self.begin_read(), mut transaction => tables(&mut transaction))?;
        let mut names: HashMap<String, String> = HashMap::new();
        for station in &stations {
            names.insert(station.id.clone(), station.name.clone());
        }
        for (number, name) in &self.stations {
            if !stations.iter().any(|station| station.name == *name) {
                let known = stations.iter().map(|station| station.name.as_str());
                return Err(DataError::UnknownReceiver {
                    recording: format!("the number {number}"),
                    receiver: name.clone(),
                    known: known.collect::<Vec<_>>().join(", "),
                });
            }
            names.insert(number.to_string(), name.clone());
        }
        let surroundings = Surroundings::new(names, sessions, sources);
        for session in &filter.sessions {
            if !surroundings.sessions.iter().any(|known| known.name == *session) {
                return Err(DataError::UnknownSession { session: session.clone() });
            }
        }
        Ok(surroundings)
    }

    /// Reads the measurements of a session, and makes events of them.
    async fn content(
        &self,
        session: &Session,
        surroundings: &Surroundings,
    ) -> Result<InstalledSession, DataError> {
        let statement = match (self.form, session.span_us, &session.task) {
            (Form::Older, _, Some(task)) => row::older_by_task(task),
            (Form::Older, Some(span_us), None) => row::older_by_time(span_us),
            (Form::Current, Some(span_us), _) => row::current_by_time(span_us),
            (_, None, _) => {
                let reason =
                    "it has neither an end nor a duration, so that nothing tells what is of it";
                return Ok(InstalledSession::left_out(session, reason.to_owned()));
            }
        };
        let rows = patiently!(
            self.begin_read(),
            mut transaction => measurements(&mut transaction, statement.clone())
        )?;
        if rows.len() > row::MEASUREMENTS_MAX {
            let reason = format!("it has more than {} measurements", row::MEASUREMENTS_MAX);
            return Ok(InstalledSession::left_out(session, reason));
        }
        let mut content = InstalledSession::default();
        let mut usable = Vec::new();
        for row in rows {
            match surroundings.measurement(session, &row, self.form) {
                Ok(Some(measured)) => usable.push(measured),
                Ok(None) => {}
                Err(reason) => {
                    let row = format!("measurement `{}`", row.id);
                    content.left_out.push(LeftOut { row, reason });
                }
            }
        }
        content.events = group(session, usable, &mut content.left_out);
        Ok(content)
    }
}

impl Surroundings {
    fn new(
        stations: HashMap<String, String>,
        sessions: Vec<SessionRow>,
        sources: Vec<SourceRow>,
    ) -> Self {
        let mut left_out = Vec::new();
        let mut known: HashMap<&str, (String, Option<Position>, Option<f64>)> = HashMap::new();
        let source_names = distinct(sources.iter().map(|source| (&source.id, &source.name)));
        for (source, name) in sources.iter().zip(source_names) {
            let place = source.latitude.zip(source.longitude);
            match place.map(|(latitude, longitude)| Position::new(latitude, longitude)).transpose()
            {
                Ok(position) => {
                    known.insert(&source.id, (name, position, source.frequency_hz));
                }
                Err(_) => left_out.push(LeftOut {
                    row: format!("source `{name}`"),
                    reason: format!("its position {place:?} is not on the Earth"),
                }),
            }
        }
        let names = distinct(sessions.iter().map(|session| (&session.id, &session.name)));
        let mut read = Vec::new();
        for (row, name) in sessions.iter().zip(names) {
            let (source, position, frequency_hz) = match &row.source {
                None => (format!("unknown of {name}"), None, None),
                Some(id) => match known.get(id.as_str()) {
                    Some(source) => source.clone(),
                    None => {
                        let reason = format!("its source `{id}` cannot be used");
                        left_out.push(LeftOut { row: format!("session `{name}`"), reason });
                        continue;
                    }
                },
            };
            read.push(Session {
                id: row.id.clone(),
                name,
                source,
                position,
                frequency_hz,
                // What is neither approved nor rejected is not decided on.
                approval: Approval::from_name(&row.approval).unwrap_or(Approval::Pending),
                task: row.task.clone(),
                span_us: row.start_us.zip(row.end_us).filter(|(start, end)| start <= end),
            });
        }
        Self { stations, sessions: read, left_out }
    }

    fn wanted(&self, filter: &EventFilter) -> impl Iterator<Item = &Session> {
        self.sessions.iter().filter(|session| {
            let named = filter.sessions.is_empty() || filter.sessions.contains(&session.name);
            let sources = &filter.conditions.sources;
            let of_source = sources.is_empty() || sources.contains(&session.source);
            let located = filter.conditions.is_located;
            named
                && of_source
                && filter.approval.contains(&session.approval)
                && located.is_none_or(|located| located == session.position.is_some())
        })
    }

    /// Decides whether a measurement is of a session: `None` if it is of another, and the reason if
    /// it cannot be used.
    fn measurement(
        &self,
        session: &Session,
        row: &MeasurementRow,
        form: Form,
    ) -> Result<Option<grouping::Measured>, String> {
        let Some(frequency_hz) = row.frequency_hz.filter(|hz| hz.is_finite() && *hz > 0.0) else {
            return Err("it has no frequency above 0".to_owned());
        };
        let Some(start_us) = row.start_us else { return Err("it has no time".to_owned()) };
        if form == Form::Current {
            let times = [Some(start_us), row.created_us];
            let holds = |session: &&Session| {
                session.span_us.is_some_and(|(start, end)| {
                    times.iter().flatten().any(|time| (start..=end).contains(time))
                })
            };
            let candidates: Vec<&Session> = self.sessions.iter().filter(holds).collect();
            let half_band_hz = row.sample_rate_hz.map_or(BAND_HZ_DEFAULT, |rate| rate / 2.0);
            match choose(&candidates, frequency_hz, half_band_hz) {
                Some(chosen) if chosen.id == session.id => {}
                Some(_) => return Ok(None),
                None => {
                    let names: Vec<_> =
                        candidates.iter().map(|session| format!("`{}`", session.name)).collect();
                    return Err(format!(
                        "it may be of several sessions at that time: {}",
                        names.join(", ")
                    ));
                }
            }
        }
        let station = row.station.as_deref().unwrap_or("NULL");
        let receiver = self
            .stations
            .get(station)
            .ok_or_else(|| format!("its station `{station}` is not among the known ones"))?;
        Ok(Some(grouping::Measured::new(receiver, frequency_hz, start_us, row)))
    }
}

/// Chooses the one session that a measurement can be of; `None` if several can.
fn choose<'a>(
    candidates: &[&'a Session],
    frequency_hz: f64,
    half_band_hz: f64,
) -> Option<&'a Session> {
    if let [only] = candidates {
        return Some(only);
    }
    let is_near = |session: &&&Session| {
        session.frequency_hz.is_some_and(|hz| (hz - frequency_hz).abs() <= half_band_hz)
    };
    let mut near = candidates.iter().filter(is_near);
    match (near.next(), near.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

/// Makes names differ that are the same, by the beginnings of ids.
fn distinct<'a>(rows: impl Iterator<Item = (&'a String, &'a String)> + Clone) -> Vec<String> {
    let (mut seen, mut twice) = (HashSet::new(), HashSet::new());
    for (_, name) in rows.clone() {
        if !seen.insert(name) {
            twice.insert(name);
        }
    }
    let distinguish = |(id, name): (&String, &String)| match (twice.contains(name), id.get(..8)) {
        (true, Some(beginning)) => format!("{name} ({beginning})"),
        _ => name.clone(),
    };
    rows.map(distinguish).collect()
}

/// Whether an event is what is wanted of events; sessions and sources were looked at before.
fn fulfills(event: &InstalledEvent, filter: &EventFilter) -> bool {
    let wanted = &filter.conditions;
    let hearing: HashSet<&String> = (event.recordings.iter().map(|entry| &entry.receiver))
        .chain(event.levels.iter().map(|entry| &entry.receiver))
        .collect();
    // Nothing tells the waveform.
    wanted.waveforms.is_empty()
        && wanted.frequency_hz_min.is_none_or(|hz| event.frequency_hz >= hz)
        && wanted.frequency_hz_max.is_none_or(|hz| event.frequency_hz <= hz)
        && wanted.from.is_none_or(|from| event.start >= from)
        && wanted.until.is_none_or(|until| event.start < until)
        && hearing.len() >= wanted.receivers_min as usize
}

async fn stations(transaction: &mut Transaction) -> Result<Vec<StationRow>, DataError> {
    transaction.all(row::stations()).await.map_err(refused("list stations"))
}

async fn tables(
    transaction: &mut Transaction,
) -> Result<(Vec<StationRow>, Vec<SessionRow>, Vec<SourceRow>), DataError> {
    let stations = stations(transaction).await?;
    let sessions = transaction.all(row::sessions()).await.map_err(refused("list sessions"))?;
    let sources = transaction.all(row::sources()).await.map_err(refused("list sources"))?;
    Ok((stations, sessions, sources))
}

async fn measurements(
    transaction: &mut Transaction,
    statement: Statement,
) -> Result<Vec<MeasurementRow>, DataError> {
    transaction.all(statement).await.map_err(refused("list measurements"))
}

#[cfg(test)]
mod tests;
