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
pub struct StoredRun {
    store: MlflowStore,
    run_id: String,
    experiment: ExperimentId,
    artifact_uri: String,
}

impl StoredRun {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sqlx::Connection;
    use sqlx::sqlite::SqliteConnection;

    use super::*;
    use crate::store::tests::{plain_run, scratch_run, scratch_store, upgrade};

    fn point(key: &str, step: i64, timestamp_ms: i64, value: f64) -> Metric {
        Metric { key: key.to_owned(), value, step, timestamp_ms }
    }

    fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// The columns of a point, with the bits of its value, so that points can be compared exactly.
    fn columns(metric: &Metric) -> (String, i64, i64, u64, bool) {
        let StoredValue { value, is_nan } = metric.value.into();
        (metric.key.clone(), metric.timestamp_ms, metric.step, value.to_bits(), is_nan)
    }

    #[tokio::test]
    async fn history_comes_back_in_order() {
        let (_folder, tracker) = scratch_run().await;
        let points = [
            point("loss", 2, 20, 0.1 + 0.2),
            point("loss", 1, 10, 3.0),
            point("rate", 1, 10, 1e-3),
        ];

        tracker.log_metrics(&points).await.unwrap();

        let history = tracker.metric_history("loss").await.unwrap();
        assert_eq!(history, [points[1].clone(), points[0].clone()]);
        assert_eq!(tracker.latest_metrics().await.unwrap(), [points[0].clone(), points[2].clone()]);
    }

    #[tokio::test]
    async fn more_points_than_one_statement_takes_are_written() {
        let (_folder, tracker) = scratch_run().await;
        let points: Vec<Metric> = (0..2501).map(|n| point("loss", n, n, 1.0 / n as f64)).collect();

        tracker.log_metrics(&points).await.unwrap();
        tracker.log_metrics(&points).await.unwrap();

        let history = tracker.metric_history("loss").await.unwrap();
        assert_eq!(history.len(), 2501);
        // The first of them is 1 / 0.
        assert_eq!(history[0], point("loss", 0, 0, f64::MAX));
        assert_eq!(history[1..], points[1..]);
    }

    #[tokio::test]
    async fn bad_key_is_named_and_nothing_is_written() {
        let (_folder, tracker) = scratch_run().await;

        let error = tracker
            .log_metrics(&[point("good", 0, 0, 1.0), point("bad;key", 0, 0, 1.0)])
            .await
            .unwrap_err();

        assert!(error.to_string().starts_with("metric key `bad;key` must"), "{error}");
        assert_eq!(tracker.latest_metrics().await.unwrap(), []);
    }

    #[tokio::test]
    async fn changed_parameter_is_refused_and_takes_nothing_with_it() {
        let (_folder, tracker) = scratch_run().await;
        tracker.log_params(&pairs(&[("epochs", "10"), ("seed", "1")])).await.unwrap();
        tracker.log_params(&pairs(&[("epochs", "10")])).await.unwrap();

        let error =
            tracker.log_params(&pairs(&[("batch", "32"), ("seed", "2")])).await.unwrap_err();

        assert!(
            matches!(&error, TrackingError::ParamChanged { key, .. } if key == "seed"),
            "{error}"
        );
        assert_eq!(tracker.params().await.unwrap(), pairs(&[("epochs", "10"), ("seed", "1")]));
    }

    #[tokio::test]
    async fn parameter_longer_than_its_column_is_refused_by_name() {
        let (_folder, tracker) = scratch_run().await;
        tracker.log_params(&pairs(&[("fits", &"ü".repeat(8000))])).await.unwrap();

        let error = tracker.log_params(&pairs(&[("long", &"u".repeat(8001))])).await.unwrap_err();

        assert_eq!(
            error.to_string(),
            "value of parameter `long` has 8001 characters, but MLflow takes at most 8000"
        );
    }

    #[tokio::test]
    async fn tags_are_replaced_and_the_name_follows() {
        let (_folder, tracker) = scratch_run().await;

        tracker.set_tags(&pairs(&[("a", "1"), ("mlflow.runName", "second")])).await.unwrap();
        tracker.set_tags(&pairs(&[("a", "2")])).await.unwrap();

        let tags = tracker.tags().await.unwrap();
        assert_eq!((tags["a"].as_str(), tags["mlflow.runName"].as_str()), ("2", "second"));
        let name: String = sqlx::query_scalar("SELECT name FROM runs")
            .fetch_one(tracker.store().pool())
            .await
            .unwrap();
        assert_eq!(name, "second");
    }

    #[tokio::test]
    async fn writing_to_a_run_that_is_gone_names_it() {
        let (_folder, tracker) = scratch_run().await;
        sqlx::raw_sql("DELETE FROM tags; DELETE FROM runs")
            .execute(tracker.store().pool())
            .await
            .unwrap();

        let error = tracker.log_metrics(&[point("loss", 0, 0, 1.0)]).await.unwrap_err();

        assert!(matches!(error, TrackingError::UnknownRun { .. }), "{error}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn two_stores_on_one_folder_lose_nothing() {
        let (folder, store) = scratch_store().await;
        let experiment = store.experiment("localization", 1).await.unwrap();
        let tracker = store.start_run(plain_run(experiment)).await.unwrap();
        let other = MlflowStore::open(folder.path()).await.unwrap();
        let other = other.resume_run(tracker.run_id()).await.unwrap();

        let write = |tracker: StoredRun, offset: i64| async move {
            let points: Vec<Metric> =
                (0..1000).map(|n| point("loss", 2 * n + offset, n, n as f64)).collect();
            for batch in points.chunks(40) {
                tracker.log_metrics(batch).await.unwrap();
            }
        };
        let first = tokio::spawn(write(tracker.clone(), 0));
        let second = tokio::spawn(write(other, 1));
        first.await.unwrap();
        second.await.unwrap();

        let history = tracker.metric_history("loss").await.unwrap();
        let mut steps: Vec<i64> = history.iter().map(|metric| metric.step).collect();
        steps.sort_unstable();
        assert_eq!(steps, (0..2000).collect::<Vec<_>>());
        assert_eq!(tracker.latest_metrics().await.unwrap(), [point("loss", 1999, 999, 999.0)]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn writer_waits_for_another_process() {
        let (folder, tracker) = scratch_run().await;
        let url = format!("sqlite://{}", folder.path().join("mlflow.db").display());
        let mut other = SqliteConnection::connect(&url).await.unwrap();
        sqlx::raw_sql("BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();

        let waiting = tokio::spawn({
            let tracker = tracker.clone();
            async move { tracker.log_metrics(&[point("loss", 0, 0, 1.0)]).await }
        });
        tokio::task::yield_now().await;
        sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();

        waiting.await.unwrap().unwrap();
        assert_eq!(tracker.metric_history("loss").await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn upgraded_database_takes_the_same_writes() {
        let (_folder, tracker) = scratch_run().await;
        tracker.log_metrics(&[point("loss", 1, 1, 2.0)]).await.unwrap();

        let store = upgrade(tracker.store().clone()).await;
        let tracker = store.resume_run(tracker.run_id()).await.unwrap();
        tracker.log_metrics(&[point("loss", 2, 2, 1.0)]).await.unwrap();
        tracker.log_params(&pairs(&[("seed", "1")])).await.unwrap();
        tracker.set_tags(&pairs(&[("a", "1")])).await.unwrap();

        assert_eq!(tracker.metric_history("loss").await.unwrap().len(), 2);
        assert_eq!(tracker.latest_metrics().await.unwrap(), [point("loss", 2, 2, 1.0)]);
    }

    /// Points among which ties in step, time and value are frequent.
    fn crowded_point() -> impl Strategy<Value = Metric> {
        let values = vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, 0.0, 1.0, -1.0];
        (prop_oneof![Just("a"), Just("b")], -1_i64..2, 0_i64..3, prop::sample::select(values))
            .prop_map(|(key, step, time, value)| point(key, step, time, value))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// The newest point is the one that a walk through all points, one by one, ends with, and
        /// the history is the set of points, however they were cut into batches.
        #[test]
        fn newest_and_history_match_a_walk_through_all_points(
            batches in prop::collection::vec(prop::collection::vec(crowded_point(), 0..6), 1..5),
        ) {
            let mut newest = BTreeMap::<String, Metric>::new();
            let mut history = std::collections::BTreeSet::new();
            for metric in batches.iter().flatten() {
                history.insert(columns(metric));
                let rank = |metric: &Metric| {
                    let value = StoredValue::from(metric.value).value;
                    (metric.step, metric.timestamp_ms, value)
                };
                let is_newer = newest.get(&metric.key).is_none_or(|old| rank(metric) > rank(old));
                if is_newer {
                    newest.insert(metric.key.clone(), metric.clone());
                }
            }

            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (read_newest, read_history) = runtime.block_on(async {
                let (_folder, tracker) = scratch_run().await;
                for batch in &batches {
                    tracker.log_metrics(batch).await.unwrap();
                }
                let mut history = tracker.metric_history("a").await.unwrap();
                history.extend(tracker.metric_history("b").await.unwrap());
                (tracker.latest_metrics().await.unwrap(), history)
            });

            let expected: Vec<_> = newest.values().map(columns).collect();
            prop_assert_eq!(read_newest.iter().map(columns).collect::<Vec<_>>(), expected);
            prop_assert_eq!(read_history.len(), history.len());
            prop_assert_eq!(
                read_history.iter().map(columns).collect::<std::collections::BTreeSet<_>>(),
                history
            );
        }
    }
}
