//! The catalog: which receivers, sources, sessions and recordings there are, and where the bytes lie.

mod database;
mod entry;
mod filter;
mod installation;
mod merge;
mod postgres;
mod read;
mod row;
mod sqlite;
mod write;

use std::path::PathBuf;

use database::{Database, Patience, Transaction};
pub use entry::{
    Approval, CatalogStats, EventEntry, LevelEntry, RecordingEntry, RecordingFormat, SessionEntry,
};
pub use filter::{EventConditions, EventFilter};
pub use installation::{
    Installation, InstalledEvent, InstalledRecording, InstalledSession, LeftOut,
};
pub use merge::Merged;

use crate::DataError;

/// Receivers, sources, sessions, events and recordings, in a database.
///
/// There are two kinds of use. A catalog that belongs to a folder of recordings is
/// [created](Self::create) by one process, and becomes a plain file when it is
/// [closed](Self::close): the same rows give the same bytes, whenever and in whichever steps they
/// were added; when it is [opened](Self::open), it is only read. A catalog that lives is
/// [connected](Self::connect) to, in a file of SQLite or in a database of PostgreSQL: several
/// processes read it and add to it at a time.
#[derive(Debug)]
pub struct Catalog {
    database: Database,
    /// Where the finished file goes, if there is one to be finished.
    new_file: Option<PathBuf>,
}

impl Catalog {
    /// Connects to a catalog that lives, and makes it if there is none: at `postgres://…` in the
    /// schema `heimdall_catalog` of that database, anywhere else in a file of SQLite.
    ///
    /// The rest of a URL is as PostgreSQL has it: `postgres://user@host:port/database`, with
    /// `?host=/folder` for a Unix socket. A password is better in the variable `PGPASSWORD` or in the
    /// file of passwords than in the URL.
    ///
    /// # Errors
    ///
    /// - [`DataError::Address`] if the address is none.
    /// - [`DataError::NotACatalog`] if a file is something else.
    /// - [`DataError::CatalogVersion`] if a later release wrote it.
    /// - [`DataError::Catalog`], [`DataError::Migration`] if the database cannot be reached or
    ///   written.
    pub async fn connect(address: &str) -> Result<Self, DataError> {
        if address.contains("://") {
            return postgres::connect(address, true).await;
        }
        sqlite::connect(address.as_ref()).await
    }

    /// Connects to a catalog that lives, which must be there.
    ///
    /// # Errors
    ///
    /// - [`DataError::Read`], [`DataError::Address`] if there is no file, or no catalog in a
    ///   database.
    /// - Those of [`connect`](Self::connect).
    pub async fn reach(address: &str) -> Result<Self, DataError> {
        if address.contains("://") {
            return postgres::connect(address, false).await;
        }
        let path = PathBuf::from(address);
        match tokio::fs::metadata(&path).await {
            Ok(_) => sqlite::connect(&path).await,
            Err(source) => Err(DataError::Read { path, source }),
        }
    }

    /// Finishes the catalog: what was written lies in one file without free pages. One that lives is
    /// only let go of.
    ///
    /// # Errors
    ///
    /// [`DataError::Catalog`], [`DataError::Write`] if the file cannot be finished.
    pub async fn close(self) -> Result<(), DataError> {
        match (self.new_file, self.database) {
            (Some(path), Database::Sqlite(pool)) => sqlite::finish(pool, path).await,
            (_, database) => {
                database.close().await;
                Ok(())
            }
        }
    }

    async fn begin_read(&self) -> Result<Transaction, DataError> {
        self.database.read().await.map_err(refused("begin to read"))
    }

    async fn begin_write(&self) -> Result<Transaction, DataError> {
        self.database.write().await.map_err(refused("begin to write"))
    }
}

/// Does something in a new transaction, and tries again for a while as long as that fails because the
/// database is away.
macro_rules! patiently {
    ($begin:expr, $transaction:pat => $work:expr) => {{
        let mut patience = $crate::catalog::Patience::new();
        loop {
            let attempt = match $begin.await {
                Ok($transaction) => $work.await,
                Err(error) => Err(error),
            };
            match attempt {
                Err(error) if patience.allows(&error).await => {}
                result => break result,
            }
        }
    }};
}
use patiently;

/// Says what was to be done when a database refuses it.
fn refused(action: impl Into<String>) -> impl FnOnce(sqlx::Error) -> DataError {
    let action = action.into();
    |source| DataError::Catalog { action, source: Box::new(source) }
}

/// Hides the password of a URL, for messages.
pub(crate) fn without_password(address: &str) -> String {
    let hidden = || {
        let (scheme, rest) = address.split_once("://")?;
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (user, host) = authority.rsplit_once('@')?;
        let (name, _) = user.split_once(':')?;
        Some(format!("{scheme}://{name}:***@{host}{path}"))
    };
    hidden().unwrap_or_else(|| address.to_owned())
}

#[cfg(test)]
mod contract;
