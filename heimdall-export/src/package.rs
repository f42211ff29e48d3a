//! The files beside a model, which say how it came to be and let MLflow load it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use heimdall_features::FeatureMap;
use heimdall_model::Ensemble;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use tracing::info;

use crate::benchmark::benchmark;
use crate::card::model_card;
use crate::port::{Input, Port};
use crate::{ExportConfig, ExportError, OnnxModel, Parity, verify};

/// Version of [`PackageManifest`] that this crate writes.
const FORMAT_VERSION: u32 = 2;
/// Name of the model's file in its folder.
pub const MODEL_FILE: &str = "model.onnx";
/// Name of the manifest in the folder of a model.
pub const MANIFEST_FILE: &str = "manifest.json";
/// Python packages with which MLflow runs the model.
const REQUIREMENTS: [&str; 4] = ["mlflow>=2.20", "numpy>=1.26", "onnx>=1.16", "onnxruntime>=1.17"];
/// Python with which MLflow runs the model.
const PYTHON_VERSION: &str = "3.12";

/// What is in the folder of a model: `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageManifest {
    /// Version of this format.
    pub format_version: u32,
    /// Name of the model's file.
    pub model: String,
    /// Length of the model's file.
    pub size_bytes: u64,
    /// BLAKE3 digest of the model's file, in hexadecimal.
    pub blake3: String,
    /// SHA-256 digest of the model's file, in hexadecimal, as `sha256sum` prints it; `None` in
    /// version 1.
    #[serde(default)]
    pub sha256: Option<String>,
    /// Version of the operator set.
    pub opset: u32,
    /// Version of the ONNX file format.
    pub ir_version: i64,
    /// Inputs, in their order.
    pub inputs: Vec<Port>,
    /// Outputs, in their order.
    pub outputs: Vec<Port>,
    /// Metadata of the model's file.
    pub metadata: BTreeMap<String, String>,
}

/// Writes a model and the files beside it into a folder, after the written bytes were verified.
///
/// The model is written under a temporary name, read back, [verified](verify()) on `samples`, and
/// renamed; a model that fails leaves no file. Then follow `parity.json`, `benchmark.json` unless no
/// time is given for it, `model_card.md`, `MLmodel` with
/// `requirements.txt`, `python_env.yaml`, `conda.yaml` and `input_example.json` (the first sample,
/// rounded to 0.01), and `manifest.json` last: a folder with a manifest is complete. The folder is
/// made where it does not exist. Files of the same names are replaced.
///
/// # Errors
///
/// - [`ExportError::File`] if a file cannot be written or read back.
/// - What [`verify`](verify()) returns if the written model does not follow the network.
pub fn write_package(
    folder: &Path,
    model: &OnnxModel,
    network: &Ensemble,
    samples: &[FeatureMap],
    config: &ExportConfig,
) -> Result<(PackageManifest, Parity), ExportError> {
    let sample = samples.first().ok_or(ExportError::NoSamples)?;
    if sample.shape != model.shape() {
        return Err(ExportError::ShapeMismatch { expected: model.shape(), actual: sample.shape });
    }
    fs::create_dir_all(folder).map_err(failed("make the folder", folder))?;
    // A manifest of an earlier model must not stand beside another file.
    let manifest_path = folder.join(MANIFEST_FILE);
    match fs::remove_file(&manifest_path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(failed("replace", &manifest_path)(error));
        }
        _ => {}
    }

    let (bytes, parity) = write_model(folder, model, network, samples, config)?;
    let manifest = PackageManifest {
        format_version: FORMAT_VERSION,
        model: MODEL_FILE.to_owned(),
        size_bytes: bytes.len() as u64,
        blake3: blake3::hash(&bytes).to_hex().to_string(),
        sha256: Some(base16(&Sha256::digest(&bytes))),
        opset: model.opset(),
        ir_version: model.ir_version(),
        inputs: model.inputs(),
        outputs: model.outputs(),
        metadata: model.metadata().clone(),
    };
    let timed = benchmark(&bytes, model.network(), samples, &config.benchmark)?;
    let files = [
        ("parity.json", Some(pretty(&parity))),
        ("benchmark.json", timed.as_ref().map(pretty)),
        ("model_card.md", Some(model_card(model, &parity, timed.as_ref()))),
        ("MLmodel", Some(mlmodel(model))),
        ("requirements.txt", Some(requirements())),
        ("python_env.yaml", Some(python_env())),
        ("conda.yaml", Some(conda())),
        ("input_example.json", Some(input_example(model, sample))),
        (MANIFEST_FILE, Some(pretty(&manifest))),
    ];
    for (name, text) in files {
        let Some(text) = text else { continue };
        let partial = folder.join(format!("{name}.partial"));
        write(&partial, text.as_bytes())?;
        rename(&partial, &folder.join(name))?;
    }
    info!(
        size_bytes = manifest.size_bytes,
        position_difference_m_max = parity.position_difference_m_max,
        "model written"
    );
    Ok((manifest, parity))
}

/// Reads the file of a model, and checks it against the manifest that lies beside it, if there is one.
///
/// # Errors
///
/// - [`ExportError::File`] if the file, or the manifest, cannot be read.
/// - [`ExportError::DamagedPackage`] if the file is not the one that the manifest describes.
pub fn read_model(path: &Path) -> Result<Vec<u8>, ExportError> {
    let bytes = fs::read(path).map_err(failed("read", path))?;
    let manifest_path = path.with_file_name(MANIFEST_FILE);
    let manifest = match fs::read(&manifest_path) {
        Ok(manifest) => manifest,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(bytes),
        Err(error) => return Err(failed("read", &manifest_path)(error)),
    };
    // What is no manifest of this crate is about something else.
    let Ok(manifest) = serde_json::from_slice::<PackageManifest>(&manifest) else {
        return Ok(bytes);
    };
    let is_described = path.file_name().is_some_and(|name| name == manifest.model.as_str());
    if is_described && blake3::hash(&bytes).to_hex().to_string() != manifest.blake3 {
        return Err(ExportError::DamagedPackage { path: path.to_owned() });
    }
    Ok(bytes)
}

/// Writes the model's file and verifies what was written.
fn write_model(
    folder: &Path,
    model: &OnnxModel,
    network: &Ensemble,
    samples: &[FeatureMap],
    config: &ExportConfig,
) -> Result<(Vec<u8>, Parity), ExportError> {
    let partial = folder.join(format!("{MODEL_FILE}.partial"));
    let checked = write(&partial, model.bytes())
        .and_then(|()| fs::read(&partial).map_err(failed("read", &partial)))
        .and_then(|bytes| {
            let parity =
                verify(&bytes, network, model.frame(), model.sigma_scale(), samples, config)?;
            Ok((bytes, parity))
        })
        .and_then(|checked| {
            rename(&partial, &folder.join(MODEL_FILE))?;
            Ok(checked)
        });
    if checked.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&partial);
    }
    checked
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ExportError> {
    let written = fs::File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(failed("write", path))
}

fn rename(from: &Path, to: &Path) -> Result<(), ExportError> {
    fs::rename(from, to).map_err(failed("write", to))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ExportError {
    let path: PathBuf = path.to_owned();
    move |source| ExportError::File { action, path, source }
}

fn base16(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn pretty(value: &impl Serialize) -> String {
    let mut text =
        serde_json::to_string_pretty(value).expect("numbers, strings and lists are JSON");
    text.push('\n');
    text
}

/// The description from which MLflow loads the model.
fn mlmodel(model: &OnnxModel) -> String {
    let signature = |ports: &[Port]| {
        let ports: Vec<_> = ports
            .iter()
            .map(|Port { name, dtype, shape }| {
                json!({
                    "name": name,
                    "type": "tensor",
                    "tensor-spec": { "dtype": dtype, "shape": shape },
                })
            })
            .collect();
        serde_json::Value::from(ports).to_string()
    };
    format!(
        "flavors:
  onnx:
    code: null
    data: {MODEL_FILE}
    onnx_session_options: null
    onnx_version: 1.16.0
    providers:
    - CPUExecutionProvider
  python_function:
    data: {MODEL_FILE}
    env:
      conda: conda.yaml
      virtualenv: python_env.yaml
    loader_module: mlflow.onnx
    python_version: '{PYTHON_VERSION}'
model_size_bytes: {size_bytes}
saved_input_example_info:
  artifact_path: input_example.json
  format: tf-serving
  type: ndarray
signature:
  inputs: '{inputs}'
  outputs: '{outputs}'
  params: null
",
        size_bytes = model.bytes().len(),
        inputs = signature(&model.inputs()),
        outputs = signature(&model.outputs()),
    )
}

fn requirements() -> String {
    REQUIREMENTS.map(|package| format!("{package}\n")).concat()
}

fn python_env() -> String {
    format!(
        "python: '{PYTHON_VERSION}'
build_dependencies:
- pip
dependencies:
- -r requirements.txt
"
    )
}

fn conda() -> String {
    let packages = REQUIREMENTS.map(|package| format!("  - {package}\n")).concat();
    format!(
        "name: heimdall
channels:
- conda-forge
dependencies:
- python={PYTHON_VERSION}
- pip
- pip:
{packages}"
    )
}

/// The first sample as MLflow's servers take it, rounded to 0.01.
fn input_example(model: &OnnxModel, sample: &FeatureMap) -> String {
    let inputs = Input::of(model.network()).into_iter().map(|input| {
        let values = input.values(model.network(), sample);
        let shape = input.shape(model.network(), model.shape());
        (input.name().to_owned(), json!([nested(&values, &shape)]))
    });
    let inputs: serde_json::Map<String, serde_json::Value> = inputs.collect();
    let mut text = json!({ "inputs": inputs }).to_string();
    text.push('\n');
    text
}

/// Lays values out as lists in lists, one level per axis.
fn nested(values: &[f32], shape: &[usize]) -> serde_json::Value {
    match shape {
        [] => json!(f64::from((values[0] * 100.0).round()) / 100.0),
        [length, rest @ ..] => {
            let parts = values.chunks(values.len() / length);
            parts.map(|part| nested(part, rest)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use heimdall_model::Backbone;

    use super::*;
    use crate::sample::{features, frame, network, network_with_side_inputs, shape};
    use crate::{BenchmarkConfig, export};

    fn model(network: &Ensemble) -> OnnxModel {
        let metadata = BTreeMap::from([("seed".to_owned(), "3".to_owned())]);
        export(network, &frame(), shape(), 1.5, &metadata, &ExportConfig::default()).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn package_is_complete_and_its_manifest_is_true() {
        let folder = tempfile::tempdir().unwrap();
        let network = network(3);
        let config =
            ExportConfig { benchmark: BenchmarkConfig { seconds: 0.1 }, ..ExportConfig::default() };

        let (manifest, parity) =
            write_package(folder.path(), &model(&network), &network, &features(2), &config)
                .unwrap();

        assert_eq!(
            names(folder.path()),
            [
                "MLmodel",
                "benchmark.json",
                "conda.yaml",
                "input_example.json",
                "manifest.json",
                "model.onnx",
                "model_card.md",
                "parity.json",
                "python_env.yaml",
                "requirements.txt",
            ]
        );
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let bytes = fs::read(folder.path().join("model.onnx")).unwrap();
        assert_eq!(
            serde_json::from_str::<PackageManifest>(&read("manifest.json")).unwrap(),
            manifest
        );
        assert_eq!(serde_json::from_str::<Parity>(&read("parity.json")).unwrap(), parity);
        assert_eq!(manifest.size_bytes, bytes.len() as u64);
        assert_eq!(manifest.blake3, blake3::hash(&bytes).to_hex().to_string());
        assert_eq!(manifest.metadata["heimdall.seed"], "3");
    }

    /// The strings of the signature are JSON inside of YAML.
    #[test]
    fn signature_is_the_one_of_the_model() {
        let network = network(3);

        let text = mlmodel(&model(&network));

        let line = text.lines().find(|line| line.starts_with("  inputs: ")).unwrap();
        let inputs = line.strip_prefix("  inputs: '").unwrap().strip_suffix('\'').unwrap();
        let inputs: serde_json::Value = serde_json::from_str(inputs).unwrap();
        assert_eq!(
            inputs,
            json!([{
                "name": "mel_spectrogram",
                "type": "tensor",
                "tensor-spec": { "dtype": "float32", "shape": [-1, 3, 16, 8] },
            }])
        );
    }

    #[test]
    fn example_is_the_first_sample() {
        let network = network(3);
        let sample = &features(1)[0];

        let text = input_example(&model(&network), sample);

        let example: serde_json::Value = serde_json::from_str(&text).unwrap();
        let level_db = example["inputs"]["mel_spectrogram"][0][2][15][7].as_f64().unwrap();
        let expected = f64::from(*sample.levels_db.last().unwrap());
        assert!((level_db - expected).abs() <= 0.005 + 1e-6, "{level_db} is not {expected}");
    }

    #[test]
    fn example_has_every_input() {
        let network = network_with_side_inputs(Backbone::Mlp, 3);
        let sample = &features(2)[1];

        let text = input_example(&model(&network), sample);

        let example: serde_json::Value = serde_json::from_str(&text).unwrap();
        let inputs = example["inputs"].as_object().unwrap();
        let names = model(&network).inputs().into_iter().map(|port| port.name);
        assert_eq!(inputs.keys().cloned().collect::<Vec<_>>().len(), names.count());
        assert_eq!(inputs["mask"], json!([[0.0, 1.0, 1.0]]));
        assert_eq!(inputs["fix_status"], json!([[1.0]]));
        let [east_km, north_km] = sample.fix.unwrap().position_km.map(f64::from);
        let fix_km =
            [&inputs["fix_km"][0][0], &inputs["fix_km"][0][1]].map(|x| x.as_f64().unwrap());
        assert!((fix_km[0] - east_km).abs() < 0.006 && (fix_km[1] - north_km).abs() < 0.006);
    }

    /// A file that does not follow the network leaves neither itself nor an older manifest.
    #[test]
    fn model_that_fails_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("manifest.json"), "{}").unwrap();

        let result = write_package(
            folder.path(),
            &model(&network(3)),
            &network(4),
            &features(1),
            &ExportConfig::default(),
        );

        assert!(matches!(result, Err(ExportError::Parity { .. })), "{result:?}");
        assert!(names(folder.path()).is_empty(), "{:?}", names(folder.path()));
    }

    #[test]
    fn sample_of_another_shape_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let network = network(3);
        let mut samples = features(1);
        samples[0].shape.bands = 17;

        let result = write_package(
            folder.path(),
            &model(&network),
            &network,
            &samples,
            &ExportConfig::default(),
        );

        assert!(matches!(result, Err(ExportError::ShapeMismatch { .. })));
    }

    #[test]
    fn folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "").unwrap();
        let network = network(3);

        let error = write_package(
            &path,
            &model(&network),
            &network,
            &features(1),
            &ExportConfig::default(),
        )
        .unwrap_err();

        assert_eq!(error.to_string(), format!("cannot make the folder {}", path.display()));
    }
}
