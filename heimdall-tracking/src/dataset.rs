//! Datasets as inputs of a run.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::name::check_length;
use crate::retry::Failure;
use crate::{StoredRun, TrackingError};

/// A dataset that a run has read.
///
/// MLflow knows a dataset by name and digest: the parts that a run trains on and is tested on are
/// two datasets, and differ in one of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetInput {
    /// Name of the dataset.
    pub name: String,
    /// Digest of its content, at most 36 characters.
    pub digest: String,
    /// Kind of its origin: `local`, `http`, `s3`.
    pub source_type: String,
    /// Its origin: `{"uri": "…"}`.
    pub source: Value,
    /// Its columns or tensors, as MLflow writes them: `{"mlflow_tensorspec": {…}}`.
    pub schema: Option<Value>,
    /// Its size and statistics: `{"num_rows": 1200}`.
    pub profile: Option<Value>,
    /// What the run uses it for: `training`, `validation`, `test`.
    pub context: String,
}

impl DatasetInput {
    pub(crate) fn validate(&self) -> Result<(), TrackingError> {
        if self.name.is_empty() || self.digest.is_empty() {
            return Err(TrackingError::InvalidName {
                kind: "dataset",
                name: self.name.clone(),
                rule: "have a name and a digest",
            });
        }
        check_length("dataset name", &self.name, &self.name, 500)?;
        check_length("digest of dataset", &self.name, &self.digest, 36)?;
        check_length("source type of dataset", &self.name, &self.source_type, 36)?;
        check_length("context of dataset", &self.name, &self.context, 500)?;
        let length =
            |value: &Option<Value>| value.as_ref().map_or_else(String::new, Value::to_string);
        // The limits of MLflow's server, which are narrower than the columns.
        check_length("source of dataset", &self.name, &self.source.to_string(), 65_535)?;
        check_length("schema of dataset", &self.name, &length(&self.schema), 1_048_575)?;
        check_length("profile of dataset", &self.name, &length(&self.profile), 16_777_215)
    }
}

impl StoredRun {
    /// Records that the run has read a dataset; repeating it changes nothing.
    ///
    /// # Errors
    ///
    /// - [`TrackingError::InvalidName`] or [`TrackingError::TooLong`] if MLflow takes no such
    ///   dataset.
    /// - [`TrackingError::UnknownRun`] if the run is gone.
    /// - [`TrackingError::Database`] if the database cannot be written.
    pub async fn log_dataset(&self, dataset: &DatasetInput) -> Result<(), TrackingError> {
        dataset.validate()?;
        self.store().retrying("write a dataset", || self.attempt_dataset(dataset)).await
    }

    async fn attempt_dataset(&self, dataset: &DatasetInput) -> Result<(), Failure> {
        let mut transaction = self.begin().await?;
        sqlx::query(
            "INSERT INTO datasets (dataset_uuid, experiment_id, name, digest, dataset_source_type,
             dataset_source, dataset_schema, dataset_profile)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(Uuid::new_v4().simple().to_string())
        .bind(self.experiment().get())
        .bind(&dataset.name)
        .bind(&dataset.digest)
        .bind(&dataset.source_type)
        .bind(dataset.source.to_string())
        .bind(dataset.schema.as_ref().map(Value::to_string))
        .bind(dataset.profile.as_ref().map(Value::to_string))
        .execute(&mut *transaction)
        .await?;
        let dataset_id: String = sqlx::query_scalar(
            "SELECT dataset_uuid FROM datasets WHERE experiment_id = ? AND name = ? AND digest = ?",
        )
        .bind(self.experiment().get())
        .bind(&dataset.name)
        .bind(&dataset.digest)
        .fetch_one(&mut *transaction)
        .await?;

        sqlx::query(
            "INSERT INTO inputs
             (input_uuid, source_type, source_id, destination_type, destination_id)
             VALUES (?, 'DATASET', ?, 'RUN', ?) ON CONFLICT DO NOTHING",
        )
        .bind(Uuid::new_v4().simple().to_string())
        .bind(&dataset_id)
        .bind(self.run_id())
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "INSERT INTO input_tags (input_uuid, name, value)
             SELECT input_uuid, 'mlflow.data.context', ? FROM inputs
             WHERE source_type = 'DATASET' AND source_id = ?
             AND destination_type = 'RUN' AND destination_id = ?
             ON CONFLICT (input_uuid, name) DO UPDATE SET value = excluded.value",
        )
        .bind(&dataset.context)
        .bind(&dataset_id)
        .bind(self.run_id())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::tests::{scratch_run, upgrade};

    fn shards(digest: &str) -> DatasetInput {
        DatasetInput {
            name: "shards".to_owned(),
            digest: digest.to_owned(),
            source_type: "local".to_owned(),
            source: json!({ "uri": "artifacts/features" }),
            schema: None,
            profile: Some(json!({ "num_rows": 1200 })),
            context: "training".to_owned(),
        }
    }

    async fn inputs(tracker: &StoredRun) -> Vec<(String, String, Option<String>, String)> {
        sqlx::query_as(
            "SELECT datasets.digest, dataset_source, dataset_profile, input_tags.value
             FROM datasets
             JOIN inputs ON source_type = 'DATASET' AND source_id = dataset_uuid
             JOIN input_tags ON input_tags.input_uuid = inputs.input_uuid
             WHERE destination_type = 'RUN' AND destination_id = ?
             AND input_tags.name = 'mlflow.data.context' ORDER BY digest",
        )
        .bind(tracker.run_id())
        .fetch_all(tracker.store().pool())
        .await
        .unwrap()
    }

    #[tokio::test]
    async fn dataset_is_linked_once_before_and_after_an_upgrade() {
        let (_folder, tracker) = scratch_run().await;

        tracker.log_dataset(&shards("one")).await.unwrap();
        tracker.log_dataset(&shards("one")).await.unwrap();
        let store = upgrade(tracker.store().clone()).await;
        let tracker = store.resume_run(tracker.run_id()).await.unwrap();
        tracker.log_dataset(&shards("one")).await.unwrap();
        tracker.log_dataset(&shards("two")).await.unwrap();

        let row = |digest: &str| {
            let profile = Some(r#"{"num_rows":1200}"#.to_owned());
            let source = r#"{"uri":"artifacts/features"}"#.to_owned();
            (digest.to_owned(), source, profile, "training".to_owned())
        };
        assert_eq!(inputs(&tracker).await, [row("one"), row("two")]);
    }

    #[tokio::test]
    async fn long_digest_is_refused() {
        let (_folder, tracker) = scratch_run().await;

        let error = tracker.log_dataset(&shards(&"0".repeat(64))).await.unwrap_err();

        assert_eq!(
            error.to_string(),
            "digest of dataset `shards` has 64 characters, but MLflow takes at most 36"
        );
    }
}
