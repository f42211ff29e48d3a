//! What earlier runs did: one small file for each, in the order of time.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cache::{Cache, Key};
use crate::event::{RunReport, RunState, StageReport, StageState};
use crate::fault::FaultPoint;
use crate::{PipelineError, replace};

/// Version of a record's format.
const RECORD_VERSION: u32 = 1;

/// What is remembered of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    version: u32,
    /// Identifier of the run; a later run has a greater one.
    pub run: String,
    /// Name of the pipeline.
    pub pipeline: String,
    /// Version of the program.
    pub program: String,
    /// When it began, as in RFC 3339.
    pub started: String,
    /// How it ended.
    pub state: RunState,
    /// What the program exited with.
    pub exit_code: u8,
    /// How long it took.
    pub seconds: f64,
    /// Its stages, in running order.
    pub stages: Vec<StageRecord>,
}

/// What is remembered of a stage in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageRecord {
    /// Name of the stage.
    pub stage: String,
    /// What its result is found by, if it has one.
    pub(crate) key: Option<Key>,
    /// What is to be said of it.
    pub report: StageReport,
}

impl RunRecord {
    /// Makes the record of a run that is over.
    pub(crate) fn new(
        pipeline: &str,
        started: String,
        report: &RunReport,
        stages: Vec<StageRecord>,
    ) -> Self {
        Self {
            version: RECORD_VERSION,
            run: report.run.clone(),
            pipeline: pipeline.to_owned(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            started,
            state: report.state,
            exit_code: report.exit_code,
            seconds: report.seconds,
            stages,
        }
    }

    /// Returns the names of the stages that it has results of, as a list.
    pub(crate) fn stages_with_results(&self) -> String {
        let with_key = self.stages.iter().filter(|stage| stage.key.is_some());
        with_key.map(|stage| format!("`{}`", stage.stage)).collect::<Vec<_>>().join(", ")
    }

    /// Returns what is remembered of a stage.
    pub fn stage(&self, name: &str) -> Option<&StageRecord> {
        self.stages.iter().find(|record| record.stage == name)
    }
}

impl StageRecord {
    /// Whether the run left a result of the stage.
    pub(crate) fn has_result(&self) -> bool {
        matches!(self.report.state, StageState::Ran | StageState::Cached)
    }
}

impl Cache {
    /// Remembers a run.
    pub(crate) fn remember(&self, record: &RunRecord) -> Result<(), PipelineError> {
        let path = self.run_path(&record.run);
        let json = serde_json::to_vec(record).expect("a record is plain data with string keys");
        replace::write(&path, &json)?;
        self.reach(FaultPoint::RunRemembered);
        Ok(())
    }

    /// Returns the identifiers of the runs that are remembered, the latest one first.
    pub(crate) fn run_ids(&self) -> Result<Vec<String>, PipelineError> {
        let folder = self.runs_folder();
        let mut ids = Vec::new();
        for entry in fs::read_dir(&folder).map_err(PipelineError::io("list", &folder))? {
            let entry = entry.map_err(PipelineError::io("list", &folder))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            ids.extend(name.strip_suffix(".json").map(str::to_owned));
        }
        ids.sort_unstable_by(|one, other| other.cmp(one));
        Ok(ids)
    }

    /// Returns the runs that are remembered, the latest one first. A record that cannot be read is
    /// passed over: nothing depends on it but what people are told.
    pub(crate) fn runs(&self) -> Result<impl Iterator<Item = RunRecord>, PipelineError> {
        let cache = self.clone();
        Ok(self.run_ids()?.into_iter().filter_map(move |id| cache.read_run(&id)))
    }

    /// Returns the run that a person means by `last`, `last~2`, or the beginning of an identifier.
    ///
    /// # Errors
    ///
    /// [`PipelineError::UnknownRun`] if there is none, or more than one.
    pub(crate) fn find_run(&self, name: &str) -> Result<RunRecord, PipelineError> {
        let ids = self.run_ids()?;
        let unknown = |reason: &str| PipelineError::UnknownRun {
            name: name.to_owned(),
            reason: reason.to_owned(),
        };
        let id = match name.strip_prefix("last") {
            Some("") => ids.first(),
            Some(rest) => {
                let back = rest.strip_prefix('~').and_then(|number| number.parse::<usize>().ok());
                ids.get(back.ok_or_else(|| unknown("expected `last` or `last~NUMBER`"))?)
            }
            None => {
                let mut matching =
                    ids.iter().filter(|id| id.starts_with(name) || id.ends_with(name));
                let found = matching.next();
                if matching.next().is_some() {
                    return Err(unknown("more than one run is called that"));
                }
                found
            }
        };
        let id = id.ok_or_else(|| unknown("`runs` lists those that there are"))?;
        self.read_run(id).ok_or_else(|| unknown("its record cannot be read"))
    }

    /// Returns the key of the latest result of each of these stages that has had one. No more runs
    /// are read than it takes to find them.
    pub(crate) fn latest_keys<'a>(
        &self,
        pipeline: &str,
        stages: impl Iterator<Item = &'a str>,
    ) -> Result<HashMap<String, Key>, PipelineError> {
        let mut wanted: HashSet<&str> = stages.collect();
        let mut latest = HashMap::new();
        for record in self.runs()?.filter(|record| record.pipeline == pipeline) {
            for found in record.stages.iter().filter(|found| found.has_result()) {
                if let Some(key) = found.key
                    && wanted.remove(found.stage.as_str())
                {
                    latest.insert(found.stage.clone(), key);
                }
            }
            if wanted.is_empty() {
                break;
            }
        }
        Ok(latest)
    }

    fn read_run(&self, id: &str) -> Option<RunRecord> {
        let bytes = match fs::read(self.run_path(id)) {
            Ok(bytes) => bytes,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(run = id, %error, "the record of a run cannot be read");
                }
                return None;
            }
        };
        let record: RunRecord = serde_json::from_slice(&bytes).ok()?;
        (record.version == RECORD_VERSION).then_some(record)
    }

    pub(crate) fn run_path(&self, id: &str) -> PathBuf {
        self.runs_folder().join(format!("{id}.json"))
    }
}
