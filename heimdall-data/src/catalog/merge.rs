//! Adding to a catalog what it may have already: nothing is there twice, and nothing is changed.

use std::ops::AddAssign;

use heimdall_features::UtcTime;
use heimdall_geo::Receiver;
use serde::{Deserialize, Serialize};
use sqlx::FromRow;

use super::database::{Statement, Transaction};
use super::write::{
    add_receivers, check_receivers, ensure_session, ensure_source, insert_event, insert_level,
    insert_recording,
};
use super::{Approval, Catalog, EventEntry, LevelEntry, RecordingEntry, patiently, read, refused};
use crate::DataError;

/// Events of one name that begin within this time of each other are one, in seconds: names that are
/// made tell the second.
const SAME_START_S_MAX: f64 = 1.0;

/// What was not there yet, and what was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Merged {
    /// Receivers that were added.
    pub receivers_added: usize,
    /// Sessions that were added.
    pub sessions_added: Vec<String>,
    /// Events that were added.
    pub events_added: usize,
    /// Events that were there.
    pub events_known: usize,
    /// Recordings that were added, to new events or to those that were there.
    pub recordings_added: usize,
    /// Recordings that were there.
    pub recordings_known: usize,
    /// Levels that were added, to new events or to those that were there.
    pub levels_added: usize,
    /// Levels that were there.
    pub levels_known: usize,
}

impl AddAssign for Merged {
    /// Adds what another merge has brought.
    fn add_assign(&mut self, other: Self) {
        self.receivers_added += other.receivers_added;
        self.sessions_added.extend(other.sessions_added);
        self.events_added += other.events_added;
        self.events_known += other.events_known;
        self.recordings_added += other.recordings_added;
        self.recordings_known += other.recordings_known;
        self.levels_added += other.levels_added;
        self.levels_known += other.levels_known;
    }
}

impl Catalog {
    /// Adds receivers and events that are not there yet, all of them or none.
    ///
    /// A recording is known by its receiver, its start and its digest. An event is known if one of
    /// its recordings is, or by its name, if it starts within a second of the one of that name; it
    /// then keeps its name and its session, and gets what recordings and levels it does not have. So
    /// an import may be repeated, after its folder has grown, too. New sessions get the approval
    /// that is given.
    ///
    /// # Errors
    ///
    /// - [`DataError::Contradiction`] if a receiver, a source, a session, an event, a recording or a
    ///   level is there with other values.
    /// - [`DataError::Regrouped`] if the recordings of an event are those of several.
    /// - Those of [`add_receivers`](Self::add_receivers) and [`add_events`](Self::add_events).
    pub async fn merge(
        &self,
        receivers: &[Receiver],
        events: &[EventEntry],
        approval: Approval,
    ) -> Result<Merged, DataError> {
        patiently!(
            self.begin_write(),
            transaction => merge(transaction, receivers, events, approval)
        )
    }
}

async fn merge(
    mut transaction: Transaction,
    receivers: &[Receiver],
    events: &[EventEntry],
    approval: Approval,
) -> Result<Merged, DataError> {
    let mut merged = Merged {
        receivers_added: add_receivers(&mut transaction, receivers).await?,
        ..Merged::default()
    };
    let known: Vec<String> = read::receivers(&mut transaction)
        .await?
        .into_iter()
        .map(|receiver| receiver.name)
        .collect();
    for event in events {
        check_receivers(event, &known)?;
        merge_event(&mut transaction, event, approval, &mut merged).await?;
    }
    transaction.commit().await.map_err(refused("write events"))?;
    Ok(merged)
}

async fn merge_event(
    transaction: &mut Transaction,
    event: &EventEntry,
    approval: Approval,
    merged: &mut Merged,
) -> Result<(), DataError> {
    let there = match find_by_recordings(transaction, event).await? {
        Some(id) => Some(id),
        None => find_by_name(transaction, event).await?,
    };
    let there = match there {
        Some(id) => {
            merged.events_known += 1;
            let mut there = vec![EventEntry {
                id,
                recordings: Vec::new(),
                levels: Vec::new(),
                ..event.clone()
            }];
            read::fill(transaction, &mut there).await?;
            there.remove(0)
        }
        None => {
            ensure_source(transaction, event).await?;
            if ensure_session(transaction, event, approval).await? {
                merged.sessions_added.push(event.session.clone());
            }
            insert_event(transaction, event).await?;
            merged.events_added += 1;
            EventEntry { recordings: Vec::new(), levels: Vec::new(), ..event.clone() }
        }
    };
    for recording in &event.recordings {
        match there.recordings.iter().find(|known| known.receiver == recording.receiver) {
            Some(known) if is_same(known, recording) => merged.recordings_known += 1,
            Some(_) => return Err(contradiction("recording", &there.id, &recording.receiver)),
            None => {
                insert_recording(transaction, &there.id, recording).await?;
                merged.recordings_added += 1;
            }
        }
    }
    for level in &event.levels {
        match there.levels.iter().find(|known| known.receiver == level.receiver) {
            Some(known) if known == level => merged.levels_known += 1,
            Some(LevelEntry { receiver, .. }) => {
                return Err(contradiction("level", &there.id, receiver));
            }
            None => {
                insert_level(transaction, &there.id, level).await?;
                merged.levels_added += 1;
            }
        }
    }
    Ok(())
}

fn is_same(known: &RecordingEntry, recording: &RecordingEntry) -> bool {
    known.digest == recording.digest && known.start == recording.start
}

fn contradiction(kind: &'static str, event: &str, receiver: &str) -> DataError {
    let name = format!("{receiver} of {event}");
    DataError::Contradiction { kind, name, field: "content" }
}

/// Finds the event that has the recordings of another.
async fn find_by_recordings(
    transaction: &mut Transaction,
    event: &EventEntry,
) -> Result<Option<String>, DataError> {
    #[derive(FromRow)]
    struct Found {
        event: String,
        receiver: String,
        digest: String,
        start_s: i64,
        start_ns: i64,
    }

    let digests: Vec<&String> =
        event.recordings.iter().map(|recording| &recording.digest).collect();
    if digests.is_empty() {
        return Ok(None);
    }
    let statement = Statement::new(
        "SELECT event, receiver, digest, start_s, start_ns FROM recordings WHERE digest IN ",
    );
    let found: Vec<Found> = transaction
        .all(statement.values(digests).sql(" ORDER BY event"))
        .await
        .map_err(refused(format!("find the recordings of `{}`", event.id)))?;
    let is_of_event = |found: &Found| {
        event.recordings.iter().any(|recording| {
            let UtcTime { seconds, nanoseconds } = recording.start;
            recording.receiver == found.receiver
                && recording.digest == found.digest
                && (seconds, i64::from(nanoseconds)) == (found.start_s, found.start_ns)
        })
    };
    let mut events: Vec<String> =
        found.into_iter().filter(is_of_event).map(|found| found.event).collect();
    events.dedup();
    match events.len() {
        0 | 1 => Ok(events.pop()),
        _ => Err(DataError::Regrouped { event: event.id.clone(), events }),
    }
}

/// Finds the event of the same name, which must be the same one.
async fn find_by_name(
    transaction: &mut Transaction,
    event: &EventEntry,
) -> Result<Option<String>, DataError> {
    let statement =
        Statement::new("SELECT frequency_hz, start_s, start_ns FROM events WHERE id = ")
            .value(&event.id);
    let there: Option<(f64, i64, i64)> = transaction
        .optional(statement)
        .await
        .map_err(refused(format!("find the event `{}`", event.id)))?;
    let Some((frequency_hz, seconds, nanoseconds)) = there else { return Ok(None) };
    let start = UtcTime { seconds, nanoseconds: u32::try_from(nanoseconds).unwrap_or_default() };
    let contradiction =
        |field| Err(DataError::Contradiction { kind: "event", name: event.id.clone(), field });
    if event.frequency_hz.total_cmp(&frequency_hz).is_ne() {
        return contradiction("frequency_hz");
    }
    if event.start.seconds_since(&start).abs() > SAME_START_S_MAX {
        return contradiction("start");
    }
    Ok(Some(event.id.clone()))
}
