//! The embedded tracking store, as MLflow itself reads it.

mod with_python {
    //! A real MLflow server on the folder.

    use std::fs;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::path::Path;
    use std::process::{Child, Command, Stdio};

    use heimdall_geo::Position;
    use serde_json::Value;

    use crate::onnx::{python, write_samples};
    use crate::tidy::root;
    use crate::workplace::{TINY, Workplace, said};

    #[test]
    #[ignore = "needs Python with MLflow: cargo xtask test"]
    fn mlflow_shows_the_run_and_the_model() {
        let workplace = Workplace::new(TINY);
        let run = workplace.run(&[]).done();
        let registration = run.stages["register"].outputs["registration"].join("registration.json");
        let registration: Value = serde_json::from_slice(&fs::read(registration).unwrap()).unwrap();

        let seen = python("read_mlflow.py", &[workplace.path("mlflow").to_str().unwrap()]);

        let run_id = registration["run_id"].as_str().unwrap();
        let tracked = &seen["experiments"]["tiny"]["runs"][run_id];
        assert_eq!(tracked["status"], "FINISHED", "{seen}");
        assert_eq!(tracked["params"]["train.epochs"], "2");
        assert_eq!(tracked["params"]["train.model.backbone"], "resnet18");
        let history = tracked["metrics"]["validation/loss"].as_array().unwrap();
        assert_eq!(history.iter().map(|point| &point[0]).collect::<Vec<_>>(), [1, 2]);
        let median_km = run.stages["evaluate"].metrics["error_km_median"];
        let tracked_km = tracked["latest_metrics"]["test/error_km_median"][2].as_f64().unwrap();
        assert!((tracked_km - median_km).abs() < 1e-12 * median_km);
        for artifact in ["evaluation/report.html", "model/MLmodel", "model/model.onnx"] {
            assert!(tracked["artifacts"][artifact].is_string(), "{artifact}: {tracked}");
        }

        let model = &seen["models"]["tiny-localization"];
        assert_eq!(model["aliases"]["candidate"], "1");
        assert_eq!(model["versions"]["1"]["run_id"], run_id);
        assert_eq!(model["versions"]["1"]["status"], "READY");
        assert!(model["versions"]["1"]["artifacts"]["model.onnx"].is_string(), "{model}");
    }

    /// A server of its own; it dies with this.
    struct Server {
        child: Child,
        address: String,
    }

    impl Server {
        fn start(folder: &Path) -> Self {
            let interpreter = std::env::var("HEIMDALL_TEST_PYTHON")
                .expect("HEIMDALL_TEST_PYTHON is set by cargo xtask test");
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            fs::create_dir(folder).unwrap();
            let mut child = Command::new(interpreter)
                .arg(root().join("tests/python/serve_mlflow.py"))
                .args([folder.to_str().unwrap(), &port.to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            assert_eq!(line, "ready\n");
            Self { child, address: format!("http://127.0.0.1:{port}") }
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            drop(self.child.stdin.take());
            let _ = self.child.wait();
        }
    }

    /// Registered on a server, loaded from there by MLflow, and by us: the same positions.
    #[test]
    #[ignore = "needs Python with MLflow: cargo xtask test"]
    fn model_on_a_server_predicts_the_same_in_python_and_here() {
        let workplace = Workplace::new(TINY);
        let server = Server::start(&workplace.path("server"));
        let set = format!("tracking.uri={}", server.address);

        let run = workplace.run(&["--set", &set, "--set", "tracking.training=true"]).done();
        let again = workplace.run(&["--set", &set, "--set", "tracking.training=true"]).done();
        let features = &run.stages["split"].outputs["test"];
        let samples = workplace.path("samples");
        write_samples(features, &samples);
        let model = "models:/tiny-localization@candidate";
        let theirs =
            python("predict_pyfunc.py", &[&server.address, model, samples.to_str().unwrap()]);
        let arguments = ["predict", features.to_str().unwrap(), "--json", "--model", model];
        let ours = said(&workplace, &[&arguments[..], &["--tracking", &server.address]].concat());
        drop(server);

        assert_eq!(again.states(), ["cached"; 7]);
        let ours: Value = serde_json::from_str(&ours).unwrap();
        let mut compared = 0;
        for (index, event) in ours["events"].as_array().unwrap().iter().enumerate() {
            if event["fix"].is_null() {
                continue;
            }
            let here: Position = serde_json::from_value(event["fix"]["position"].clone()).unwrap();
            let [latitude, longitude] =
                [0, 1].map(|axis| theirs["position"][index][axis].as_f64().unwrap());
            let there = Position::new(latitude, longitude).unwrap();
            assert!(here.distance_km(&there) < 1e-3, "{event}: {there:?}");
            compared += 1;
        }
        assert!(compared >= 5, "{compared} events");
        let seen = python("read_mlflow.py", &[workplace.path("server").to_str().unwrap()]);
        let runs = seen["experiments"]["tiny"]["runs"].as_object().unwrap();
        let live = runs.values().find(|run| run["tags"]["heimdall.stage"] == "train").unwrap();
        assert_eq!((runs.len(), &live["status"]), (2, &"FINISHED".into()), "{live}");
        assert_eq!(live["metrics"]["train/loss"].as_array().unwrap().len(), 2, "{live}");
        let version = &seen["models"]["tiny-localization"]["versions"]["1"];
        assert_eq!(version["aliases"][0], "candidate", "{version}");
    }
}
