//! Stage `register`: a model and its evaluation in, a registered version out.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use heimdall_export::{MANIFEST_FILE as PACKAGE_MANIFEST_FILE, PackageManifest};
use heimdall_tracking::{
    Metric, NewModelVersion, Run, RunConfig, RunStatus, TrackingAddress, TrackingError,
    TrackingStore,
};
use heimdall_train::{Evaluation, MANIFEST_FILE, ModelManifest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::warn;

use crate::PipelineError;
use crate::gate::GateFailure;
use crate::stage::{PipelineFacts, StageContext, StageOutput};

/// Version of `registration.json`.
const FORMAT_VERSION: u32 = 1;

/// Name of the file that says what was registered.
pub(crate) const REGISTRATION_FILE: &str = "registration.json";

/// Longest value of a parameter that MLflow takes, in characters.
const PARAM_LENGTH_MAX: usize = 8000;

/// Enters a model into the registry if it is good enough.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisterStage {
    /// Name of the registered model.
    pub model: String,
    /// Alias that is moved to the new version.
    #[serde(default)]
    pub alias: Option<String>,
    /// Smallest and largest value that a metric of the evaluation may have, by its name.
    #[serde(default)]
    pub gate: BTreeMap<String, [f64; 2]>,
}

/// What was registered, and where to find it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Registration {
    format_version: u32,
    model: String,
    version: u32,
    alias: Option<String>,
    run_id: String,
    experiment: String,
}

impl RegisterStage {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// [`PipelineError::InvalidGate`] if bounds are not ordered numbers.
    pub fn validate(&self) -> Result<(), PipelineError> {
        for (metric, &[lower, upper]) in &self.gate {
            if lower.is_nan() || upper.is_nan() || lower > upper {
                return Err(PipelineError::InvalidGate { metric: metric.clone(), lower, upper });
            }
        }
        Ok(())
    }

    /// Enters the run with its parameters, metrics and artifacts, and then the model version.
    ///
    /// # Errors
    ///
    /// [`PipelineError::GateFailed`] if metrics are outside of their bounds, and
    /// [`PipelineError::ForeignEvaluation`] if they are those of another model; nothing is entered
    /// then.
    pub(crate) async fn run(&self, context: &StageContext) -> Result<StageOutput, PipelineError> {
        let evaluation = Evaluation::load(context.input("evaluation"))?;
        check_evaluation(context.input("onnx"), &evaluation.metrics).await?;
        self.check_gate(&evaluation.metrics)?;
        context.check_cancelled()?;

        let facts = context.facts();
        let store = TrackingStore::open(&facts.tracking, &facts.credentials).await?;
        let experiment = store.experiment(&facts.experiment, now_ms()).await?;
        let tracker = store
            .start_run(RunConfig {
                experiment,
                run_name: format!("{}-{}", facts.pipeline, facts.run),
                user: std::env::var("USER").unwrap_or_else(|_| "unknown".to_owned()),
                source_name: "heimdall-pipeline".to_owned(),
                git_commit: git(&["rev-parse", "HEAD"]),
                git_branch: git(&["branch", "--show-current"]),
                description: None,
                tags: [("heimdall.pipeline".to_owned(), facts.pipeline.clone())].into(),
                start_time_ms: now_ms(),
            })
            .await?;
        let entered = self.enter(context, &tracker, &evaluation).await;
        let status = match &entered {
            Ok(()) => RunStatus::Finished,
            Err(PipelineError::Interrupted) => RunStatus::Killed,
            Err(_) => RunStatus::Failed,
        };
        tracker.end_run(status, now_ms()).await?;
        entered?;

        let version = self.create_version(&store, &tracker, &evaluation).await?;
        let registration = Registration {
            format_version: FORMAT_VERSION,
            model: self.model.clone(),
            version,
            alias: self.alias.clone(),
            run_id: tracker.run_id().to_owned(),
            experiment: facts.experiment.clone(),
        };
        let path = context.output("registration").join(REGISTRATION_FILE);
        let json = serde_json::to_vec_pretty(&registration).expect("plain data");
        tokio::fs::write(&path, json).await.map_err(PipelineError::io("write", &path))?;
        Ok(StageOutput {
            metrics: [("version".to_owned(), f64::from(version))].into(),
            headline: Some(format!("{} version {version} in {}", self.model, facts.tracking)),
        })
    }

    /// Tells whether what an earlier run registered is still in the store: a store that was deleted
    /// or replaced since must get the model again.
    ///
    /// # Errors
    ///
    /// Those of reading the registration and the store.
    pub(crate) async fn still_holds(
        &self,
        registration: &Path,
        facts: &PipelineFacts,
    ) -> Result<bool, PipelineError> {
        if let TrackingAddress::Folder(folder) = &facts.tracking
            && !folder.join("mlflow.db").exists()
        {
            return Ok(false);
        }
        let registration: Registration = read_json(registration).await?;
        let store = TrackingStore::open(&facts.tracking, &facts.credentials).await?;
        let versions = match store.registry().model_versions(&registration.model).await {
            Err(error @ (TrackingError::Unreachable { .. } | TrackingError::NotMlflow { .. })) => {
                // What cannot be asked for now has not forgotten anything.
                warn!(%error, "nobody knows whether the model is still registered");
                return Ok(true);
            }
            versions => versions?,
        };
        Ok(versions.iter().any(|version| {
            version.version == registration.version
                && version.run_id.as_deref() == Some(&registration.run_id)
        }))
    }

    /// Finds every figure that does not pass.
    fn check_gate(&self, metrics: &BTreeMap<String, f64>) -> Result<(), PipelineError> {
        let mut failures = Vec::new();
        for (metric, &bounds) in &self.gate {
            let value =
                metrics.get(metric).copied().ok_or_else(|| PipelineError::NoSuchMetric {
                    metric: metric.clone(),
                    known: metrics.keys().cloned().collect::<Vec<_>>().join(", "),
                })?;
            let [lower, upper] = bounds;
            if !(lower..=upper).contains(&value) {
                failures.push(GateFailure { metric: metric.clone(), bounds, value });
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(PipelineError::GateFailed { failures }) }
    }

    async fn enter(
        &self,
        context: &StageContext,
        tracker: &Run,
        evaluation: &Evaluation,
    ) -> Result<(), PipelineError> {
        tracker.log_params(&parameters(&context.facts().stages)).await?;
        let mut metrics: Vec<Metric> = evaluation
            .metrics
            .iter()
            .map(|(name, &value)| metric(format!("test/{name}"), value, 0))
            .collect();
        if let Some(model) = context.optional_input("model") {
            metrics.extend(history(&ModelManifest::load(model)?));
            tracker.log_artifact(&model.join(MANIFEST_FILE), "network").await?;
        }
        tracker.log_metrics(&metrics).await?;
        for (folder, name) in
            [(context.input("evaluation"), "evaluation"), (context.input("onnx"), "model")]
        {
            context.check_cancelled()?;
            tracker.log_artifacts(folder, name).await?;
        }
        Ok(())
    }

    async fn create_version(
        &self,
        store: &TrackingStore,
        tracker: &Run,
        evaluation: &Evaluation,
    ) -> Result<u32, PipelineError> {
        let registry = store.registry();
        let tags = evaluation.metrics.iter().filter(|(name, _)| {
            ["error_km_median", "error_km_p90", "coverage_90"].contains(&name.as_str())
        });
        let version = registry
            .create_model_version(&NewModelVersion {
                name: self.model.clone(),
                run_id: tracker.run_id().to_owned(),
                artifact_path: "model".to_owned(),
                description: None,
                tags: tags.map(|(name, value)| (name.clone(), value.to_string())).collect(),
                time_ms: now_ms(),
            })
            .await?;
        if let Some(alias) = &self.alias {
            registry.set_alias(&self.model, alias, version).await?;
        }
        Ok(version)
    }
}

/// Checks that an evaluation is that of an exported model, if that was evaluated before: what passes the
/// gate must be what is registered.
async fn check_evaluation(
    package: &Path,
    evaluated: &BTreeMap<String, f64>,
) -> Result<(), PipelineError> {
    let path = package.join(PACKAGE_MANIFEST_FILE);
    if !path.exists() {
        // A program of somebody else made it.
        return Ok(());
    }
    let manifest: PackageManifest = read_json(&path).await?;
    let Some(metrics) = manifest.metadata.get("heimdall.metrics") else { return Ok(()) };
    let exported: BTreeMap<String, f64> = serde_json::from_str(metrics)
        .map_err(|source| PipelineError::Malformed { path, source })?;
    let told = |value: Option<&f64>| value.map_or("missing".to_owned(), f64::to_string);
    let names = exported.keys().chain(evaluated.keys());
    let bits = |value: Option<&f64>| value.map(|value| value.to_bits());
    let differs = |name: &&String| bits(exported.get(*name)) != bits(evaluated.get(*name));
    match names.into_iter().find(differs).filter(|_| !exported.is_empty()) {
        Some(name) => Err(PipelineError::ForeignEvaluation {
            metric: name.clone(),
            evaluated: told(evaluated.get(name)),
            exported: told(exported.get(name)),
        }),
        None => Ok(()),
    }
}

async fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, PipelineError> {
    let bytes = tokio::fs::read(path).await.map_err(PipelineError::io("read", path))?;
    serde_json::from_slice(&bytes)
        .map_err(|source| PipelineError::Malformed { path: path.to_owned(), source })
}

fn metric(key: String, value: f64, step: usize) -> Metric {
    // Epochs are far below 2⁶³.
    Metric { key, value, step: step as i64, timestamp_ms: now_ms() }
}

/// The metrics of each epoch, with the epoch as the step; those of the members of an ensemble after
/// the first under `member-2/train/loss` and so on.
fn history(manifest: &ModelManifest) -> Vec<Metric> {
    let mut metrics = Vec::new();
    for (index, member) in manifest.members.iter().enumerate() {
        let prefix = if index == 0 { String::new() } else { format!("member-{}/", index + 1) };
        for summary in &member.history {
            for (key, value) in [
                ("train/loss", summary.train_loss),
                ("train/learning_rate", summary.learning_rate),
                ("validation/loss", summary.validation_loss),
                ("validation/error_km_median", summary.validation_error_km_median),
                ("validation/error_km_p90", summary.validation_error_km_p90),
            ] {
                metrics.push(metric(format!("{prefix}{key}"), value, summary.epoch));
            }
        }
    }
    metrics
}

/// The resolved configuration of all stages, one parameter for each leaf: `train.model.backbone`.
pub(super) fn parameters(stages: &BTreeMap<String, Value>) -> BTreeMap<String, String> {
    let mut flat = BTreeMap::new();
    for (stage, config) in stages {
        flatten(stage, config, &mut flat);
    }
    // What is longer is in the manifest of the model, which is among the artifacts.
    flat.retain(|_, value| value.chars().count() <= PARAM_LENGTH_MAX);
    flat
}

fn flatten(path: &str, value: &Value, flat: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                flatten(&format!("{path}.{name}"), field, flat);
            }
        }
        Value::String(text) => {
            flat.insert(path.to_owned(), text.clone());
        }
        other => {
            flat.insert(path.to_owned(), other.to_string());
        }
    }
}

/// What git says of the working directory, if it is a checkout.
pub(super) fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

fn now_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stage(gate: &[(&str, [f64; 2])]) -> RegisterStage {
        let gate = gate.iter().map(|(name, bounds)| ((*name).to_owned(), *bounds)).collect();
        RegisterStage { model: "m".to_owned(), alias: None, gate }
    }

    #[test]
    fn parameters_are_the_leaves_of_the_configuration() {
        let stages =
            [("train".to_owned(), json!({"epochs": 3, "model": {"backbone": "resnet18"}}))];

        let parameters = parameters(&stages.into());

        let expected = [("train.epochs", "3"), ("train.model.backbone", "resnet18")];
        assert_eq!(parameters, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    }

    #[test]
    fn gate_lets_pass_what_is_within_its_bounds_only() {
        let stage = stage(&[("coverage_90", [0.8, 0.97])]);
        let metrics = |value| BTreeMap::from([("coverage_90".to_owned(), value)]);

        stage.check_gate(&metrics(0.9)).unwrap();

        for value in [0.79, 0.98, f64::NAN] {
            let error = stage.check_gate(&metrics(value)).unwrap_err();
            assert_eq!(error.exit_code(), 3, "{error}");
        }
        let error = stage.check_gate(&BTreeMap::new()).unwrap_err();
        assert!(error.to_string().contains("coverage_90"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn everything_that_fails_is_told_with_its_value() {
        let gate =
            [("error_km_median", [0.0, 20.0]), ("coverage_90", [0.8, 0.97]), ("nll", [-9.0, 9.0])];
        let metrics = [("error_km_median", 26.5), ("coverage_90", 0.5), ("nll", 3.0)];
        let metrics = metrics.map(|(name, value)| (name.to_owned(), value)).into();

        let error = stage(&gate).check_gate(&metrics).unwrap_err();

        assert_eq!(
            error.to_string(),
            "the model does not pass the gate: `coverage_90` must be between 0.8 and 0.97, but is \
             0.5; `error_km_median` must be between 0 and 20, but is 26.5"
        );
    }

    #[test]
    fn bounds_in_the_wrong_order_are_refused() {
        assert!(stage(&[("x", [1.0, 0.0])]).validate().is_err());
        assert!(stage(&[("x", [0.0, f64::NAN])]).validate().is_err());
    }
}
