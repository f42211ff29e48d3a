//! Registered models, their versions and aliases.

mod stored;

use std::collections::BTreeMap;

use crate::name::{
    KEY_LENGTH_MAX, TEXT_LENGTH_MAX, check_alias, check_artifact_path, check_length,
    check_model_name,
};
use crate::run::check_tags;
use crate::{TrackingError, TrackingStore};

/// The registered models of a folder or a server.
#[derive(Clone, Debug)]
pub struct Registry {
    store: TrackingStore,
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

impl Registry {
    pub(crate) fn new(store: TrackingStore) -> Self {
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
    /// - [`TrackingError::Database`], or those of a call to a server, if it cannot be written.
    pub async fn create_model_version(&self, new: &NewModelVersion) -> Result<u32, TrackingError> {
        check_model_name(&new.name)?;
        check_artifact_path(&new.artifact_path)?;
        if let Some(description) = &new.description {
            check_length("description of model", &new.name, description, TEXT_LENGTH_MAX)?;
        }
        check_tags(&new.tags)?;
        check_length("artifact path", &new.artifact_path, &new.artifact_path, KEY_LENGTH_MAX)?;
        match &self.store {
            TrackingStore::Folder(store) => store.create_model_version(new).await,
            TrackingStore::Server(server) => server.create_model_version(new).await,
        }
    }

    /// Points an alias to a version, away from the one that had it.
    ///
    /// # Errors
    ///
    /// - [`TrackingError::InvalidName`] if the alias is reserved (`latest`, `v1`) or has
    ///   characters other than letters, digits, `_` and `-`.
    /// - [`TrackingError::UnknownModelVersion`] if there is no such version.
    /// - [`TrackingError::Database`], or those of a call to a server, if it cannot be written.
    pub async fn set_alias(
        &self,
        name: &str,
        alias: &str,
        version: u32,
    ) -> Result<(), TrackingError> {
        check_alias(alias)?;
        match &self.store {
            TrackingStore::Folder(store) => store.set_alias(name, alias, version).await,
            TrackingStore::Server(server) => server.set_alias(name, alias, version).await,
        }
    }

    /// Reads the versions of a model, oldest first; a model that does not exist has none.
    ///
    /// # Errors
    ///
    /// [`TrackingError::Database`], or those of a call to a server, if it cannot be read.
    pub async fn model_versions(&self, name: &str) -> Result<Vec<ModelVersion>, TrackingError> {
        match &self.store {
            TrackingStore::Folder(store) => store.model_versions(name).await,
            TrackingStore::Server(server) => server.model_versions(name).await,
        }
    }

    /// Finds the newest version of a model that has this tag.
    ///
    /// # Errors
    ///
    /// Those of [`model_versions`](Self::model_versions).
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
    /// Those of [`model_versions`](Self::model_versions).
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
    use crate::store::tests::{scratch_run, upgrade};
    use crate::{MlflowStore, StoredRun};

    fn new_version(tracker: &StoredRun, key: &str) -> NewModelVersion {
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
