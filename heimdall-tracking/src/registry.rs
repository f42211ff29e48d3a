//! Registered models, their versions and aliases.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, Sqlite, Transaction};

use crate::name::{
    KEY_LENGTH_MAX, TEXT_LENGTH_MAX, check_alias, check_artifact_path, check_length,
    check_model_name,
};
use crate::retry::Failure;
use crate::{MlflowStore, TrackingError};

/// The registered models of a store.
#[derive(Clone, Debug)]
pub struct Registry {
    store: MlflowStore,
}

/// What a new version of a registered model is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewModelVersion {
    /// Name of the registered model; it is made if there is none.
    pub name: String,
    /// The run that made the model.
    pub run_id: String,
    /// Folder of the model within the run's artifacts: `model`.
    pub artifact_path: String,
    /// What people should read about it, in Markdown.
    pub description: Option<String>,
    /// Tags of the version.
    pub tags: BTreeMap<String, String>,
    /// Time of the registration, in ms since 1970.
    pub time_ms: i64,
}

/// A version of a registered model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelVersion {
    /// Name of the registered model.
    pub name: String,
    /// Number of the version, from 1.
    pub version: u32,
    /// The run that made the model, if one is known.
    pub run_id: Option<String>,
    /// Where the model came from: `runs:/RUN/model`.
    pub source: String,
    /// Where its files are: `mlflow-artifacts:/EXPERIMENT/RUN/artifacts/model`.
    pub storage_location: String,
    /// What people should read about it, in Markdown.
    pub description: Option<String>,
    /// Tags of the version.
    pub tags: BTreeMap<String, String>,
    /// Aliases that point to the version, ordered.
    pub aliases: Vec<String>,
    /// Time of the registration, in ms since 1970.
    pub creation_time_ms: i64,
}

/// Columns of `model_versions` that are read, in the order of [`ModelVersion`].
type VersionRow =
    (u32, Option<String>, Option<String>, Option<String>, Option<String>, Option<i64>);

impl Registry {
    pub(crate) fn new(store: MlflowStore) -> Self {
        Self { store }
    }

    /// Registers a model that lies in the artifacts of a run, and returns the number of the
    /// version: one more than the largest there was.
    ///
    /// Each call makes a version. A caller that may be repeated gives the version a tag of its
    /// own, and asks [`Registry::find_by_tag`] first.
    ///
    /// # Errors
    ///
    /// - [`TrackingError::InvalidName`] or [`TrackingError::TooLong`] if MLflow takes no such
    ///   name, path, tag or description.
    /// - [`TrackingError::UnknownRun`] if there is no such run in this store.
    /// - [`TrackingError::Database`] if the database cannot be written.
    pub async fn create_model_version(&self, new: &NewModelVersion) -> Result<u32, TrackingError> {
        check_model_name(&new.name)?;
        check_artifact_path(&new.artifact_path)?;
        if let Some(description) = &new.description {
            check_length("description of model", &new.name, description, TEXT_LENGTH_MAX)?;
        }
        for (key, value) in &new.tags {
            crate::name::check_key("tag key", key)?;
            check_length("value of tag", key, value, TEXT_LENGTH_MAX)?;
        }
        check_length("artifact path", &new.artifact_path, &new.artifact_path, KEY_LENGTH_MAX)?;
        self.store.retrying("register a model version", || self.attempt_create(new)).await
    }

    async fn attempt_create(&self, new: &NewModelVersion) -> Result<u32, Failure> {
        let mut transaction = self.store.begin().await?;
        let run: Option<(String, Option<String>)> =
            sqlx::query_as("SELECT artifact_uri, user_id FROM runs WHERE run_uuid = ?")
                .bind(&new.run_id)
                .fetch_optional(&mut *transaction)
                .await?;
        let Some((artifact_uri, user)) = run else {
            return Err(TrackingError::UnknownRun { run_id: new.run_id.clone() }.into());
        };
        self.touch_model(&mut transaction, &new.name, new.time_ms).await?;
        let version: u32 = sqlx::query_scalar(AssertSqlSafe(format!(
            "SELECT COALESCE(MAX(version), 0) + 1 FROM model_versions WHERE name = ? {}",
            self.store.and_in_workspace()
        )))
        .bind(&new.name)
        .fetch_one(&mut *transaction)
        .await?;
        let below = |root: &str| match new.artifact_path.as_str() {
            "" => root.to_owned(),
            path => format!("{root}/{path}"),
        };
        sqlx::query(
            "INSERT INTO model_versions (name, version, creation_time, last_updated_time,
             description, user_id, current_stage, source, run_id, status, status_message, run_link,
             storage_location) VALUES (?, ?, ?, ?, ?, ?, 'None', ?, ?, 'READY', NULL, '', ?)",
        )
        .bind(&new.name)
        .bind(version)
        .bind(new.time_ms)
        .bind(new.time_ms)
        .bind(&new.description)
        .bind(user)
        .bind(below(&format!("runs:/{}", new.run_id)))
        .bind(&new.run_id)
        .bind(below(&artifact_uri))
        .execute(&mut *transaction)
        .await?;
        for (key, value) in &new.tags {
            sqlx::query(
                "INSERT INTO model_version_tags (\"key\", value, name, version)
                 VALUES (?, ?, ?, ?)",
            )
            .bind(key)
            .bind(value)
            .bind(&new.name)
            .bind(version)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(version)
    }

    /// Makes the registered model if there is none, and notes that it changes.
    async fn touch_model(
        &self,
        transaction: &mut Transaction<'static, Sqlite>,
        name: &str,
        time_ms: i64,
    ) -> Result<(), sqlx::Error> {
        // No conflict target: the primary key differs between the revisions.
        sqlx::query(
            "INSERT INTO registered_models (name, creation_time, last_updated_time)
             VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(name)
        .bind(time_ms)
        .bind(time_ms)
        .execute(&mut **transaction)
        .await?;
        sqlx::query(AssertSqlSafe(format!(
            "UPDATE registered_models SET last_updated_time = ? WHERE name = ? {}",
            self.store.and_in_workspace()
        )))
        .bind(time_ms)
        .bind(name)
        .execute(&mut **transaction)
        .await?;
        Ok(())
    }

    /// Points an alias to a version, away from the one that had it.
    ///
    /// # Errors
    ///
    /// - [`TrackingError::InvalidName`] if the alias is reserved (`latest`, `v1`) or has
    ///   characters other than letters, digits, `_` and `-`.
    /// - [`TrackingError::UnknownModelVersion`] if there is no such version.
    /// - [`TrackingError::Database`] if the database cannot be written.
    pub async fn set_alias(
        &self,
        name: &str,
        alias: &str,
        version: u32,
    ) -> Result<(), TrackingError> {
        check_alias(alias)?;
        self.store.retrying("set an alias", || self.attempt_alias(name, alias, version)).await
    }

    async fn attempt_alias(&self, name: &str, alias: &str, version: u32) -> Result<(), Failure> {
        let mut transaction = self.store.begin().await?;
        let in_workspace = self.store.and_in_workspace();
        let found: Option<u32> = sqlx::query_scalar(AssertSqlSafe(format!(
            "SELECT version FROM model_versions
             WHERE name = ? AND version = ? AND current_stage != 'Deleted_Internal' {in_workspace}"
        )))
        .bind(name)
        .bind(version)
        .fetch_optional(&mut *transaction)
        .await?;
        if found.is_none() {
            let name = name.to_owned();
            return Err(TrackingError::UnknownModelVersion { name, version }.into());
        }
        let moved = sqlx::query(AssertSqlSafe(format!(
            "UPDATE registered_model_aliases SET version = ? WHERE name = ? AND alias = ?
             {in_workspace}"
        )))
        .bind(version)
        .bind(name)
        .bind(alias)
        .execute(&mut *transaction)
        .await?;
        if moved.rows_affected() == 0 {
            sqlx::query(
                "INSERT INTO registered_model_aliases (alias, version, name) VALUES (?, ?, ?)",
            )
            .bind(alias)
            .bind(version)
            .bind(name)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Reads the versions of a model, oldest first; a model that does not exist has none.
    ///
    /// # Errors
    ///
    /// [`TrackingError::Database`] if the database cannot be read.
    pub async fn model_versions(&self, name: &str) -> Result<Vec<ModelVersion>, TrackingError> {
        self.store.retrying("read model versions", || self.attempt_versions(name)).await
    }

    async fn attempt_versions(&self, name: &str) -> Result<Vec<ModelVersion>, Failure> {
        let in_workspace = self.store.and_in_workspace();
        // One transaction, so that the three tables are read as of one moment.
        let mut transaction = self.store.pool().begin().await?;
        let rows: Vec<VersionRow> = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT version, run_id, source, storage_location, description, creation_time
             FROM model_versions WHERE name = ? AND current_stage != 'Deleted_Internal'
             {in_workspace} ORDER BY version"
        )))
        .bind(name)
        .fetch_all(&mut *transaction)
        .await?;
        let tags: Vec<(u32, String, Option<String>)> = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT version, \"key\", value FROM model_version_tags WHERE name = ? {in_workspace}"
        )))
        .bind(name)
        .fetch_all(&mut *transaction)
        .await?;
        let aliases: Vec<(u32, String)> = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT version, alias FROM registered_model_aliases WHERE name = ? {in_workspace}
             ORDER BY alias"
        )))
        .bind(name)
        .fetch_all(&mut *transaction)
        .await?;
        transaction.rollback().await?;

        let version = |row: VersionRow| {
            let (version, run_id, source, storage_location, description, creation_time_ms) = row;
            let source = source.unwrap_or_default();
            ModelVersion {
                name: name.to_owned(),
                version,
                run_id,
                storage_location: storage_location.unwrap_or_else(|| source.clone()),
                source,
                description,
                tags: tags
                    .iter()
                    .filter(|(owner, ..)| *owner == version)
                    .map(|(_, key, value)| (key.clone(), value.clone().unwrap_or_default()))
                    .collect(),
                aliases: aliases
                    .iter()
                    .filter(|(owner, _)| *owner == version)
                    .map(|(_, alias)| alias.clone())
                    .collect(),
                creation_time_ms: creation_time_ms.unwrap_or_default(),
            }
        };
        Ok(rows.into_iter().map(version).collect())
    }

    /// Finds the newest version of a model that has this tag.
    ///
    /// # Errors
    ///
    /// [`TrackingError::Database`] if the database cannot be read.
    pub async fn find_by_tag(
        &self,
        name: &str,
        key: &str,
        value: &str,
    ) -> Result<Option<ModelVersion>, TrackingError> {
        let mut versions = self.model_versions(name).await?;
        versions.retain(|version| version.tags.get(key).is_some_and(|found| found == value));
        Ok(versions.pop())
    }

    /// Finds the version of a model that an alias points to.
    ///
    /// # Errors
    ///
    /// [`TrackingError::Database`] if the database cannot be read.
    pub async fn find_by_alias(
        &self,
        name: &str,
        alias: &str,
    ) -> Result<Option<ModelVersion>, TrackingError> {
        let versions = self.model_versions(name).await?;
        Ok(versions.into_iter().find(|version| version.aliases.iter().any(|found| found == alias)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MlflowTracker;
    use crate::store::tests::{scratch_run, upgrade};

    fn new_version(tracker: &MlflowTracker, key: &str) -> NewModelVersion {
        NewModelVersion {
            name: "heimdall".to_owned(),
            run_id: tracker.run_id().to_owned(),
            artifact_path: "model".to_owned(),
            description: Some("Seven receivers.".to_owned()),
            tags: BTreeMap::from([("heimdall.fingerprint".to_owned(), key.to_owned())]),
            time_ms: 50,
        }
    }

    #[tokio::test]
    async fn versions_count_up_and_read_back() {
        let (_folder, tracker) = scratch_run().await;
        let registry = tracker.store().registry();

        let first = registry.create_model_version(&new_version(&tracker, "a")).await.unwrap();
        let second = registry.create_model_version(&new_version(&tracker, "b")).await.unwrap();

        assert_eq!((first, second), (1, 2));
        let versions = registry.model_versions("heimdall").await.unwrap();
        let run = tracker.run_id();
        let expected = ModelVersion {
            name: "heimdall".to_owned(),
            version: 1,
            run_id: Some(run.to_owned()),
            source: format!("runs:/{run}/model"),
            storage_location: format!("mlflow-artifacts:/1/{run}/artifacts/model"),
            description: Some("Seven receivers.".to_owned()),
            tags: BTreeMap::from([("heimdall.fingerprint".to_owned(), "a".to_owned())]),
            aliases: Vec::new(),
            creation_time_ms: 50,
        };
        assert_eq!(versions[0], expected);
        assert_eq!(versions.len(), 2);
        let found = registry.find_by_tag("heimdall", "heimdall.fingerprint", "b").await.unwrap();
        assert_eq!(found.unwrap().version, 2);
        let found = registry.find_by_tag("heimdall", "heimdall.fingerprint", "c").await.unwrap();
        assert_eq!(found, None);
        assert_eq!(registry.model_versions("nobody").await.unwrap(), []);
    }

    #[tokio::test]
    async fn number_of_a_deleted_version_is_not_used_again() {
        let (_folder, tracker) = scratch_run().await;
        let registry = tracker.store().registry();
        registry.create_model_version(&new_version(&tracker, "a")).await.unwrap();
        sqlx::raw_sql("UPDATE model_versions SET current_stage = 'Deleted_Internal'")
            .execute(tracker.store().pool())
            .await
            .unwrap();

        let next = registry.create_model_version(&new_version(&tracker, "b")).await.unwrap();

        assert_eq!(next, 2);
        assert_eq!(registry.model_versions("heimdall").await.unwrap().len(), 1);
        let error = registry.set_alias("heimdall", "candidate", 1).await.unwrap_err();
        assert_eq!(error.to_string(), "model `heimdall` has no version 1");
    }

    #[tokio::test]
    async fn alias_moves_from_version_to_version() {
        let (_folder, tracker) = scratch_run().await;
        let registry = tracker.store().registry();
        registry.create_model_version(&new_version(&tracker, "a")).await.unwrap();
        registry.create_model_version(&new_version(&tracker, "b")).await.unwrap();

        for (alias, version) in [("candidate", 1), ("champion", 1), ("candidate", 2)] {
            registry.set_alias("heimdall", alias, version).await.unwrap();
        }

        let versions = registry.model_versions("heimdall").await.unwrap();
        assert_eq!(versions[0].aliases, ["champion"]);
        assert_eq!(versions[1].aliases, ["candidate"]);
        let found = registry.find_by_alias("heimdall", "candidate").await.unwrap();
        assert_eq!(found.unwrap().version, 2);
        assert!(registry.set_alias("heimdall", "v2", 2).await.is_err());
        assert!(registry.set_alias("heimdall", "latest", 2).await.is_err());
    }

    #[tokio::test]
    async fn model_of_an_unknown_run_leaves_no_trace() {
        let (_folder, tracker) = scratch_run().await;
        let registry = tracker.store().registry();
        let new = NewModelVersion { run_id: "f00".to_owned(), ..new_version(&tracker, "a") };

        let error = registry.create_model_version(&new).await.unwrap_err();

        assert_eq!(error.to_string(), "there is no run `f00`");
        let models: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM registered_models")
            .fetch_one(tracker.store().pool())
            .await
            .unwrap();
        assert_eq!(models, 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn versions_made_at_once_get_numbers_of_their_own() {
        let (folder, tracker) = scratch_run().await;
        let other = MlflowStore::open(folder.path()).await.unwrap();

        let make = |store: MlflowStore, new: NewModelVersion| async move {
            let mut numbers = Vec::new();
            for _ in 0..10 {
                numbers.push(store.registry().create_model_version(&new).await.unwrap());
            }
            numbers
        };
        let first = tokio::spawn(make(tracker.store().clone(), new_version(&tracker, "a")));
        let second = tokio::spawn(make(other, new_version(&tracker, "b")));

        let mut numbers = first.await.unwrap();
        numbers.extend(second.await.unwrap());
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn other_workspaces_of_an_upgraded_database_are_left_alone() {
        let (_folder, tracker) = scratch_run().await;
        let store = upgrade(tracker.store().clone()).await;
        let registry = store.registry();

        let version = registry.create_model_version(&new_version(&tracker, "a")).await.unwrap();
        registry.set_alias("heimdall", "candidate", version).await.unwrap();
        registry.set_alias("heimdall", "candidate", version).await.unwrap();

        assert_eq!(version, 1);
        let versions = registry.model_versions("heimdall").await.unwrap();
        assert_eq!(versions.len(), 1);
        assert_eq!(versions[0].aliases, ["candidate"]);
        let touched: Option<i64> = sqlx::query_scalar(
            "SELECT last_updated_time FROM registered_models WHERE workspace = 'others'",
        )
        .fetch_one(store.pool())
        .await
        .unwrap();
        assert_eq!(touched, None);
    }
}
