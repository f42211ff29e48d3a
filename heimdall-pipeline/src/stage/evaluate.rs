//! Stage `evaluate`: a network and features in, the recalibrated network and its evaluation out.

use std::path::Path;

use heimdall_data::HeimdallDataset;
use heimdall_train::{Evaluation, TrainError, TrainedModel, evaluate};
use serde::{Deserialize, Serialize};

use crate::PipelineError;
use crate::report::evaluation_page;
use crate::stage::{StageContext, StageOutput, spawn_blocking};

/// Recalibrates a network and measures how good it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluateStage {
    /// What the report shows.
    pub report: ReportConfig,
}

/// What the report of an evaluation shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReportConfig {
    /// How many events the map shows with their estimates.
    pub events: usize,
}

impl Default for ReportConfig {
    fn default() -> Self {
        Self { events: 40 }
    }
}

impl EvaluateStage {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// The error of the crate whose rule is broken.
    pub fn validate(&self) -> Result<(), PipelineError> {
        Ok(())
    }

    /// Writes the recalibrated network, `evaluation.json` and `report.html`.
    ///
    /// # Errors
    ///
    /// Whatever keeps the network from being measured, or the files from being written.
    pub(crate) async fn run(&self, context: &StageContext) -> Result<StageOutput, PipelineError> {
        let (map_events, context) = (self.report.events, context.clone());
        let evaluation = spawn_blocking(move || {
            let device = context.device();
            let model = TrainedModel::load(context.input("model"), &device)?;
            let calibration = HeimdallDataset::open(context.input("calibration"))?;
            let test = HeimdallDataset::open(context.input("test"))?;
            let evaluated = evaluate(&model, &calibration, &test, context.cancel());
            let (model, evaluation) = match evaluated {
                Err(TrainError::EvaluationInterrupted) => return Err(PipelineError::Interrupted),
                other => other?,
            };
            model.save(context.output("model"))?;
            let page = page(&context.facts().pipeline, &evaluation, &test, map_events)?;
            let json = serde_json::to_vec_pretty(&evaluation).expect("an evaluation is plain data");
            let folder = context.output("evaluation");
            write(&folder.join("evaluation.json"), &json)?;
            write(&folder.join("report.html"), page.as_bytes())?;
            Ok(evaluation)
        });
        let evaluation = evaluation.await.expect("evaluating does not panic")?;
        Ok(summary(evaluation))
    }
}

/// The report, with the event that most receivers hear as the example.
fn page(
    pipeline: &str,
    evaluation: &Evaluation,
    test: &HeimdallDataset,
    map_events: usize,
) -> Result<String, PipelineError> {
    let events = evaluation.events.iter().enumerate();
    let (index, event) = events
        .rev()
        .max_by_key(|(_, event)| event.hearing_receivers)
        .expect("an evaluation has at least one event");
    let (_, features) = test.get(index)?;
    evaluation_page(pipeline, evaluation, map_events, (event, &features))
}

fn write(path: &Path, content: &[u8]) -> Result<(), PipelineError> {
    std::fs::write(path, content).map_err(PipelineError::io("write", path))
}

fn summary(evaluation: Evaluation) -> StageOutput {
    let metric = |name: &str| evaluation.metrics.get(name).copied().unwrap_or(f64::NAN);
    let headline = format!(
        "median {:.1} km, 90 % {:.1} km (centroid {:.1}, {:.1}) · 90 % regions cover {:.0} %",
        metric("error_km_median"),
        metric("error_km_p90"),
        metric("centroid.error_km_median"),
        metric("centroid.error_km_p90"),
        100.0 * metric("coverage_90")
    );
    StageOutput { metrics: evaluation.metrics, headline: Some(headline) }
}
