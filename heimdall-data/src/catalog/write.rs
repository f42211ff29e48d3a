//! What is added to a catalog, and what is decided in it.

use std::collections::{HashMap, HashSet};

use heimdall_features::ClockQuality;
use heimdall_geo::Receiver;
use sqlx::error::DatabaseError;

use super::database::{Statement, Transaction, Value};
use super::row::{check_time, invalid, recording_name};
use super::{Approval, Catalog, EventEntry, LevelEntry, RecordingEntry, patiently, read, refused};
use crate::DataError;

impl Catalog {
    /// Adds receivers to the network, after those that it has; the same one twice is fine in two
    /// calls.
    ///
    /// # Errors
    ///
    /// - [`DataError::Duplicate`] if two of them have one name.
    /// - [`DataError::Contradiction`] if the catalog has another receiver of that name.
    pub async fn add_receivers(&self, receivers: &[Receiver]) -> Result<(), DataError> {
        let mut transaction = self.begin_write().await?;
        add_receivers(&mut transaction, receivers).await?;
        transaction.commit().await.map_err(refused("write receivers"))
    }

    /// Adds events with their recordings, all of them or none; sources and sessions are made as
    /// needed, and new sessions are approved.
    ///
    /// # Errors
    ///
    /// - [`DataError::Duplicate`] if an event is there already, or has two recordings of one
    ///   receiver.
    /// - [`DataError::UnknownReceiver`] if a recording is of a receiver that was not added.
    /// - [`DataError::Contradiction`] if a source would be in two places, or a session of two
    ///   sources.
    /// - [`DataError::Row`], [`DataError::Catalog`] for values that no event can have.
    pub async fn add_events(&self, events: &[EventEntry]) -> Result<(), DataError> {
        let mut transaction = self.begin_write().await?;
        let known: Vec<String> =
            read::receivers(&mut transaction).await?.into_iter().map(|r| r.name).collect();
        for event in events {
            check_receivers(event, &known)?;
            ensure_source(&mut transaction, event).await?;
            ensure_session(&mut transaction, event, Approval::Approved).await?;
            insert_event(&mut transaction, event).await?;
            for recording in &event.recordings {
                insert_recording(&mut transaction, &event.id, recording).await?;
            }
            for level in &event.levels {
                insert_level(&mut transaction, &event.id, level).await?;
            }
        }
        transaction.commit().await.map_err(refused("write events"))
    }

    /// Decides on a session.
    ///
    /// # Errors
    ///
    /// [`DataError::UnknownSession`] if there is no such session.
    pub async fn set_approval(&self, session: &str, approval: Approval) -> Result<(), DataError> {
        patiently!(
            self.begin_write(),
            transaction => set_approval(transaction, session, approval)
        )
    }
}

async fn set_approval(
    mut transaction: Transaction,
    session: &str,
    approval: Approval,
) -> Result<(), DataError> {
    let statement = Statement::new("UPDATE sessions SET approval = ")
        .value(approval.name())
        .sql(" WHERE name = ")
        .value(session);
    let changed = transaction.execute(statement).await.map_err(refused("decide on a session"))?;
    if changed == 0 {
        return Err(DataError::UnknownSession { session: session.to_owned() });
    }
    transaction.commit().await.map_err(refused("decide on a session"))
}

/// Adds those receivers that are not there, and returns how many these are.
pub(super) async fn add_receivers(
    transaction: &mut Transaction,
    receivers: &[Receiver],
) -> Result<usize, DataError> {
    let mut known: HashMap<String, Receiver> = HashMap::new();
    for receiver in read::receivers(transaction).await? {
        known.insert(receiver.name.clone(), receiver);
    }
    let first = known.len();
    let mut ordinal = first;
    let mut names = HashSet::new();
    for receiver in receivers {
        let name = receiver.name.clone();
        if !names.insert(&receiver.name) {
            return Err(DataError::Duplicate { kind: "receiver", name });
        }
        match known.get(&name) {
            Some(same) if same == receiver => continue,
            Some(_) => {
                let field = "position or height";
                return Err(DataError::Contradiction { kind: "receiver", name, field });
            }
            None => {}
        }
        insert_receiver(transaction, receiver, ordinal)
            .await
            .map_err(refused(format!("add the receiver `{name}`")))?;
        ordinal += 1;
    }
    Ok(ordinal - first)
}

/// Checks what would otherwise be refused by a foreign key or a unique index, without a name.
pub(super) fn check_receivers(event: &EventEntry, known: &[String]) -> Result<(), DataError> {
    let recordings = event.recordings.iter().map(|entry| ("recording", &entry.receiver));
    let levels = event.levels.iter().map(|entry| ("level", &entry.receiver));
    let mut seen = HashSet::new();
    for (kind, receiver) in recordings.chain(levels) {
        if !known.contains(receiver) {
            return Err(DataError::UnknownReceiver {
                recording: format!("a {kind} of the event `{}`", event.id),
                receiver: receiver.clone(),
                known: known.join(", "),
            });
        }
        if !seen.insert((kind, receiver)) {
            return Err(DataError::Duplicate { kind, name: format!("{} of {receiver}", event.id) });
        }
    }
    Ok(())
}

async fn insert_receiver(
    transaction: &mut Transaction,
    receiver: &Receiver,
    ordinal: usize,
) -> Result<u64, sqlx::Error> {
    let statement = Statement::new(
        "INSERT INTO receivers
             (name, ordinal, latitude_deg, longitude_deg, altitude_m, antenna_height_m)
         VALUES ",
    );
    transaction
        .execute(statement.values([
            Value::from(&receiver.name),
            i64::try_from(ordinal).unwrap_or(i64::MAX).into(),
            receiver.position.latitude_deg().into(),
            receiver.position.longitude_deg().into(),
            receiver.altitude_m.into(),
            receiver.antenna_height_m.into(),
        ]))
        .await
}

/// Adds the source of an event, unless it is there, at the same place.
pub(super) async fn ensure_source(
    transaction: &mut Transaction,
    event: &EventEntry,
) -> Result<(), DataError> {
    let place = event.position.map(|position| (position.latitude_deg(), position.longitude_deg()));
    let statement = Statement::new("SELECT latitude_deg, longitude_deg FROM sources WHERE name = ")
        .value(&event.source);
    let there: Option<(Option<f64>, Option<f64>)> = transaction
        .optional(statement)
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
            let statement =
                Statement::new("INSERT INTO sources (name, latitude_deg, longitude_deg) VALUES ")
                    .values([
                        Value::from(&event.source),
                        place.map(|(latitude_deg, _)| latitude_deg).into(),
                        place.map(|(_, longitude_deg)| longitude_deg).into(),
                    ]);
            transaction
                .execute(statement)
                .await
                .map_err(refused(format!("add the source `{}`", event.source)))?;
            Ok(())
        }
    }
}

/// Adds the session of an event, unless it is there, of the same source; returns whether it was
/// added.
pub(super) async fn ensure_session(
    transaction: &mut Transaction,
    event: &EventEntry,
    approval: Approval,
) -> Result<bool, DataError> {
    let statement =
        Statement::new("SELECT source FROM sessions WHERE name = ").value(&event.session);
    let there: Option<(String,)> = transaction
        .optional(statement)
        .await
        .map_err(refused(format!("find the session `{}`", event.session)))?;
    match there {
        Some((source,)) if source == event.source => Ok(false),
        Some(_) => Err(DataError::Contradiction {
            kind: "session",
            name: event.session.clone(),
            field: "source",
        }),
        None => {
            let statement = Statement::new("INSERT INTO sessions (name, source, approval) VALUES ")
                .values([&*event.session, &*event.source, approval.name()]);
            transaction
                .execute(statement)
                .await
                .map_err(refused(format!("add the session `{}`", event.session)))?;
            Ok(true)
        }
    }
}

pub(super) async fn insert_event(
    transaction: &mut Transaction,
    event: &EventEntry,
) -> Result<(), DataError> {
    check_time(&format!("event `{}`", event.id), event.start)?;
    let statement = Statement::new(
        "INSERT INTO events (id, session, frequency_hz, start_s, start_ns, waveform) VALUES ",
    );
    let inserted = transaction
        .execute(statement.values([
            Value::from(&event.id),
            Value::from(&event.session),
            event.frequency_hz.into(),
            event.start.seconds.into(),
            i64::from(event.start.nanoseconds).into(),
            event.waveform.as_ref().into(),
        ]))
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
    transaction: &mut Transaction,
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
    let statement = Statement::new(
        "INSERT INTO recordings
             (event, receiver, object, digest, format, sample_rate_hz, center_frequency_hz,
              start_s, start_ns, clock_sigma_s, sample_count)
         VALUES ",
    );
    transaction
        .execute(statement.values([
            Value::from(event),
            Value::from(&recording.receiver),
            Value::from(&recording.object),
            Value::from(&recording.digest),
            recording.format.name().into(),
            recording.sample_rate_hz.into(),
            recording.center_frequency_hz.into(),
            recording.start.seconds.into(),
            i64::from(recording.start.nanoseconds).into(),
            clock_sigma_s.into(),
            sample_count.into(),
        ]))
        .await
        .map_err(refused(format!("add the {name}")))?;
    Ok(())
}

pub(super) async fn insert_level(
    transaction: &mut Transaction,
    event: &str,
    level: &LevelEntry,
) -> Result<(), DataError> {
    let name = format!("level of `{event}` at `{}`", level.receiver);
    let LevelEntry { receiver, rss_db, snr_db, noise_db, arrival_s } = level;
    // SQLite would take what is not a number for what is not there.
    for (field, value) in
        [("rss_db", rss_db), ("snr_db", snr_db), ("noise_db", noise_db), ("arrival_s", arrival_s)]
    {
        if let Some(value) = value.filter(|value| !value.is_finite()) {
            return Err(invalid(&name, field, "finite", value));
        }
    }
    let statement = Statement::new(
        "INSERT INTO levels (event, receiver, rss_db, snr_db, noise_db, arrival_s) VALUES ",
    );
    let numbers = [rss_db, snr_db, noise_db, arrival_s].map(|number| Value::from(*number));
    let values = [Value::from(event), Value::from(receiver)].into_iter().chain(numbers);
    transaction
        .execute(statement.values(values))
        .await
        .map_err(refused(format!("add the {name}")))?;
    Ok(())
}
