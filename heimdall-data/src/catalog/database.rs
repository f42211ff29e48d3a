//! The databases that a catalog can lie in: one way to ask both.

use std::fmt::Write;
use std::io;
use std::time::Duration;

use sqlx::postgres::{PgPool, PgRow};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, FromRow, Postgres, Sqlite};
use tokio::time::{Instant, sleep};

use crate::DataError;

/// How long a database that has gone away is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait before the first further attempt; twice as long before each later one.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest time between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Number under which those who write a catalog in one database of PostgreSQL wait for each other:
/// "HMDL".
pub(super) const WRITERS_LOCK: i64 = i64::from_be_bytes([0, 0, 0, 0, b'H', b'M', b'D', b'L']);

/// Where the tables are.
#[derive(Clone, Debug)]
pub(crate) enum Database {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Database {
    /// Begins to read: all that a transaction reads is of one moment, and it cannot write.
    pub(crate) async fn read(&self) -> Result<Transaction, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(pool) => Transaction::Sqlite(pool.begin().await?),
            Self::Postgres(pool) => {
                let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
                Transaction::Postgres(pool.begin_with(begin).await?)
            }
        })
    }

    /// Begins to write: one transaction at a time does.
    pub(super) async fn write(&self) -> Result<Transaction, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(pool) => Transaction::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres(pool) => {
                let mut transaction = pool.begin().await?;
                sqlx::query("SELECT pg_advisory_xact_lock($1)")
                    .bind(WRITERS_LOCK)
                    .execute(&mut *transaction)
                    .await?;
                Transaction::Postgres(transaction)
            }
        })
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

/// A value that takes the place of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Text(Option<String>),
    Integer(i64),
    Real(Option<f64>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::Text(Some(text.clone()))
    }
}

impl From<Option<&String>> for Value {
    fn from(text: Option<&String>) -> Self {
        Self::Text(text.cloned())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Real(Some(number))
    }
}

impl From<Option<f64>> for Value {
    fn from(number: Option<f64>) -> Self {
        Self::Real(number)
    }
}

/// A statement that both databases understand.
///
/// Its text is put together of what stands in this program, and of nothing else: whatever comes
/// from outside is the value of a parameter.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Statement {
    sql: String,
    values: Vec<Value>,
}

impl Statement {
    /// Begins with a text.
    pub(crate) fn new(sql: &'static str) -> Self {
        Self::default().sql(sql)
    }

    /// Goes on with a text.
    pub(crate) fn sql(mut self, sql: &'static str) -> Self {
        self.sql.push_str(sql);
        self
    }

    /// Goes on with a value.
    pub(crate) fn value(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        write!(self.sql, "${}", self.values.len()).expect("text can grow");
        self
    }

    /// Goes on with values between parentheses.
    pub(crate) fn values<V: Into<Value>>(mut self, values: impl IntoIterator<Item = V>) -> Self {
        let mut before = "(";
        for value in values {
            self = self.sql(before).value(value);
            before = ", ";
        }
        self.sql(")")
    }
}

/// Hands the values of a statement over to a query.
macro_rules! bound {
    ($statement:expr, $query:path) => {{
        let Statement { sql, values } = $statement;
        // Sound by construction: only the text of this program is ever appended.
        values.into_iter().fold($query(AssertSqlSafe(sql)), |query, value| match value {
            Value::Text(text) => query.bind(text),
            Value::Integer(number) => query.bind(number),
            Value::Real(number) => query.bind(number),
        })
    }};
}

/// A row of either database.
pub(crate) trait AnyRow:
    for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}

impl<T> AnyRow for T where
    T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}

/// Statements that count all together or not at all.
#[derive(Debug)]
pub(crate) enum Transaction {
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    Postgres(sqlx::Transaction<'static, Postgres>),
}

impl Transaction {
    /// Changes rows, and returns how many.
    pub(crate) async fn execute(&mut self, statement: Statement) -> Result<u64, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(transaction) => {
                bound!(statement, sqlx::query).execute(&mut **transaction).await?.rows_affected()
            }
            Self::Postgres(transaction) => {
                bound!(statement, sqlx::query).execute(&mut **transaction).await?.rows_affected()
            }
        })
    }

    /// Reads all rows.
    pub(crate) async fn all<T: AnyRow>(
        &mut self,
        statement: Statement,
    ) -> Result<Vec<T>, sqlx::Error> {
        match self {
            Self::Sqlite(transaction) => {
                bound!(statement, sqlx::query_as::<Sqlite, T>).fetch_all(&mut **transaction).await
            }
            Self::Postgres(transaction) => {
                bound!(statement, sqlx::query_as::<Postgres, T>).fetch_all(&mut **transaction).await
            }
        }
    }

    /// Reads the first row, if there is one.
    pub(crate) async fn optional<T: AnyRow>(
        &mut self,
        statement: Statement,
    ) -> Result<Option<T>, sqlx::Error> {
        Ok(self.all(statement).await?.into_iter().next())
    }

    /// Ends the transaction: all of it counts from here on. Left without, it does not.
    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await,
            Self::Postgres(transaction) => transaction.commit().await,
        }
    }
}

/// What is left of the time for which a database is waited for.
#[derive(Debug)]
pub(crate) struct Patience {
    deadline: Instant,
    pause: Duration,
}

impl Patience {
    pub(crate) fn new() -> Self {
        Self { deadline: Instant::now() + PATIENCE, pause: PAUSE }
    }

    /// Waits for a while if the error is one that may pass by itself; returns whether it is worth
    /// another attempt.
    pub(crate) async fn allows(&mut self, error: &DataError) -> bool {
        let DataError::Catalog { source: error, .. } = error else { return false };
        if !is_passing(error) || Instant::now() + self.pause > self.deadline {
            return false;
        }
        tracing::warn!(%error, "the database is away, and asked again");
        sleep(self.pause).await;
        self.pause = (2 * self.pause).min(PAUSE_MAX);
        true
    }
}

/// Whether an error is about the way to the database, or about its being stopped or started.
fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => !matches!(error.kind(), io::ErrorKind::PermissionDenied),
        sqlx::Error::Database(error) => {
            match error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
                // Connection exceptions, too many connections, shutdowns and start-ups.
                Some(error) => {
                    let code = error.code();
                    code.starts_with("08") || code.starts_with("57P0") || code == "53300"
                }
                None => false,
            }
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statement_keeps_text_and_values_apart() {
        let statement = Statement::new("SELECT a FROM b WHERE c = ")
            .value("x'; DROP TABLE b; --")
            .sql(" AND d IN ")
            .values([1_i64, 2]);

        assert_eq!(statement.sql, "SELECT a FROM b WHERE c = $1 AND d IN ($2, $3)");
        assert_eq!(statement.values[0], Value::Text(Some("x'; DROP TABLE b; --".to_owned())));
    }
}
