//! Registered models of a folder.

use sqlx::{AssertSqlSafe, Sqlite, Transaction};

use crate::retry::Failure;
use crate::{MlflowStore, ModelVersion, NewModelVersion, TrackingError};

/// Columns of `model_versions` that are read, in the order of [`ModelVersion`].
type VersionRow =
    (u32, Option<String>, Option<String>, Option<String>, Option<String>, Option<i64>);

impl MlflowStore {
    /// Makes a version of a model, whose names were checked, and the model if there is none.
    pub(crate) async fn create_model_version(
        &self,
        new: &NewModelVersion,
    ) -> Result<u32, TrackingError> {
        self.retrying("register a model version", || self.attempt_create(new)).await
    }

    async fn attempt_create(&self, new: &NewModelVersion) -> Result<u32, Failure> {
        let mut transaction = self.begin().await?;
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
            self.and_in_workspace()
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
            self.and_in_workspace()
        )))
        .bind(time_ms)
        .bind(name)
        .execute(&mut **transaction)
        .await?;
        Ok(())
    }

    /// Points an alias, which was checked, to a version.
    pub(crate) async fn set_alias(
        &self,
        name: &str,
        alias: &str,
        version: u32,
    ) -> Result<(), TrackingError> {
        self.retrying("set an alias", || self.attempt_alias(name, alias, version)).await
    }

    async fn attempt_alias(&self, name: &str, alias: &str, version: u32) -> Result<(), Failure> {
        let mut transaction = self.begin().await?;
        let in_workspace = self.and_in_workspace();
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

    /// Reads the versions of a model, oldest first.
    pub(crate) async fn model_versions(
        &self,
        name: &str,
    ) -> Result<Vec<ModelVersion>, TrackingError> {
        self.retrying("read model versions", || self.attempt_versions(name)).await
    }

    async fn attempt_versions(&self, name: &str) -> Result<Vec<ModelVersion>, Failure> {
        let in_workspace = self.and_in_workspace();
        // One transaction, so that the three tables are read as of one moment.
        let mut transaction = self.pool().begin().await?;
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
}
