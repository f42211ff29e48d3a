//! Running a pipeline: each stage once its inputs are there, unless its result is there already.

mod attempt;
mod explain;
mod foresee;
mod identity;
mod provenance;
mod resource;
mod run_stage;
mod selection;
mod sharing;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;
use tracing::warn;

use crate::PipelineError;
use crate::cache::{Cache, Digest, Key, KeyLock, KeyParts, Manifest};
use crate::event::{EventSink, RunEvent, RunReport, RunState, StageReport, StageState};
use crate::fault::FaultPoint;
use crate::history::{RunRecord, StageRecord};
use crate::secret::Secrets;
use crate::spec::PipelineSpec;
use resource::Resources;
use selection::{Mode, Selection};
use sharing::Sharing;

pub use explain::Change;
pub(crate) use explain::differences;
pub use foresee::{Explanation, Forecast, Made, PlannedStage, plan, why};
pub(crate) use provenance::memory_peak_bytes;
pub use sharing::{Exchange, pull, push};

/// How often a run looks whether it is to stop, where nothing wakes it.
const WATCH_INTERVAL: Duration = Duration::from_millis(20);

/// What a run is to do, and where.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Folder that results are kept in.
    pub cache: PathBuf,
    /// Folder that readable copies are put into.
    pub output: PathBuf,
    /// Address of a cache that machines share; results are taken from it and given to it.
    pub remote: Option<String>,
    /// Run this stage and all that depend on it, whether their results are there or not.
    pub from: Option<String>,
    /// Run nothing that this stage does not need.
    pub until: Option<String>,
    /// Run nothing but these stages; `*` stands for anything.
    pub only: Vec<String>,
    /// Run these stages even if their results are there; `*` stands for anything.
    pub force: Vec<String>,
    /// Where a stage must come from the cache and is not there, take its last result.
    pub frozen: bool,
    /// Processors that stages may take together.
    pub jobs: u32,
    /// Memory that stages may take together, in bytes.
    pub memory_bytes: u64,
    /// Graphics processors that stages may take together.
    pub gpus: u32,
    /// Variables that a `cmd` stage may ask for.
    pub environment: BTreeMap<String, String>,
    /// What has no place in keys and manifests.
    pub secrets: Secrets,
    /// Where the run dies, for tests.
    pub fault: Option<FaultPoint>,
}

impl Default for RunOptions {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            cache: PathBuf::from(".heimdall"),
            output: PathBuf::from("artifacts"),
            remote: None,
            from: None,
            until: None,
            only: Vec::new(),
            force: Vec::new(),
            frozen: false,
            jobs: u32::try_from(processors).unwrap_or(u32::MAX),
            memory_bytes: resource::memory_of_machine_bytes(),
            gpus: 1,
            environment: BTreeMap::new(),
            secrets: Secrets::default(),
            fault: None,
        }
    }
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
/// - [`PipelineError::NotEnough`] if a stage asks for more than the run may take.
/// - [`PipelineError::Io`] if the folders of the cache or of the copies cannot be used.
pub async fn run(
    spec: &PipelineSpec,
    options: &RunOptions,
    cancel: &Arc<AtomicBool>,
    events: &EventSink,
) -> Result<RunReport, PipelineError> {
    let run = Run::begin(spec, options, cancel, events)?;
    if let Err(error) = run.cache.remove_stale_work() {
        warn!(%error, "work folders of dead runs stay");
    }
    let graph = spec.graph();
    let mut open: Vec<usize> = (0..spec.stages.len()).map(|at| graph.inputs(at).len()).collect();
    let ready = graph.order().iter().copied().filter(|at| open[*at] == 0);
    let mut active: FuturesUnordered<_> = ready.map(|at| run.deal_with(at)).collect();
    let (mut exit_code, mut refusal) = (0, None);
    while let Some((position, dealt)) = active.next().await {
        match dealt {
            Ok((report, code)) => {
                // The first failure decides, unless the run is interrupted afterwards.
                if exit_code == 0 || code == PipelineError::Interrupted.exit_code() {
                    exit_code = code;
                }
                run.finish_stage(position, report);
            }
            // What is at work is stopped before the run is given up.
            Err(error) => {
                run.is_abandoned.store(true, Ordering::Relaxed);
                refusal.get_or_insert(error);
            }
        }
        for consumer in graph.consumers(position) {
            open[consumer] -= 1;
            if open[consumer] == 0 {
                active.push(run.deal_with(consumer));
            }
        }
    }
    drop(active);
    match refusal {
        Some(error) => Err(error),
        None => run.end(exit_code),
    }
}

/// A run that is under way.
struct Run<'a> {
    spec: &'a PipelineSpec,
    options: &'a RunOptions,
    cancel: &'a Arc<AtomicBool>,
    /// Whether the run is to stop because of an error of its own.
    is_abandoned: AtomicBool,
    events: &'a EventSink,
    selection: Selection,
    resources: Resources,
    /// How many stages may look into the cache at a time.
    disk: Semaphore,
    cache: Cache,
    sharing: Option<Sharing>,
    /// Folder of the pipeline's readable copies, absolute.
    copies: PathBuf,
    /// Keeps others from removing what this run uses.
    _in_use: KeyLock,
    id: String,
    started: Timestamp,
    begun: Instant,
    /// Results so far, by the position of their stages.
    results: Vec<OnceLock<Arc<Manifest>>>,
    reports: Vec<OnceLock<StageReport>>,
    /// Key of the latest result that each stage has had, by name; found when it is asked for.
    latest: OnceLock<HashMap<String, Key>>,
    /// What decided the results in the cache, by parameters; found when it is asked for.
    kept: OnceLock<HashMap<String, Vec<KeyParts>>>,
}

impl<'a> Run<'a> {
    fn begin(
        spec: &'a PipelineSpec,
        options: &'a RunOptions,
        cancel: &'a Arc<AtomicBool>,
        events: &'a EventSink,
    ) -> Result<Self, PipelineError> {
        let (begun, started) = (Instant::now(), Timestamp::now());
        let selection = Selection::new(spec, options)?;
        let resources = Resources::new(spec, options)?;
        let cache = Cache::open(&options.cache, options.fault)?;
        let in_use = cache.share()?;
        let (sharing, away) = Sharing::new(options)?;
        let copies = options.output.join(&spec.name);
        let copies = std::path::absolute(&copies).map_err(PipelineError::io("find", &copies))?;
        let id = new_run_id(started, cache.run_ids()?.first());
        let names = spec.graph().order().iter().map(|at| spec.stages[*at].name.clone()).collect();
        events.send(RunEvent::Started {
            run: id.clone(),
            pipeline: spec.name.clone(),
            stages: names,
        });
        let run = Self {
            spec,
            options,
            cancel,
            is_abandoned: AtomicBool::new(false),
            events,
            selection,
            resources,
            disk: Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from)),
            cache,
            sharing,
            copies,
            _in_use: in_use,
            id,
            started,
            begun,
            results: (0..spec.stages.len()).map(|_| OnceLock::new()).collect(),
            reports: (0..spec.stages.len()).map(|_| OnceLock::new()).collect(),
            latest: OnceLock::new(),
            kept: OnceLock::new(),
        };
        if let Some(error) = away {
            run.tell_sharing_failed(&error);
        }
        Ok(run)
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed) || self.is_abandoned.load(Ordering::Relaxed)
    }

    /// Returns once the run is to stop.
    async fn cancelled(&self) {
        while !self.is_cancelled() {
            tokio::time::sleep(WATCH_INTERVAL).await;
        }
    }

    fn name(&self, position: usize) -> &str {
        &self.spec.stages[position].name
    }

    fn result(&self, position: usize) -> Option<&Arc<Manifest>> {
        self.results[position].get()
    }

    fn set_result(&self, position: usize, manifest: Arc<Manifest>) {
        self.results[position].set(manifest).expect("a stage has one result");
    }

    /// Whether everything that a stage reads is there.
    fn has_inputs(&self, position: usize) -> bool {
        let wires = self.spec.graph().inputs(position);
        wires.iter().all(|wire| self.result(wire.producer).is_some())
    }

    /// Returns the stage that another one has to do without: one that failed or was stopped if
    /// there is one, else the first one on the way to it that has no result.
    fn missing(&self, position: usize) -> Option<String> {
        let ended_badly = |at: &usize| {
            let state = self.reports[*at].get().map(|report| report.state);
            matches!(state, Some(StageState::Failed | StageState::Interrupted))
        };
        let ancestors = self.spec.graph().ancestors(position);
        let missing = ancestors.iter().find(|at| ended_badly(at));
        let missing = missing.or(ancestors.iter().find(|at| self.result(**at).is_none()));
        missing.map(|at| self.name(*at).to_owned())
    }

    /// Brings a stage to its result, one way or another; returns what is to be said of it, and what
    /// the program is to exit with if nothing else goes wrong.
    async fn deal_with(
        &self,
        position: usize,
    ) -> (usize, Result<(StageReport, u8), PipelineError>) {
        let begun = Instant::now();
        let without_result =
            |state| StageReport::without_result(state, begun.elapsed().as_secs_f64());
        let mode = self.selection.mode(position);
        if mode == Mode::Skip {
            return (position, Ok((without_result(StageState::Skipped), 0)));
        }
        if !self.has_inputs(position) {
            let mut report = without_result(StageState::Skipped);
            report.waited_for = self.missing(position);
            return (position, Ok((report, 0)));
        }
        if self.is_cancelled() {
            let code = PipelineError::Interrupted.exit_code();
            return (position, Ok((without_result(StageState::Skipped), code)));
        }
        let dealt = match self.bring(position, mode).await {
            Ok((mut report, manifest)) => {
                report.seconds = begun.elapsed().as_secs_f64();
                self.set_result(position, manifest);
                Ok((report, 0))
            }
            Err(error @ PipelineError::NotCached { .. }) => Err(error),
            Err(error @ PipelineError::Interrupted) => {
                Ok((without_result(StageState::Interrupted), error.exit_code()))
            }
            Err(error) => {
                let mut report = without_result(StageState::Failed);
                let text = error.with_causes();
                report.error = Some(self.options.secrets.redact(&text).into_owned());
                Ok((report, error.exit_code()))
            }
        };
        (position, dealt)
    }

    fn finish_stage(&self, position: usize, report: StageReport) {
        let stage = self.name(position).to_owned();
        self.events.send(RunEvent::StageFinished { stage, report: report.clone() });
        self.reports[position].set(report).expect("a stage ends once");
    }

    fn end(self, exit_code: u8) -> Result<RunReport, PipelineError> {
        let state = match exit_code {
            0 => RunState::Done,
            130 => RunState::Interrupted,
            _ => RunState::Failed,
        };
        let mut stages = Vec::with_capacity(self.spec.stages.len());
        let mut records = Vec::with_capacity(self.spec.stages.len());
        for &position in self.spec.graph().order() {
            let Some(report) = self.reports[position].get() else { continue };
            let stage = self.name(position).to_owned();
            let key = self.result(position).map(|manifest| manifest.key);
            records.push(StageRecord { stage: stage.clone(), key, report: report.clone() });
            stages.push((stage, report.clone()));
        }
        let seconds = self.begun.elapsed().as_secs_f64();
        let report = RunReport { run: self.id, state, seconds, stages, exit_code };
        let record = RunRecord::new(&self.spec.name, self.started.to_string(), &report, records);
        self.cache.remember(&record)?;
        self.events.send(RunEvent::Finished { report: report.clone() });
        Ok(report)
    }
}

/// Makes the identifier of a run, which is greater than the latest one: where the clock was put back,
/// it goes on from there.
fn new_run_id(now: Timestamp, latest: Option<&String>) -> String {
    let latest = latest.and_then(|id| {
        let (time, _) = id.rsplit_once('-')?;
        let time = DateTime::strptime("%Y%m%dT%H%M%S%.fZ", time).ok()?;
        TimeZone::UTC.to_timestamp(time).ok()
    });
    let after = latest.and_then(|latest| latest.checked_add(SignedDuration::from_millis(1)).ok());
    let time = after.filter(|after| *after > now).unwrap_or(now);
    let unique = format!("{} {}", std::process::id(), now.as_nanosecond());
    let suffix = Digest::of(unique.as_bytes()).short();
    format!("{}-{}", time.strftime("%Y%m%dT%H%M%S%.3fZ"), &suffix[..4])
}

#[cfg(test)]
mod tests;
