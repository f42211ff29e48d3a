//! The exported file in a runtime that is not ours.

mod with_python {
    //! ONNX's own checker, and ONNX Runtime.

    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use heimdall_data::HeimdallDataset;
    use heimdall_train::Evaluation;
    use serde_json::Value;

    use crate::workplace::{TINY, Workplace};

    /// Runs a script of `tests/python` in the environment that `cargo xtask test` has made.
    pub(crate) fn python(script: &str, arguments: &[&str]) -> Value {
        let interpreter = std::env::var("HEIMDALL_TEST_PYTHON")
            .expect("HEIMDALL_TEST_PYTHON is set by cargo xtask test");
        let script = crate::tidy::root().join("tests/python").join(script);
        let output = Command::new(interpreter).arg(script).args(arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Writes the levels of all events of a folder, and returns their shape.
    fn write_samples(features: &Path, file: &Path) -> [usize; 4] {
        let dataset = HeimdallDataset::open(features).unwrap();
        let shape = dataset.header().shape;
        let mut bytes = Vec::new();
        for index in 0..dataset.len() {
            let (_, features) = dataset.get(index).unwrap();
            bytes.extend(features.levels_db.iter().flat_map(|level| level.to_le_bytes()));
        }
        fs::write(file, bytes).unwrap();
        [dataset.len(), shape.receivers, shape.bands, shape.frames]
    }

    fn row(value: &Value, event: usize) -> [f64; 2] {
        let number = |index: usize| value[event][index].as_f64().unwrap();
        [number(0), number(1)]
    }

    /// The evaluation knows the estimates of the network itself, computed by Burn, in km.
    #[test]
    #[ignore = "needs Python with onnxruntime: cargo xtask test"]
    fn onnx_runtime_gives_the_positions_of_the_evaluation() {
        let workplace = Workplace::new(TINY);
        let run = workplace.run(&["--until", "export"]).done();
        let samples = workplace.path("samples.f32");
        let shape = write_samples(&run.stages["split"].outputs["test"], &samples);
        let json = fs::read(run.stages["evaluate"].outputs["evaluation"].join("evaluation.json"));
        let evaluation: Evaluation = serde_json::from_slice(&json.unwrap()).unwrap();

        let model = run.stages["export"].outputs["onnx"].join("model.onnx");
        let shape = shape.map(|length| length.to_string());
        let mut arguments = vec![model.to_str().unwrap(), samples.to_str().unwrap()];
        arguments.extend(shape.iter().map(String::as_str));
        let answer = python("run_onnx.py", &arguments);

        assert_eq!((answer["opset"].as_i64(), answer["ir"].as_i64()), (Some(17), Some(8)));
        assert_eq!(answer["inputs"]["mel_spectrogram"][0], "tensor(float)");
        assert_eq!(answer["inputs"]["mel_spectrogram"][1][0], "batch_size");
        assert_eq!(answer["outputs"]["position"][0], "tensor(double)");
        assert!(answer["metadata"].as_object().unwrap().keys().any(|k| k.starts_with("heimdall.")));
        // 1e-6° is a tenth of a meter.
        assert!(answer["batch_difference"].as_f64().unwrap() < 1e-6);
        for (index, event) in evaluation.events.iter().enumerate() {
            let position = evaluation.frame.to_position(&event.estimate).unwrap();
            let [latitude_deg, longitude_deg] = row(&answer["position"], index);
            let off_deg = (position.latitude_deg() - latitude_deg)
                .abs()
                .max((position.longitude_deg() - longitude_deg).abs());
            // Single precision in the network: 60 km at 24 bits is some millimeters; ten meters
            // leave room for the rounding of eighteen layers.
            assert!(off_deg < 1e-4, "{}: {off_deg}° off", event.event);

            let variance_m2 = answer["covariance_m2"][index][0][0].as_f64().unwrap();
            let expected_m2 = event.covariance.east_km2 * 1e6;
            assert!((variance_m2 / expected_m2 - 1.0).abs() < 1e-3, "{variance_m2}");
            // A degree of latitude is 111.1 km there, within 0.1 %.
            let [sigma_deg, _] = row(&answer["uncertainty"], index);
            let sigma_km = event.covariance.north_km2.sqrt();
            assert!(
                (sigma_deg * 111.13 / sigma_km - 1.0).abs() < 3e-3,
                "{sigma_deg}° {sigma_km} km"
            );
        }
    }
}

pub(crate) use with_python::python;
