//! What a run would do, and why, without doing it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use super::explain::{Change, differences, leaves};
use super::identity::UNKNOWN;
use super::{Mode, Run, RunOptions};
use crate::PipelineError;
use crate::cache::{Key, KeyParts, Lookup, Manifest};
use crate::event::EventSink;
use crate::spec::PipelineSpec;

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
    /// Run it.
    Run,
    /// Run it, unless the stages before it come to the results that they had.
    Maybe,
    /// Leave it out.
    Skip,
}

impl Forecast {
    /// All forecasts.
    pub const ALL: [Self; 5] = [Self::Cached, Self::Restore, Self::Run, Self::Maybe, Self::Skip];

    /// Returns the color that drawings give it.
    pub(crate) fn color(self) -> &'static str {
        match self {
            Self::Cached => "#b7e1c0",
            Self::Restore => "#cfe2f3",
            Self::Run => "#f6c2a8",
            Self::Maybe => "#fbe7a2",
            Self::Skip => "#dddddd",
        }
    }

    /// Returns the word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Restore => "restore",
            Self::Run => "run",
            Self::Maybe => "maybe",
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

/// Says what a run would do with each stage, in running order.
///
/// # Errors
///
/// Those of [`run`](super::run).
pub fn plan(spec: &PipelineSpec, options: &RunOptions) -> Result<Vec<PlannedStage>, PipelineError> {
    let cancel = Arc::new(AtomicBool::new(false));
    let events = EventSink::new(|_| {});
    let run = Run::begin(spec, options, &cancel, &events)?;
    let order = spec.graph().order().iter();
    order.map(|&position| Ok(run.foresee(position)?.planned)).collect()
}

/// Says why a run would run a stage, or would not.
///
/// # Errors
///
/// Those of [`run`](super::run), and [`PipelineError::UnknownStage`] if there is no such stage.
pub fn why(
    spec: &PipelineSpec,
    options: &RunOptions,
    stage: &str,
) -> Result<Explanation, PipelineError> {
    let wanted = spec.position(stage)?;
    let cancel = Arc::new(AtomicBool::new(false));
    let events = EventSink::new(|_| {});
    let run = Run::begin(spec, options, &cancel, &events)?;
    for position in spec.graph().ancestors(wanted) {
        run.foresee(position)?;
    }
    run.foresee(wanted)
}

impl Run<'_> {
    /// Says what would be done with a stage, and remembers its result if it is there.
    pub(super) fn foresee(&self, position: usize) -> Result<Explanation, PipelineError> {
        let stage = self.name(position).to_owned();
        let says = |forecast| PlannedStage {
            stage: stage.clone(),
            forecast,
            changes: Vec::new(),
            note: None,
        };
        let mode = self.selection.mode(position);
        if mode == Mode::Skip {
            let planned = says(Forecast::Skip);
            return Ok(Explanation { planned, made: None, decided_by: Vec::new() });
        }
        let parts = self.key_parts(position)?;
        let decided_by = leaves(&parts).into_iter().collect();
        let waits_for = self.missing(position);
        let found = match waits_for {
            None => self.find(&parts)?,
            Some(_) => None,
        };
        if let (Some(manifest), Mode::Run | Mode::FromCache(_)) = (&found, mode) {
            let made = Some(Made::of(manifest));
            let is_whole = self.is_copied(position, manifest);
            self.set_result(position, Arc::clone(manifest));
            let planned = says(if is_whole { Forecast::Cached } else { Forecast::Restore });
            return Ok(Explanation { planned, made, decided_by });
        }

        let before = self.latest_key(position)?;
        let before = before.and_then(|key| self.cache.read_manifest(&key));
        let is_certain = mode == Mode::Rerun || waits_for.is_none() || !self.may_exist(&parts)?;
        let mut planned = says(if is_certain { Forecast::Run } else { Forecast::Maybe });
        if let Some(before) = &before {
            planned.changes = differences(&before.key_parts, &parts);
            planned.changes.retain(|change| change.now.as_deref() != Some(UNKNOWN));
        }
        planned.note = match (mode, waits_for, &before) {
            (Mode::Rerun, ..) => Some("asked for".to_owned()),
            (_, Some(producer), _) => Some(format!("depends on what `{producer}` comes to")),
            (_, None, None) => Some("has no result yet".to_owned()),
            (_, None, Some(_)) if planned.changes.is_empty() => {
                Some("its result is gone from the cache, or damaged".to_owned())
            }
            _ => None,
        };
        Ok(Explanation { planned, made: before.as_ref().map(Made::of), decided_by })
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

    fn find(&self, parts: &KeyParts) -> Result<Option<Arc<Manifest>>, PipelineError> {
        Ok(match self.cache.lookup(&parts.key())? {
            Lookup::Hit(manifest) => Some(Arc::from(manifest)),
            Lookup::Miss | Lookup::Damaged(_) => None,
        })
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
