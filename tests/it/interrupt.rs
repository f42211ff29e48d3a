//! Ctrl-C in every kind of stage: nothing half-written, and the next run goes on.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use heimdall_pipeline::{
    EventSink, LoadOptions, PipelineSpec, RunEvent, RunOptions, RunReport, StageKind, StageState,
    run,
};
use tempfile::TempDir;

use crate::locate;
use crate::locate_tables;
use crate::small::SMALL;
use crate::workplace::TINY;

/// Kinds that say how far they have come.
const REPORTING: [StageKind; 6] = [
    StageKind::Simulate,
    StageKind::SimulateFeatures,
    StageKind::Extract,
    StageKind::Train,
    StageKind::HoldOut,
    StageKind::Locate,
];

/// A pipeline of features without recordings.
const WITHOUT_RECORDINGS: &str = "
name: features
stages:
  features:
    uses: simulate_features
    world: { sessions: 40, events_per_session: 1, seed: 3, sample_rate_hz: 16000, duration_s: 0.05 }
";

/// A pipeline of tables of levels.
const TABLES: &str = "
name: tables
vars: { data: tables }
stages:
  measurements:
    uses: import_tables
    path: ${data}
  blocks:
    uses: hold_out
    from: measurements.features
    by: block
    block_km: 25
    others: { by: event }
    train: { epochs: 1, model: { backbone: mlp, head_width: 8 } }
";

/// When a stage is interrupted.
#[derive(Clone, Copy, PartialEq)]
enum Moment {
    /// Before it has done anything.
    Start,
    /// When it first says how far it has come.
    Progress,
    /// Never.
    Never,
}

/// A folder for the cache, the copies and the store of one pipeline.
struct Place {
    folder: TempDir,
    text: &'static str,
}

impl Place {
    fn new(text: &'static str) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), text }
    }

    fn path(&self, inner: &str) -> PathBuf {
        self.folder.path().join(inner)
    }

    fn spec(&self) -> PipelineSpec {
        let mut set = vec![format!("tracking.uri={}", self.path("mlflow").display())];
        if self.text.contains("data:") {
            set.push(format!("vars.data={}", self.path("recordings").display()));
        }
        let options = LoadOptions { set, ..LoadOptions::default() };
        PipelineSpec::parse("pipeline.yaml", "pipeline", self.text, &options).unwrap()
    }

    /// Runs the pipeline, raising the flag in a stage.
    async fn run(&self, stage: &str, moment: Moment) -> RunReport {
        let options = RunOptions {
            cache: self.path("cache"),
            output: self.path("artifacts"),
            // What does not lead to the stage would run beside it.
            until: (moment != Moment::Never).then(|| stage.to_owned()),
            ..RunOptions::default()
        };
        let cancel = Arc::new(AtomicBool::new(false));
        let (raised, victim) = (Arc::clone(&cancel), stage.to_owned());
        let events = EventSink::new(move |event| {
            let now = match &event {
                RunEvent::StageStarted { stage } if *stage == victim => Moment::Start,
                RunEvent::StageProgress { stage, .. } if *stage == victim => Moment::Progress,
                _ => return,
            };
            if now == moment {
                raised.store(true, Ordering::Relaxed);
            }
        });
        run(&self.spec(), &options, &cancel, &events).await.unwrap()
    }

    /// Every file of the readable copies of a stage.
    fn copies(&self, pipeline: &str, stage: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let root = self.path("artifacts").join(pipeline).join(stage);
        let (mut files, mut folders) = (Vec::new(), vec![root.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let bytes = fs::read(&path).unwrap();
                    files.push((path.strip_prefix(&root).unwrap().to_owned(), bytes));
                }
            }
        }
        files.sort();
        files
    }
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

/// Interrupts each stage in turn, once at every moment. What a run leaves undone the next one does,
/// so that a stage has its inputs when its turn has come.
async fn interrupt_everywhere(place: &Place) -> Vec<&'static str> {
    let spec = place.spec();
    let mut kinds = Vec::new();
    for (position, stage) in spec.stages.iter().enumerate() {
        let (name, kind) = (&stage.name, stage.stage.kind());
        for moment in [Moment::Start, Moment::Progress] {
            if moment == Moment::Progress && !REPORTING.contains(&kind) {
                continue;
            }
            let report = place.run(name, moment).await;

            let states: Vec<StageState> = report.stages.iter().map(|(_, s)| s.state).collect();
            assert_eq!(report.exit_code, 130, "{name}: {report:?}");
            assert_eq!(states[position], StageState::Interrupted, "{name}: {report:?}");
            let rest = &states[position + 1..];
            assert!(rest.iter().all(|state| *state == StageState::Skipped), "{name}: {states:?}");
            assert!(is_empty(&place.path("cache/work")), "{name} leaves a work folder");
            let copies = place.path("artifacts").join(&spec.name).join(name);
            assert!(!copies.exists(), "{name} leaves {}", copies.display());
        }
        kinds.push(kind.name());
    }
    let report = place.run("", Moment::Never).await;
    assert_eq!(report.exit_code, 0, "{report:?}");
    kinds
}

async fn assert_like_uninterrupted(place: &Place, uninterrupted: &Place) {
    let report = uninterrupted.run("", Moment::Never).await;
    assert_eq!(report.exit_code, 0, "{report:?}");
    let spec = place.spec();
    for stage in &spec.stages {
        // A registration names its run and its time.
        if stage.stage.kind() != StageKind::Register {
            let copies = |place: &Place| place.copies(&spec.name, &stage.name);
            assert!(copies(place) == copies(uninterrupted), "`{}` differs", stage.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_stage_of_the_main_job_can_be_interrupted() {
    let place = Place::new(TINY);

    let kinds = interrupt_everywhere(&place).await;

    let expected = ["simulate", "extract", "split", "train", "evaluate", "export", "register"];
    assert_eq!(kinds, expected);
    assert_like_uninterrupted(&place, &Place::new(TINY)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn import_and_location_can_be_interrupted() {
    let (place, uninterrupted) = (Place::new(locate::PIPELINE), Place::new(locate::PIPELINE));
    for place in [&place, &uninterrupted] {
        locate::write_folder(&place.path("recordings"), &locate::STATIONS);
    }

    let kinds = interrupt_everywhere(&place).await;

    assert_eq!(kinds, ["import", "extract", "locate"]);
    assert_like_uninterrupted(&place, &uninterrupted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn simulation_of_features_can_be_interrupted() {
    let place = Place::new(WITHOUT_RECORDINGS);

    let kinds = interrupt_everywhere(&place).await;

    assert_eq!(kinds, ["simulate_features"]);
    assert_like_uninterrupted(&place, &Place::new(WITHOUT_RECORDINGS)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_can_be_interrupted() {
    let (place, uninterrupted) = (Place::new(TABLES), Place::new(TABLES));
    for place in [&place, &uninterrupted] {
        locate_tables::write_tables(&place.path("recordings"), 120, 1);
    }

    let kinds = interrupt_everywhere(&place).await;

    assert_eq!(kinds, ["import_tables", "hold_out"]);
    assert_like_uninterrupted(&place, &uninterrupted).await;
}

/// A kind that is added must be interrupted by one of the tests above, or, as programs are, by those of
/// [`cmd`](crate::cmd).
#[test]
fn every_kind_is_interrupted() {
    let interrupted: BTreeSet<&str> = [TINY, locate::PIPELINE, SMALL, WITHOUT_RECORDINGS, TABLES]
        .iter()
        .flat_map(|text| text.lines())
        .filter_map(|line| line.trim().strip_prefix("uses: "))
        .collect();

    assert_eq!(interrupted, StageKind::ALL.map(StageKind::name).into());
}
