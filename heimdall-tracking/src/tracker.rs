//! One run: parameters, metrics, tags, and its end.

use std::collections::BTreeMap;

use sqlx::{QueryBuilder, Sqlite, Transaction};

use crate::metric::{StoredValue, newest_by_key};
use crate::name::{PARAM_LENGTH_MAX, check_key, check_length};
use crate::retry::Failure;
use crate::run::check_tags;
use crate::{ExperimentId, Metric, MlflowStore, RunStatus, TrackingError};

/// Rows of one INSERT; six values each, of which SQLite takes 32,766 at a time.
const ROWS_PER_INSERT: usize = 1000;

/// One run, open for writing.
///
/// Every method writes all that it is given or nothing, and waits while another process has the
/// database locked. Clones write to the same run.
#[derive(Clone, Debug)]
pub struct MlflowTracker {
    store: MlflowStore,
    run_id: String,
    experiment: ExperimentId,
    artifact_uri: String,
}

impl MlflowTracker {
    pub(crate) fn new(
        store: MlflowStore,
        run_id: String,
        experiment: ExperimentId,
        artifact_uri: String,
    ) -> Self {
        Self { store, run_id, experiment, artifact_uri }
    }

    /// Id of the run: 32 hexadecimal digits.
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// The experiment that the run belongs to.
    pub fn experiment(&self) -> ExperimentId {
        self.experiment
    }

    /// Where MLflow looks for the run's artifacts.
    pub fn artifact_uri(&self) -> &str {
        &self.artifact_uri
    }

    pub(crate) fn store(&self) -> &MlflowStore {
        &self.store
    }

    /// Begins a transaction that writes to the run, which must exist.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Sqlite>, Failure> {
        let mut transaction = self.store.begin().await?;
        let found: Option<String> =
            sqlx::query_scalar("SELECT run_uuid FROM runs WHERE run_uuid = ?")
                .bind(&self.run_id)
                .fetch_optional(&mut *transaction)
                .await?;
        match found {
            Some(_) => Ok(transaction),
            None => Err(TrackingError::UnknownRun { run_id: self.run_id.clone() }.into()),
        }
    }

    /// Writes parameters. A parameter is written once: the same value again changes nothing.
    ///
    /// A value of more than 8000 characters is refused, because MLflow's column ends there and a
    /// part of it would say something else; such a text is better off as an artifact.
    ///
    /// # Errors
    ///
    /// - [`TrackingError::InvalidName`] or [`TrackingError::TooLong`] if MLflow takes no such key
    ///   or value.
    /// - [`TrackingError::ParamChanged`] if a parameter has another value already.
    /// - [`TrackingError::UnknownRun`] if the run is gone.
    /// - [`TrackingError::Database`] if the database cannot be written.
    pub async fn log_params(&self, params: &BTreeMap<String, String>) -> Result<(), TrackingError> {
        for (key, value) in params {
            check_key("parameter", key)?;
            check_length("value of parameter", key, value, PARAM_LENGTH_MAX)?;
        }
        self.store.retrying("write parameters", || self.attempt_params(params)).await
    }

    async fn attempt_params(&self, params: &BTreeMap<String, String>) -> Result<(), Failure> {
        let mut transaction = self.begin().await?;
        for (key, value) in params {
            sqlx::query(
                "INSERT INTO params (\"key\", value, run_uuid) VALUES (?, ?, ?)
                 ON CONFLICT DO NOTHING",
            )
            .bind(key)
            .bind(value)
            .bind(&self.run_id)
            .execute(&mut *transaction)
            .await?;
            let kept: String =
                sqlx::query_scalar("SELECT value FROM params WHERE \"key\" = ? AND run_uuid = ?")
                    .bind(key)
                    .bind(&self.run_id)
                    .fetch_one(&mut *transaction)
                    .await?;
            if kept != *value {
                let (run_id, key, new) = (self.run_id.clone(), key.clone(), value.clone());
                return Err(TrackingError::ParamChanged { run_id, key, old: kept, new }.into());
            }
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Writes points of metrics, all in one transaction: many at a time are far cheaper than many
    /// times one. A point that is there already changes nothing.
    ///
    /// # Errors
    ///
    /// - [`TrackingError::InvalidName`] or [`TrackingError::TooLong`] if MLflow takes no such key.
    /// - [`TrackingError::UnknownRun`] if the run is gone.
    /// - [`TrackingError::Database`] if the database cannot be written.
    pub async fn log_metrics(&self, metrics: &[Metric]) -> Result<(), TrackingError> {
        for metric in metrics {
            check_key("metric key", &metric.key)?;
        }
        if metrics.is_empty() {
            return Ok(());
        }
        self.store.retrying("write metrics", || self.attempt_metrics(metrics)).await
    }

    async fn attempt_metrics(&self, metrics: &[Metric]) -> Result<(), Failure> {
        let mut transaction = self.begin().await?;
        for chunk in metrics.chunks(ROWS_PER_INSERT) {
            let mut insert = QueryBuilder::<Sqlite>::new(
                "INSERT INTO metrics (\"key\", value, timestamp, run_uuid, step, is_nan) ",
            );
            insert.push_values(chunk, |mut row, metric| {
                let StoredValue { value, is_nan } = metric.value.into();
                row.push_bind(metric.key.clone())
                    .push_bind(value)
                    .push_bind(metric.timestamp_ms)
                    .push_bind(self.run_id.clone())
                    .push_bind(metric.step)
                    .push_bind(is_nan);
            });
            insert.push(" ON CONFLICT DO NOTHING");
            // Chunks differ in length, and a statement as long as this is not worth keeping.
            insert.build().persistent(false).execute(&mut *transaction).await?;
        }
        for metric in newest_by_key(metrics).into_values() {
            let StoredValue { value, is_nan } = metric.value.into();
            sqlx::query(
                "INSERT INTO latest_metrics (\"key\", value, timestamp, step, is_nan, run_uuid)
                 VALUES (?, ?, ?, ?, ?, ?)
                 ON CONFLICT (\"key\", run_uuid) DO UPDATE SET value = excluded.value,
                 timestamp = excluded.timestamp, step = excluded.step, is_nan = excluded.is_nan
                 WHERE (excluded.step, excluded.timestamp, excluded.value)
                 > (latest_metrics.step, latest_metrics.timestamp, latest_metrics.value)",
            )
            .bind(&metric.key)
            .bind(value)
            .bind(metric.timestamp_ms)
            .bind(metric.step)
            .bind(is_nan)
            .bind(&self.run_id)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Sets tags; a tag that is there gets the new value.
    ///
    /// # Errors
    ///
    /// - [`TrackingError::InvalidName`] or [`TrackingError::TooLong`] if MLflow takes no such key
    ///   or value.
    /// - [`TrackingError::UnknownRun`] if the run is gone.
    /// - [`TrackingError::Database`] if the database cannot be written.
    pub async fn set_tags(&self, tags: &BTreeMap<String, String>) -> Result<(), TrackingError> {
        check_tags(tags)?;
        self.store.retrying("set tags", || self.attempt_tags(tags)).await
    }

    async fn attempt_tags(&self, tags: &BTreeMap<String, String>) -> Result<(), Failure> {
        let mut transaction = self.begin().await?;
        for (key, value) in tags {
            sqlx::query(
                "INSERT INTO tags (\"key\", value, run_uuid) VALUES (?, ?, ?)
                 ON CONFLICT (\"key\", run_uuid) DO UPDATE SET value = excluded.value",
            )
            .bind(key)
            .bind(value)
            .bind(&self.run_id)
            .execute(&mut *transaction)
            .await?;
        }
        // The name stands in two places, and MLflow shows either.
        if let Some(name) = tags.get("mlflow.runName") {
            sqlx::query("UPDATE runs SET name = ? WHERE run_uuid = ?")
                .bind(name)
                .bind(&self.run_id)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Ends the run. More can still be written to it.
    ///
    /// # Errors
    ///
    /// - [`TrackingError::UnknownRun`] if the run is gone.
    /// - [`TrackingError::Database`] if the database cannot be written.
    pub async fn end_run(&self, status: RunStatus, end_time_ms: i64) -> Result<(), TrackingError> {
        self.store
            .retrying("end a run", || async {
                let mut transaction = self.begin().await?;
                sqlx::query("UPDATE runs SET status = ?, end_time = ? WHERE run_uuid = ?")
                    .bind(status.as_str())
                    .bind(end_time_ms)
                    .bind(&self.run_id)
                    .execute(&mut *transaction)
                    .await?;
                Ok(transaction.commit().await?)
            })
            .await
    }

    /// Reads all points of a metric, ordered by time, step and value, as MLflow lists them.
    ///
    /// # Errors
    ///
    /// [`TrackingError::Database`] if the database cannot be read.
    pub async fn metric_history(&self, key: &str) -> Result<Vec<Metric>, TrackingError> {
        self.read_metrics(
            "SELECT \"key\", value, is_nan, step, timestamp FROM metrics
             WHERE run_uuid = ? AND \"key\" = ? ORDER BY timestamp, step, value",
            Some(key),
        )
        .await
    }

    /// Reads the newest point of every metric, ordered by key.
    ///
    /// # Errors
    ///
    /// [`TrackingError::Database`] if the database cannot be read.
    pub async fn latest_metrics(&self) -> Result<Vec<Metric>, TrackingError> {
        self.read_metrics(
            "SELECT \"key\", value, is_nan, step, timestamp FROM latest_metrics
             WHERE run_uuid = ? ORDER BY \"key\"",
            None,
        )
        .await
    }

    async fn read_metrics(
        &self,
        query: &'static str,
        key: Option<&str>,
    ) -> Result<Vec<Metric>, TrackingError> {
        let rows: Vec<(String, f64, bool, i64, i64)> = self
            .store
            .retrying("read metrics", || async {
                let mut query = sqlx::query_as(query).bind(&self.run_id);
                if let Some(key) = key {
                    query = query.bind(key);
                }
                Ok(query.fetch_all(self.store.pool()).await?)
            })
            .await?;
        let point = |(key, value, is_nan, step, timestamp_ms)| {
            let value = StoredValue { value, is_nan }.into();
            Metric { key, value, step, timestamp_ms }
        };
        Ok(rows.into_iter().map(point).collect())
    }

    /// Reads the parameters of the run.
    ///
    /// # Errors
    ///
    /// [`TrackingError::Database`] if the database cannot be read.
    pub async fn params(&self) -> Result<BTreeMap<String, String>, TrackingError> {
        self.read_pairs("SELECT \"key\", value FROM params WHERE run_uuid = ?").await
    }

    /// Reads the tags of the run.
    ///
    /// # Errors
    ///
    /// [`TrackingError::Database`] if the database cannot be read.
    pub async fn tags(&self) -> Result<BTreeMap<String, String>, TrackingError> {
        self.read_pairs("SELECT \"key\", COALESCE(value, '') FROM tags WHERE run_uuid = ?").await
    }

    async fn read_pairs(
        &self,
        query: &'static str,
    ) -> Result<BTreeMap<String, String>, TrackingError> {
        let rows: Vec<(String, String)> = self
            .store
            .retrying("read a run", || async {
                Ok(sqlx::query_as(query).bind(&self.run_id).fetch_all(self.store.pool()).await?)
            })
            .await?;
        Ok(rows.into_iter().collect())
    }
}
