//! MLflow's tables: made where there are none, checked where there are.

use std::collections::BTreeSet;
use std::path::Path;

use sqlx::{SqliteConnection, SqlitePool};

use crate::TrackingError;
use crate::retry::Failure;

/// The tables at alembic revision acf3f17fdcc7, which every MLflow upgrades to its own when it
/// opens the database.
const TABLES: &str = include_str!("../schema/acf3f17fdcc7.sql");

/// Every column that is read or written, whatever the revision.
const COLUMNS_USED: &[(&str, &[&str])] = &[
    ("experiments", &["experiment_id", "name", "artifact_location", "lifecycle_stage"]),
    ("experiments", &["creation_time", "last_update_time"]),
    ("runs", &["run_uuid", "name", "source_type", "source_name", "entry_point_name", "user_id"]),
    ("runs", &["status", "start_time", "end_time", "source_version", "lifecycle_stage"]),
    ("runs", &["artifact_uri", "experiment_id"]),
    ("tags", &["key", "value", "run_uuid"]),
    ("params", &["key", "value", "run_uuid"]),
    ("metrics", &["key", "value", "timestamp", "run_uuid", "step", "is_nan"]),
    ("latest_metrics", &["key", "value", "timestamp", "run_uuid", "step", "is_nan"]),
    ("datasets", &["dataset_uuid", "experiment_id", "name", "digest", "dataset_source_type"]),
    ("datasets", &["dataset_source", "dataset_schema", "dataset_profile"]),
    ("inputs", &["input_uuid", "source_type", "source_id", "destination_type", "destination_id"]),
    ("input_tags", &["input_uuid", "name", "value"]),
    ("registered_models", &["name", "creation_time", "last_updated_time", "description"]),
    ("model_versions", &["name", "version", "creation_time", "last_updated_time", "description"]),
    ("model_versions", &["user_id", "current_stage", "source", "run_id", "status"]),
    ("model_versions", &["status_message", "run_link", "storage_location"]),
    ("model_version_tags", &["key", "value", "name", "version"]),
    ("registered_model_aliases", &["alias", "version", "name"]),
];

/// What is known about the tables of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Schema {
    /// Alembic revision, as the database states it.
    pub(crate) revision: String,
    /// Whether experiments and models lie in workspaces, as they do since MLflow 3.10.
    pub(crate) has_workspaces: bool,
}

/// Makes the tables if the database has none, and checks them otherwise.
pub(crate) async fn prepare(pool: &SqlitePool, path: &Path) -> Result<Schema, Failure> {
    // Reading first: a database that is ready is opened without taking the lock of a writer.
    let mut connection = pool.acquire().await?;
    if columns(&mut connection).await?.is_empty() {
        drop(connection);
        let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
        // Another process may have been quicker.
        if columns(&mut transaction).await?.is_empty() {
            sqlx::raw_sql(TABLES).execute(&mut *transaction).await?;
            transaction.commit().await?;
        } else {
            transaction.rollback().await?;
        }
        connection = pool.acquire().await?;
    }
    check(&mut connection, path).await
}

/// Every column of every table, as table and column.
async fn columns(
    connection: &mut SqliteConnection,
) -> Result<BTreeSet<(String, String)>, sqlx::Error> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT sqlite_master.name, info.name
         FROM sqlite_master JOIN pragma_table_info(sqlite_master.name) AS info
         WHERE sqlite_master.type = 'table' AND sqlite_master.name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().collect())
}

async fn check(connection: &mut SqliteConnection, path: &Path) -> Result<Schema, Failure> {
    let present = columns(connection).await?;
    let has = |table: &str, column: &str| present.contains(&(table.to_owned(), column.to_owned()));
    if !has("alembic_version", "version_num") {
        let table = present.first().map(|(table, _)| table.clone()).unwrap_or_default();
        return Err(TrackingError::ForeignDatabase { path: path.to_owned(), table }.into());
    }
    let revision: Option<String> = sqlx::query_scalar("SELECT version_num FROM alembic_version")
        .fetch_optional(connection)
        .await?;
    let revision = revision.unwrap_or_else(|| "of no revision".to_owned());

    let missing: Vec<String> = COLUMNS_USED
        .iter()
        .flat_map(|(table, columns)| columns.iter().map(move |column| (table, column)))
        .filter(|(table, column)| !has(table, column))
        .map(|(table, column)| format!("{table}.{column}"))
        .collect();
    if !missing.is_empty() {
        let path = path.to_owned();
        return Err(TrackingError::MissingColumns { path, revision, columns: missing }.into());
    }
    Ok(Schema { revision, has_workspaces: has("experiments", "workspace") })
}

#[cfg(test)]
mod tests {
    use sqlx::Row;

    use super::*;

    async fn memory() -> SqlitePool {
        sqlx::pool::PoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap()
    }

    async fn refusal(pool: &SqlitePool) -> TrackingError {
        match prepare(pool, Path::new("mlflow.db")).await.unwrap_err() {
            Failure::Refused(error) => error,
            Failure::Database(error) => panic!("{error}"),
        }
    }

    #[tokio::test]
    async fn empty_database_gets_the_sixteen_tables_once() {
        let pool = memory().await;

        let made = prepare(&pool, Path::new("mlflow.db")).await.unwrap();
        let found = prepare(&pool, Path::new("mlflow.db")).await.unwrap();

        let expected = Schema { revision: "acf3f17fdcc7".to_owned(), has_workspaces: false };
        assert_eq!((&made, &found), (&expected, &expected));
        let tables: Vec<String> =
            sqlx::query_scalar("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
                .fetch_all(&pool)
                .await
                .unwrap();
        assert_eq!(
            tables.join(" "),
            "alembic_version datasets experiment_tags experiments input_tags inputs latest_metrics \
             metrics model_version_tags model_versions params registered_model_aliases \
             registered_model_tags registered_models runs tags"
        );
        let default = sqlx::query("SELECT * FROM experiments").fetch_one(&pool).await.unwrap();
        assert_eq!(default.get::<i64, _>("experiment_id"), 0);
        assert_eq!(default.get::<&str, _>("artifact_location"), "mlflow-artifacts:/0");
    }

    #[tokio::test]
    async fn tables_hold_what_the_constraints_demand() {
        let pool = memory().await;
        prepare(&pool, Path::new("mlflow.db")).await.unwrap();
        sqlx::raw_sql("INSERT INTO runs (run_uuid, experiment_id) VALUES ('r', 0)")
            .execute(&pool)
            .await
            .unwrap();

        for broken in [
            "INSERT INTO experiments (name, lifecycle_stage) VALUES ('x', 'gone')",
            "INSERT INTO experiments (name) VALUES ('Default')",
            "INSERT INTO runs (run_uuid, experiment_id) VALUES ('s', 7)",
            "INSERT INTO runs (run_uuid, status) VALUES ('s', 'DONE')",
            "INSERT INTO runs (run_uuid, source_type) VALUES ('s', 'RUST')",
            "INSERT INTO params VALUES ('k', NULL, 'r')",
            "INSERT INTO params VALUES ('k', 'v', 'nobody')",
            "INSERT INTO metrics VALUES ('k', 1.0, 0, 'r', 0, 2)",
            "INSERT INTO latest_metrics VALUES ('k', 1.0, 0, 0, 0, 'nobody')",
            "INSERT INTO model_versions (name, version) VALUES ('nobody', 1)",
            "INSERT INTO registered_model_aliases VALUES ('a', 1, 'nobody')",
        ] {
            let error = sqlx::raw_sql(broken).execute(&pool).await.unwrap_err();
            assert!(error.to_string().contains("constraint failed"), "{broken}: {error}");
        }
    }

    #[tokio::test]
    async fn column_that_a_later_schema_drops_is_named() {
        let pool = memory().await;
        prepare(&pool, Path::new("mlflow.db")).await.unwrap();
        sqlx::raw_sql(
            "UPDATE alembic_version SET version_num = 'f00';
             ALTER TABLE runs DROP COLUMN user_id;
             ALTER TABLE tags RENAME COLUMN value TO text;",
        )
        .execute(&pool)
        .await
        .unwrap();

        let error = refusal(&pool).await;

        assert_eq!(
            error.to_string(),
            "`mlflow.db` has MLflow's schema f00, which lacks runs.user_id, tags.value"
        );
    }

    #[tokio::test]
    async fn database_of_another_program_is_left_alone() {
        let pool = memory().await;
        sqlx::raw_sql("CREATE TABLE birds (name TEXT)").execute(&pool).await.unwrap();

        let error = refusal(&pool).await;

        assert!(error.to_string().contains("a table `birds`"), "{error}");
        let mut connection = pool.acquire().await.unwrap();
        assert_eq!(columns(&mut connection).await.unwrap().len(), 1);
    }
}
