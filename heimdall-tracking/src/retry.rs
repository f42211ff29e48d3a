//! Waiting for a database that another process is busy with.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use tracing::debug;

use crate::TrackingError;

/// How often a transaction is attempted; SQLite waits before each refusal by itself.
const ATTEMPTS: u32 = 5;
/// Pause after the first attempt; each further pause is twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(100);

/// Why one attempt did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The database says so, perhaps only for now.
    Database(sqlx::Error),
    /// This crate says so.
    Refused(TrackingError),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<TrackingError> for Failure {
    fn from(error: TrackingError) -> Self {
        Self::Refused(error)
    }
}

/// Repeats `attempt` as long as the database is locked or in the middle of an upgrade.
///
/// An attempt is one transaction, so that none of it is left when it fails.
pub(crate) async fn retrying<T, F, Attempt>(
    action: &'static str,
    path: &Path,
    mut attempt: F,
) -> Result<T, TrackingError>
where
    F: FnMut() -> Attempt,
    Attempt: Future<Output = Result<T, Failure>>,
{
    let mut pause = PAUSE_FIRST;
    for _ in 1..ATTEMPTS {
        match attempt().await {
            Err(failure) if failure.may_pass() => {
                debug!(action, ?failure, "the tracking database is busy");
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            result => return result.map_err(|failure| failure.into_error(action, path)),
        }
    }
    attempt().await.map_err(|failure| failure.into_error(action, path))
}

impl Failure {
    fn may_pass(&self) -> bool {
        match self {
            Self::Database(error) => match result_code(error) {
                Some(code::BUSY | code::LOCKED | code::SCHEMA) => true,
                // MLflow upgrades a table by filling a new one and giving it the old one's name.
                Some(code::ERROR) => error.to_string().contains("no such table"),
                _ => false,
            },
            Self::Refused(error) => matches!(error, TrackingError::MissingColumns { .. }),
        }
    }

    fn into_error(self, action: &'static str, path: &Path) -> TrackingError {
        match self {
            Self::Refused(error) => error,
            Self::Database(error) if result_code(&error) == Some(code::NOT_A_DATABASE) => {
                TrackingError::NotADatabase { path: path.to_owned() }
            }
            Self::Database(error) => {
                TrackingError::Database { action, path: path.to_owned(), source: Box::new(error) }
            }
        }
    }
}

/// The primary result code of SQLite: the low byte of the extended one.
fn result_code(error: &sqlx::Error) -> Option<i32> {
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

/// Result codes of SQLite, <https://sqlite.org/rescode.html>.
mod code {
    pub(super) const ERROR: i32 = 1;
    pub(super) const BUSY: i32 = 5;
    pub(super) const LOCKED: i32 = 6;
    pub(super) const SCHEMA: i32 = 17;
    pub(super) const NOT_A_DATABASE: i32 = 26;
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
    use sqlx::{ConnectOptions, Connection};

    use super::*;

    #[tokio::test]
    async fn locked_database_is_tried_again_until_it_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new()
            .filename(folder.path().join("test.db"))
            .create_if_missing(true)
            .busy_timeout(Duration::ZERO);
        let mut owner = options.connect().await.unwrap();
        sqlx::raw_sql("CREATE TABLE t (x); BEGIN EXCLUSIVE").execute(&mut owner).await.unwrap();
        let owner = tokio::sync::Mutex::new(owner);
        let attempts = std::sync::atomic::AtomicU32::new(0);

        retrying("write", Path::new("test.db"), || async {
            attempts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let mut connection = options.connect().await?;
            let result = sqlx::raw_sql("INSERT INTO t VALUES (1)").execute(&mut connection).await;
            if result.is_err() {
                sqlx::raw_sql("ROLLBACK").execute(&mut *owner.lock().await).await?;
            }
            result?;
            Ok(())
        })
        .await
        .unwrap();

        assert_eq!(attempts.into_inner(), 2);
    }

    #[tokio::test]
    async fn mistake_in_a_statement_is_not_repeated() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let error = sqlx::raw_sql("SELEC 1").execute(&mut connection).await.unwrap_err();

        assert!(!Failure::from(error).may_pass());
    }
}
