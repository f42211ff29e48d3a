//! The start of a run: what it is called, who started it, and from which source.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::name::{KEY_LENGTH_MAX, TEXT_LENGTH_MAX, check_key, check_length};
use crate::retry::Failure;
use crate::{ExperimentId, MlflowStore, StoredRun, TrackingError};

/// Tag by which a run is found again whose start was not heard of.
pub(crate) const RUN_KEY: &str = "heimdall.run_key";

/// What is known of a run when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunConfig {
    /// The experiment that it belongs to.
    pub experiment: ExperimentId,
    /// Its name for people; need not be unique.
    pub run_name: String,
    /// Who started it.
    pub user: String,
    /// Program or script that runs.
    pub source_name: String,
    /// Git commit of the source.
    pub git_commit: Option<String>,
    /// Git branch of the source.
    pub git_branch: Option<String>,
    /// What people should read about it, in Markdown.
    pub description: Option<String>,
    /// Further tags, such as `mlflow.parentRunId`; they win over those that the fields above make.
    pub tags: BTreeMap<String, String>,
    /// Time of the start, in ms since 1970.
    pub start_time_ms: i64,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It did what it was for.
    Finished,
    /// It broke off with an error.
    Failed,
    /// Somebody stopped it.
    Killed,
}

impl RunStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "FINISHED",
            Self::Failed => "FAILED",
            Self::Killed => "KILLED",
        }
    }
}

impl RunConfig {
    /// All tags of the new run.
    pub(crate) fn all_tags(&self) -> BTreeMap<String, String> {
        let named = [
            ("mlflow.runName", Some(&self.run_name)),
            ("mlflow.user", Some(&self.user)),
            ("mlflow.source.name", Some(&self.source_name)),
            ("mlflow.source.type", Some(&"LOCAL".to_owned())),
            ("mlflow.source.git.commit", self.git_commit.as_ref()),
            ("mlflow.source.git.branch", self.git_branch.as_ref()),
            ("mlflow.note.content", self.description.as_ref()),
        ];
        let mut tags: BTreeMap<String, String> = named
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?.clone())))
            .collect();
        tags.extend(self.tags.clone());
        tags
    }

    pub(crate) fn validate(&self) -> Result<(), TrackingError> {
        check_length("run name", &self.run_name, &self.run_name, KEY_LENGTH_MAX)?;
        check_length("user", &self.user, &self.user, 256)?;
        check_length("source name", &self.source_name, &self.source_name, 500)?;
        let commit = self.git_commit.as_deref().unwrap_or_default();
        check_length("git commit", commit, commit, 50)
    }
}

/// Checks tags of a run.
pub(crate) fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), TrackingError> {
    for (key, value) in tags {
        check_key("tag key", key)?;
        check_length("value of tag", key, value, TEXT_LENGTH_MAX)?;
    }
    Ok(())
}

impl MlflowStore {
    /// Starts a run; its status is `RUNNING` until [`StoredRun::end_run`].
    ///
    /// If the tags have a `heimdall.run_key`, and there is a run of this key, it is that run.
    ///
    /// # Errors
    ///
    /// - [`TrackingError::InvalidName`] or [`TrackingError::TooLong`] if MLflow takes no such
    ///   name or tag.
    /// - [`TrackingError::UnknownExperiment`] if there is no such experiment in this store.
    /// - [`TrackingError::Database`] if the database cannot be written.
    pub async fn start_run(&self, config: RunConfig) -> Result<StoredRun, TrackingError> {
        config.validate()?;
        let tags = config.all_tags();
        check_tags(&tags)?;
        if let Some(key) = tags.get(RUN_KEY)
            && let Some(run_id) = self.find_run(key).await?
        {
            return self.resume_run(&run_id).await;
        }
        let run_id = Uuid::new_v4().simple().to_string();
        let artifact_uri = format!("mlflow-artifacts:/{}/{run_id}/artifacts", config.experiment);
        self.retrying("start a run", || self.attempt_start(&run_id, &artifact_uri, &config, &tags))
            .await?;
        Ok(StoredRun::new(self.clone(), run_id, config.experiment, artifact_uri))
    }

    async fn find_run(&self, key: &str) -> Result<Option<String>, TrackingError> {
        self.retrying("find a run", || async {
            Ok(sqlx::query_scalar("SELECT run_uuid FROM tags WHERE \"key\" = ? AND value = ?")
                .bind(RUN_KEY)
                .bind(key)
                .fetch_optional(self.pool())
                .await?)
        })
        .await
    }

    async fn attempt_start(
        &self,
        run_id: &str,
        artifact_uri: &str,
        config: &RunConfig,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        let mut transaction = self.begin().await?;
        let experiment: Option<i64> =
            sqlx::query_scalar("SELECT experiment_id FROM experiments WHERE experiment_id = ?")
                .bind(config.experiment.get())
                .fetch_optional(&mut *transaction)
                .await?;
        if experiment.is_none() {
            return Err(TrackingError::UnknownExperiment { id: config.experiment.get() }.into());
        }
        sqlx::query(
            "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id,
             status, start_time, source_version, lifecycle_stage, artifact_uri, experiment_id)
             VALUES (?, ?, 'LOCAL', ?, '', ?, 'RUNNING', ?, ?, 'active', ?, ?)",
        )
        .bind(run_id)
        .bind(&config.run_name)
        .bind(&config.source_name)
        .bind(&config.user)
        .bind(config.start_time_ms)
        .bind(config.git_commit.as_deref().unwrap_or_default())
        .bind(artifact_uri)
        .bind(config.experiment.get())
        .execute(&mut *transaction)
        .await?;
        for (key, value) in tags {
            sqlx::query("INSERT INTO tags (\"key\", value, run_uuid) VALUES (?, ?, ?)")
                .bind(key)
                .bind(value)
                .bind(run_id)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Takes up a run that exists, to add to it; its status stays what it is.
    ///
    /// # Errors
    ///
    /// - [`TrackingError::UnknownRun`] if there is no such run in this store.
    /// - [`TrackingError::Database`] if the database cannot be read.
    pub async fn resume_run(&self, run_id: &str) -> Result<StoredRun, TrackingError> {
        let row: Option<(i64, String)> = self
            .retrying("read a run", || async {
                Ok(sqlx::query_as(
                    "SELECT experiment_id, artifact_uri FROM runs WHERE run_uuid = ?",
                )
                .bind(run_id)
                .fetch_optional(self.pool())
                .await?)
            })
            .await?;
        let (experiment, artifact_uri) =
            row.ok_or_else(|| TrackingError::UnknownRun { run_id: run_id.to_owned() })?;
        let experiment = ExperimentId(experiment);
        Ok(StoredRun::new(self.clone(), run_id.to_owned(), experiment, artifact_uri))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::{plain_run, scratch_store};

    #[tokio::test]
    async fn run_starts_with_the_tags_that_mlflow_shows() {
        let (_folder, store) = scratch_store().await;
        let experiment = store.experiment("localization", 1).await.unwrap();
        let config = RunConfig {
            git_commit: Some("0123abc".to_owned()),
            git_branch: Some("main".to_owned()),
            description: Some("Seven receivers.".to_owned()),
            tags: BTreeMap::from([("heimdall.run_key".to_owned(), "k".to_owned())]),
            ..plain_run(experiment)
        };

        let tracker = store.start_run(config).await.unwrap();

        let expected = [
            ("heimdall.run_key", "k"),
            ("mlflow.note.content", "Seven receivers."),
            ("mlflow.runName", "first light"),
            ("mlflow.source.git.branch", "main"),
            ("mlflow.source.git.commit", "0123abc"),
            ("mlflow.source.name", "heimdall-pipeline"),
            ("mlflow.source.type", "LOCAL"),
            ("mlflow.user", "ada"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(tracker.tags().await.unwrap(), BTreeMap::from(expected));
        assert!(
            tracker.run_id().len() == 32 && tracker.run_id().chars().all(|c| c.is_ascii_hexdigit())
        );
        let row: (String, String, i64, String, String, String) = sqlx::query_as(
            "SELECT name, status, start_time, lifecycle_stage, user_id, artifact_uri FROM runs",
        )
        .fetch_one(store.pool())
        .await
        .unwrap();
        let uri = format!("mlflow-artifacts:/1/{}/artifacts", tracker.run_id());
        let text = str::to_owned;
        assert_eq!(
            row,
            (text("first light"), text("RUNNING"), 1000, text("active"), text("ada"), uri)
        );
    }

    #[tokio::test]
    async fn every_status_is_one_that_the_table_takes() {
        let (_folder, store) = scratch_store().await;
        let experiment = store.experiment("localization", 1).await.unwrap();

        for status in [RunStatus::Finished, RunStatus::Failed, RunStatus::Killed] {
            let tracker = store.start_run(plain_run(experiment)).await.unwrap();
            tracker.end_run(status, 2000).await.unwrap();

            let row: (String, i64) =
                sqlx::query_as("SELECT status, end_time FROM runs WHERE run_uuid = ?")
                    .bind(tracker.run_id())
                    .fetch_one(store.pool())
                    .await
                    .unwrap();
            assert_eq!(row, (status.as_str().to_owned(), 2000));
        }
    }

    #[tokio::test]
    async fn run_of_an_unknown_experiment_is_refused() {
        let (_folder, store) = scratch_store().await;

        let error = store.start_run(plain_run(ExperimentId(5))).await.unwrap_err();

        assert_eq!(error.to_string(), "there is no experiment 5");
    }

    #[tokio::test]
    async fn run_is_taken_up_again_by_its_id() {
        let (_folder, store) = scratch_store().await;
        let experiment = store.experiment("localization", 1).await.unwrap();
        let started = store.start_run(plain_run(experiment)).await.unwrap();

        let resumed = store.resume_run(started.run_id()).await.unwrap();

        assert_eq!(resumed.experiment(), experiment);
        assert_eq!(resumed.artifact_uri(), started.artifact_uri());
        let error = store.resume_run("f00").await.unwrap_err();
        assert_eq!(error.to_string(), "there is no run `f00`");
    }
}
