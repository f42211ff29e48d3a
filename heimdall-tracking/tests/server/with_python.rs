//! A real MLflow server: started, killed in the middle, and asked for a password.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use heimdall_tracking::{
    Credentials, DatasetInput, Metric, MlflowTracker, NewModelVersion, RunConfig, RunStatus,
    SyncOutcome, TrackedRun, TrackingAddress, TrackingError, TrackingStore, sync,
};
use serde_json::{Value, json};

use super::{config, pairs};

/// Variable by which this program tells itself to be the one that is killed.
const VICTIM: &str = "HEIMDALL_TEST_VICTIM";

/// A server; it dies with this.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(folder: &Path, port: u16, options: &[&str]) -> Self {
        let mut child = Command::new(interpreter())
            .arg(script("serve_mlflow.py"))
            .arg(folder)
            .arg(port.to_string())
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let log = || fs::read_to_string(folder.join("server.log")).unwrap_or_default();
        assert_eq!(line, "ready\n", "{}", log());
        Self { child, address: format!("http://127.0.0.1:{port}") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn interpreter() -> String {
    std::env::var("HEIMDALL_TEST_PYTHON").expect("HEIMDALL_TEST_PYTHON is set by cargo xtask test")
}

fn script(name: &str) -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../tests/python").join(name)
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What a server and the Python client say of a folder.
fn read_back(folder: &Path) -> Value {
    let output =
        Command::new(interpreter()).arg(script("read_mlflow.py")).arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn steps(run: &Value, key: &str) -> Vec<i64> {
    let points = run["metrics"][key].as_array().unwrap_or_else(|| panic!("no {key} in {run}"));
    points.iter().map(|point| point[0].as_i64().unwrap()).collect()
}

/// With a name and a password; everything that was written is read back by the Python client.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with MLflow: cargo xtask test"]
async fn run_and_model_arrive_on_a_server_that_asks_who_one_is() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), free_port(), &["auth"]);
    let address = TrackingAddress::parse(&server.address).unwrap();
    let with_password = |password: &str| Credentials {
        login: Some(("admin".to_owned(), password.to_owned())),
        ..Credentials::default()
    };
    let files = tempfile::tempdir().unwrap();
    let content: Vec<u8> =
        (0..5_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::create_dir(files.path().join("größe 1")).unwrap();
    fs::write(files.path().join("größe 1/model.onnx"), &content).unwrap();
    fs::write(files.path().join("MLmodel"), "flavors: {}\n").unwrap();

    let stranger = TrackingStore::open(&address, &with_password("wrong")).await.unwrap();
    let refused = stranger.experiment("localization", 1).await.unwrap_err();
    let store = TrackingStore::open(&address, &with_password("of-the-tests-0")).await.unwrap();
    let experiment = store.experiment("localization", 1).await.unwrap();
    let run_config = RunConfig {
        experiment,
        run_name: "first light".to_owned(),
        user: "ada".to_owned(),
        source_name: "heimdall".to_owned(),
        git_commit: Some("0123abc".to_owned()),
        git_branch: None,
        description: Some("Seven receivers.".to_owned()),
        tags: pairs(&[("heimdall.run_key", "one")]),
        start_time_ms: 1_700_000_000_000,
    };
    let run = store.start_run(run_config.clone()).await.unwrap();
    let same = store.start_run(run_config).await.unwrap();
    run.log_params(&pairs(&[("epochs", "3"), ("train.model.backbone", "resnet18")])).await.unwrap();
    let changed = run.log_params(&pairs(&[("epochs", "4")])).await.unwrap_err();
    let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.1];
    let mut points: Vec<Metric> = (0..2500)
        .map(|step| Metric {
            key: "loss".to_owned(),
            value: 1.0 / f64::from(step + 1),
            step: i64::from(step),
            timestamp_ms: 1_700_000_000_000 + i64::from(step),
        })
        .collect();
    points.extend(values.iter().zip(0..).map(|(&value, step)| Metric {
        key: "odd".to_owned(),
        value,
        step,
        timestamp_ms: 1_700_000_000_000,
    }));
    run.log_metrics(&points).await.unwrap();
    run.log_metrics(&points[..1200]).await.unwrap();
    let dataset = DatasetInput {
        name: "features".to_owned(),
        digest: "0123456789abcdef".to_owned(),
        source_type: "local".to_owned(),
        source: json!({ "uri": "artifacts/features" }),
        schema: None,
        profile: Some(json!({ "num_rows": 1200 })),
        context: "training".to_owned(),
    };
    run.log_dataset(&dataset).await.unwrap();
    run.log_artifacts(files.path(), "model").await.unwrap();
    run.end_run(RunStatus::Finished, 1_700_000_009_000).await.unwrap();
    let registry = store.registry();
    let new = NewModelVersion {
        name: "heimdall localization".to_owned(),
        run_id: run.run_id().to_owned(),
        artifact_path: "model".to_owned(),
        description: Some("Seven receivers.".to_owned()),
        tags: pairs(&[("error_km_median", "12.5")]),
        time_ms: 0,
    };
    let versions = [
        registry.create_model_version(&new).await.unwrap(),
        registry.create_model_version(&new).await.unwrap(),
    ];
    registry.set_alias(&new.name, "candidate", 1).await.unwrap();
    registry.set_alias(&new.name, "candidate", 2).await.unwrap();
    let unknown = registry.set_alias(&new.name, "candidate", 9).await.unwrap_err();
    let listed = registry.model_versions(&new.name).await.unwrap();
    let nothing = registry.model_versions("nobody").await.unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let location = &listed[1].storage_location;
    fs::create_dir(scratch.path().join("größe 1")).unwrap();
    let copy = store.artifact(location, "größe 1/model.onnx", scratch.path()).await.unwrap();
    drop(server);

    assert!(matches!(refused, TrackingError::NotAllowed { status: 401, .. }), "{refused}");
    assert!(!format!("{store:?}{refused}").contains("of-the-tests-0"), "{store:?}");
    assert!(matches!(&changed, TrackingError::Refused { status: 400, .. }), "{changed}");
    assert!(matches!(unknown, TrackingError::UnknownModelVersion { version: 9, .. }), "{unknown}");
    assert_eq!((versions, same.run_id(), nothing.len()), ([1, 2], run.run_id(), 0));
    assert_eq!(
        (listed.len(), &*listed[0].aliases.concat(), &*listed[1].aliases.concat()),
        (2, "", "candidate")
    );
    assert_eq!(listed[0].tags["error_km_median"], "12.5");
    assert_eq!(listed[0].run_id.as_deref(), Some(run.run_id()));
    assert!(fs::read(copy).unwrap() == content, "the file changed on its way");

    let seen = read_back(folder.path());
    let tracked = &seen["experiments"]["localization"]["runs"][run.run_id()];
    assert_eq!(seen["experiments"]["localization"]["runs"].as_object().unwrap().len(), 1);
    assert_eq!((&tracked["name"], &tracked["status"]), (&json!("first light"), &json!("FINISHED")));
    assert_eq!(tracked["params"], json!({ "epochs": "3", "train.model.backbone": "resnet18" }));
    assert_eq!(tracked["tags"]["mlflow.source.git.commit"], "0123abc");
    assert_eq!(steps(tracked, "loss"), (0..2500).collect::<Vec<_>>());
    let odd = tracked["metrics"]["odd"].as_array().unwrap();
    assert_eq!(odd.len(), 4, "{odd:?}");
    assert!(odd.iter().any(|point| point[2] == "NaN"), "{odd:?}");
    assert!(odd.iter().any(|point| point[2] == json!(f64::MAX)), "{odd:?}");
    let input = &tracked["datasets"][0];
    assert_eq!(
        (&input["digest"], &input["profile"]),
        (&json!(dataset.digest), &json!({ "num_rows": 1200 }))
    );
    let artifacts = tracked["artifacts"].as_object().unwrap();
    assert!(artifacts.contains_key("model/größe 1/model.onnx"), "{artifacts:?}");
    let model = &seen["models"]["heimdall localization"];
    assert_eq!(model["aliases"]["candidate"], "2");
    assert_eq!(model["versions"]["1"]["description"], "Seven receivers.");
    assert!(model["versions"]["2"]["artifacts"]["MLmodel"].is_string(), "{model}");
}

/// Away at the start, then there, killed in the middle, then there again: every point arrives once.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with MLflow: cargo xtask test"]
async fn server_that_comes_and_goes_gets_everything_once() {
    let (folder, spools) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let port = free_port();
    let address = format!("http://127.0.0.1:{port}");
    let config = config(&address, spools.path());
    let tracker = MlflowTracker::start(&config, TrackedRun::new("faults", "patient")).unwrap();
    let log = |steps: std::ops::Range<i64>| {
        for step in steps {
            tracker.log_metrics(step, &[("loss", step as f64)]);
        }
    };

    tracker.log_hparams(&pairs(&[("epochs", "3")]));
    log(0..1500);
    let server = Server::start(folder.path(), port, &[]);
    wait_for_progress(tracker.spool(), 1);
    // What it gets in this moment may arrive or not, and be acknowledged or not.
    log(1500..3000);
    drop(server);
    log(3000..4500);
    let server = Server::start(folder.path(), port, &[]);
    let report = tracker.end_run(RunStatus::Finished, Duration::from_secs(120));
    drop(server);

    assert!(report.is_complete(), "{report:?}");
    let seen = read_back(folder.path());
    let runs = seen["experiments"]["faults"]["runs"].as_object().unwrap();
    assert_eq!(runs.len(), 1, "{runs:?}");
    let run = &runs[&report.run_id.unwrap()];
    assert_eq!((&run["status"], &run["params"]["epochs"]), (&json!("FINISHED"), &json!("3")));
    assert_eq!(steps(run, "loss"), (0..4500).collect::<Vec<_>>());
}

/// Waits until so many bytes of a spool have arrived.
fn wait_for_progress(spool: &Path, bytes: u64) {
    let deadline = std::time::Instant::now() + Duration::from_secs(120);
    loop {
        let progress = fs::read(spool.join("progress.json")).unwrap_or_default();
        let progress: Value = serde_json::from_slice(&progress).unwrap_or_default();
        if progress["bytes"].as_u64() >= Some(bytes) {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "nothing arrives: {progress}");
        std::thread::yield_now();
    }
}

/// The part of the next test that is killed: it logs to a server that is away, and waits.
#[test]
#[ignore = "needs to be killed, by the test that starts it"]
fn with_python_victim() {
    let Ok(place) = std::env::var(VICTIM) else { return };
    let (address, folder) = place.split_once(' ').unwrap();
    let config = config(address, Path::new(folder));
    let tracker = MlflowTracker::start(&config, TrackedRun::new("faults", "victim")).unwrap();
    tracker.log_hparams(&pairs(&[("epochs", "3")]));
    for step in 0..5000 {
        tracker.log_metrics(step, &[("loss", 0.5)]);
    }
    fs::write(Path::new(folder).join("logged"), "").unwrap();
    loop {
        std::thread::park();
    }
}

/// Killed with a full spool while its server was away; the rest is sent later, and the run ended.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with MLflow: cargo xtask test"]
async fn killed_run_is_sent_later_and_ended() {
    let (folder, spools) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let port = free_port();
    let place = format!("http://127.0.0.1:{port} {}", spools.path().display());
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "with_python::with_python_victim"])
        .env(VICTIM, place)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while !spools.path().join("logged").exists() {
        assert!(victim.try_wait().unwrap().is_none(), "the victim ended by itself");
        std::thread::yield_now();
    }
    let spool = spools.path().join("spool");
    let meanwhile = sync(&spool, &Credentials::default()).await.unwrap();
    victim.kill().unwrap();
    victim.wait().unwrap();
    let away = sync(&spool, &Credentials::default()).await.unwrap();
    let server = Server::start(folder.path(), port, &[]);
    let there = sync(&spool, &Credentials::default()).await.unwrap();
    let nothing = sync(&spool, &Credentials::default()).await.unwrap();
    drop(server);

    assert_eq!(meanwhile[0].outcome, SyncOutcome::UnderWay);
    assert!(matches!(away[0].outcome, SyncOutcome::Failed { .. }), "{away:?}");
    assert_eq!(there[0].outcome, SyncOutcome::Delivered, "{there:?}");
    assert_eq!(nothing, []);
    let run_id = there[0].run_id.as_deref().unwrap();
    let run = &read_back(folder.path())["experiments"]["faults"]["runs"][run_id];
    assert_eq!((&run["name"], &run["status"]), (&json!("victim"), &json!("KILLED")), "{run}");
    assert_eq!(steps(run, "loss"), (0..5000).collect::<Vec<_>>());
}
