//! Experiments and runs of a server.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Call, MlflowServer};
use crate::metric::to_json;
use crate::name::{PARAM_LENGTH_MAX, check_experiment_name, check_key, check_length};
use crate::run::{RUN_KEY, check_tags};
use crate::{DatasetInput, ExperimentId, Metric, RunConfig, RunStatus, TrackingError};

/// Most metrics of a request, and most parameters or tags.
const METRICS_PER_CALL: usize = 1000;
const PAIRS_PER_CALL: usize = 100;
/// How often a run is looked for and made, while the server fails.
const STARTS: usize = 5;

/// A run of a server, open for writing.
#[derive(Clone, Debug)]
pub struct ServerRun {
    pub(super) server: MlflowServer,
    run_id: String,
    experiment: ExperimentId,
    artifact_uri: String,
}

impl MlflowServer {
    /// Finds the experiment of this name, and makes it if there is none.
    ///
    /// # Errors
    ///
    /// - [`TrackingError::InvalidName`] or [`TrackingError::TooLong`] if MLflow takes no such name.
    /// - [`TrackingError::ExperimentDeleted`] if it lies in MLflow's trash.
    /// - Those of a call to a server.
    pub async fn experiment(&self, name: &str) -> Result<ExperimentId, TrackingError> {
        check_experiment_name(name)?;
        if let Some(found) = self.find_experiment(name).await? {
            return Ok(found);
        }
        let call = Call::post("make an experiment", "experiments/create", json!({ "name": name }));
        match self.call(call).await {
            Ok(answer) => self.experiment_id(&answer["experiment_id"]),
            // Somebody else was quicker, or the answer to the first try was lost.
            Err(TrackingError::Refused { code, .. }) if code == "RESOURCE_ALREADY_EXISTS" => {
                let found = self.find_experiment(name).await?;
                found.ok_or_else(|| self.senseless("an experiment that is there"))
            }
            Err(error) => Err(error),
        }
    }

    async fn find_experiment(&self, name: &str) -> Result<Option<ExperimentId>, TrackingError> {
        let query = [("experiment_name", name)];
        let call = Call::get("find an experiment", "experiments/get-by-name", &query);
        match self.call(call).await {
            Ok(answer) => {
                let experiment = &answer["experiment"];
                let id = self.experiment_id(&experiment["experiment_id"])?;
                if experiment["lifecycle_stage"] == "deleted" {
                    return Err(TrackingError::ExperimentDeleted {
                        name: name.to_owned(),
                        id: id.get(),
                    });
                }
                Ok(Some(id))
            }
            Err(TrackingError::Refused { code, .. }) if code == "RESOURCE_DOES_NOT_EXIST" => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn experiment_id(&self, value: &Value) -> Result<ExperimentId, TrackingError> {
        let id = value.as_str().and_then(|id| id.parse().ok());
        id.map(ExperimentId).ok_or_else(|| self.senseless("the number of an experiment"))
    }

    /// Starts a run; its status is `RUNNING` until [`ServerRun::end_run`].
    ///
    /// A server makes one more run each time that it is asked to. So the run has a tag
    /// `heimdall.run_key` of its own (a new one, unless `config` has it), and is looked for by that
    /// before it is made again.
    ///
    /// # Errors
    ///
    /// - [`TrackingError::InvalidName`] or [`TrackingError::TooLong`] if MLflow takes no such
    ///   name or tag.
    /// - Those of a call to a server.
    pub async fn start_run(&self, config: RunConfig) -> Result<ServerRun, TrackingError> {
        config.validate()?;
        let mut tags = config.all_tags();
        let key = tags.entry(RUN_KEY.to_owned()).or_insert_with(|| Uuid::new_v4().to_string());
        let key = key.clone();
        check_tags(&tags)?;
        let body = json!({
            "experiment_id": config.experiment.to_string(),
            "user_id": config.user,
            "start_time": config.start_time_ms,
            "run_name": config.run_name,
            "tags": pairs(&tags),
        });
        self.find_or_start(config.experiment, &key, &body).await
    }

    async fn find_or_start(
        &self,
        experiment: ExperimentId,
        key: &str,
        body: &Value,
    ) -> Result<ServerRun, TrackingError> {
        let mut last = None;
        for _ in 0..STARTS {
            if let Some(run) = self.find_run(experiment, key).await? {
                return Ok(run);
            }
            let call = Call::post("start a run", "runs/create", body.clone()).once();
            match self.call(call).await {
                Ok(answer) => return self.run(&answer["run"]),
                Err(error) if error.is_temporary() && self.attempts > 1 => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.expect("an attempt failed"))
    }

    async fn find_run(
        &self,
        experiment: ExperimentId,
        key: &str,
    ) -> Result<Option<ServerRun>, TrackingError> {
        let body = json!({
            "experiment_ids": [experiment.to_string()],
            "filter": format!("tags.`{RUN_KEY}` = '{key}'"),
            "run_view_type": "ALL",
            "max_results": 1,
        });
        let answer = self.call(Call::post("find a run", "runs/search", body)).await?;
        // Empty lists are left out.
        answer["runs"].get(0).map(|run| self.run(run)).transpose()
    }

    /// Takes up a run that exists, to add to it; its status stays what it is.
    ///
    /// # Errors
    ///
    /// - [`TrackingError::UnknownRun`] if there is no such run.
    /// - Those of a call to a server.
    pub async fn resume_run(&self, run_id: &str) -> Result<ServerRun, TrackingError> {
        match self.call(Call::get("find a run", "runs/get", &[("run_id", run_id)])).await {
            Ok(answer) => self.run(&answer["run"]),
            Err(TrackingError::Refused { code, .. }) if code == "RESOURCE_DOES_NOT_EXIST" => {
                Err(TrackingError::UnknownRun { run_id: run_id.to_owned() })
            }
            Err(error) => Err(error),
        }
    }

    fn run(&self, run: &Value) -> Result<ServerRun, TrackingError> {
        let info = &run["info"];
        let told = |field: &str| info[field].as_str().map(str::to_owned);
        let (Some(run_id), Some(artifact_uri)) = (told("run_id"), told("artifact_uri")) else {
            return Err(self.senseless("a run with its id"));
        };
        let experiment = self.experiment_id(&info["experiment_id"])?;
        Ok(ServerRun { server: self.clone(), run_id, experiment, artifact_uri })
    }

    /// The error of an answer that has not what it should.
    pub(super) fn senseless(&self, expected: &str) -> TrackingError {
        TrackingError::NotMlflow {
            address: self.address().to_owned(),
            status: 200,
            answer: format!("something else than {expected}"),
        }
    }
}

impl ServerRun {
    /// Id of the run: 32 hexadecimal digits.
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// The experiment that the run belongs to.
    pub fn experiment(&self) -> ExperimentId {
        self.experiment
    }

    /// Where the run's artifacts are.
    pub fn artifact_uri(&self) -> &str {
        &self.artifact_uri
    }

    /// Writes parameters. A parameter is written once: the same value again changes nothing.
    ///
    /// # Errors
    ///
    /// - [`TrackingError::InvalidName`] or [`TrackingError::TooLong`] if MLflow takes no such key
    ///   or value.
    /// - [`TrackingError::Refused`] if a parameter has another value already.
    /// - Those of a call to a server.
    pub async fn log_params(&self, params: &BTreeMap<String, String>) -> Result<(), TrackingError> {
        for (key, value) in params {
            check_key("parameter", key)?;
            check_length("value of parameter", key, value, PARAM_LENGTH_MAX)?;
        }
        self.log_pairs("write parameters", "params", params).await
    }

    /// Sets tags; a tag that is there gets the new value.
    ///
    /// # Errors
    ///
    /// - [`TrackingError::InvalidName`] or [`TrackingError::TooLong`] if MLflow takes no such key
    ///   or value.
    /// - Those of a call to a server.
    pub async fn set_tags(&self, tags: &BTreeMap<String, String>) -> Result<(), TrackingError> {
        check_tags(tags)?;
        self.log_pairs("set tags", "tags", tags).await
    }

    async fn log_pairs(
        &self,
        action: &'static str,
        field: &str,
        all: &BTreeMap<String, String>,
    ) -> Result<(), TrackingError> {
        for chunk in pairs(all).chunks(PAIRS_PER_CALL) {
            self.log_batch(action, json!({ "run_id": self.run_id, field: chunk })).await?;
        }
        Ok(())
    }

    /// Writes points of metrics. A point that is there already changes nothing.
    ///
    /// # Errors
    ///
    /// - [`TrackingError::InvalidName`] or [`TrackingError::TooLong`] if MLflow takes no such key.
    /// - Those of a call to a server.
    pub async fn log_metrics(&self, metrics: &[Metric]) -> Result<(), TrackingError> {
        for metric in metrics {
            check_key("metric key", &metric.key)?;
        }
        for chunk in metrics.chunks(METRICS_PER_CALL) {
            let points: Vec<Value> = chunk.iter().map(point).collect();
            let body = json!({ "run_id": self.run_id, "metrics": points });
            self.log_batch("write metrics", body).await?;
        }
        Ok(())
    }

    async fn log_batch(&self, action: &'static str, body: Value) -> Result<(), TrackingError> {
        self.server.call(Call::post(action, "runs/log-batch", body)).await.map(drop)
    }

    /// Notes that the run read a data set.
    ///
    /// # Errors
    ///
    /// - [`TrackingError::InvalidName`] or [`TrackingError::TooLong`] if MLflow takes no such text.
    /// - Those of a call to a server.
    pub async fn log_dataset(&self, dataset: &DatasetInput) -> Result<(), TrackingError> {
        dataset.validate()?;
        let mut described = json!({
            "name": dataset.name,
            "digest": dataset.digest,
            "source_type": dataset.source_type,
            "source": dataset.source.to_string(),
        });
        for (field, value) in [("schema", &dataset.schema), ("profile", &dataset.profile)] {
            if let Some(value) = value {
                described[field] = value.to_string().into();
            }
        }
        let context = json!({ "key": "mlflow.data.context", "value": dataset.context });
        let body = json!({
            "run_id": self.run_id,
            "datasets": [{ "tags": [context], "dataset": described }],
        });
        let call = Call::post("note a data set", "runs/log-inputs", body);
        self.server.call(call).await.map(drop)
    }

    /// Ends the run. More can still be written to it.
    ///
    /// # Errors
    ///
    /// Those of a call to a server.
    pub async fn end_run(&self, status: RunStatus, end_time_ms: i64) -> Result<(), TrackingError> {
        let body = json!({
            "run_id": self.run_id,
            "status": status.as_str(),
            "end_time": end_time_ms,
        });
        self.server.call(Call::post("end a run", "runs/update", body)).await.map(drop)
    }
}

/// Keys and values as a server takes them.
pub(super) fn pairs(pairs: &BTreeMap<String, String>) -> Vec<Value> {
    pairs.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
}

/// A point as a server takes it. JSON has no number for what is none.
fn point(metric: &Metric) -> Value {
    json!({
        "key": metric.key,
        "value": to_json(metric.value),
        "timestamp": metric.timestamp_ms,
        "step": metric.step,
    })
}
