//! The exported file in a runtime that is not ours.

mod with_python {
    //! ONNX's own checker, and ONNX Runtime.

    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use heimdall_data::HeimdallDataset;
    use heimdall_features::ClassicalFix;
    use heimdall_train::Evaluation;
    use serde_json::{Value, json};

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

    /// Writes what all events of a folder give to each input of a model.
    pub(crate) fn write_samples(features: &Path, folder: &Path) {
        let dataset = HeimdallDataset::open(features).unwrap();
        let header = dataset.header();
        let receivers_km = header.receivers.iter().flat_map(|receiver| {
            let local = header.frame.to_local(&receiver.position);
            [local.east_km as f32, local.north_km as f32]
        });
        let receivers_km: Vec<f32> = receivers_km.collect();
        let mut inputs: BTreeMap<&str, Vec<f32>> = BTreeMap::new();
        for index in 0..dataset.len() {
            let (_, features) = dataset.get(index).unwrap();
            let fix = ClassicalFix::to_row(features.fix);
            inputs.entry("mel_spectrogram").or_default().extend(&features.levels_db);
            inputs.entry("scalars").or_default().extend(features.scalar_rows());
            inputs.entry("mask").or_default().extend(features.mask());
            inputs.entry("receivers_km").or_default().extend(&receivers_km);
            inputs.entry("fix_km").or_default().extend(&fix[..2]);
            inputs.entry("fix_covariance_km2").or_default().extend(&fix[2..5]);
            inputs.entry("fix_status").or_default().extend(&fix[5..]);
        }
        fs::create_dir(folder).unwrap();
        for (name, values) in inputs {
            let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
            fs::write(folder.join(format!("{name}.f32")), bytes).unwrap();
        }
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
        let samples = workplace.path("samples");
        write_samples(&run.stages["split"].outputs["test"], &samples);
        let json = fs::read(run.stages["evaluate"].outputs["evaluation"].join("evaluation.json"));
        let evaluation: Evaluation = serde_json::from_slice(&json.unwrap()).unwrap();

        let model = run.stages["export"].outputs["onnx"].join("model.onnx");
        let arguments = [model.to_str().unwrap(), samples.to_str().unwrap()];
        let answer = python("run_onnx.py", &arguments);

        assert_eq!((answer["opset"].as_i64(), answer["ir"].as_i64()), (Some(17), Some(8)));
        assert_eq!(answer["inputs"]["mel_spectrogram"][0], "tensor(float)");
        assert_eq!(answer["inputs"]["mel_spectrogram"][1][0], "batch_size");
        assert_eq!(answer["inputs"]["scalars"][1], json!(["batch_size", 7, 6]));
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

pub(crate) use with_python::{python, write_samples};
