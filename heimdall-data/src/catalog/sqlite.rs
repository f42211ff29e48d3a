//! A catalog in a file of SQLite.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{ConnectOptions, SqlitePool};
use tokio::fs;

use super::database::Database;
use super::{Catalog, refused};
use crate::DataError;

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// What the first migration writes into the header of the file.
const APPLICATION_ID: i64 = i64::from_be_bytes([0, 0, 0, 0, b'H', b'M', b'D', b'L']);

/// How long a process waits for another one that writes.
const BUSY: Duration = Duration::from_secs(30);

/// How often the schema is made before a failure counts: another process may make it at this moment.
const ATTEMPTS: usize = 3;

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
        let pool = pool(writing(&path), 1).await.map_err(refused("be created"))?;
        make_schema(&pool).await?;
        forget_times(&pool).await?;
        Ok(Self { database: Database::Sqlite(pool), new_file: Some(path) })
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
        let metadata = fs::metadata(&path)
            .await
            .map_err(|source| DataError::Read { path: path.clone(), source })?;
        if metadata.len() == 0 && metadata.is_file() {
            return Err(DataError::NotACatalog { path, actual: "an empty file" });
        }
        let options = SqliteConnectOptions::new().filename(&path).read_only(true);
        let pool = match open(options, &path).await? {
            Opened::Catalog(pool) => pool,
            Opened::Empty(_) => {
                return Err(DataError::NotACatalog { path, actual: "an empty SQLite database" });
            }
        };
        let (actual, expected) = (version(&pool).await?, newest());
        if actual != expected {
            return Err(DataError::CatalogVersion { catalog: shown(&path), actual, expected });
        }
        Ok(Self { database: Database::Sqlite(pool), new_file: None })
    }

    /// Makes an empty catalog that is gone when it is dropped.
    ///
    /// # Errors
    ///
    /// [`DataError::Catalog`] if the database cannot be made.
    pub async fn in_memory() -> Result<Self, DataError> {
        let options = SqliteConnectOptions::new().in_memory(true);
        let pool = pool(options, 1).await.map_err(refused("be created"))?;
        make_schema(&pool).await?;
        Ok(Self { database: Database::Sqlite(pool), new_file: None })
    }
}

/// Opens a catalog that lives, or makes an empty one.
pub(super) async fn connect(path: &Path) -> Result<Catalog, DataError> {
    let path = absolute(path)?;
    let is_new = match fs::File::create_new(&path).await {
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Another process may have made the file, and not yet a database of it.
            fs::metadata(&path).await.is_ok_and(|file| file.is_file() && file.len() == 0)
        }
        Err(source) => return Err(DataError::Write { path, source }),
    };
    let pool = if is_new {
        pool(writing(&path), 4).await.map_err(refused("be created"))?
    } else {
        match open(writing(&path), &path).await? {
            // One was to be made there, and whoever was about to has been stopped.
            Opened::Empty(pool) => pool,
            Opened::Catalog(pool) => {
                let (actual, expected) = (version(&pool).await?, newest());
                if actual > expected {
                    let catalog = shown(&path);
                    return Err(DataError::CatalogVersion { catalog, actual, expected });
                }
                pool
            }
        }
    };
    make_schema(&pool).await?;
    Ok(Catalog { database: Database::Sqlite(pool), new_file: None })
}

/// A database that is a catalog, or becomes one.
enum Opened {
    Catalog(SqlitePool),
    /// It has no table.
    Empty(SqlitePool),
}

/// Opens a database that must not be anything else.
async fn open(options: SqliteConnectOptions, path: &Path) -> Result<Opened, DataError> {
    let not_a_catalog = |actual| Err(DataError::NotACatalog { path: path.to_owned(), actual });
    if fs::metadata(path).await.is_ok_and(|metadata| metadata.is_dir()) {
        return not_a_catalog("a folder");
    }
    let application = async {
        let pool = pool(options, 4).await?;
        let id: i64 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&pool).await?;
        let tables: i64 =
            sqlx::query_scalar("SELECT count(*) FROM sqlite_master WHERE tbl_name <> $1")
                .bind("_sqlx_migrations")
                .fetch_one(&pool)
                .await?;
        Ok((pool, id, tables))
    };
    match application.await {
        Ok((pool, APPLICATION_ID, _)) => Ok(Opened::Catalog(pool)),
        Ok((pool, 0, 0)) => Ok(Opened::Empty(pool)),
        Ok(_) => not_a_catalog("an SQLite database of something else"),
        Err(error) => match primary_code(&error) {
            Some(SQLITE_NOTADB) => not_a_catalog("not an SQLite database"),
            Some(SQLITE_CORRUPT) => not_a_catalog("a damaged SQLite database"),
            _ => Err(refused("be opened")(error)),
        },
    }
}

/// Returns the newest version of the schema that a catalog has.
async fn version(pool: &SqlitePool) -> Result<i64, DataError> {
    sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
        .fetch_one(pool)
        .await
        .map_err(refused("tell its version"))
}

/// Returns the version of the schema that this release makes.
pub(super) fn newest() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

async fn make_schema(pool: &SqlitePool) -> Result<(), DataError> {
    for attempt in 1.. {
        match MIGRATIONS.run(pool).await {
            Ok(()) => break,
            Err(_) if attempt < ATTEMPTS => {}
            Err(source) => return Err(DataError::Migration(Box::new(source))),
        }
    }
    Ok(())
}

/// When and how fast the schema was made is no property of a catalog that is to be a plain file.
async fn forget_times(pool: &SqlitePool) -> Result<(), DataError> {
    sqlx::query("UPDATE _sqlx_migrations SET installed_on = '1970-01-01', execution_time = 0")
        .execute(pool)
        .await
        .map_err(refused("be created"))?;
    Ok(())
}

/// Rewrites a new catalog, so that its file keeps no trace of the steps in which it was written.
pub(super) async fn finish(pool: SqlitePool, path: PathBuf) -> Result<(), DataError> {
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
    let vacuum = sqlx::query("VACUUM INTO $1").bind(target).execute(&pool).await;
    pool.close().await;
    vacuum.map_err(refused("be finished"))?;
    fs::File::open(&finished).await.map_err(write)?.sync_all().await.map_err(write)?;
    fs::rename(&finished, &path).await.map_err(|source| DataError::Write { path, source })
}

/// How a database is opened in which something is to be written.
fn writing(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY)
        // Leaves no second file behind.
        .journal_mode(SqliteJournalMode::Delete)
}

pub(super) async fn pool(
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

fn shown(path: &Path) -> String {
    path.display().to_string()
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

#[cfg(test)]
mod tests;
