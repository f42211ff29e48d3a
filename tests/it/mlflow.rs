//! The embedded tracking store, as MLflow itself reads it.

mod with_python {
    //! A real MLflow server on the folder.

    use std::fs;

    use serde_json::Value;

    use crate::onnx::python;
    use crate::workplace::{TINY, Workplace};

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
}
