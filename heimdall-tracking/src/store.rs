//! A folder that is MLflow's own store: `mlflow.db` and `mlartifacts/`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, Sqlite, SqlitePool, Transaction};
use tracing::debug;

use crate::name::check_experiment_name;
use crate::retry::{Failure, retrying};
use crate::schema::{self, Schema};
use crate::{Registry, TrackingError, TrackingStore};

/// How long a statement waits for another process, as MLflow itself does.
const BUSY_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a task waits for the one connection; longer than all attempts of the task before it.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(300);
/// The first bytes of every SQLite database that is not empty.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// A folder with `mlflow.db` and `mlartifacts/`, as `mlflow ui` opens it.
///
/// The database is written at an old revision of MLflow's schema. The first MLflow that opens it
/// upgrades it to its own, after which no older MLflow can; this store goes on writing, also while
/// a server has the folder open.
///
/// Clones share one connection.
#[derive(Clone, Debug)]
pub struct MlflowStore {
    folder: Arc<Path>,
    database: Arc<Path>,
    schema: Schema,
    pool: SqlitePool,
}

/// Number of an experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExperimentId(pub(crate) i64);

impl ExperimentId {
    /// The number, as MLflow's addresses have it.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for ExperimentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl MlflowStore {
    /// Opens the store in `folder`, and makes it if there is none.
    ///
    /// # Errors
    ///
    /// - [`TrackingError::NotADatabase`] or [`TrackingError::ForeignDatabase`] if `mlflow.db` is
    ///   something else; it stays as it is.
    /// - [`TrackingError::MissingColumns`] if MLflow has upgraded the database to a schema that
    ///   lacks what is written.
    /// - [`TrackingError::Folder`] or [`TrackingError::Database`] if the folder or the database
    ///   cannot be made, read or locked.
    pub async fn open(folder: &Path) -> Result<Self, TrackingError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| TrackingError::Folder { path, source }
        };
        // Absolute, so that a later change of the working directory does not matter.
        let folder = std::path::absolute(folder).map_err(unusable(folder))?;
        let database = folder.join("mlflow.db");
        if !is_database_or_absent(&database).map_err(unusable(&database))? {
            return Err(TrackingError::NotADatabase { path: database });
        }
        let artifacts = folder.join("mlartifacts");
        fs::create_dir_all(&artifacts).map_err(unusable(&artifacts))?;

        // The journal mode is left as it is: it is a property of the file, which MLflow shares.
        let options = SqliteConnectOptions::new()
            .filename(&database)
            .create_if_missing(true)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        // One connection: SQLite has one writer at a time, and tasks queue better than they poll.
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(options);
        let schema =
            retrying("open the tracking tables", &database, || schema::prepare(&pool, &database))
                .await?;
        debug!(folder = %folder.display(), revision = schema.revision, "opened the tracking store");
        Ok(Self { folder: folder.into(), database: database.into(), schema, pool })
    }

    /// The folder of the store, as an absolute path.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Alembic revision that the database had when it was opened.
    pub fn schema_revision(&self) -> &str {
        &self.schema.revision
    }

    /// The registered models of this store.
    pub fn registry(&self) -> Registry {
        Registry::new(TrackingStore::Folder(self.clone()))
    }

    /// Finds the experiment of this name, and makes it, at the time `now_ms`, if there is none.
    ///
    /// # Errors
    ///
    /// - [`TrackingError::InvalidName`] or [`TrackingError::TooLong`] if MLflow takes no such name.
    /// - [`TrackingError::ExperimentDeleted`] if it lies in MLflow's trash.
    /// - [`TrackingError::Database`] if the database cannot be written.
    pub async fn experiment(&self, name: &str, now_ms: i64) -> Result<ExperimentId, TrackingError> {
        check_experiment_name(name)?;
        self.retrying("find or make an experiment", || self.attempt_experiment(name, now_ms)).await
    }

    async fn attempt_experiment(&self, name: &str, now_ms: i64) -> Result<ExperimentId, Failure> {
        let mut transaction = self.begin().await?;
        let found: Option<(i64, Option<String>)> = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT experiment_id, lifecycle_stage FROM experiments WHERE name = ? {}",
            self.and_in_workspace()
        )))
        .bind(name)
        .fetch_optional(&mut *transaction)
        .await?;
        match found {
            Some((id, stage)) if stage.as_deref() == Some("deleted") => {
                Err(TrackingError::ExperimentDeleted { name: name.to_owned(), id }.into())
            }
            Some((id, _)) => Ok(ExperimentId(id)),
            None => {
                let id: i64 = sqlx::query_scalar(
                    "INSERT INTO experiments
                     (name, artifact_location, lifecycle_stage, creation_time, last_update_time)
                     VALUES (?, '', 'active', ?, ?) RETURNING experiment_id",
                )
                .bind(name)
                .bind(now_ms)
                .bind(now_ms)
                .fetch_one(&mut *transaction)
                .await?;
                sqlx::query("UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?")
                    .bind(format!("mlflow-artifacts:/{id}"))
                    .bind(id)
                    .execute(&mut *transaction)
                    .await?;
                transaction.commit().await?;
                Ok(ExperimentId(id))
            }
        }
    }

    /// Experiments by name, without those in MLflow's trash.
    ///
    /// # Errors
    ///
    /// [`TrackingError::Database`] if the database cannot be read.
    pub async fn experiments(&self) -> Result<BTreeMap<String, ExperimentId>, TrackingError> {
        let rows: Vec<(String, i64)> = self
            .retrying("read experiments", || async {
                Ok(sqlx::query_as(AssertSqlSafe(format!(
                    "SELECT name, experiment_id FROM experiments
                     WHERE lifecycle_stage = 'active' {}",
                    self.and_in_workspace()
                )))
                .fetch_all(&self.pool)
                .await?)
            })
            .await?;
        Ok(rows.into_iter().map(|(name, id)| (name, ExperimentId(id))).collect())
    }

    /// Writes out what is pending and closes the database.
    pub async fn close(self) {
        self.pool.close().await;
    }

    pub(crate) fn artifacts(&self) -> PathBuf {
        self.folder.join("mlartifacts")
    }

    pub(crate) fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    /// Begins a transaction that may write from its first statement on: one that starts by reading
    /// cannot wait for another writer later.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        self.pool.begin_with("BEGIN IMMEDIATE").await
    }

    /// The condition that keeps to the workspace in which rows land that name none.
    pub(crate) fn and_in_workspace(&self) -> &'static str {
        if self.schema.has_workspaces { "AND workspace = 'default'" } else { "" }
    }

    pub(crate) async fn retrying<T, F, Attempt>(
        &self,
        action: &'static str,
        attempt: F,
    ) -> Result<T, TrackingError>
    where
        F: FnMut() -> Attempt,
        Attempt: Future<Output = Result<T, Failure>>,
    {
        retrying(action, &self.database, attempt).await
    }
}

/// Whether SQLite may open `path` without doing harm to another file.
fn is_database_or_absent(path: &Path) -> io::Result<bool> {
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Ok(false);
    }
    let mut start = Vec::new();
    file.by_ref().take(MAGIC.len() as u64).read_to_end(&mut start)?;
    // A database is empty before its first table is made.
    Ok(start.is_empty() || start == MAGIC)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use tempfile::TempDir;

    use super::*;
    use crate::{RunConfig, StoredRun};

    /// A new store in a folder of its own, which lives as long as the first value.
    pub(crate) async fn scratch_store() -> (TempDir, MlflowStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = MlflowStore::open(folder.path()).await.unwrap();
        (folder, store)
    }

    /// A run of the experiment `localization` that says little about itself.
    pub(crate) fn plain_run(experiment: ExperimentId) -> RunConfig {
        RunConfig {
            experiment,
            run_name: "first light".to_owned(),
            user: "ada".to_owned(),
            source_name: "heimdall-pipeline".to_owned(),
            git_commit: None,
            git_branch: None,
            description: None,
            tags: BTreeMap::new(),
            start_time_ms: 1000,
        }
    }

    /// A run in a new store.
    pub(crate) async fn scratch_run() -> (TempDir, StoredRun) {
        let (folder, store) = scratch_store().await;
        let experiment = store.experiment("localization", 1).await.unwrap();
        (folder, store.start_run(plain_run(experiment)).await.unwrap())
    }

    /// Changes the database as later revisions of MLflow do, and opens it again.
    pub(crate) async fn upgrade(store: MlflowStore) -> MlflowStore {
        sqlx::raw_sql("PRAGMA foreign_keys = OFF").execute(store.pool()).await.unwrap();
        sqlx::raw_sql(include_str!("../schema/workspaces.sql"))
            .execute(store.pool())
            .await
            .unwrap();
        let folder = store.folder().to_owned();
        store.close().await;
        MlflowStore::open(&folder).await.unwrap()
    }

    #[tokio::test]
    async fn experiment_is_made_once_and_found_again() {
        let (folder, store) = scratch_store().await;

        let made = store.experiment("localization", 7).await.unwrap();
        let other = store.experiment("direction finding", 8).await.unwrap();
        store.close().await;
        let store = MlflowStore::open(folder.path()).await.unwrap();
        let found = store.experiment("localization", 9).await.unwrap();

        assert_eq!((made.get(), other.get(), found), (1, 2, made));
        assert_eq!(store.experiment("Default", 9).await.unwrap().get(), 0);
        let row: (String, String, i64) = sqlx::query_as(
            "SELECT artifact_location, lifecycle_stage, creation_time FROM experiments
             WHERE experiment_id = 1",
        )
        .fetch_one(store.pool())
        .await
        .unwrap();
        assert_eq!(row, ("mlflow-artifacts:/1".to_owned(), "active".to_owned(), 7));
    }

    #[tokio::test]
    async fn deleted_experiment_is_refused_with_a_way_out() {
        let (_folder, store) = scratch_store().await;
        let id = store.experiment("old", 1).await.unwrap();
        sqlx::raw_sql("UPDATE experiments SET lifecycle_stage = 'deleted' WHERE name = 'old'")
            .execute(store.pool())
            .await
            .unwrap();

        let error = store.experiment("old", 2).await.unwrap_err();

        assert!(
            error.to_string().contains(&format!("mlflow experiments restore --experiment-id {id}")),
            "{error}"
        );
        assert!(!store.experiments().await.unwrap().contains_key("old"));
    }

    #[tokio::test]
    async fn file_that_is_no_database_is_refused_and_kept() {
        for content in [&b"my diary"[..], b"SQLite format 3\0, or so it says, but there is more"] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("mlflow.db");
            fs::File::create(&path).unwrap().write_all(content).unwrap();

            let error = MlflowStore::open(folder.path()).await.unwrap_err();

            assert!(matches!(error, TrackingError::NotADatabase { .. }), "{error}");
            assert_eq!(fs::read(&path).unwrap(), content);
        }
    }

    #[tokio::test]
    async fn folder_in_the_place_of_the_database_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("mlflow.db")).unwrap();

        let error = MlflowStore::open(folder.path()).await.unwrap_err();

        assert!(matches!(error, TrackingError::NotADatabase { .. }), "{error}");
    }

    #[tokio::test]
    async fn file_in_the_place_of_the_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mlflow");
        fs::write(&file, "").unwrap();

        let error = MlflowStore::open(&file).await.unwrap_err();

        assert!(matches!(error, TrackingError::Folder { .. }), "{error}");
        assert!(error.to_string().contains("mlflow"), "{error}");
    }

    #[tokio::test]
    async fn stores_that_open_one_new_folder_at_once_agree() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();

        let (first, second, third) =
            tokio::join!(MlflowStore::open(path), MlflowStore::open(path), MlflowStore::open(path));

        for store in [first.unwrap(), second.unwrap(), third.unwrap()] {
            assert_eq!(store.experiment("one", 1).await.unwrap().get(), 1);
        }
    }

    #[tokio::test]
    async fn upgraded_database_is_written_in_its_default_workspace() {
        let (_folder, store) = scratch_store().await;
        let before = store.experiment("before", 1).await.unwrap();

        let store = upgrade(store).await;

        assert_eq!(store.schema_revision(), "1b5f0d9ad7c1");
        assert_eq!(store.experiment("before", 2).await.unwrap(), before);
        let made = store.experiment("localization", 2).await.unwrap();
        assert_ne!(made.get(), 900);
        assert_eq!(store.experiments().await.unwrap()["localization"], made);
    }
}
