//! A catalog in a database of PostgreSQL.

use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection};

use super::database::{Database, WRITERS_LOCK};
use super::{Catalog, refused, without_password};
use crate::DataError;

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// The schema that has the tables: one of its own, since others may use the database, too.
const SCHEMA: &str = "heimdall_catalog";

/// How long a connection is waited for: a server that is started again takes some seconds.
const ACQUIRE: Duration = Duration::from_secs(30);

/// Opens a catalog; one that is not there is made, or an error.
pub(super) async fn connect(address: &str, is_made: bool) -> Result<Catalog, DataError> {
    let options = options(address)?.options([("search_path", SCHEMA)]);
    reach(&options, address).await?;
    let pool = pool(options).await.map_err(refused("be reached"))?;
    make_schema(&pool, address, is_made).await?;
    Ok(Catalog { database: Database::Postgres(pool), new_file: None })
}

/// Reads an address.
pub(super) fn options(address: &str) -> Result<PgConnectOptions, DataError> {
    if !["postgres://", "postgresql://"].iter().any(|scheme| address.starts_with(scheme)) {
        return Err(invalid(address, "a catalog is a file, or at `postgres://…`"));
    }
    let options = PgConnectOptions::from_str(address)
        .map_err(|source| invalid(address, &source.to_string()))?;
    Ok(options.application_name("heimdall").disable_statement_logging())
}

fn invalid(address: &str, reason: &str) -> DataError {
    let (address, reason) = (without_password(address), reason.to_owned());
    DataError::Address { address, what: "catalog", reason }
}

/// Connects once, without waiting for a server that is not there: an address may be wrong.
pub(super) async fn reach(options: &PgConnectOptions, address: &str) -> Result<(), DataError> {
    let action = format!("be reached at {}", without_password(address));
    let connection = PgConnection::connect_with(options).await.map_err(refused(action))?;
    // It has answered; how it takes its leave matters to nobody.
    let _ = connection.close().await;
    Ok(())
}

pub(super) async fn pool(options: PgConnectOptions) -> Result<PgPool, sqlx::Error> {
    PgPoolOptions::new().max_connections(4).acquire_timeout(ACQUIRE).connect_with(options).await
}

async fn make_schema(pool: &PgPool, address: &str, is_made: bool) -> Result<(), DataError> {
    // Two that ask whether it is there, and make it, get in each other's way.
    let mut transaction = pool.begin().await.map_err(refused("begin to write"))?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(WRITERS_LOCK)
        .execute(&mut *transaction)
        .await
        .map_err(refused("be created"))?;
    let there: Option<i32> = sqlx::query_scalar("SELECT 1 FROM pg_namespace WHERE nspname = $1")
        .bind(SCHEMA)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(refused("be created"))?;
    if there.is_none() && !is_made {
        return Err(invalid(address, "no catalog was made in this database"));
    }
    if there.is_none() {
        sqlx::query("CREATE SCHEMA heimdall_catalog")
            .execute(&mut *transaction)
            .await
            .map_err(refused("be created"))?;
    }
    transaction.commit().await.map_err(refused("be created"))?;

    match MIGRATIONS.run(pool).await {
        Ok(()) => Ok(()),
        Err(sqlx::migrate::MigrateError::VersionMissing(actual)) => {
            Err(DataError::CatalogVersion {
                catalog: without_password(address),
                actual,
                expected: super::sqlite::newest(),
            })
        }
        Err(source) => Err(DataError::Migration(Box::new(source))),
    }
}
