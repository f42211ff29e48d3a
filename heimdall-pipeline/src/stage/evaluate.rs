//! Stage `evaluate`: a network and features in, the recalibrated network and its evaluation out.

use std::path::Path;

use heimdall_data::HeimdallDataset;
use heimdall_train::{
    EVALUATION_FILE, EvaluateConfig, Evaluation, EvaluationSets, ShiftConfig, TrainError,
    TrainedModel, evaluate,
};
use serde::{Deserialize, Serialize};

use crate::PipelineError;
use crate::report::{EvaluationReport, evaluation_report};
use crate::stage::{StageContext, StageOutput, spawn_blocking};

/// Recalibrates a network and measures how good it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluateStage {
    /// Share of the area in which transmitters are looked for that the region of 90 % may take;
    /// above it, no fix is stated.
    pub abstention_area_share: f64,
    /// Whether to evaluate once more with positions that are exchanged between events, where the
    /// network must be no better than a guess.
    pub control: bool,
    /// Whether to evaluate once more without each receiver in turn.
    pub leave_one_receiver_out: bool,
    /// When test events are called different from the training events.
    pub shift: ShiftConfig,
    /// What the report shows.
    pub report: ReportConfig,
}

impl Default for EvaluateStage {
    fn default() -> Self {
        let EvaluateConfig { abstention_area_share, control, leave_one_receiver_out, shift } =
            EvaluateConfig::default();
        let report = ReportConfig::default();
        Self { abstention_area_share, control, leave_one_receiver_out, shift, report }
    }
}

/// What the report of an evaluation shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReportConfig {
    /// How many events the map shows with their estimates.
    pub events: usize,
    /// How many of the worst events are shown with what the network saw of them.
    pub spectrograms: usize,
}

impl Default for ReportConfig {
    fn default() -> Self {
        Self { events: 40, spectrograms: 3 }
    }
}

impl EvaluateStage {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// The error of the crate whose rule is broken.
    pub fn validate(&self) -> Result<(), PipelineError> {
        Ok(self.config().validate()?)
    }

    fn config(&self) -> EvaluateConfig {
        let Self { abstention_area_share, control, leave_one_receiver_out, shift, .. } =
            self.clone();
        EvaluateConfig { abstention_area_share, control, leave_one_receiver_out, shift }
    }

    /// Writes the recalibrated network, `evaluation.json`, `report.html` and the figures of the
    /// report as SVG.
    ///
    /// # Errors
    ///
    /// Whatever keeps the network from being measured, or the files from being written.
    pub(crate) async fn run(&self, context: &StageContext) -> Result<StageOutput, PipelineError> {
        let (stage, context) = (self.clone(), context.clone());
        let evaluation = spawn_blocking(move || {
            let device = context.device();
            let model = TrainedModel::load(context.input("model"), &device)?;
            let calibration = HeimdallDataset::open(context.input("calibration"))?;
            let test = HeimdallDataset::open(context.input("test"))?;
            let training =
                context.optional_input("train").map(HeimdallDataset::open).transpose()?;
            let new_world =
                context.optional_input("new_world").map(HeimdallDataset::open).transpose()?;
            let sets = EvaluationSets {
                training: training.as_ref(),
                calibration: &calibration,
                test: &test,
                new_world: new_world.as_ref(),
            };
            let evaluated = evaluate(&model, sets, &stage.config(), context.cancel());
            let (model, evaluation) = match evaluated {
                Err(TrainError::EvaluationInterrupted) => return Err(PipelineError::Interrupted),
                other => other?,
            };
            model.save(context.output("model"))?;
            let report = report(&context.facts().pipeline, &evaluation, &test, &stage.report)?;
            let json = serde_json::to_vec_pretty(&evaluation).expect("an evaluation is plain data");
            let folder = context.output("evaluation");
            write(&folder.join(EVALUATION_FILE), &json)?;
            write(&folder.join("report.html"), report.html.as_bytes())?;
            let figures = folder.join("figures");
            std::fs::create_dir(&figures).map_err(PipelineError::io("create", &figures))?;
            for (name, svg) in report.figures {
                write(&figures.join(name), svg.as_bytes())?;
            }
            Ok(evaluation)
        });
        let evaluation = evaluation.await.expect("evaluating does not panic")?;
        Ok(summary(evaluation))
    }
}

/// The report, with the spectrograms of the worst events.
fn report(
    pipeline: &str,
    evaluation: &Evaluation,
    test: &HeimdallDataset,
    config: &ReportConfig,
) -> Result<EvaluationReport, PipelineError> {
    let mut order: Vec<usize> = (0..evaluation.events.len()).collect();
    let error_km = |index: &usize| evaluation.events[*index].error_km;
    order.sort_by(|a, b| error_km(b).total_cmp(&error_km(a)));
    let seen = if test.header().shape.is_empty() { 0 } else { config.spectrograms };
    let seen = order.into_iter().take(seen).map(|index| {
        let (_, features) = test.get(index)?;
        Ok((&evaluation.events[index], features))
    });
    let seen = seen.collect::<Result<Vec<_>, PipelineError>>()?;
    evaluation_report(pipeline, evaluation, config.events, &seen)
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
