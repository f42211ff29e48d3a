//! Stage `export`: a network in, ONNX out.

use std::collections::BTreeMap;

use heimdall_data::HeimdallDataset;
use heimdall_export::{ExportConfig, export, write_package};
use heimdall_train::{ModelManifest, TrainedModel};
use serde::{Deserialize, Serialize};

use crate::PipelineError;
use crate::model_input::ModelInput;
use crate::stage::{StageContext, StageOutput, spawn_blocking};

/// Most samples that the file and the network are compared on.
const SAMPLES_MAX: usize = 32;

/// Writes a network as ONNX and compares the two.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExportStage {
    /// The version of ONNX, and how far the two may be apart.
    pub config: ExportConfig,
}

impl ExportStage {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// The error of the crate whose rule is broken.
    pub fn validate(&self) -> Result<(), PipelineError> {
        Ok(self.config.validate()?)
    }

    /// Writes `model.onnx` and the files beside it once the written bytes agree with the network.
    ///
    /// # Errors
    ///
    /// Whatever keeps the network from being written, above all a disagreement.
    pub(crate) async fn run(&self, context: &StageContext) -> Result<StageOutput, PipelineError> {
        let (config, context) = (self.config.clone(), context.clone());
        let exporting = spawn_blocking(move || {
            let TrainedModel { network, manifest } =
                TrainedModel::load(context.input("model"), &context.device())?;
            let samples = HeimdallDataset::open(context.input("samples"))?;
            let preparation = &context.facts().preparation;
            let input = ModelInput::of(&manifest.features, &samples, preparation)?;
            let samples = (0..samples.len().min(SAMPLES_MAX))
                .map(|index| {
                    context.check_cancelled()?;
                    Ok(samples.get(index)?.1)
                })
                .collect::<Result<Vec<_>, PipelineError>>()?;
            let model = export(
                &network,
                &manifest.features.frame,
                manifest.features.shape,
                manifest.sigma_scale,
                &metadata(&manifest, &input),
                &config,
            )?;
            context.check_cancelled()?;
            let (package, parity) =
                write_package(context.output("onnx"), &model, &network, &samples, &config)?;
            let difference_m = parity.position_difference_m_max;
            let size_mb = package.size_bytes as f64 / 1e6;
            Ok(StageOutput {
                metrics: [
                    ("position_difference_m_max".to_owned(), difference_m),
                    ("size_mb".to_owned(), size_mb),
                ]
                .into(),
                headline: Some(format!(
                    "opset {}, {size_mb:.0} MB, within {difference_m:.3} m of the network",
                    package.opset
                )),
            })
        });
        exporting.await.expect("exporting does not panic")
    }
}

/// What whoever holds the file must know: how to make its input, and how good it is.
fn metadata(manifest: &ModelManifest, input: &ModelInput) -> BTreeMap<String, String> {
    let json = |value: serde_json::Value| value.to_string();
    let plain = "a manifest is plain data";
    let of_model = [
        ("heimdall.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("heimdall.network_digest", manifest.network_digest.clone()),
        ("heimdall.train", json(serde_json::to_value(&manifest.train).expect(plain))),
        ("heimdall.metrics", json(serde_json::to_value(&manifest.metrics).expect(plain))),
    ];
    let mut metadata = input.to_metadata();
    metadata.extend(of_model.map(|(key, value)| (key.to_owned(), value)));
    metadata
}
