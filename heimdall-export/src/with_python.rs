//! Every kind of network in a runtime that is not ours: ONNX's own checker, and ONNX Runtime.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use burn::tensor::Device;
use heimdall_features::FeatureMap;
use heimdall_model::{Backbone, CovarianceKind, Ensemble, LocalizationNetConfig, Stem};
use serde_json::Value;

use crate::port::Input;
use crate::sample::{
    features, frame, mixture_with_side_inputs, network, network_of, network_with_side_inputs, shape,
};
use crate::verify::by_network;
use crate::{ExportConfig, Parity, Prediction, WeightPrecision, export, verify};

/// A network, and how it is written.
struct Case {
    name: String,
    network: Ensemble,
    config: ExportConfig,
}

fn cases() -> Vec<Case> {
    let case = |name: &str, network: Ensemble, opset, precision| Case {
        name: format!("{name}, opset {opset}, {precision:?}"),
        network,
        config: ExportConfig { opset, precision, ..ExportConfig::default() },
    };
    let levels_alone = |backbone, stem| {
        let config = LocalizationNetConfig { backbone, stem, ..network(3).config().clone() };
        Ensemble::init(&config, &[5], &Device::flex())
    };
    let networks = || {
        [
            ("ResNet-18, full", network_of(CovarianceKind::Full, 3)),
            ("ResNet-18, diagonal", network_of(CovarianceKind::Diagonal, 3)),
            ("ResNet-18, narrow stem", levels_alone(Backbone::ResNet18, Stem::Narrow)),
            ("ResNet-34", levels_alone(Backbone::ResNet34, Stem::Standard)),
            ("ResNet-18, side inputs", network_with_side_inputs(Backbone::ResNet18, 3)),
            ("ResNet-34, side inputs", network_with_side_inputs(Backbone::ResNet34, 3)),
            ("MLP", network_with_side_inputs(Backbone::Mlp, 3)),
            ("set", network_with_side_inputs(Backbone::Set, 3)),
            ("MLP, mixture", mixture_with_side_inputs(Backbone::Mlp, 3, &[3])),
            ("set, mixture, ensemble", mixture_with_side_inputs(Backbone::Set, 2, &[3, 4])),
            ("ResNet-18, ensemble", mixture_with_side_inputs(Backbone::ResNet18, 1, &[3, 4])),
        ]
    };
    let mut cases = Vec::new();
    for (name, network) in networks() {
        for precision in [WeightPrecision::F32, WeightPrecision::F16] {
            cases.push(case(name, network.clone(), 17, precision));
        }
    }
    // The set has the most kinds of operators, and a residual network the most in half precision.
    for opset in [14, 15, 16, 18, 19, 20] {
        let set = mixture_with_side_inputs(Backbone::Set, 2, &[3, 4]);
        cases.push(case("set, mixture, ensemble", set, opset, WeightPrecision::F32));
        cases.push(case("ResNet-18, full", network(3), opset, WeightPrecision::F16));
    }
    cases
}

/// Checks and runs a file in Python.
fn run(folder: &Path, case: &Case, samples: &[FeatureMap]) -> Value {
    let (frame, config) = (frame(), case.network.config());
    let model =
        export(&case.network, &frame, shape(), 1.3, &BTreeMap::new(), &case.config).unwrap();
    let file = folder.join("model.onnx");
    fs::write(&file, model.bytes()).unwrap();
    for input in Input::of(config) {
        let values = samples.iter().flat_map(|sample| input.values(config, sample));
        let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
        fs::write(folder.join(format!("{}.f32", input.name())), bytes).unwrap();
    }
    let interpreter = std::env::var("HEIMDALL_TEST_PYTHON")
        .expect("HEIMDALL_TEST_PYTHON is set by cargo xtask test");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/python/run_onnx.py");
    let output = Command::new(interpreter).arg(script).arg(file).arg(folder).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", case.name);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn prediction(answer: &Value, event: usize) -> Prediction {
    let number = |value: &Value| value.as_f64().unwrap();
    let pair = |name: &str| [0, 1].map(|axis| number(&answer[name][event][axis]));
    let covariance = &answer["covariance_m2"][event];
    Prediction {
        position_deg: pair("position"),
        uncertainty_deg: pair("uncertainty"),
        covariance_m2: [(0, 0), (0, 1), (1, 0), (1, 1)]
            .map(|(row, column)| number(&covariance[row][column])),
    }
}

/// The official checker accepts every file, and two runtimes say of it what the network says.
#[test]
#[ignore = "needs Python with onnxruntime: cargo xtask test"]
fn every_network_is_written_such_that_others_run_it() {
    let samples = features(6);
    for case in cases() {
        let folder = tempfile::tempdir().unwrap();

        let answer = run(folder.path(), &case, &samples);

        let name = &case.name;
        assert_eq!(answer["opset"], case.config.opset, "{name}");
        let expected = by_network(&case.network, &frame(), 1.3, &samples);
        let mut parity = Parity::none(samples.len(), case.config.tolerance());
        for (event, expected) in expected.iter().enumerate() {
            parity.compare(&prediction(&answer, event), expected);
        }
        assert!(parity.is_within_tolerance(), "{name}: {parity:?}");
        if case.config.precision == WeightPrecision::F32 {
            assert!(parity.position_difference_m_max < 0.5, "{name}: {parity:?}");
            assert!(answer["batch_difference"].as_f64().unwrap() < 1e-5, "{name}");
        }
        let bytes = fs::read(folder.path().join("model.onnx")).unwrap();
        let ours = verify(&bytes, &case.network, &frame(), 1.3, &samples, &case.config);
        ours.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
