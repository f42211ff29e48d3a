//! What a run would do, and why, without doing it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::Serialize;

use super::explain::{Change, differences, leaves};
use super::identity::UNKNOWN;
use super::{Mode, Run, RunOptions};
use crate::PipelineError;
use crate::cache::{Key, KeyParts, Manifest};
use crate::event::EventSink;
use crate::spec::PipelineSpec;
use crate::stage::{REGISTRATION_FILE, Stage};

/// Most changes that a message lists.
const CHANGES_TOLD_MAX: usize = 3;

/// What a run would do with a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Forecast {
    /// Take the result that is there.
    Cached,
    /// Take the result that is there, and make readable copies of it that are missing or changed.
    Restore,
    /// Take the result that the shared cache has.
    Fetch,
    /// Run it.
    Run,
    /// Run it, unless the stages before it come to the results that they had.
    Maybe,
    /// Fail: a result that must be there is not, or something that it reads.
    Fail,
    /// Leave it out.
    Skip,
}

impl Forecast {
    /// All forecasts.
    pub const ALL: [Self; 7] =
        [Self::Cached, Self::Restore, Self::Fetch, Self::Run, Self::Maybe, Self::Fail, Self::Skip];

    /// Returns the color that drawings give it.
    pub fn color(self) -> &'static str {
        match self {
            Self::Cached => "#b7e1c0",
            Self::Restore => "#cfe2f3",
            Self::Fetch => "#a9c7ea",
            Self::Run => "#f6c2a8",
            Self::Maybe => "#fbe7a2",
            Self::Fail => "#e98b8b",
            Self::Skip => "#dddddd",
        }
    }

    /// Returns the word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Restore => "restore",
            Self::Fetch => "fetch",
            Self::Run => "run",
            Self::Maybe => "maybe",
            Self::Fail => "fail",
            Self::Skip => "skip",
        }
    }
}

/// What a run would do with a stage, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlannedStage {
    /// Name of the stage.
    pub stage: String,
    /// What would be done.
    pub forecast: Forecast,
    /// What is not as it was when the stage last had a result, if that is what it would run for.
    pub changes: Vec<Change>,
    /// What else there is to say: that it never ran, or what it depends on.
    pub note: Option<String>,
}

/// How a result was made.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Made {
    /// First digits of the key that it is found by.
    pub key: String,
    /// The run.
    pub run: String,
    /// When the stage was started, as in RFC 3339.
    pub started: String,
    /// How long it took.
    pub seconds: f64,
    /// The machine.
    pub host: String,
}

/// Everything that there is to say on why a stage would run or not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// What a run would do.
    #[serde(flatten)]
    pub planned: PlannedStage,
    /// The result that would be taken, or else the last one that there was.
    pub made: Option<Made>,
    /// What decides the result, with its values.
    pub decided_by: Vec<(String, String)>,
}

/// Stages without a result, after all that was foreseen.
#[derive(Debug, Default)]
pub(super) struct Failing(HashSet<usize>);

/// Says what a run would do with each stage, in running order. Of `events`, only those come that say
/// that the shared cache cannot be asked.
///
/// # Errors
///
/// Those of [`run`](super::run).
pub async fn plan(
    spec: &PipelineSpec,
    options: &RunOptions,
    events: &EventSink,
) -> Result<Vec<PlannedStage>, PipelineError> {
    let (cancel, events) = (Arc::default(), events.of_sharing());
    let run = Run::begin(spec, options, &cancel, &events)?;
    let (mut planned, mut failing) = (Vec::new(), Failing::default());
    for &position in spec.graph().order() {
        planned.push(run.foresee(position, &mut failing).await?.planned);
    }
    Ok(planned)
}

/// Says why a run would run a stage, or would not. Of `events`, only those come that say that the
/// shared cache cannot be asked.
///
/// # Errors
///
/// Those of [`run`](super::run), and [`PipelineError::UnknownStage`] if there is no such stage.
pub async fn why(
    spec: &PipelineSpec,
    options: &RunOptions,
    stage: &str,
    events: &EventSink,
) -> Result<Explanation, PipelineError> {
    let wanted = spec.position(stage)?;
    let (cancel, events) = (Arc::default(), events.of_sharing());
    let run = Run::begin(spec, options, &cancel, &events)?;
    let mut failing = Failing::default();
    for position in spec.graph().ancestors(wanted) {
        run.foresee(position, &mut failing).await?;
    }
    run.foresee(wanted, &mut failing).await
}

impl Run<'_> {
    /// Says what would be done with a stage, and remembers its result if it is there.
    pub(super) async fn foresee(
        &self,
        position: usize,
        failing: &mut Failing,
    ) -> Result<Explanation, PipelineError> {
        let planned = |forecast, note| PlannedStage {
            stage: self.name(position).to_owned(),
            forecast,
            changes: Vec::new(),
            note,
        };
        let mode = self.selection.mode(position);
        let ancestors = self.spec.graph().ancestors(position);
        let behind = ancestors.iter().find(|at| failing.0.contains(at)).map(|at| self.name(*at));
        if mode == Mode::Skip || behind.is_some() {
            let note = behind.filter(|_| mode != Mode::Skip);
            let note = note.map(|producer| format!("`{producer}` would fail"));
            let planned = planned(Forecast::Skip, note);
            return Ok(Explanation { planned, made: None, decided_by: Vec::new() });
        }
        let mut fail = |error: &PipelineError| {
            failing.0.insert(position);
            planned(Forecast::Fail, Some(error.with_causes()))
        };
        let parts = match self.key_parts(position) {
            Ok(parts) => parts,
            Err(error) => {
                let planned = fail(&error);
                return Ok(Explanation { planned, made: None, decided_by: Vec::new() });
            }
        };
        let decided_by = leaves(&parts).into_iter().collect();
        let waits_for = self.missing(position);
        let known = match (&waits_for, mode) {
            (None, Mode::Run | Mode::FromCache(_)) => self.find(position, &parts).await,
            _ => Ok(None),
        };
        let known = match known {
            Ok(known) => known,
            Err(error) => return Ok(Explanation { planned: fail(&error), made: None, decided_by }),
        };
        if let Some((manifest, forecast)) = known {
            let made = Some(Made::of(&manifest));
            self.set_result(position, manifest);
            return Ok(Explanation { planned: planned(forecast, None), made, decided_by });
        }
        let may_exist = waits_for.is_some() && self.may_exist(&parts)?;
        if let (Mode::FromCache(option), false) = (mode, may_exist) {
            let (planned, made) = match self.last_result(position, option).await {
                Ok(manifest) => {
                    let forecast = self.forecast_of(position, &manifest);
                    let made = Some(Made::of(&manifest));
                    self.set_result(position, manifest);
                    (planned(forecast, Some("the last result, as `--frozen` has it".into())), made)
                }
                Err(error) => (fail(&error), None),
            };
            return Ok(Explanation { planned, made, decided_by });
        }

        let before = self.latest_key(position)?;
        let before = before.and_then(|key| self.cache.read_manifest(&key));
        let is_certain = mode == Mode::Rerun || !may_exist;
        let mut planned = planned(if is_certain { Forecast::Run } else { Forecast::Maybe }, None);
        if let Some(before) = &before {
            planned.changes = differences(&before.key_parts, &parts);
            planned.changes.retain(|change| change.now.as_deref() != Some(UNKNOWN));
        }
        planned.note = match (mode, waits_for, &before) {
            (Mode::Rerun, ..) => Some("asked for".to_owned()),
            (_, Some(producer), _) => Some(format!("depends on what `{producer}` comes to")),
            (_, None, None) => Some("has no result yet".to_owned()),
            (_, None, Some(_)) if planned.changes.is_empty() => {
                Some("its result is gone, or damaged".to_owned())
            }
            _ => None,
        };
        Ok(Explanation { planned, made: before.as_ref().map(Made::of), decided_by })
    }

    /// Finds the result that a run would take, here or in the shared cache.
    async fn find(
        &self,
        position: usize,
        parts: &KeyParts,
    ) -> Result<Option<(Arc<Manifest>, Forecast)>, PipelineError> {
        let key = parts.key();
        if let Some(manifest) = self.look_up_again(&key).await?
            && self.is_entered(position, &manifest).await?
        {
            let forecast = self.forecast_of(position, &manifest);
            return Ok(Some((manifest, forecast)));
        }
        let shared = self.find_shared(position, &key).await;
        Ok(shared.map(|manifest| (manifest, Forecast::Fetch)))
    }

    /// Whether what a result stands for outside of the cache is still there.
    async fn is_entered(
        &self,
        position: usize,
        manifest: &Manifest,
    ) -> Result<bool, PipelineError> {
        let Stage::Register(register) = &self.spec.stages[position].stage else { return Ok(true) };
        let mut files = manifest.outputs.values().flat_map(|output| &output.files);
        match files.find(|file| file.path == REGISTRATION_FILE) {
            Some(file) => {
                let facts = self.facts(position)?;
                register.still_holds(&self.cache.blob(&file.digest), &facts).await
            }
            None => Ok(false),
        }
    }

    /// What would be done with a result that is there.
    fn forecast_of(&self, position: usize, manifest: &Manifest) -> Forecast {
        if self.is_copied(position, manifest) { Forecast::Cached } else { Forecast::Restore }
    }

    /// Returns what is not as it was when a stage last had a result, as the end of a sentence.
    pub(super) fn changed_since(&self, position: usize) -> String {
        let latest = self.latest_key(position).ok().flatten();
        let before = latest.and_then(|key| self.cache.read_manifest(&key));
        let (Some(before), Ok(parts)) = (before, self.key_parts(position)) else {
            return String::new();
        };
        let changes = differences(&before.key_parts, &parts);
        let told: Vec<String> = changes
            .iter()
            .take(CHANGES_TOLD_MAX)
            .map(|Change { what, before, now }| {
                let or_absent =
                    |value: &Option<String>| value.clone().unwrap_or("absent".to_owned());
                format!("`{what}` was {} and is {}", or_absent(before), or_absent(now))
            })
            .collect();
        if told.is_empty() { String::new() } else { format!(" ({})", told.join(", ")) }
    }

    /// Whether the cache has a result that would be taken for one value or another of the inputs
    /// that are not known yet.
    fn may_exist(&self, parts: &KeyParts) -> Result<bool, PipelineError> {
        let fits = |before: &KeyParts| {
            before.iter().map(|(name, _)| name).eq(parts.iter().map(|(name, _)| name))
                && before
                    .iter()
                    .zip(parts.iter())
                    .all(|((_, before), (_, now))| now == UNKNOWN || before == now)
        };
        let kept = self.kept()?.get(parts.parameters());
        Ok(kept.is_some_and(|kept| kept.iter().any(fits)))
    }

    /// Returns what decided the results in the cache, by the parameters among it.
    fn kept(&self) -> Result<&HashMap<String, Vec<KeyParts>>, PipelineError> {
        if let Some(kept) = self.kept.get() {
            return Ok(kept);
        }
        let mut kept: HashMap<String, Vec<KeyParts>> = HashMap::new();
        for manifest in self.cache.keys()?.iter().filter_map(|key| self.cache.read_manifest(key)) {
            let parts = manifest.key_parts;
            kept.entry(parts.parameters().to_owned()).or_default().push(parts);
        }
        Ok(self.kept.get_or_init(|| kept))
    }

    /// Returns the key of the latest result that a stage has had.
    pub(super) fn latest_key(&self, position: usize) -> Result<Option<Key>, PipelineError> {
        let latest = match self.latest.get() {
            Some(latest) => latest,
            None => {
                let names = self.spec.stages.iter().map(|stage| stage.name.as_str());
                let latest = self.cache.latest_keys(&self.spec.name, names)?;
                self.latest.get_or_init(|| latest)
            }
        };
        Ok(latest.get(self.name(position)).copied())
    }

    /// Whether all readable copies of a result are as they should be.
    pub(super) fn is_copied(&self, position: usize, manifest: &Manifest) -> bool {
        let folder = self.copies(position);
        let mut outputs = manifest.outputs.iter();
        outputs.all(|(port, output)| self.cache.is_copied(output, &folder.join(port)))
    }
}

impl Made {
    fn of(manifest: &Manifest) -> Self {
        let provenance = &manifest.provenance;
        Self {
            key: manifest.key.short(),
            run: provenance.run.clone(),
            started: provenance.started.clone(),
            seconds: manifest.seconds,
            host: provenance.host.clone(),
        }
    }
}
