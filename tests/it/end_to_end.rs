//! The main job on a tiny world: run, run again, change, interrupt, go on.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Command;

use heimdall_sim::EventLatents;
use heimdall_train::{Evaluation, Grouping};

use crate::workplace::{TINY, Workplace, ended, said};

#[test]
fn first_run_does_everything_and_second_run_nothing() {
    let workplace = Workplace::new(TINY);

    let first = workplace.run(&[]).done();
    let second = workplace.run(&[]).done();

    assert_eq!(first.states(), ["ran"; 7]);
    assert_eq!(second.states(), ["cached"; 7]);
    for (name, stage) in &first.stages {
        assert_eq!(stage.metrics, second.stages[name].metrics, "{name}");
        assert_eq!(stage.outputs, second.stages[name].outputs, "{name}");
        for path in stage.outputs.values() {
            assert!(fs::read_dir(path).unwrap().next().is_some(), "{}", path.display());
        }
    }
    let metrics = &first.stages["evaluate"].metrics;
    for name in ["error_km_median", "error_km_p68", "error_km_p90", "coverage_50", "coverage_95"] {
        assert!(metrics[name].is_finite() && metrics[name] >= 0.0, "{name}");
    }
    assert!(metrics["centroid.error_km_median"] > 0.0);
    assert!(metrics["training_mean.error_km_median"] > 0.0);
}

#[test]
fn report_is_one_page_without_links() {
    let workplace = Workplace::new(TINY);

    let run = workplace.run(&["--until", "evaluate"]).done();

    let folder = &run.stages["evaluate"].outputs["evaluation"];
    let page = fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(page.matches("<svg").count() >= 3 && page.matches("data:image/png").count() == 21);
    assert!(!page.contains("http") && !page.contains("<script") && !page.contains("NaN"), "{page}");
    let json = fs::read(folder.join("evaluation.json")).unwrap();
    let evaluation: Evaluation = serde_json::from_slice(&json).unwrap();
    assert_eq!(evaluation.events.len(), 8);
    assert_waveforms_are_those_of_the_world(&evaluation, &run.stages["recordings"].outputs);
    let figures = fs::read_dir(folder.join("figures")).unwrap().map(|entry| entry.unwrap());
    let names: Vec<_> = figures.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert!(names.contains(&"map.svg".to_owned()) && names.contains(&"errors.svg".to_owned()));
}

/// What was transmitted goes from the world through catalog and features into the groups of the
/// report.
fn assert_waveforms_are_those_of_the_world(
    evaluation: &Evaluation,
    recordings: &BTreeMap<String, PathBuf>,
) {
    let latents = fs::read_to_string(recordings["recordings"].join("latents.jsonl")).unwrap();
    let latents = latents.lines().map(|line| serde_json::from_str::<EventLatents>(line).unwrap());
    let truth: BTreeMap<String, &str> = latents
        .map(|latents| (format!("event-{:06}", latents.index), latents.waveform.name()))
        .collect();
    let mut counts: BTreeMap<String, f64> = BTreeMap::new();
    for event in &evaluation.events {
        assert_eq!(event.waveform.as_deref(), Some(truth[&event.event]));
        *counts.entry(truth[&event.event].to_owned()).or_default() += 1.0;
    }
    let groups = &evaluation.groups[&Grouping::Waveform];
    let told: BTreeMap<String, f64> =
        groups.iter().map(|(name, metrics)| (name.clone(), metrics["events"])).collect();
    assert_eq!(told, counts);
}

#[test]
fn stage_after_from_runs_again_and_what_is_before_stays() {
    let workplace = Workplace::new(TINY);
    workplace.run(&[]).done();

    let from = workplace.run(&["--from", "evaluate"]).done();

    assert_eq!(from.states(), ["cached", "cached", "cached", "cached", "ran", "ran", "ran"]);
}

#[test]
fn changed_parameter_runs_what_depends_on_it() {
    let workplace = Workplace::new(TINY);
    workplace.run(&["--until", "train"]).done();

    let changed = workplace.run(&["--until", "train", "--set", "vars.epochs=1"]).done();
    let typed = workplace.run(&["--until", "train", "--set", "train.epochs=1"]).done();
    let wrong = workplace.run(&["--set", "train.epochs=many"]);
    let unknown = workplace.run(&["--set", "train.epoch=1"]);

    assert_eq!(changed.stages["split"].state, "cached");
    assert_eq!(changed.stages["train"].state, "ran");
    assert_eq!(typed.stages["train"].state, "cached", "the same value by another way");
    assert_eq!(wrong.code, 2, "{}", wrong.stderr);
    assert_eq!(unknown.code, 2, "{}", unknown.stderr);
    assert!(unknown.stderr.contains("epochs"), "no suggestion: {}", unknown.stderr);
}

#[test]
fn two_places_with_one_seed_train_equal_weights() {
    let digest = || {
        let run = Workplace::new(TINY);
        let stage = run.run(&["--until", "train"]).done();
        fs::read(stage.stages["train"].outputs["model"].join("network.bpk")).unwrap()
    };

    assert!(digest() == digest(), "weights differ");
}

/// Interrupted once the first epoch is kept; what comes out in the end is what an uninterrupted run
/// gives.
#[test]
fn interrupted_training_leaves_nothing_and_goes_on() {
    let workplace = Workplace::new(TINY);
    let arguments = ["--until", "train", "--set", "vars.epochs=30"];

    let mut child = workplace.start(&arguments);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let finished = lines.find(|line| line.as_ref().unwrap().contains("epoch finished"));
    assert!(finished.is_some(), "training ended before an epoch did");
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    let interrupted = ended(child);

    assert_eq!(interrupted.code, 130, "{rest:?}");
    assert_eq!(interrupted.json().stages["train"].state, "interrupted");
    assert!(!workplace.path("artifacts/tiny/train").exists());
    let resumed = workplace.run(&arguments);
    assert!(resumed.stderr.contains("goes on after epoch"), "{}", resumed.stderr);
    let weights = |run: crate::workplace::RunJson| {
        fs::read(run.stages["train"].outputs["model"].join("network.bpk")).unwrap()
    };
    let uninterrupted = Workplace::new(TINY);
    assert!(
        weights(resumed.done()) == weights(uninterrupted.run(&arguments).done()),
        "weights differ from those of an uninterrupted run"
    );
}

#[test]
fn registration_is_made_again_when_the_store_is_gone() {
    let workplace = Workplace::new(TINY);
    workplace.run(&[]).done();
    fs::remove_dir_all(workplace.path("mlflow")).unwrap();

    let plan = said(&workplace, &["plan", "pipeline.yaml"]);
    let again = workplace.run(&[]).done();

    assert!(plan.lines().last().unwrap().starts_with("register     run"), "{plan}");
    assert_eq!(again.states(), ["cached", "cached", "cached", "cached", "cached", "cached", "ran"]);
    assert!(workplace.path("mlflow/mlflow.db").exists());
    let plan = said(&workplace, &["plan", "pipeline.yaml"]);
    assert!(plan.lines().last().unwrap().starts_with("register     cached"), "{plan}");
}

#[test]
fn failed_gate_registers_nothing() {
    let gate = "{ error_km_median: [0, 0.001], coverage_90: [2, 3], coverage_50: [0, 1] }";
    let pipeline = format!("{TINY}    gate: {gate}\n");
    let workplace = Workplace::new(&pipeline);

    let failed = workplace.run(&[]);

    assert_eq!(failed.code, 3, "{}", failed.stderr);
    let metrics = &failed.json().stages["evaluate"].metrics;
    for told in [
        format!(
            "`error_km_median` must be between 0 and 0.001, but is {}",
            metrics["error_km_median"]
        ),
        format!("`coverage_90` must be between 2 and 3, but is {}", metrics["coverage_90"]),
    ] {
        assert!(failed.stderr.contains(&told), "no {told} in {}", failed.stderr);
    }
    assert!(!failed.stderr.contains("coverage_50"), "{}", failed.stderr);
    assert_eq!(failed.json().stages["register"].state, "failed");
    assert!(!workplace.path("mlflow/mlflow.db").exists());
}
