//! What a catalog is asked.

use heimdall_geo::Receiver;
use sqlx::FromRow;

use super::database::{Statement, Transaction};
use super::row::{EventRow, LevelRow, ReceiverRow, RecordingRow, SessionRow};
use super::{Catalog, CatalogStats, EventEntry, EventFilter, SessionEntry, patiently, refused};
use crate::DataError;

/// Events that are read at a time where all are wanted.
const PAGE: u32 = 1000;

impl Catalog {
    /// Lists the receivers, in the order in which they were added.
    ///
    /// # Errors
    ///
    /// [`DataError::Catalog`], [`DataError::Row`] if the database is damaged.
    pub async fn receivers(&self) -> Result<Vec<Receiver>, DataError> {
        patiently!(self.begin_read(), mut transaction => receivers(&mut transaction))
    }

    /// Lists the events of approved sessions in the order of their ids, with their recordings in
    /// the order of the receivers.
    ///
    /// # Errors
    ///
    /// [`DataError::Catalog`], [`DataError::Row`] if the database is damaged.
    pub async fn events(&self) -> Result<Vec<EventEntry>, DataError> {
        self.select(&EventFilter::default()).await
    }

    /// Lists the events that are wanted, in the order of [`events`](Self::events), all of one moment.
    ///
    /// # Errors
    ///
    /// - [`DataError::InvalidField`] if `filter` breaks one of its rules.
    /// - [`DataError::UnknownSession`] if it names a session that the catalog does not have.
    /// - [`DataError::Catalog`], [`DataError::Row`] if the database is damaged.
    pub async fn select(&self, filter: &EventFilter) -> Result<Vec<EventEntry>, DataError> {
        patiently!(self.begin_read(), mut transaction => select(&mut transaction, filter))
    }

    /// Lists some of the events that are wanted: those whose ids come after another, and no more
    /// than `limit`. So a catalog of any size is read in bounded memory.
    ///
    /// # Errors
    ///
    /// Those of [`select`](Self::select).
    pub async fn page(
        &self,
        filter: &EventFilter,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<EventEntry>, DataError> {
        patiently!(self.begin_read(), mut transaction => checked_page(&mut transaction, filter, after, limit))
    }

    /// Lists the sessions that are wanted, in the order of their names; conditions on events count
    /// for nothing.
    ///
    /// # Errors
    ///
    /// Those of [`select`](Self::select).
    pub async fn sessions(&self, filter: &EventFilter) -> Result<Vec<SessionEntry>, DataError> {
        patiently!(self.begin_read(), mut transaction => sessions(&mut transaction, filter))
    }

    /// Counts what there is.
    ///
    /// # Errors
    ///
    /// [`DataError::Catalog`] if the database is damaged.
    pub async fn stats(&self) -> Result<CatalogStats, DataError> {
        patiently!(self.begin_read(), mut transaction => stats(&mut transaction))
    }

    /// Computes a token of all that is wanted, receivers included, which changes when any of it
    /// does, and only then.
    ///
    /// # Errors
    ///
    /// Those of [`select`](Self::select).
    pub async fn watermark(&self, filter: &EventFilter) -> Result<String, DataError> {
        patiently!(self.begin_read(), mut transaction => watermark(&mut transaction, filter))
    }
}

pub(super) async fn receivers(transaction: &mut Transaction) -> Result<Vec<Receiver>, DataError> {
    let statement = Statement::new(
        "SELECT name, latitude_deg, longitude_deg, altitude_m, antenna_height_m
         FROM receivers ORDER BY ordinal",
    );
    let rows: Vec<ReceiverRow> =
        transaction.all(statement).await.map_err(refused("list receivers"))?;
    rows.into_iter().map(Receiver::try_from).collect()
}

/// Checks a filter, and that the sessions exist which it names.
async fn check_filter(
    transaction: &mut Transaction,
    filter: &EventFilter,
) -> Result<(), DataError> {
    filter.validate()?;
    for session in &filter.sessions {
        let statement = Statement::new("SELECT name FROM sessions WHERE name = ").value(session);
        let found: Option<(String,)> =
            transaction.optional(statement).await.map_err(refused("find a session"))?;
        if found.is_none() {
            return Err(DataError::UnknownSession { session: session.clone() });
        }
    }
    Ok(())
}

async fn select(
    transaction: &mut Transaction,
    filter: &EventFilter,
) -> Result<Vec<EventEntry>, DataError> {
    check_filter(transaction, filter).await?;
    let mut events: Vec<EventEntry> = Vec::new();
    loop {
        let after = events.last().map(|event| event.id.clone());
        let more = page(transaction, filter, after.as_deref(), PAGE).await?;
        let is_last = more.len() < PAGE as usize;
        events.extend(more);
        if is_last {
            return Ok(events);
        }
    }
}

async fn checked_page(
    transaction: &mut Transaction,
    filter: &EventFilter,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<EventEntry>, DataError> {
    if after.is_none() {
        check_filter(transaction, filter).await?;
    }
    page(transaction, filter, after, limit).await
}

async fn sessions(
    transaction: &mut Transaction,
    filter: &EventFilter,
) -> Result<Vec<SessionEntry>, DataError> {
    check_filter(transaction, filter).await?;
    let statement = Statement::new(
        "SELECT sessions.name, sessions.source, sources.latitude_deg, sources.longitude_deg,
                sessions.approval,
                (SELECT count(*) FROM events WHERE events.session = sessions.name)
                    AS event_count,
                (SELECT count(*) FROM events
                 JOIN recordings ON recordings.event = events.id
                 WHERE events.session = sessions.name) AS recording_count,
                (SELECT count(*) FROM events JOIN levels ON levels.event = events.id
                 WHERE events.session = sessions.name) AS level_count,
                (SELECT min(start_s) FROM events WHERE events.session = sessions.name)
                    AS first_s,
                (SELECT max(start_s) FROM events WHERE events.session = sessions.name)
                    AS last_s
         FROM sessions JOIN sources ON sources.name = sessions.source
         WHERE ",
    );
    let statement = filter.of_sessions(statement).sql(" ORDER BY sessions.name");
    let rows: Vec<SessionRow> =
        transaction.all(statement).await.map_err(refused("list sessions"))?;
    rows.into_iter().map(SessionEntry::try_from).collect()
}

async fn stats(transaction: &mut Transaction) -> Result<CatalogStats, DataError> {
    let statement = Statement::new(
        "SELECT (SELECT count(*) FROM receivers) AS receivers,
                (SELECT count(*) FROM sources) AS sources,
                (SELECT count(*) FROM sources WHERE latitude_deg IS NOT NULL)
                    AS located_sources,
                (SELECT count(*) FROM sessions WHERE approval = 'pending')
                    AS pending_sessions,
                (SELECT count(*) FROM sessions WHERE approval = 'approved')
                    AS approved_sessions,
                (SELECT count(*) FROM sessions WHERE approval = 'rejected')
                    AS rejected_sessions,
                (SELECT count(*) FROM events) AS events,
                (SELECT count(*) FROM recordings) AS recordings,
                (SELECT CAST(coalesce(sum(sample_count), 0) AS BIGINT) FROM recordings)
                    AS samples,
                (SELECT count(*) FROM levels) AS levels",
    );
    let counted: Option<StatsRow> =
        transaction.optional(statement).await.map_err(refused("count its rows"))?;
    Ok(counted.map(CatalogStats::from).unwrap_or_default())
}

async fn watermark(
    transaction: &mut Transaction,
    filter: &EventFilter,
) -> Result<String, DataError> {
    check_filter(transaction, filter).await?;
    let mut hasher = blake3::Hasher::new_derive_key("heimdall watermark of a catalog");
    let add = |hasher: &mut blake3::Hasher, row: Vec<u8>| {
        hasher.update(&(row.len() as u64).to_le_bytes()).update(&row);
    };
    for receiver in receivers(transaction).await? {
        add(&mut hasher, serde_json::to_vec(&receiver).expect("a receiver is plain data"));
    }
    let mut after: Option<String> = None;
    loop {
        let events = page(transaction, filter, after.as_deref(), PAGE).await?;
        for event in &events {
            add(&mut hasher, serde_json::to_vec(event).expect("an event is plain data"));
        }
        match events.into_iter().next_back() {
            Some(event) => after = Some(event.id),
            None => return Ok(hasher.finalize().to_hex().to_string()),
        }
    }
}

async fn page(
    transaction: &mut Transaction,
    filter: &EventFilter,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<EventEntry>, DataError> {
    let statement = Statement::new(
        "SELECT events.id, events.session, sessions.source,
                sources.latitude_deg, sources.longitude_deg,
                events.frequency_hz, events.start_s, events.start_ns, events.waveform
         FROM events
         JOIN sessions ON sessions.name = events.session
         JOIN sources ON sources.name = sessions.source
         WHERE ",
    );
    let statement = filter
        .of_events(statement)
        .sql(" AND events.id > ")
        .value(after.unwrap_or_default())
        .sql(" ORDER BY events.id LIMIT ")
        .value(i64::from(limit));
    let rows: Vec<EventRow> = transaction.all(statement).await.map_err(refused("list events"))?;
    let mut events = Vec::with_capacity(rows.len());
    for row in rows {
        events.push(EventEntry::try_from(row)?);
    }
    fill(transaction, &mut events).await?;
    Ok(events)
}

/// Adds to events, which are in the order of their ids, what receivers have of them.
pub(super) async fn fill(
    transaction: &mut Transaction,
    events: &mut [EventEntry],
) -> Result<(), DataError> {
    // Fewer than the parameters that a statement may have.
    for events in events.chunks_mut(PAGE as usize) {
        let ids: Vec<String> = events.iter().map(|event| event.id.clone()).collect();
        let statement = Statement::new(
            "SELECT recordings.event, recordings.receiver, recordings.object, recordings.digest,
                    recordings.format, recordings.sample_rate_hz, recordings.center_frequency_hz,
                    recordings.start_s, recordings.start_ns, recordings.clock_sigma_s,
                    recordings.sample_count
             FROM recordings JOIN receivers ON receivers.name = recordings.receiver
             WHERE recordings.event IN ",
        );
        let statement = statement.values(&ids).sql(" ORDER BY recordings.event, receivers.ordinal");
        let recordings: Vec<RecordingRow> =
            transaction.all(statement).await.map_err(refused("list recordings"))?;
        let statement = Statement::new(
            "SELECT levels.event, levels.receiver, levels.rss_db, levels.snr_db, levels.noise_db,
                    levels.arrival_s
             FROM levels JOIN receivers ON receivers.name = levels.receiver
             WHERE levels.event IN ",
        );
        let statement = statement.values(&ids).sql(" ORDER BY levels.event, receivers.ordinal");
        let levels: Vec<LevelRow> =
            transaction.all(statement).await.map_err(refused("list levels"))?;

        let mut recordings = recordings.into_iter().peekable();
        let mut levels = levels.into_iter().peekable();
        for event in events {
            while let Some(recording) = recordings.next_if(|row| row.event == event.id) {
                event.recordings.push(recording.try_into()?);
            }
            while let Some(level) = levels.next_if(|row| row.event == event.id) {
                event.levels.push(level.into());
            }
        }
    }
    Ok(())
}

#[derive(FromRow)]
struct StatsRow {
    receivers: i64,
    sources: i64,
    located_sources: i64,
    pending_sessions: i64,
    approved_sessions: i64,
    rejected_sessions: i64,
    events: i64,
    recordings: i64,
    samples: i64,
    levels: i64,
}

impl From<StatsRow> for CatalogStats {
    fn from(row: StatsRow) -> Self {
        Self {
            receivers: row.receivers.unsigned_abs(),
            sources: row.sources.unsigned_abs(),
            located_sources: row.located_sources.unsigned_abs(),
            pending_sessions: row.pending_sessions.unsigned_abs(),
            approved_sessions: row.approved_sessions.unsigned_abs(),
            rejected_sessions: row.rejected_sessions.unsigned_abs(),
            events: row.events.unsigned_abs(),
            recordings: row.recordings.unsigned_abs(),
            samples: row.samples.unsigned_abs(),
            levels: row.levels.unsigned_abs(),
        }
    }
}
