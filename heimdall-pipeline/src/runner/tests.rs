//! Tests of the runner, on worlds of a few short recordings.

mod keys;

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use tempfile::TempDir;

use super::*;
use crate::spec::LoadOptions;

/// Recordings and their features, from a world that takes milliseconds.
const TINY: &str = "\
name: tiny
stages:
  recordings:
    uses: simulate
    world: { sessions: 2, events_per_session: 1, duration_s: 0.15, seed: 3 }
  features: { uses: extract, from: recordings, features: { bands: 16, frames: 4 } }
";

struct Bench {
    folder: TempDir,
    seen: Arc<Mutex<Vec<RunEvent>>>,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), seen: Arc::default() }
    }

    fn path(&self, inner: &str) -> PathBuf {
        self.folder.path().join(inner)
    }

    fn options(&self) -> RunOptions {
        let (cache, output) = (self.path("cache"), self.path("artifacts"));
        RunOptions { cache, output, ..RunOptions::default() }
    }

    async fn try_run(&self, text: &str, options: &RunOptions) -> Result<RunReport, PipelineError> {
        let seen = Arc::clone(&self.seen);
        let events = EventSink::new(move |event| seen.lock().unwrap().push(event));
        run(&spec(text), options, &Arc::default(), &events).await
    }

    async fn run(&self, text: &str) -> RunReport {
        self.try_run(text, &self.options()).await.unwrap()
    }

    async fn plan(&self, text: &str) -> Vec<Forecast> {
        let events = EventSink::new(|_| {});
        let planned = plan(&spec(text), &self.options(), &events).await.unwrap();
        planned.into_iter().map(|stage| stage.forecast).collect()
    }

    /// Whether nothing is left of stages at work.
    fn is_tidy(&self) -> bool {
        fs::read_dir(self.path("cache/work")).unwrap().next().is_none()
    }
}

fn spec(text: &str) -> PipelineSpec {
    PipelineSpec::parse("p.yaml", "p", text, &LoadOptions::default()).unwrap()
}

fn states(report: &RunReport) -> Vec<&'static str> {
    report.stages.iter().map(|(_, stage)| stage.state.name()).collect()
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let read = |path: String| (path.clone(), fs::read(folder.join(path)).unwrap());
    crate::cache::list_files(folder).unwrap().into_iter().map(read).collect()
}

#[tokio::test]
async fn second_run_finds_everything() {
    let bench = Bench::new();

    let first = bench.run(TINY).await;
    let second = bench.run(TINY).await;

    assert_eq!((first.state, first.exit_code), (RunState::Done, 0));
    assert_eq!(states(&first), ["ran", "ran"]);
    assert_eq!(states(&second), ["cached", "cached"]);
    assert_eq!(first.stages[1].1.outputs, second.stages[1].1.outputs);
    assert!(second.stages[1].1.outputs["features"].join("features.json").is_file());
    assert!(bench.is_tidy());
}

#[tokio::test]
async fn names_order_and_device_have_no_bearing_on_the_result() {
    let bench = Bench::new();
    bench.run(TINY).await;

    let renamed = "\
stages:
  f: { from: r, features: { frames: 4, bands: 16 }, run: { device: cpu }, uses: extract }
  r:
    world: { seed: 3, duration_s: 0.15, events_per_session: 1, sessions: 2 }
    uses: simulate
name: other
";

    assert_eq!(states(&bench.run(renamed).await), ["cached", "cached"]);
}

#[tokio::test]
async fn changed_parameter_changes_what_depends_on_it() {
    let bench = Bench::new();
    bench.run(TINY).await;

    let cases = [
        ("seed: 3", "seed: 4", [Forecast::Run, Forecast::Maybe]),
        ("duration_s: 0.15", "duration_s: 0.2", [Forecast::Run, Forecast::Maybe]),
        ("bands: 16", "bands: 17", [Forecast::Cached, Forecast::Run]),
        ("from: recordings", "from: recordings, precision: f32", [Forecast::Cached, Forecast::Run]),
        ("name: tiny", "name: other", [Forecast::Restore, Forecast::Restore]),
    ];

    for (before, after, expected) in cases {
        assert_eq!(bench.plan(&TINY.replace(before, after)).await, expected, "{after}");
    }
}

#[tokio::test]
async fn equal_result_of_a_forced_stage_stops_there() {
    let bench = Bench::new();
    bench.run(TINY).await;

    let force = vec!["recordings".to_owned()];
    let forced = bench.try_run(TINY, &RunOptions { force, ..bench.options() }).await.unwrap();

    assert_eq!(forced.stages[0].1.reproduced, Some(true));
    assert_eq!(states(&forced), ["ran", "cached"]);
}

/// The shared result takes the place of the new one, and is not what was made.
#[tokio::test]
async fn stage_that_makes_something_else_each_time_is_told_from_others_beside_a_shared_cache() {
    let bench = Bench::new();
    let line = "cat /proc/sys/kernel/random/uuid > $HEIMDALL_OUTPUT_OUT/x";
    let text = format!(
        "stages:\n  a:\n    uses: cmd\n    outputs: {{ out: files }}\n    command: {line}\n"
    );
    fs::create_dir(bench.path("shared")).unwrap();
    let remote = Some(bench.path("shared").display().to_string());
    let options = RunOptions { remote, ..bench.options() };
    let first = bench.try_run(&text, &options).await.unwrap();
    let made = files(&first.stages[0].1.outputs["out"]);

    let force = vec!["a".to_owned()];
    let second = bench.try_run(&text, &RunOptions { force, ..options }).await.unwrap();

    assert_eq!(second.stages[0].1.reproduced, Some(false));
    assert_eq!(files(&second.stages[0].1.outputs["out"]), made);
}

#[tokio::test]
async fn frozen_stage_whose_outputs_were_others_is_not_cached() {
    let bench = Bench::new();
    let text = |port: &str| {
        let first = format!(
            "{{ uses: cmd, outputs: {{ {port}: files }}, command: touch $HEIMDALL_OUTPUT_ONE/x }}"
        );
        let second = format!(
            "{{ uses: cmd, from: {{ in: a.{port} }}, outputs: {{ out: files }}, command: touch $HEIMDALL_OUTPUT_OUT/x }}"
        );
        format!("stages:\n  a: {first}\n  b: {second}\n")
    };
    bench.run(&text("one")).await;

    let only = vec!["b".to_owned()];
    let options = RunOptions { frozen: true, only, ..bench.options() };
    let error = bench.try_run(&text("two"), &options).await.unwrap_err();

    assert!(matches!(error, PipelineError::NotCached { .. }), "{error}");
    let other_line = text("one").replace("ONE/x", "ONE/y");
    let report = bench.try_run(&other_line, &options).await.unwrap();
    assert_eq!(states(&report), ["cached", "cached"]);
}

#[tokio::test]
async fn stage_after_from_runs_again() {
    let bench = Bench::new();
    bench.run(TINY).await;

    let from = Some("features".to_owned());
    let report = bench.try_run(TINY, &RunOptions { from, ..bench.options() }).await.unwrap();

    assert_eq!(states(&report), ["cached", "ran"]);
    assert_eq!(report.stages[1].1.reproduced, Some(true));
}

#[tokio::test]
async fn stage_before_from_must_be_in_the_cache() {
    let bench = Bench::new();

    let from = Some("features".to_owned());
    let error = bench.try_run(TINY, &RunOptions { from, ..bench.options() }).await.unwrap_err();

    assert_eq!(error.exit_code(), 2);
    let text = error.to_string();
    assert!(text.contains("stage `recordings`") && text.contains("`--from recordings`"), "{text}");
}

#[tokio::test]
async fn stages_that_were_not_asked_for_are_left_out() {
    let bench = Bench::new();

    let until = Some("recordings".to_owned());
    let report = bench.try_run(TINY, &RunOptions { until, ..bench.options() }).await.unwrap();
    let only = vec!["features".to_owned()];
    let rest = bench.try_run(TINY, &RunOptions { only, ..bench.options() }).await.unwrap();

    assert_eq!(states(&report), ["ran", "skipped"]);
    assert_eq!(report.state, RunState::Done);
    assert_eq!(states(&rest), ["cached", "ran"]);
}

#[tokio::test]
async fn misspelt_stage_is_refused_with_a_suggestion() {
    let bench = Bench::new();

    let from = Some("featurs".to_owned());
    let error = bench.try_run(TINY, &RunOptions { from, ..bench.options() }).await.unwrap_err();

    let text = "the pipeline has no stage `featurs`; did you mean `features`?";
    assert_eq!(error.to_string(), text);
}

/// A stage that fails keeps its dependents from running, on old results or otherwise, and nobody
/// else; what it made before stays readable.
#[tokio::test]
async fn failure_skips_what_depends_on_it_and_nothing_else() {
    let bench = Bench::new();
    let imported = bench.path("imported");
    let text = |path: &Path| {
        format!(
            "{TINY}  more: {{ uses: import, path: {} }}\n  more_features: {{ uses: extract, from: more }}\n",
            path.display()
        )
    };

    let report = bench.run(&text(&imported)).await;

    assert_eq!(states(&report), ["ran", "ran", "failed", "skipped"]);
    assert_eq!((report.state, report.exit_code), (RunState::Failed, 1));
    assert_eq!(report.stages[3].1.waited_for.as_deref(), Some("more"));
    assert_eq!(report.stages[2].1.waited_for, None);
    let error = report.stages[2].1.error.as_deref().unwrap();
    assert!(error.contains("imported"), "{error}");
    assert!(bench.is_tidy());
}

#[tokio::test]
async fn changed_content_in_the_cache_is_reported_and_made_again() {
    let bench = Bench::new();
    let first = bench.run(TINY).await;
    let sound = files(&first.stages[1].1.outputs["features"]);
    let output = bench.plan_result("features");
    let blob = Cache::open(&bench.path("cache"), None).unwrap().blob(&output);
    let mut bytes = fs::read(&blob).unwrap();
    bytes[0] ^= 1;
    fs::remove_file(&blob).unwrap();
    fs::write(&blob, bytes).unwrap();

    let second = bench.run(TINY).await;

    assert_eq!(states(&second), ["cached", "ran"]);
    assert_eq!(files(&second.stages[1].1.outputs["features"]), sound);
    let seen = bench.seen.lock().unwrap();
    let damaged =
        |event: &RunEvent| matches!(event, RunEvent::Damaged { stage, .. } if stage == "features");
    assert!(seen.iter().any(damaged));
}

impl Bench {
    /// Returns the digest of the first file that a stage of the tiny pipeline has in the cache.
    fn plan_result(&self, stage: &str) -> Digest {
        let cache = Cache::open(&self.path("cache"), None).unwrap();
        let key = cache.latest_keys("tiny", [stage].into_iter()).unwrap()[stage];
        cache.read_manifest(&key).unwrap().outputs["features"].files[0].digest
    }
}

#[tokio::test]
async fn edited_copy_is_restored_and_reaches_no_stage() {
    let bench = Bench::new();
    let first = bench.run(TINY).await;
    let folder = &first.stages[0].1.outputs["recordings"];
    let sound = files(folder);
    fs::write(folder.join("catalog.db"), "garbage").unwrap();
    fs::remove_dir_all(folder.join("objects")).unwrap();

    let from = Some("features".to_owned());
    let report = bench.try_run(TINY, &RunOptions { from, ..bench.options() }).await.unwrap();

    assert_eq!(report.stages[1].1.reproduced, Some(true));
    assert_eq!(files(folder), sound);
    let seen = bench.seen.lock().unwrap();
    let restored = seen.iter().find_map(|event| match event {
        RunEvent::Restored { stage, files, .. } if stage == "recordings" => Some(files),
        _ => None,
    });
    assert!(restored.unwrap().contains(&"catalog.db".to_owned()));
}

#[tokio::test]
async fn interruption_ends_the_stage_and_the_run() {
    let bench = Bench::new();
    let cancel: Arc<AtomicBool> = Arc::default();
    let raised = Arc::clone(&cancel);
    let events = EventSink::new(move |event| {
        if let RunEvent::StageStarted { .. } = event {
            raised.store(true, Ordering::Relaxed);
        }
    });

    let report = run(&spec(TINY), &bench.options(), &cancel, &events).await.unwrap();

    assert_eq!(states(&report), ["interrupted", "skipped"]);
    assert_eq!((report.state, report.exit_code), (RunState::Interrupted, 130));
    assert!(bench.is_tidy());
    assert!(!bench.path("artifacts").exists());
    assert_eq!(states(&bench.run(TINY).await), ["ran", "ran"]);
}

#[tokio::test]
async fn two_runs_at_once_share_their_results() {
    let bench = Bench::new();

    let (one, other) = tokio::join!(bench.run(TINY), bench.run(TINY));

    for stage in 0..2 {
        let mut both = [states(&one)[stage], states(&other)[stage]];
        both.sort_unstable();
        assert_eq!(both, ["cached", "ran"]);
    }
}

#[tokio::test]
async fn report_is_the_documented_object() {
    let bench = Bench::new();

    let report = bench.run(TINY).await;

    let json = serde_json::to_value(&report).unwrap();
    let keys = |value: &serde_json::Value| -> Vec<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(json["state"], "done");
    assert_eq!(json["run"], report.run);
    let mut top = keys(&json);
    top.sort();
    assert_eq!(top, ["run", "seconds", "stages", "state"]);
    let stage = &json["stages"]["features"];
    let mut fields = keys(stage);
    fields.sort();
    assert_eq!(fields, ["metrics", "outputs", "seconds", "state"]);
    let folder = Path::new(stage["outputs"]["features"].as_str().unwrap());
    assert!(folder.is_absolute() && folder.is_dir(), "{}", folder.display());
}
