//! What happens during a run, told to whoever wants to know.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use crate::stage::StageProgress;

/// How a stage ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageState {
    /// It ran, and its result is kept.
    Ran,
    /// Its result was there already.
    Cached,
    /// It ran into an error.
    Failed,
    /// It was not to be run, or a stage that it needs gave no result.
    Skipped,
    /// It was stopped.
    Interrupted,
}

impl StageState {
    /// All states, those that are to be hoped for first.
    pub const ALL: [Self; 5] =
        [Self::Ran, Self::Cached, Self::Failed, Self::Skipped, Self::Interrupted];

    /// Returns the word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ran => "ran",
            Self::Cached => "cached",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Interrupted => "interrupted",
        }
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Every stage that was to be run has its result.
    Done,
    /// A stage failed.
    Failed,
    /// The run was stopped.
    Interrupted,
}

impl RunState {
    /// Returns the word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What is to be said of a stage after a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    /// How it ended.
    pub state: StageState,
    /// How long it kept this run.
    pub seconds: f64,
    /// Figures of its result.
    pub metrics: BTreeMap<String, f64>,
    /// Readable copies of its outputs, by port.
    pub outputs: BTreeMap<String, PathBuf>,
    /// What went wrong, with its causes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The stage that it needs and that gave no result, which is why it was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waited_for: Option<String>,
    /// Whether it is the last result that there was, rather than that of these parameters and inputs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub frozen: bool,
    /// The first digits of the key that its result is found by.
    #[serde(skip)]
    pub key: Option<String>,
    /// Its result in a few words.
    #[serde(skip)]
    pub headline: Option<String>,
    /// How long it took to make a result that was there already.
    #[serde(skip)]
    pub seconds_saved: Option<f64>,
    /// For a stage that was made to run again, whether its result is the one of before.
    #[serde(skip)]
    pub reproduced: Option<bool>,
}

impl StageReport {
    /// Makes the report of a stage without a result.
    pub(crate) fn without_result(state: StageState, seconds: f64) -> Self {
        Self {
            state,
            seconds,
            metrics: BTreeMap::new(),
            outputs: BTreeMap::new(),
            error: None,
            waited_for: None,
            frozen: false,
            key: None,
            headline: None,
            seconds_saved: None,
            reproduced: None,
        }
    }
}

/// What is to be said of a run when it is over; the object that `--json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunReport {
    /// Identifier of the run.
    pub run: String,
    /// How it ended.
    pub state: RunState,
    /// How long it took.
    pub seconds: f64,
    /// The stages in the order in which they were dealt with, by name.
    #[serde(serialize_with = "as_map")]
    pub stages: Vec<(String, StageReport)>,
    /// What the program is to exit with.
    #[serde(skip)]
    pub exit_code: u8,
}

fn as_map<S: Serializer>(
    stages: &[(String, StageReport)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(stages.iter().map(|(name, report)| (name, report)))
}

/// Something that happened during a run; as JSON, an object whose `event` says what.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunEvent {
    /// The run begins.
    Started {
        /// Identifier of the run.
        run: String,
        /// Name of the pipeline.
        pipeline: String,
        /// Names of its stages, in the order in which they are dealt with.
        stages: Vec<String>,
    },
    /// Another process is at work on the same result, which this run waits for.
    Waiting {
        /// Name of the stage.
        stage: String,
        /// Who is at work.
        holder: String,
    },
    /// Something kept was damaged, and counts for nothing.
    Damaged {
        /// Name of the stage.
        stage: String,
        /// What it was.
        what: String,
    },
    /// Somebody had changed or removed files of a readable copy, which are as they were again.
    Restored {
        /// Name of the stage.
        stage: String,
        /// The folder.
        folder: PathBuf,
        /// The files in it.
        files: Vec<String>,
    },
    /// A result was taken from the shared cache.
    Fetched {
        /// Name of the stage.
        stage: String,
        /// Files that were not there before.
        files: usize,
        /// Length of these files.
        bytes: u64,
    },
    /// A result was given to the shared cache.
    Shared {
        /// Name of the stage.
        stage: String,
        /// Files that were not there before.
        files: usize,
        /// Length of these files.
        bytes: u64,
    },
    /// The shared cache has another result that was made from the same; that one is taken.
    Nondeterministic {
        /// Name of the stage.
        stage: String,
        /// First digits of the key that both are found by.
        key: String,
    },
    /// The shared cache cannot be used, and the run goes on without it.
    SharingFailed {
        /// What went wrong, with its causes.
        error: String,
    },
    /// A stage begins to work.
    StageStarted {
        /// Name of the stage.
        stage: String,
    },
    /// A stage has come further.
    StageProgress {
        /// Name of the stage.
        stage: String,
        /// How far it has come.
        progress: StageProgress,
    },
    /// A stage failed, and is tried again after a pause.
    Retrying {
        /// Name of the stage.
        stage: String,
        /// How often it has been tried.
        attempt: u32,
        /// What went wrong, with its causes.
        error: String,
        /// How long the pause is.
        seconds: f64,
    },
    /// A stage ended.
    StageFinished {
        /// Name of the stage.
        stage: String,
        /// What is to be said of it.
        report: StageReport,
    },
    /// The run is over.
    Finished {
        /// What is to be said of it.
        report: RunReport,
    },
}

/// Where events go.
#[derive(Clone)]
pub struct EventSink(Arc<dyn Fn(RunEvent) + Send + Sync>);

impl EventSink {
    /// Makes a sink that hands every event to a function, on the thread where it happens.
    pub fn new(receive: impl Fn(RunEvent) + Send + Sync + 'static) -> Self {
        Self(Arc::new(receive))
    }

    pub(crate) fn send(&self, event: RunEvent) {
        (self.0)(event);
    }

    /// Returns a sink that hands on what there is to say of the shared cache, and nothing else.
    pub(crate) fn of_sharing(&self) -> Self {
        let whole = self.clone();
        Self::new(move |event| {
            if matches!(event, RunEvent::SharingFailed { .. }) {
                whole.send(event);
            }
        })
    }
}

impl fmt::Debug for EventSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventSink")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The place of an event in the test below; a new one needs one, too.
    fn place(event: &RunEvent) -> usize {
        match event {
            RunEvent::Started { .. } => 0,
            RunEvent::Waiting { .. } => 1,
            RunEvent::Damaged { .. } => 2,
            RunEvent::Restored { .. } => 3,
            RunEvent::Fetched { .. } => 4,
            RunEvent::Shared { .. } => 5,
            RunEvent::Nondeterministic { .. } => 6,
            RunEvent::SharingFailed { .. } => 7,
            RunEvent::StageStarted { .. } => 8,
            RunEvent::StageProgress { .. } => 9,
            RunEvent::Retrying { .. } => 10,
            RunEvent::StageFinished { .. } => 11,
            RunEvent::Finished { .. } => 12,
        }
    }

    /// The page about events has a row for each of them.
    #[test]
    fn every_event_is_documented() {
        let path = std::env::var("CARGO_MANIFEST_DIR").unwrap() + "/../docs/reference/events.md";
        let page = std::fs::read_to_string(&path).unwrap();
        let stage = || "train".to_owned();
        let report = || StageReport::without_result(StageState::Skipped, 0.0);
        let progress = StageProgress { done: 1, total: 2, message: String::new() };
        let events = [
            RunEvent::Started { run: String::new(), pipeline: String::new(), stages: Vec::new() },
            RunEvent::Waiting { stage: stage(), holder: String::new() },
            RunEvent::Damaged { stage: stage(), what: String::new() },
            RunEvent::Restored { stage: stage(), folder: PathBuf::new(), files: Vec::new() },
            RunEvent::Fetched { stage: stage(), files: 1, bytes: 1 },
            RunEvent::Shared { stage: stage(), files: 1, bytes: 1 },
            RunEvent::Nondeterministic { stage: stage(), key: String::new() },
            RunEvent::SharingFailed { error: String::new() },
            RunEvent::StageStarted { stage: stage() },
            RunEvent::StageProgress { stage: stage(), progress },
            RunEvent::Retrying { stage: stage(), attempt: 1, error: String::new(), seconds: 1.0 },
            RunEvent::StageFinished { stage: stage(), report: report() },
            RunEvent::Finished {
                report: RunReport {
                    run: String::new(),
                    state: RunState::Done,
                    exit_code: 0,
                    seconds: 1.0,
                    stages: Vec::new(),
                },
            },
        ];

        for (index, event) in events.into_iter().enumerate() {
            assert_eq!(place(&event), index);
            let json = serde_json::to_value(&event).unwrap();
            let fields = json.as_object().unwrap();
            let name = fields["event"].as_str().unwrap();
            let row = page.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
            let row = row.unwrap_or_else(|| panic!("{path} has no row for `{name}`"));
            for field in fields.keys().filter(|field| *field != "event") {
                assert!(row.contains(&format!("`{field}`")), "{path}: `{name}` has no `{field}`");
            }
        }
    }
}
