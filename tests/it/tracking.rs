//! Trainings in the tracking store while they go on, whatever the store does.

use std::fs;

use heimdall_tracking::MlflowStore;
use serde_json::Value;

use crate::workplace::{TINY, Workplace, said};

/// The tiny pipeline, whose trainings are tracked.
fn tracked(uri: &str) -> String {
    format!("{TINY}tracking: {{ uri: \"{uri}\", training: true }}\n")
}

/// Points of a metric in a folder, by the id of the run.
async fn history(workplace: &Workplace, run_id: &str, key: &str) -> Vec<(i64, f64)> {
    let store = MlflowStore::open(&workplace.path("mlflow")).await.unwrap();
    let run = store.resume_run(run_id).await.unwrap();
    let points = run.metric_history(key).await.unwrap();
    points.into_iter().map(|point| (point.step, point.value)).collect()
}

#[tokio::test]
async fn training_is_a_run_of_its_own() {
    let workplace = Workplace::new(&tracked("mlflow"));

    let run = workplace.run(&["--until", "train"]);

    let told = run.stderr.lines().find(|line| line.contains("the training is tracked"));
    let told = told.unwrap_or_else(|| panic!("{}", run.stderr));
    let run_id = told.split("run=\"").nth(1).unwrap().split('"').next().unwrap();
    let losses = history(&workplace, run_id, "train/loss").await;
    assert_eq!(losses.iter().map(|point| point.0).collect::<Vec<_>>(), [1, 2]);
    let last = run.done().stages["train"].metrics["train_loss"];
    assert!(losses.iter().any(|point| (point.1 - last).abs() < 1e-12 * last.abs()), "{losses:?}");
    let batches = history(&workplace, run_id, "batch/loss").await.len();
    assert!(batches > 2 && batches.is_multiple_of(2), "{batches} in two epochs");
    assert_eq!(fs::read_dir(workplace.path(".heimdall/tracking")).unwrap().count(), 0);
}

/// The server is away: the training does not notice, and what was logged is sent later.
#[tokio::test]
async fn training_goes_on_without_its_server() {
    let workplace = Workplace::new(&tracked("http://127.0.0.1:9"));

    let run = workplace.run(&["--until", "train"]);

    assert!(run.stderr.contains("heimdall-pipeline tracking sync"), "{}", run.stderr);
    run.done();
    let failed = workplace.command(&["tracking", "sync"]).output().unwrap();
    assert_eq!(failed.status.code(), Some(1));
    let spool = fs::read_dir(workplace.path(".heimdall/tracking")).unwrap().next().unwrap();
    let header = spool.unwrap().path().join("run.json");
    let mut described: Value = serde_json::from_slice(&fs::read(&header).unwrap()).unwrap();
    described["address"] = workplace.path("mlflow").to_str().unwrap().into();
    fs::write(&header, described.to_string()).unwrap();
    let sent = said(&workplace, &["tracking", "sync"]);
    let again = said(&workplace, &["tracking", "sync"]);

    assert!(
        sent.contains("delivered") && again.contains("everything has arrived"),
        "{sent}{again}"
    );
    let run_id = sent.lines().nth(1).unwrap().split_whitespace().last().unwrap();
    assert_eq!(history(&workplace, run_id, "train/loss").await.len(), 2, "{sent}");
}
