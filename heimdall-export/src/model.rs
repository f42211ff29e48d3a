//! The file, in memory.

use std::collections::BTreeMap;

use heimdall_features::FeatureShape;
use heimdall_geo::LocalFrame;
use heimdall_model::{Ensemble, LocalizationNetConfig};
use prost::Message;

use crate::graph::BATCH_AXIS;
use crate::lower::{for_inference, lower};
use crate::port::{Input, OUTPUTS, Port};
use crate::proto::{GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto};
use crate::{ExportConfig, ExportError, WeightPrecision};

/// Version of the metadata that this crate writes.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// A network in the ONNX format, together with what it was made from.
#[derive(Clone, Debug, PartialEq)]
pub struct OnnxModel {
    bytes: Vec<u8>,
    shape: FeatureShape,
    network: LocalizationNetConfig,
    frame: LocalFrame,
    sigma_scale: f64,
    opset: u32,
    ir_version: i64,
    precision: WeightPrecision,
    metadata: BTreeMap<String, String>,
}

impl OnnxModel {
    /// The file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Shape of the features that the model takes.
    pub fn shape(&self) -> FeatureShape {
        self.shape
    }

    /// The frame from which positions are converted to degrees.
    pub fn frame(&self) -> &LocalFrame {
        &self.frame
    }

    /// The factor by which the standard deviations of the network are multiplied.
    pub fn sigma_scale(&self) -> f64 {
        self.sigma_scale
    }

    /// Version of the operator set.
    pub fn opset(&self) -> u32 {
        self.opset
    }

    /// Version of the file format.
    pub fn ir_version(&self) -> i64 {
        self.ir_version
    }

    /// What the layers compute in that have most of the weights.
    pub fn precision(&self) -> WeightPrecision {
        self.precision
    }

    /// The metadata of the file, every key with its prefix `heimdall.`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The configuration of the network.
    pub(crate) fn network(&self) -> &LocalizationNetConfig {
        &self.network
    }

    /// The inputs of the model, in their order.
    pub fn inputs(&self) -> Vec<Port> {
        let port = |input: Input| {
            Port::new(input.name(), "float32", &input.shape(&self.network, self.shape))
        };
        Input::of(&self.network).into_iter().map(port).collect()
    }

    /// The outputs of the model, in their order.
    pub fn outputs(&self) -> Vec<Port> {
        let shapes: [&[usize]; 3] = [&[2], &[2], &[2, 2]];
        OUTPUTS.iter().zip(shapes).map(|(&(name, _), s)| Port::new(name, "float64", s)).collect()
    }
}

/// Writes a network, or an ensemble of some, in the ONNX format: one graph whose estimate is the
/// mixture of all.
///
/// The file takes features as they were extracted, and states degrees: standardization, batch
/// norms, recalibration and the way from the local plane to degrees are inside.
///
/// | | name | elements | shape |
/// |---|---|---|---|
/// | input | `mel_spectrogram` | float32, dB | `[batch_size, receivers, bands, frames]` |
/// | input¹ | `scalars` | float32 | `[batch_size, receivers, 6]` |
/// | input¹ | `mask` | float32, 0 or 1 | `[batch_size, receivers]` |
/// | input¹ | `receivers_km` | float32, km | `[batch_size, receivers, 2]`: east, north |
/// | input¹ | `fix_km` | float32, km | `[batch_size, 2]`: east, north |
/// | input¹ | `fix_covariance_km2` | float32, km² | `[batch_size, 3]`: east, east-north, north |
/// | input¹ | `fix_status` | float32, 0, 1 or 2 | `[batch_size, 1]` |
/// | output | `position` | float64, ° | `[batch_size, 2]`: latitude, longitude |
/// | output | `uncertainty` | float64, ° | `[batch_size, 2]`: 1 σ along latitude and longitude |
/// | output | `covariance_m2` | float64, m² | `[batch_size, 2, 2]`: east, north |
///
/// ¹ if the network takes side inputs; one on side inputs alone has no `mel_spectrogram`.
///
/// With [`WeightPrecision::F16`](crate::WeightPrecision) the layers that have most of the weights
/// compute in half precision; inputs and outputs stay what they are.
///
/// Standard deviations are multiplied by `sigma_scale`, covariances by its square. The entries of
/// `metadata` go into the file under `heimdall.` and their key, beside those that this function
/// writes: `format_version`, `shape`, `network` (its configuration), `members`, `origin_latitude_deg`,
/// `origin_longitude_deg`, `sigma_scale`, and the meaning of the input and of each output.
///
/// # Errors
///
/// - [`ExportError::InvalidConfig`] if `config` breaks one of its rules, or `sigma_scale` is not
///   finite and above zero.
/// - [`ExportError::ShapeMismatch`] if the network takes another number of receivers, or looks at
///   levels and `shape` has none.
pub fn export(
    network: &Ensemble,
    frame: &LocalFrame,
    shape: FeatureShape,
    sigma_scale: f64,
    metadata: &BTreeMap<String, String>,
    config: &ExportConfig,
) -> Result<OnnxModel, ExportError> {
    config.validate()?;
    check_sigma_scale(sigma_scale)?;
    let receivers = network.config().input_channels;
    let lacks_levels = network.config().backbone.takes_levels() && shape.is_empty();
    if receivers != shape.receivers || lacks_levels {
        let least = usize::from(lacks_levels);
        let (bands, frames) = (shape.bands.max(least), shape.frames.max(least));
        let expected = FeatureShape { receivers, bands, frames };
        return Err(ExportError::ShapeMismatch { expected, actual: shape });
    }

    let graph = lower(&for_inference(network), frame, shape, sigma_scale, config.precision);
    let metadata = complete(metadata, network, frame, shape, sigma_scale);
    let entries: Vec<(&str, &str)> =
        metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let bytes = model_proto(graph, config, &entries).encode_to_vec();
    Ok(OnnxModel {
        bytes,
        shape,
        network: network.config().clone(),
        frame: *frame,
        sigma_scale,
        opset: config.opset,
        ir_version: config.ir_version(),
        precision: config.precision,
        metadata,
    })
}

pub(crate) fn check_sigma_scale(sigma_scale: f64) -> Result<(), ExportError> {
    if sigma_scale > 0.0 && sigma_scale.is_finite() {
        return Ok(());
    }
    Err(ExportError::InvalidConfig {
        field: "sigma_scale",
        expected: "finite and above zero",
        actual: sigma_scale.to_string(),
    })
}

/// Adds what the file is made from to the caller's metadata, and prefixes the keys.
fn complete(
    metadata: &BTreeMap<String, String>,
    network: &Ensemble,
    frame: &LocalFrame,
    shape: FeatureShape,
    sigma_scale: f64,
) -> BTreeMap<String, String> {
    let json = |value: serde_json::Result<String>| value.expect("numbers and strings are JSON");
    let own = [
        ("format_version", FORMAT_VERSION.to_string()),
        ("shape", json(serde_json::to_string(&shape))),
        ("network", json(serde_json::to_string(network.config()))),
        ("members", network.members().len().to_string()),
        ("origin_latitude_deg", frame.origin.latitude_deg().to_string()),
        ("origin_longitude_deg", frame.origin.longitude_deg().to_string()),
        ("sigma_scale", sigma_scale.to_string()),
    ];
    let own = own.map(|(key, value)| (format!("heimdall.{key}"), value));
    let inputs = Input::of(network.config()).into_iter();
    let meanings = inputs.map(|input| (input.name(), input.meaning())).chain(OUTPUTS);
    let meanings =
        meanings.map(|(name, meaning)| (format!("heimdall.meaning.{name}"), meaning.to_owned()));
    let prefixed = |(key, value): (&String, &String)| {
        let key = key.strip_prefix("heimdall.").unwrap_or(key);
        (format!("heimdall.{key}"), value.clone())
    };
    // What the file is really made from wins over what the caller says.
    metadata.iter().map(prefixed).chain(own).chain(meanings).collect()
}

pub(crate) fn model_proto(
    graph: GraphProto,
    config: &ExportConfig,
    metadata: &[(&str, &str)],
) -> ModelProto {
    let entry = |&(key, value): &(&str, &str)| StringStringEntryProto {
        key: Some(key.to_owned()),
        value: Some(value.to_owned()),
    };
    ModelProto {
        ir_version: Some(config.ir_version()),
        producer_name: Some("heimdall".to_owned()),
        producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        doc_string: Some(format!(
            "Locates a radio transmitter from what several receivers measured. The axis \
             `{BATCH_AXIS}` has any length."
        )),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto {
            domain: Some(String::new()),
            version: Some(i64::from(config.opset)),
        }],
        metadata_props: metadata.iter().map(entry).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heimdall_model::Backbone;

    use crate::sample::{frame, network, network_with_side_inputs, shape};

    fn exported(metadata: &[(&str, &str)], config: &ExportConfig) -> OnnxModel {
        let metadata = metadata.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        export(&network(1), &frame(), shape(), 1.25, &metadata, config).unwrap()
    }

    #[test]
    fn file_states_versions_and_metadata() {
        let config = ExportConfig { opset: 19, ..ExportConfig::default() };

        let model =
            exported(&[("git", "abc"), ("heimdall.seed", "7"), ("sigma_scale", "9")], &config);

        let proto = ModelProto::decode(model.bytes()).unwrap();
        let value = |key: &str| {
            let mut entries = proto.metadata_props.iter();
            entries.find(|entry| entry.key.as_deref() == Some(key))?.value.clone()
        };
        assert_eq!(proto.ir_version, Some(9));
        assert_eq!(proto.opset_import[0].version, Some(19));
        assert_eq!(value("heimdall.git").as_deref(), Some("abc"));
        assert_eq!(value("heimdall.seed").as_deref(), Some("7"));
        assert_eq!(value("heimdall.sigma_scale").as_deref(), Some("1.25"));
        assert_eq!(value("heimdall.origin_latitude_deg").as_deref(), Some("44.75"));
        assert!(value("heimdall.meaning.uncertainty").unwrap().contains("degrees"));
        assert_eq!(proto.metadata_props.len(), model.metadata().len());
    }

    #[test]
    fn batch_axis_of_every_port_is_open() {
        let model = exported(&[], &ExportConfig::default());

        let graph = ModelProto::decode(model.bytes()).unwrap().graph.unwrap();
        let ports: Vec<_> = graph.input.iter().chain(&graph.output).collect();
        assert_eq!(ports.len(), 4);
        for port in ports {
            let tensor = port.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap();
            let first = &tensor.shape.as_ref().unwrap().dim[0];
            let open = crate::proto::Dimension::DimParam("batch_size".to_owned());
            assert_eq!(first.value, Some(open));
        }
        assert_eq!(model.inputs()[0].shape, [-1, 3, 16, 8]);
        assert_eq!(model.outputs()[2].shape, [-1, 2, 2]);
    }

    #[test]
    fn nodes_stand_after_what_they_take() {
        let model = exported(&[], &ExportConfig::default());

        let graph = ModelProto::decode(model.bytes()).unwrap().graph.unwrap();
        let mut known: std::collections::BTreeSet<&str> =
            graph.initializer.iter().map(|tensor| tensor.name.as_deref().unwrap()).collect();
        known.insert("mel_spectrogram");
        for node in &graph.node {
            for input in &node.input {
                assert!(known.contains(input.as_str()), "{input} of {:?} is unknown", node.name);
            }
            assert!(known.insert(&node.output[0]), "{} is made twice", node.output[0]);
        }
    }

    #[test]
    fn same_network_gives_the_same_file() {
        let config = ExportConfig::default();

        assert!(exported(&[("a", "b")], &config) == exported(&[("a", "b")], &config));
    }

    #[test]
    fn wrong_number_of_receivers_is_refused() {
        let shape = FeatureShape { receivers: 4, ..shape() };

        let error =
            export(&network(1), &frame(), shape, 1.0, &BTreeMap::new(), &ExportConfig::default());

        assert!(matches!(error, Err(ExportError::ShapeMismatch { expected, .. })
            if expected.receivers == 3));
    }

    #[test]
    fn only_a_network_that_looks_at_levels_needs_some() {
        let shape = FeatureShape::without_levels(3);
        let written = |network: &Ensemble| {
            let config = ExportConfig::default();
            export(network, &frame(), shape, 1.0, &BTreeMap::new(), &config)
        };

        let names = |model: OnnxModel| model.inputs().into_iter().map(|port| port.name);
        let model = written(&network_with_side_inputs(Backbone::Mlp, 1)).unwrap();
        assert!(!names(model).any(|name| name == "mel_spectrogram"));
        let error = written(&network(1)).unwrap_err();
        assert!(
            matches!(error, ExportError::ShapeMismatch { expected, .. } if expected.bands == 1)
        );
    }

    #[test]
    fn scale_that_is_none_is_refused() {
        for scale in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let model = export(
                &network(1),
                &frame(),
                shape(),
                scale,
                &BTreeMap::new(),
                &ExportConfig::default(),
            );

            assert!(matches!(model, Err(ExportError::InvalidConfig { field: "sigma_scale", .. })));
        }
    }
}
