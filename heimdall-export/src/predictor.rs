//! A written file, ready to say where transmitters are.

use std::collections::BTreeMap;
use std::sync::Arc;

use heimdall_features::{FeatureMap, FeatureShape};
use heimdall_geo::{Covariance, LocalFrame, Position};
use heimdall_model::LocalizationNetConfig;
use prost::Message;
use serde::de::DeserializeOwned;
use tract_onnx::prelude::{
    DatumExt, Framework, InferenceModelExt, IntoRunnable, Tensor, TypedRunnableModel,
};

use crate::ExportError;
use crate::model::FORMAT_VERSION;
use crate::port::Input;
use crate::proto::ModelProto;

/// What a file says about one event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// Latitude and longitude, in degrees; not numbers where the estimate lies over no point of the
    /// Earth.
    pub position_deg: [f64; 2],
    /// One standard deviation along latitude and longitude, in degrees.
    pub uncertainty_deg: [f64; 2],
    /// Covariance of east and north in the local plane, row by row, in m².
    pub covariance_m2: [f64; 4],
}

impl Prediction {
    /// Where the transmitter is; `None` where the estimate lies over no point of the Earth.
    pub fn position(&self) -> Option<Position> {
        let [latitude_deg, longitude_deg] = self.position_deg;
        Position::new(latitude_deg, longitude_deg).ok()
    }

    /// How uncertain that is.
    pub fn covariance(&self) -> Covariance {
        let [east_km2, east_north_km2, _, north_km2] = self.covariance_m2.map(|m2| m2 / 1e6);
        Covariance { east_km2, east_north_km2, north_km2 }
    }

    pub(crate) fn is_beyond_horizon(&self) -> bool {
        self.position_deg.iter().all(|degrees| degrees.is_nan())
    }
}

/// A file planned for one batch size.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    runnable: Arc<TypedRunnableModel>,
    network: LocalizationNetConfig,
    shape: FeatureShape,
    batch_size: usize,
}

impl Plan {
    /// Parses and optimizes a file for events of a shape.
    pub(crate) fn new(
        onnx: &[u8],
        network: &LocalizationNetConfig,
        shape: FeatureShape,
        batch_size: usize,
    ) -> Result<Self, ExportError> {
        let mut model = tract_onnx::onnx()
            // The stated shapes have an open batch axis; here it has a length.
            .with_ignore_output_shapes(true)
            .model_for_read(&mut &*onnx)?;
        for (index, input) in Input::of(network).into_iter().enumerate() {
            let shape = batched(batch_size, &input.shape(network, shape));
            model.set_input_fact(index, f32::fact(shape).into())?;
        }
        let runnable = model.into_optimized()?.into_runnable()?;
        Ok(Self { runnable, network: network.clone(), shape, batch_size })
    }

    /// Runs the file on as many events as it was planned for.
    pub(crate) fn run(&self, samples: &[&FeatureMap]) -> Result<Vec<Prediction>, ExportError> {
        assert_eq!(samples.len(), self.batch_size, "a plan is for one batch size");
        let tensors = Input::of(&self.network).into_iter().map(|input| {
            let values = samples.iter().flat_map(|sample| input.values(&self.network, sample));
            let values: Vec<f32> = values.collect();
            let shape = batched(self.batch_size, &input.shape(&self.network, self.shape));
            Ok(Tensor::from_shape(&shape, &values)?.into())
        });
        let outputs = self.runnable.run(tensors.collect::<Result<_, ExportError>>()?)?;
        let columns: Vec<Vec<f64>> = outputs
            .iter()
            .map(|output| Ok(output.to_plain_array_view::<f64>()?.iter().copied().collect()))
            .collect::<Result<_, ExportError>>()?;
        let prediction = |index: usize| Prediction {
            position_deg: [0, 1].map(|axis| columns[0][2 * index + axis]),
            uncertainty_deg: [0, 1].map(|axis| columns[1][2 * index + axis]),
            covariance_m2: [0, 1, 2, 3].map(|element| columns[2][4 * index + element]),
        };
        Ok((0..self.batch_size).map(prediction).collect())
    }
}

/// A shape with a batch axis in front.
fn batched(batch_size: usize, shape: &[usize]) -> Vec<usize> {
    std::iter::once(batch_size).chain(shape.iter().copied()).collect()
}

/// A file that this crate wrote, run without the network that it was made from.
///
/// It is planned for one event at a time, and can be shared by any number of threads.
#[derive(Clone, Debug)]
pub struct Predictor {
    plan: Plan,
    frame: LocalFrame,
    metadata: BTreeMap<String, String>,
}

impl Predictor {
    /// Reads a file, and plans how it is run.
    ///
    /// # Errors
    ///
    /// - [`ExportError::NotOnnx`] if the bytes are no file of the format.
    /// - [`ExportError::ForeignModel`] if the metadata lack what every file of this crate has, and
    ///   [`ExportError::NewerModel`] if a newer release wrote them.
    /// - [`ExportError::Runtime`] if the file cannot be run.
    pub fn new(onnx: &[u8]) -> Result<Self, ExportError> {
        let proto = ModelProto::decode(onnx).map_err(|source| ExportError::NotOnnx { source })?;
        let entries = proto.metadata_props.into_iter();
        let metadata: BTreeMap<String, String> =
            entries.filter_map(|entry| Some((entry.key?, entry.value?))).collect();
        let version: u32 = read(&metadata, "heimdall.format_version")?;
        if version > FORMAT_VERSION {
            return Err(ExportError::NewerModel { actual: version, supported: FORMAT_VERSION });
        }
        let network = read(&metadata, "heimdall.network")?;
        let shape = read(&metadata, "heimdall.shape")?;
        let degrees = |key| read::<f64>(&metadata, key);
        let [latitude_deg, longitude_deg] =
            [degrees("heimdall.origin_latitude_deg")?, degrees("heimdall.origin_longitude_deg")?];
        let origin = Position::new(latitude_deg, longitude_deg)
            .map_err(|error| foreign("heimdall.origin_latitude_deg", Some(error.to_string())))?;
        let plan = Plan::new(onnx, &network, shape, 1)?;
        Ok(Self { plan, frame: LocalFrame { origin }, metadata })
    }

    /// Shape of the features that the file takes.
    pub fn shape(&self) -> FeatureShape {
        self.plan.shape
    }

    /// Whether the file takes numbers of each receiver and a classical fix beside the levels.
    pub fn takes_side_inputs(&self) -> bool {
        self.plan.network.side_inputs.is_some()
    }

    /// The frame from which positions are converted to degrees.
    pub fn frame(&self) -> &LocalFrame {
        &self.frame
    }

    /// The metadata of the file, every key with its prefix `heimdall.`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Reads an entry of the metadata that is JSON.
    ///
    /// # Errors
    ///
    /// [`ExportError::ForeignModel`] if it is not there, or something else.
    pub fn entry<T: DeserializeOwned>(&self, key: &str) -> Result<T, ExportError> {
        read(&self.metadata, key)
    }

    /// Says where the transmitter of an event is.
    ///
    /// # Errors
    ///
    /// - [`ExportError::ShapeMismatch`] if the event has another shape than the file takes.
    /// - [`ExportError::Runtime`] if the file cannot be run.
    pub fn predict(&self, sample: &FeatureMap) -> Result<Prediction, ExportError> {
        let (expected, actual) = (self.plan.shape, sample.shape);
        if actual != expected {
            return Err(ExportError::ShapeMismatch { expected, actual });
        }
        Ok(self.plan.run(&[sample])?.remove(0))
    }
}

fn read<T: DeserializeOwned>(
    metadata: &BTreeMap<String, String>,
    key: &str,
) -> Result<T, ExportError> {
    let text = metadata.get(key).ok_or_else(|| foreign(key, None))?;
    serde_json::from_str(text).map_err(|error| foreign(key, Some(error.to_string())))
}

fn foreign(key: &str, reason: Option<String>) -> ExportError {
    let reason = reason.unwrap_or_else(|| "it is not there".to_owned());
    ExportError::ForeignModel { key: key.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use heimdall_model::Backbone;

    use super::*;
    use crate::sample::{features, frame, network, network_with_side_inputs, shape};
    use crate::{ExportConfig, export};

    fn file(network: &heimdall_model::Ensemble) -> Vec<u8> {
        let metadata = BTreeMap::from([("seed".to_owned(), "7".to_owned())]);
        let config = ExportConfig::default();
        export(network, &frame(), shape(), 1.5, &metadata, &config).unwrap().bytes().to_vec()
    }

    #[test]
    fn file_alone_says_what_it_takes_and_where_transmitters_are() {
        for network in [network(3), network_with_side_inputs(Backbone::Set, 3)] {
            let bytes = file(&network);

            let predictor = Predictor::new(&bytes).unwrap();

            assert_eq!((predictor.shape(), predictor.frame()), (shape(), &frame()));
            assert_eq!(predictor.takes_side_inputs(), network.config().side_inputs.is_some());
            assert_eq!(predictor.entry::<u32>("heimdall.seed").unwrap(), 7);
            let samples = features(7);
            let all: Vec<&FeatureMap> = samples.iter().collect();
            let together = Plan::new(&bytes, network.config(), shape(), 7).unwrap().run(&all);
            for (sample, expected) in samples.iter().zip(together.unwrap()) {
                let alone = predictor.predict(sample).unwrap();
                // Batches are computed in another order: 1e-6 of a spread of 85 km.
                let [alone_at, expected_at] = [alone, expected].map(|p| p.position().unwrap());
                assert!(alone_at.distance_km(&expected_at) < 1e-3, "{alone:?}, {expected:?}");
                let ratio = alone.covariance().east_km2 / expected.covariance().east_km2;
                assert!((ratio - 1.0).abs() < 1e-4, "{alone:?}, {expected:?}");
            }
        }
    }

    #[test]
    fn what_is_no_file_of_ours_is_told_apart() {
        let network = network(3);
        let mut proto = ModelProto::decode(file(&network).as_slice()).unwrap();
        let mut changed = |key: &str, value: Option<&str>| {
            proto.metadata_props.retain(|entry| entry.key.as_deref() != Some(key));
            if let Some(value) = value {
                let (key, value) = (Some(key.to_owned()), Some(value.to_owned()));
                proto.metadata_props.push(crate::proto::StringStringEntryProto { key, value });
            }
            Predictor::new(&proto.encode_to_vec()).unwrap_err().to_string()
        };

        let newer = changed("heimdall.format_version", Some("99"));
        assert!(newer.contains("99") && newer.contains("newer"), "{newer}");
        let wrong = changed("heimdall.format_version", Some("one"));
        assert!(wrong.contains("heimdall.format_version"), "{wrong}");
        let missing = changed("heimdall.format_version", None);
        assert!(missing.contains("not there"), "{missing}");
        assert!(matches!(Predictor::new(b"\xff\xff"), Err(ExportError::NotOnnx { .. })));
    }

    #[test]
    fn event_of_another_shape_is_refused() {
        let predictor = Predictor::new(&file(&network(3))).unwrap();
        let mut sample = features(1).remove(0);
        sample.shape.bands = 17;

        let error = predictor.predict(&sample).unwrap_err();

        assert!(matches!(error, ExportError::ShapeMismatch { actual, .. } if actual.bands == 17));
    }
}
