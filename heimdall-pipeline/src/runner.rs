//! Running a pipeline: each stage in turn, unless its result is there already.

mod run_stage;
mod selection;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use jiff::Timestamp;
use tracing::warn;

use crate::PipelineError;
use crate::cache::{Cache, Digest, KeyParts, Lookup, Manifest, canonical_json};
use crate::event::{EventSink, RunEvent, RunReport, RunState, StageReport, StageState};
use crate::external::folder_token;
use crate::spec::{PipelineSpec, StageSpec};
use crate::stage::{PipelineFacts, Stage};
use selection::{Mode, Selection};

/// What a run is to do, and where.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Folder that results are kept in.
    pub cache: PathBuf,
    /// Folder that readable copies are put into.
    pub output: PathBuf,
    /// Run this stage and all that depend on it, whether their results are there or not.
    pub from: Option<String>,
    /// Run nothing that this stage does not need.
    pub until: Option<String>,
    /// Run nothing but these stages.
    pub only: Vec<String>,
    /// Run these stages even if their results are there.
    pub force: Vec<String>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            cache: PathBuf::from(".heimdall"),
            output: PathBuf::from("artifacts"),
            from: None,
            until: None,
            only: Vec::new(),
            force: Vec::new(),
        }
    }
}

/// What a run would do with a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forecast {
    /// Take the result that is there.
    Cached,
    /// Run it.
    Run,
    /// Run it, unless the stages before it come to the results that they had.
    Maybe,
    /// Leave it out.
    Skip,
}

/// Runs a pipeline until every stage has its result, failed, or cannot begin. Raising `cancel`
/// stops it.
///
/// A stage that fails is no error of this function, but of the stage in the report.
///
/// # Errors
///
/// - [`PipelineError::UnknownStage`] if an option names a stage that does not exist.
/// - [`PipelineError::NotCached`] if a stage that must come from the cache is not there.
/// - [`PipelineError::Io`] if the folders of the cache or of the copies cannot be used.
pub async fn run(
    spec: &PipelineSpec,
    options: &RunOptions,
    cancel: &Arc<AtomicBool>,
    events: &EventSink,
) -> Result<RunReport, PipelineError> {
    let mut run = Run::begin(spec, options, cancel, events)?;
    if let Err(error) = run.cache.remove_stale_work() {
        warn!(%error, "work folders of dead runs stay");
    }
    for &position in spec.graph().order() {
        let report = run.deal_with(position).await?;
        run.finish_stage(position, report);
    }
    Ok(run.end())
}

/// Says what a run would do with each stage, in running order.
///
/// # Errors
///
/// Those of [`run`].
pub fn plan(
    spec: &PipelineSpec,
    options: &RunOptions,
) -> Result<Vec<(String, Forecast)>, PipelineError> {
    let cancel = Arc::new(AtomicBool::new(false));
    let events = EventSink::new(|_| {});
    let mut run = Run::begin(spec, options, &cancel, &events)?;
    let mut forecasts = Vec::with_capacity(spec.stages.len());
    for &position in spec.graph().order() {
        let forecast = run.foresee(position)?;
        forecasts.push((spec.stages[position].name.clone(), forecast));
    }
    Ok(forecasts)
}

/// A run that is under way.
struct Run<'a> {
    spec: &'a PipelineSpec,
    options: &'a RunOptions,
    cancel: &'a Arc<AtomicBool>,
    events: &'a EventSink,
    selection: Selection,
    cache: Cache,
    id: String,
    begun: Instant,
    /// Results so far, by the position of their stages.
    results: BTreeMap<usize, Manifest>,
    reports: Vec<(String, StageReport)>,
    exit_code: u8,
}

impl<'a> Run<'a> {
    fn begin(
        spec: &'a PipelineSpec,
        options: &'a RunOptions,
        cancel: &'a Arc<AtomicBool>,
        events: &'a EventSink,
    ) -> Result<Self, PipelineError> {
        let begun = Instant::now();
        let selection = Selection::new(spec, options)?;
        let cache = Cache::open(&options.cache)?;
        let id = new_run_id();
        let names = spec.graph().order().iter().map(|at| spec.stages[*at].name.clone()).collect();
        events.send(RunEvent::Started {
            run: id.clone(),
            pipeline: spec.name.clone(),
            stages: names,
        });
        Ok(Self {
            spec,
            options,
            cancel,
            events,
            selection,
            cache,
            id,
            begun,
            results: BTreeMap::new(),
            reports: Vec::new(),
            exit_code: 0,
        })
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    /// Whether everything that a stage reads is there.
    fn has_inputs(&self, position: usize) -> bool {
        let wires = self.spec.graph().inputs(position);
        wires.iter().all(|wire| self.results.contains_key(&wire.producer))
    }

    /// Returns the stage that another one has to do without: one that failed or was stopped if
    /// there is one, be it near or far, else the first one that it reads from and that has no result.
    fn missing(&self, position: usize) -> Option<String> {
        let ended_badly = |name: &str| {
            let mut reports = self.reports.iter();
            reports.any(|(stage, report)| {
                stage == name
                    && matches!(report.state, StageState::Failed | StageState::Interrupted)
            })
        };
        let name = |position: usize| self.spec.stages[position].name.as_str();
        let ancestors = self.spec.graph().ancestors(position);
        let culprit = ancestors.iter().map(|at| name(*at)).find(|name| ended_badly(name));
        let wires = self.spec.graph().inputs(position);
        let missing = wires.iter().find(|wire| !self.results.contains_key(&wire.producer));
        culprit.or(missing.map(|wire| name(wire.producer))).map(str::to_owned)
    }

    /// Brings a stage to its result, one way or another.
    async fn deal_with(&mut self, position: usize) -> Result<StageReport, PipelineError> {
        let begun = Instant::now();
        let mode = self.selection.mode(position);
        if mode == Mode::Skip {
            return Ok(StageReport::without_result(StageState::Skipped, 0.0));
        }
        if !self.has_inputs(position) {
            let mut report = StageReport::without_result(StageState::Skipped, 0.0);
            report.waited_for = self.missing(position);
            return Ok(report);
        }
        if self.is_cancelled() {
            self.exit_code = PipelineError::Interrupted.exit_code();
            return Ok(StageReport::without_result(StageState::Skipped, 0.0));
        }
        let outcome = self.bring(position, mode).await;
        let seconds = begun.elapsed().as_secs_f64();
        match outcome {
            Ok(mut report) => {
                report.seconds = seconds;
                Ok(report)
            }
            Err(error @ PipelineError::NotCached { .. }) => Err(error),
            Err(error) => {
                let was_asked_to = matches!(error, PipelineError::Interrupted);
                // The first failure decides, unless the run is interrupted afterwards.
                if self.exit_code == 0 || was_asked_to {
                    self.exit_code = error.exit_code();
                }
                if was_asked_to {
                    return Ok(StageReport::without_result(StageState::Interrupted, seconds));
                }
                let mut report = StageReport::without_result(StageState::Failed, seconds);
                report.error = Some(error.with_causes());
                Ok(report)
            }
        }
    }

    fn finish_stage(&mut self, position: usize, report: StageReport) {
        let stage = self.spec.stages[position].name.clone();
        let event = RunEvent::StageFinished { stage: stage.clone(), report: report.clone() };
        self.events.send(event);
        self.reports.push((stage, report));
    }

    fn end(self) -> RunReport {
        let state = match self.exit_code {
            0 => RunState::Done,
            130 => RunState::Interrupted,
            _ => RunState::Failed,
        };
        let report = RunReport {
            run: self.id,
            state,
            seconds: self.begun.elapsed().as_secs_f64(),
            stages: self.reports,
            exit_code: self.exit_code,
        };
        self.events.send(RunEvent::Finished { report: report.clone() });
        report
    }

    /// Returns everything that decides what a stage makes. What it reads must be there.
    fn key_parts(&self, position: usize) -> Result<KeyParts, PipelineError> {
        let stage = &self.spec.stages[position].stage;
        let kind = stage.kind();
        let mut parts = KeyParts::default();
        parts.set("kind", format!("{kind} {}", kind.cache_version()));
        parts.set("parameters", canonical_json(&stage.key_parameters()));
        for wire in self.spec.graph().inputs(position) {
            let output = &self.results[&wire.producer].outputs[wire.output.name];
            parts.set(format!("input {}", wire.input.name), output.tree.to_string());
        }
        for (field, path) in stage.external_inputs() {
            parts.set(format!("external {field}"), folder_token(path)?.to_string());
        }
        for port in kind.outputs() {
            let value = format!("{} {}", port.kind, port.kind.format_version());
            parts.set(format!("output {}", port.name), value);
        }
        if let Stage::Register(_) = stage {
            // Entering a model into another store is another result, wherever the model is from.
            let folder = self.spec.tracking.folder();
            parts.set("tracking", format!("{} {}", folder.display(), self.experiment()));
        }
        Ok(parts)
    }

    fn experiment(&self) -> &str {
        self.spec.tracking.experiment.as_deref().unwrap_or(&self.spec.name)
    }

    /// Says what would be done with a stage, and remembers its result if it is there.
    fn foresee(&mut self, position: usize) -> Result<Forecast, PipelineError> {
        let mode = self.selection.mode(position);
        if mode == Mode::Skip {
            return Ok(Forecast::Skip);
        }
        if !self.has_inputs(position) {
            return Ok(if mode == Mode::Rerun { Forecast::Run } else { Forecast::Maybe });
        }
        if mode == Mode::Rerun {
            return Ok(Forecast::Run);
        }
        let key = self.key_parts(position)?.key();
        Ok(match self.cache.lookup(&key)? {
            Lookup::Hit(manifest) => {
                self.results.insert(position, *manifest);
                Forecast::Cached
            }
            Lookup::Miss | Lookup::Damaged(_) => Forecast::Run,
        })
    }

    /// Returns what a stage may know about the pipeline.
    fn facts(&self, position: usize) -> Result<PipelineFacts, PipelineError> {
        let ancestors = self.spec.graph().ancestors(position);
        let stage = |at: &usize| &self.spec.stages[*at];
        let parameters = |stage: &StageSpec| (stage.name.clone(), stage.stage.parameters());
        let tracking = self.spec.tracking.folder();
        Ok(PipelineFacts {
            pipeline: self.spec.name.clone(),
            run: self.id.clone(),
            tracking_folder: std::path::absolute(&tracking)
                .map_err(PipelineError::io("use", &tracking))?,
            experiment: self.experiment().to_owned(),
            stages: ancestors.iter().chain([&position]).map(|at| parameters(stage(at))).collect(),
            metrics: ancestors
                .iter()
                .filter_map(|at| {
                    Some((stage(at).name.clone(), self.results.get(at)?.metrics.clone()))
                })
                .collect(),
        })
    }
}

/// Returns an identifier that sorts by time and differs between processes.
fn new_run_id() -> String {
    let now = Timestamp::now();
    let unique = format!("{} {}", std::process::id(), now.as_nanosecond());
    let suffix = Digest::of(unique.as_bytes()).short();
    format!("{}-{}", now.strftime("%Y%m%dT%H%M%SZ"), &suffix[..4])
}

#[cfg(test)]
mod tests;
