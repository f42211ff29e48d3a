//! A catalog in a file of SQLite.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use heimdall_geo::Receiver;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{ConnectOptions, SqlitePool};
use tokio::fs;

use super::{Approval, EventEntry};
use crate::DataError;

mod row;

use row::{EventRow, ReceiverRow, RecordingRow};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// What the first migration writes into the header of the file.
const APPLICATION_ID: i64 = i64::from_be_bytes([0, 0, 0, 0, b'H', b'M', b'D', b'L']);

/// Receivers, sources, sessions, events and recordings, in a database.
///
/// A new catalog is written by one process, and becomes a plain file when it is
/// [closed](Self::close): the same rows give the same bytes, whenever and in whichever steps they
/// were added. A catalog that is opened is only read.
#[derive(Debug)]
pub struct Catalog {
    pool: SqlitePool,
    /// Where the finished file goes, if there is one to be finished.
    new_file: Option<PathBuf>,
}

impl Catalog {
    /// Makes an empty catalog.
    ///
    /// # Errors
    ///
    /// - [`DataError::AlreadyExists`] if something is at `path`.
    /// - [`DataError::Write`], [`DataError::Catalog`] if no database can be made there.
    pub async fn create(path: &Path) -> Result<Self, DataError> {
        let path = absolute(path)?;
        if let Err(source) = fs::File::create_new(&path).await {
            return Err(match source.kind() {
                io::ErrorKind::AlreadyExists => DataError::AlreadyExists { path },
                _ => DataError::Write { path, source },
            });
        }
        let options = SqliteConnectOptions::new()
            .filename(&path)
            // Leaves no second file behind.
            .journal_mode(SqliteJournalMode::Delete);
        let pool = connect(options, 1).await.map_err(refused("be created"))?;
        let catalog = Self { pool, new_file: Some(path) };
        catalog.make_schema().await?;
        Ok(catalog)
    }

    /// Opens a catalog for reading; it is neither made nor changed.
    ///
    /// # Errors
    ///
    /// - [`DataError::Read`] if there is no file.
    /// - [`DataError::NotACatalog`] if the file is something else.
    /// - [`DataError::CatalogVersion`] if another release wrote it.
    pub async fn open(path: &Path) -> Result<Self, DataError> {
        let path = absolute(path)?;
        let not_a_catalog = |actual| Err(DataError::NotACatalog { path: path.clone(), actual });
        let metadata = fs::metadata(&path)
            .await
            .map_err(|source| DataError::Read { path: path.clone(), source })?;
        if metadata.is_dir() {
            return not_a_catalog("a folder");
        }
        if metadata.len() == 0 {
            return not_a_catalog("an empty file");
        }

        let options = SqliteConnectOptions::new().filename(&path).read_only(true);
        let application = async {
            let pool = connect(options, 4).await?;
            let id: i64 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&pool).await?;
            Ok((pool, id))
        };
        let pool = match application.await {
            Ok((pool, APPLICATION_ID)) => pool,
            Ok(_) => return not_a_catalog("an SQLite database of something else"),
            Err(error) => {
                return match primary_code(&error) {
                    Some(SQLITE_NOTADB) => not_a_catalog("not an SQLite database"),
                    Some(SQLITE_CORRUPT) => not_a_catalog("a damaged SQLite database"),
                    _ => Err(refused("be opened")(error)),
                };
            }
        };
        let catalog = Self { pool, new_file: None };
        let actual: i64 = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
            .fetch_one(&catalog.pool)
            .await
            .map_err(refused("tell its version"))?;
        let expected = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
        if actual != expected {
            return Err(DataError::CatalogVersion { path, actual, expected });
        }
        Ok(catalog)
    }

    /// Makes an empty catalog that is gone when it is dropped.
    ///
    /// # Errors
    ///
    /// [`DataError::Catalog`] if the database cannot be made.
    pub async fn in_memory() -> Result<Self, DataError> {
        let options = SqliteConnectOptions::new().in_memory(true);
        let pool = connect(options, 1).await.map_err(refused("be created"))?;
        let catalog = Self { pool, new_file: None };
        catalog.make_schema().await?;
        Ok(catalog)
    }

    async fn make_schema(&self) -> Result<(), DataError> {
        MIGRATIONS
            .run(&self.pool)
            .await
            .map_err(|source| DataError::Migration(Box::new(source)))?;
        // When and how fast the schema was made is no property of the catalog.
        sqlx::query("UPDATE _sqlx_migrations SET installed_on = '1970-01-01', execution_time = 0")
            .execute(&self.pool)
            .await
            .map_err(refused("be created"))?;
        Ok(())
    }

    /// Adds receivers to the network, after those that it has; the same one twice is fine in two
    /// calls.
    ///
    /// # Errors
    ///
    /// - [`DataError::Duplicate`] if two of them have one name.
    /// - [`DataError::Contradiction`] if the catalog has another receiver of that name.
    pub async fn add_receivers(&self, receivers: &[Receiver]) -> Result<(), DataError> {
        let mut known: HashMap<String, Receiver> = HashMap::new();
        for receiver in self.receivers().await? {
            known.insert(receiver.name.clone(), receiver);
        }
        let mut ordinal = known.len();
        let mut names = HashSet::new();
        let mut transaction = self.pool.begin().await.map_err(refused("begin to write"))?;
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
            row::insert_receiver(&mut transaction, receiver, ordinal)
                .await
                .map_err(refused(format!("add the receiver `{name}`")))?;
            ordinal += 1;
        }
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
        let receivers: Vec<String> =
            self.receivers().await?.into_iter().map(|receiver| receiver.name).collect();
        let mut transaction = self.pool.begin().await.map_err(refused("begin to write"))?;
        for event in events {
            check_recordings(event, &receivers)?;
            row::ensure_source(&mut transaction, event).await?;
            row::ensure_session(&mut transaction, event).await?;
            row::insert_event(&mut transaction, event).await?;
            for recording in &event.recordings {
                row::insert_recording(&mut transaction, &event.id, recording).await?;
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
        let done = sqlx::query("UPDATE sessions SET approval = $1 WHERE name = $2")
            .bind(approval.name())
            .bind(session)
            .execute(&self.pool)
            .await
            .map_err(refused("decide on a session"))?;
        match done.rows_affected() {
            0 => Err(DataError::UnknownSession { session: session.to_owned() }),
            _ => Ok(()),
        }
    }

    /// Lists the receivers, in the order in which they were added.
    ///
    /// # Errors
    ///
    /// [`DataError::Catalog`], [`DataError::Row`] if the database is damaged.
    pub async fn receivers(&self) -> Result<Vec<Receiver>, DataError> {
        let rows: Vec<ReceiverRow> = sqlx::query_as(
            "SELECT name, latitude_deg, longitude_deg, altitude_m, antenna_height_m
             FROM receivers ORDER BY ordinal",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(refused("list receivers"))?;
        rows.into_iter().map(Receiver::try_from).collect()
    }

    /// Lists the events of approved sessions in the order of their ids, with their recordings in
    /// the order of the receivers.
    ///
    /// # Errors
    ///
    /// [`DataError::Catalog`], [`DataError::Row`] if the database is damaged.
    pub async fn events(&self) -> Result<Vec<EventEntry>, DataError> {
        // One transaction, so that both lists are of one moment.
        let mut transaction = self.pool.begin().await.map_err(refused("begin to read"))?;
        let events: Vec<EventRow> = sqlx::query_as(
            "SELECT events.id, events.session, sessions.source,
                    sources.latitude_deg, sources.longitude_deg,
                    events.frequency_hz, events.start_s, events.start_ns, events.waveform
             FROM events
             JOIN sessions ON sessions.name = events.session
             JOIN sources ON sources.name = sessions.source
             WHERE sessions.approval = 'approved'
             ORDER BY events.id",
        )
        .fetch_all(&mut *transaction)
        .await
        .map_err(refused("list events"))?;
        let recordings: Vec<RecordingRow> = sqlx::query_as(
            "SELECT recordings.event, recordings.receiver, recordings.object, recordings.digest,
                    recordings.format, recordings.sample_rate_hz, recordings.center_frequency_hz,
                    recordings.start_s, recordings.start_ns, recordings.clock_sigma_s,
                    recordings.sample_count
             FROM recordings
             JOIN receivers ON receivers.name = recordings.receiver
             JOIN events ON events.id = recordings.event
             JOIN sessions ON sessions.name = events.session
             WHERE sessions.approval = 'approved'
             ORDER BY recordings.event, receivers.ordinal",
        )
        .fetch_all(&mut *transaction)
        .await
        .map_err(refused("list recordings"))?;
        transaction.commit().await.map_err(refused("list events"))?;

        let mut recordings = recordings.into_iter().peekable();
        let mut entries = Vec::with_capacity(events.len());
        for event in events {
            let mut entry = EventEntry::try_from(event)?;
            while let Some(recording) = recordings.next_if(|row| row.event == entry.id) {
                entry.recordings.push(recording.try_into()?);
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    /// Finishes the catalog: what was written lies in one file without free pages.
    ///
    /// # Errors
    ///
    /// [`DataError::Catalog`], [`DataError::Write`] if the file cannot be finished.
    pub async fn close(self) -> Result<(), DataError> {
        let Some(path) = self.new_file else {
            self.pool.close().await;
            return Ok(());
        };
        // Rewritten row by row, the file keeps no trace of the steps in which it was written.
        let mut finished = path.clone().into_os_string();
        finished.push(".finished");
        let finished = PathBuf::from(finished);
        let write = |source| DataError::Write { path: finished.clone(), source };
        if fs::try_exists(&finished).await.map_err(write)? {
            fs::remove_file(&finished).await.map_err(write)?;
        }
        let Some(target) = finished.to_str() else {
            // SQLite has not opened a path beside it either.
            return Err(write(io::ErrorKind::InvalidFilename.into()));
        };
        let vacuum = sqlx::query("VACUUM INTO $1").bind(target).execute(&self.pool).await;
        self.pool.close().await;
        vacuum.map_err(refused("be finished"))?;
        fs::File::open(&finished).await.map_err(write)?.sync_all().await.map_err(write)?;
        fs::rename(&finished, &path).await.map_err(|source| DataError::Write { path, source })
    }
}

/// Checks what would otherwise be refused by a foreign key or a unique index, without a name.
fn check_recordings(event: &EventEntry, receivers: &[String]) -> Result<(), DataError> {
    let mut seen = HashSet::new();
    for recording in &event.recordings {
        let receiver = recording.receiver.clone();
        if !receivers.contains(&receiver) {
            let recording = format!("a recording of the event `{}`", event.id);
            return Err(DataError::UnknownReceiver {
                recording,
                receiver,
                known: receivers.join(", "),
            });
        }
        if !seen.insert(receiver) {
            return Err(DataError::Duplicate {
                kind: "recording",
                name: format!("{} of {}", event.id, recording.receiver),
            });
        }
    }
    Ok(())
}

async fn connect(
    options: SqliteConnectOptions,
    connections_max: u32,
) -> Result<SqlitePool, sqlx::Error> {
    SqlitePoolOptions::new()
        .max_connections(connections_max)
        // A catalog in memory lives as long as its one connection.
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options.foreign_keys(true).disable_statement_logging())
        .await
}

/// An absolute path is never taken for a URI by SQLite.
fn absolute(path: &Path) -> Result<PathBuf, DataError> {
    std::path::absolute(path).map_err(|source| DataError::Read { path: path.to_owned(), source })
}

/// The file is not a database.
const SQLITE_NOTADB: u32 = 26;
/// The pages of a database contradict each other.
const SQLITE_CORRUPT: u32 = 11;

/// The code of an error of SQLite, without the details that are above the lowest byte.
fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code: u32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

fn refused(action: impl Into<String>) -> impl FnOnce(sqlx::Error) -> DataError {
    let action = action.into();
    |source| DataError::Catalog { action, source: Box::new(source) }
}

#[cfg(test)]
mod tests;
