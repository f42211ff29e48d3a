//! Runs and models on a real MLflow server, and runs whose server is not what it should be.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use heimdall_tracking::{
    Credentials, MlflowTracker, RunStatus, SyncOutcome, TrackedRun, TrackerConfig, TrackingAddress,
    sync,
};

fn config(address: &str, folder: &Path) -> TrackerConfig {
    TrackerConfig {
        address: TrackingAddress::parse(address).unwrap(),
        credentials: Credentials::default(),
        spool: folder.join("spool"),
    }
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A server that gives every request the same answer, or none at all.
fn broken_server(answer: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            match answer {
                Some(answer) => {
                    // The answer may come before the request has been read.
                    let _ = stream.read(&mut [0; 4096]);
                    let _ = stream.write_all(answer.as_bytes());
                }
                None => kept.push(stream),
            }
        }
    });
    address
}

/// Whatever the server does, logging takes no time, and ending takes no longer than it may; what was
/// logged is in the spool, from where it arrives in a store that works.
#[tokio::test(flavor = "multi_thread")]
async fn broken_server_holds_nobody_up_and_loses_nothing() {
    let html =
        "HTTP/1.1 200 OK\r\ncontent-length: 17\r\nconnection: close\r\n\r\n<html>Hi!</html>\n";
    let failing = "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let busy =
        "HTTP/1.1 429 Slow\r\nretry-after: 9\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let locked = "HTTP/1.1 401 No\r\ncontent-length: 2\r\nconnection: close\r\n\r\nNo";
    let servers = [
        ("absent", "http://127.0.0.1:9".to_owned()),
        ("hanging", broken_server(None)),
        ("html", broken_server(Some(html))),
        ("failing", broken_server(Some(failing))),
        ("busy", broken_server(Some(busy))),
        ("locked", broken_server(Some(locked))),
    ];
    for (name, address) in servers {
        let folder = tempfile::tempdir().unwrap();
        let run = TrackedRun::new("faults", name);
        let tracker = MlflowTracker::start(&config(&address, folder.path()), run).unwrap();

        let started = Instant::now();
        tracker.log_hparams(&pairs(&[("epochs", "3")]));
        for step in 0..2000 {
            tracker.log_metrics(step, &[("loss", step as f64), ("odd", f64::NAN)]);
        }
        let logged = started.elapsed();
        let ending = Instant::now();
        let report = tracker.end_run(RunStatus::Finished, Duration::from_secs(1));

        assert!(logged < Duration::from_secs(2), "{name}: {logged:?} for 2000 calls");
        assert!(ending.elapsed() < Duration::from_secs(4), "{name}: {:?}", ending.elapsed());
        assert!(!report.is_complete() && report.lost == 0, "{name}: {report:?}");
        // The same spool, for a store that works.
        let store = folder.path().join("mlflow");
        redirect(&report.spool, &store);
        let reports = sync_when_free(&folder.path().join("spool")).await;
        assert_eq!(reports.len(), 1, "{name}");
        assert_eq!(reports[0].outcome, SyncOutcome::Delivered, "{name}: {reports:?}");
        let found = read(&store, reports[0].run_id.as_deref().unwrap()).await;
        assert_eq!(found, (2000, 2000, "3".to_owned()), "{name}");
        assert!(!report.spool.exists(), "{name}");
    }
}

/// The quickest step of a training takes more than 5 ms: a hundredth of that is 50 µs.
#[test]
fn logging_takes_less_than_a_hundredth_of_a_step() {
    let folder = tempfile::tempdir().unwrap();
    let address = broken_server(None);
    let run = TrackedRun::new("faults", "quick");
    let tracker = MlflowTracker::start(&config(&address, folder.path()), run).unwrap();

    let mut times: Vec<Duration> = (0..5000)
        .map(|step| {
            let started = Instant::now();
            tracker.log_metrics(step, &[("batch/loss", 1.0), ("batch/learning_rate", 1e-3)]);
            started.elapsed()
        })
        .collect();

    times.sort();
    let median = times[times.len() / 2];
    assert!(median < Duration::from_micros(50), "{median:?}");
    tracker.end_run(RunStatus::Finished, Duration::ZERO);
}

/// Waits for a process, or a request, that holds a spool.
async fn sync_when_free(spool: &Path) -> Vec<heimdall_tracking::SyncReport> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let reports = sync(spool, &Credentials::default()).await.unwrap();
        let is_free = reports.iter().all(|report| report.outcome != SyncOutcome::UnderWay);
        if is_free || Instant::now() > deadline {
            return reports;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Sends a spool to another store.
fn redirect(spool: &Path, store: &Path) {
    let path = spool.join("run.json");
    let mut header: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    header["address"] = store.to_str().unwrap().into();
    std::fs::write(&path, header.to_string()).unwrap();
}

/// Points of the two metrics and the parameter of a run in a folder.
async fn read(store: &Path, run_id: &str) -> (usize, usize, String) {
    let store = heimdall_tracking::MlflowStore::open(store).await.unwrap();
    let run = store.resume_run(run_id).await.unwrap();
    let [loss, odd] = ["loss", "odd"];
    (
        run.metric_history(loss).await.unwrap().len(),
        run.metric_history(odd).await.unwrap().len(),
        run.params().await.unwrap()["epochs"].clone(),
    )
}

/// What the store refuses for good takes nothing else with it.
#[tokio::test(flavor = "multi_thread")]
async fn refused_entry_is_kept_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("mlflow");
    let config = config(store.to_str().unwrap(), folder.path());
    let tracker = MlflowTracker::start(&config, TrackedRun::new("faults", "refused")).unwrap();

    tracker.log_hparams(&pairs(&[("epochs", "3")]));
    tracker.log_hparams(&pairs(&[("epochs", "4")]));
    tracker.log_metrics(1, &[("loss", 1.0)]);
    tracker.log_metrics(2, &[("no%name", 1.0)]);
    tracker.log_metrics(3, &[("loss", 2.0), ("odd", f64::INFINITY)]);
    tracker.log_artifact(Path::new("/nowhere/at/all"), "figures");
    let report = tracker.end_run(RunStatus::Finished, Duration::from_secs(60));

    assert_eq!((report.bytes_left, report.refused, report.lost), (0, 3, 0), "{report:?}");
    let refused = std::fs::read_to_string(report.spool.join("refused.ndjson")).unwrap();
    for told in ["cannot become `4`", "no%name", "/nowhere/at/all"] {
        assert!(refused.contains(told), "no {told} in {refused}");
    }
    assert_eq!(refused.lines().count(), 3, "{refused}");
    let found = read(&store, report.run_id.as_deref().unwrap()).await;
    assert_eq!(found, (2, 1, "3".to_owned()));
}

/// A file is what it was when it was logged, also if it is replaced before it is sent.
#[tokio::test(flavor = "multi_thread")]
async fn logged_file_outlives_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("mlflow");
    let file = folder.path().join("map.svg");
    std::fs::write(&file, "old").unwrap();
    let config = config(store.to_str().unwrap(), folder.path());
    let tracker = MlflowTracker::start(&config, TrackedRun::new("faults", "files")).unwrap();

    tracker.log_artifact(&file, "figures");
    std::fs::remove_file(&file).unwrap();
    let report = tracker.end_run(RunStatus::Finished, Duration::from_secs(60));

    assert!(report.is_complete(), "{report:?}");
    let run_id = report.run_id.unwrap();
    let copy = store.join(format!("mlartifacts/1/{run_id}/artifacts/figures/map.svg"));
    assert_eq!(std::fs::read_to_string(copy).unwrap(), "old");
}

/// The run of a program that forgets to end it has failed.
#[tokio::test(flavor = "multi_thread")]
async fn dropped_run_has_failed() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("mlflow");
    let config = config(store.to_str().unwrap(), folder.path());
    let tracker = MlflowTracker::start(&config, TrackedRun::new("faults", "dropped")).unwrap();
    tracker.log_metrics(1, &[("loss", 1.0)]);

    let clone = tracker.clone();
    drop(tracker);
    clone.log_metrics(2, &[("loss", 1.0)]);
    tokio::task::spawn_blocking(move || drop(clone)).await.unwrap();

    let database = format!("sqlite://{}", store.join("mlflow.db").display());
    let pool = sqlx::SqlitePool::connect(&database).await.unwrap();
    let statuses: Vec<String> =
        sqlx::query_scalar("SELECT status FROM runs").fetch_all(&pool).await.unwrap();
    assert_eq!(statuses, ["FAILED"]);
    assert_eq!(std::fs::read_dir(folder.path().join("spool")).unwrap().count(), 0);
}

mod with_python;
