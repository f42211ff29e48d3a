//! Whether the written file says what the network says.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use heimdall_features::{FeatureMap, FeatureShape};
use heimdall_geo::{
    LocalFrame, LocalPosition, Position, WGS84_ECCENTRICITY_SQUARED, WGS84_SEMI_MAJOR_AXIS_KM,
};
use heimdall_model::{Ensemble, LocalizationNetConfig, NetworkInput, SideInputs};
use serde::{Deserialize, Serialize};

use crate::lower::for_inference;
use crate::model::check_sigma_scale;
use crate::port::Input;
use crate::predictor::{Plan, Prediction};
use crate::{ExportConfig, ExportError};

/// Batch sizes at which a file is run.
const BATCH_SIZES: [usize; 4] = [1, 2, 7, 32];

/// The largest differences between a written file and its network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parity {
    /// What ran the file.
    pub runtime: String,
    /// Batch sizes at which it was run.
    pub batch_sizes: Vec<usize>,
    /// Samples on which it was run, at each batch size.
    pub samples: usize,
    /// Largest distance between the positions, in m.
    pub position_difference_m_max: f64,
    /// Largest difference of a latitude or longitude, in degrees.
    pub position_difference_deg_max: f64,
    /// Largest difference of a standard deviation, in degrees.
    pub uncertainty_difference_deg_max: f64,
    /// Largest difference of a standard deviation, as a share of it.
    pub uncertainty_difference_relative_max: f64,
    /// Largest difference of an element of a covariance, in m².
    pub covariance_difference_m2_max: f64,
    /// Largest difference of an element of a covariance, as a share of its trace.
    pub covariance_difference_relative_max: f64,
    /// Largest difference that was allowed, in degrees and of the covariance.
    pub tolerance: f64,
}

impl Parity {
    /// No difference so far.
    pub(crate) fn none(samples: usize, tolerance: f64) -> Self {
        Self {
            runtime: "tract-onnx".to_owned(),
            batch_sizes: BATCH_SIZES.to_vec(),
            samples,
            position_difference_m_max: 0.0,
            position_difference_deg_max: 0.0,
            uncertainty_difference_deg_max: 0.0,
            uncertainty_difference_relative_max: 0.0,
            covariance_difference_m2_max: 0.0,
            covariance_difference_relative_max: 0.0,
            tolerance,
        }
    }

    /// Whether every difference is within the tolerance.
    pub fn is_within_tolerance(&self) -> bool {
        [
            self.position_difference_deg_max,
            self.uncertainty_difference_deg_max,
            self.covariance_difference_relative_max,
        ]
        .into_iter()
        .all(|difference| difference <= self.tolerance)
    }

    /// Takes the outputs for one sample into account.
    pub(crate) fn compare(&mut self, actual: &Prediction, expected: &Prediction) {
        // Beyond the horizon both have to say so, and there is nothing to subtract.
        if !(actual.is_beyond_horizon() && expected.is_beyond_horizon()) {
            self.compare_degrees(actual, expected);
        }
        let trace = expected.covariance_m2[0] + expected.covariance_m2[3];
        for (actual, expected) in actual.covariance_m2.into_iter().zip(expected.covariance_m2) {
            let difference = (actual - expected).abs();
            raise(&mut self.covariance_difference_m2_max, difference);
            raise(&mut self.covariance_difference_relative_max, difference / trace);
        }
    }

    fn compare_degrees(&mut self, actual: &Prediction, expected: &Prediction) {
        let distance_m = match (actual.position(), expected.position()) {
            (Some(actual), Some(expected)) => 1000.0 * actual.distance_km(&expected),
            _ => f64::INFINITY,
        };
        raise(&mut self.position_difference_m_max, distance_m);
        let [latitude, longitude] =
            [0, 1].map(|axis| (actual.position_deg[axis] - expected.position_deg[axis]).abs());
        raise(&mut self.position_difference_deg_max, latitude);
        // −180° and 180° are the same; `min` would drop what is not a number.
        let around = if longitude > 180.0 { 360.0 - longitude } else { longitude };
        raise(&mut self.position_difference_deg_max, around);

        for (actual, expected) in actual.uncertainty_deg.into_iter().zip(expected.uncertainty_deg) {
            let difference = (actual - expected).abs();
            raise(&mut self.uncertainty_difference_deg_max, difference);
            raise(&mut self.uncertainty_difference_relative_max, difference / expected);
        }
    }
}

/// Keeps the larger one; what is not a number is larger than any.
fn raise(largest: &mut f64, difference: f64) {
    let difference = if difference.is_nan() { f64::INFINITY } else { difference };
    *largest = largest.max(difference);
}

/// Runs a written file at several batch sizes beside the network, and compares what they say.
///
/// The bytes are parsed and run by `tract-onnx`, which shares no code with the writer, at batch sizes
/// 1, 2, 7 and 32. At each size every sample is run at least once; the last batch is filled up from
/// the front. What the network states is brought to degrees by [`LocalFrame::to_position`].
///
/// # Errors
///
/// - [`ExportError::InvalidConfig`] if `config` breaks one of its rules, or `sigma_scale` is not
///   finite and above zero.
/// - [`ExportError::NoSamples`] if there are none.
/// - [`ExportError::ShapeMismatch`] if a sample has another shape than the first one, or another
///   number of receivers than the network.
/// - [`ExportError::Runtime`] if the file cannot be run.
/// - [`ExportError::Parity`] if a difference is above the tolerance.
pub fn verify(
    onnx: &[u8],
    network: &Ensemble,
    frame: &LocalFrame,
    sigma_scale: f64,
    samples: &[FeatureMap],
    config: &ExportConfig,
) -> Result<Parity, ExportError> {
    config.validate()?;
    check_sigma_scale(sigma_scale)?;
    let shape = samples.first().ok_or(ExportError::NoSamples)?.shape;
    let expected = FeatureShape { receivers: network.config().input_channels, ..shape };
    for sample in samples {
        if sample.shape != expected {
            return Err(ExportError::ShapeMismatch { expected, actual: sample.shape });
        }
    }

    let expected = by_network(network, frame, sigma_scale, samples);
    let mut parity = Parity::none(samples.len(), config.tolerance());
    for batch_size in BATCH_SIZES {
        let rows = by_file(onnx, network.config(), samples, batch_size)?;
        for (row, expected) in rows.iter().zip(expected.iter().cycle()) {
            parity.compare(row, expected);
        }
    }
    if parity.is_within_tolerance() {
        Ok(parity)
    } else {
        Err(ExportError::Parity { parity: Box::new(parity) })
    }
}

/// What the file says: as many full batches as hold all samples, which are repeated.
fn by_file(
    onnx: &[u8],
    config: &LocalizationNetConfig,
    samples: &[FeatureMap],
    batch_size: usize,
) -> Result<Vec<Prediction>, ExportError> {
    let plan = Plan::new(onnx, config, samples[0].shape, batch_size)?;
    let mut cycle = samples.iter().cycle();
    let mut rows = Vec::new();
    for _ in 0..samples.len().div_ceil(batch_size) {
        let batch: Vec<&FeatureMap> = cycle.by_ref().take(batch_size).collect();
        rows.extend(plan.run(&batch)?);
    }
    Ok(rows)
}

/// What the network says, brought to degrees without the graph.
pub(crate) fn by_network(
    network: &Ensemble,
    frame: &LocalFrame,
    sigma_scale: f64,
    samples: &[FeatureMap],
) -> Vec<Prediction> {
    let network = for_inference(network);
    let device = network.devices().remove(0);
    let mut rows = Vec::with_capacity(samples.len());
    for batch in samples.chunks(32) {
        let estimate = network.forward(network_input(network.config(), batch, &device));
        let [mean_km, cholesky_km] = [estimate.mean_km, estimate.cholesky_km].map(|x| {
            x.into_data()
                .convert::<f64>()
                .try_to_vec::<f64>()
                .expect("the elements were just converted")
        });
        for (mean_km, cholesky_km) in mean_km.chunks(2).zip(cholesky_km.chunks(3)) {
            rows.push(row(frame, sigma_scale, mean_km, cholesky_km));
        }
    }
    rows
}

/// Puts samples on a device, as the network takes them.
fn network_input(
    config: &LocalizationNetConfig,
    samples: &[FeatureMap],
    device: &Device,
) -> NetworkInput {
    let data = |input: Input| {
        let values = samples.iter().flat_map(|sample| input.values(config, sample));
        let axes = input.shape(config, samples[0].shape);
        let shape: Vec<usize> = std::iter::once(samples.len()).chain(axes).collect();
        TensorData::new(values.collect::<Vec<f32>>(), shape)
    };
    let side = config.side_inputs.as_ref().map(|_| SideInputs {
        scalars: Tensor::from_data(data(Input::Scalars), device),
        mask: Tensor::from_data(data(Input::Mask), device),
        receivers_km: Tensor::from_data(data(Input::Receivers), device),
        fix_km: Tensor::from_data(data(Input::Fix), device),
        fix_covariance_km2: Tensor::from_data(data(Input::FixCovariance), device),
        fix_status: Tensor::from_data(data(Input::FixStatus), device),
    });
    NetworkInput { levels_db: Tensor::from_data(data(Input::Levels), device), side }
}

fn row(frame: &LocalFrame, sigma_scale: f64, mean_km: &[f64], cholesky_km: &[f64]) -> Prediction {
    let local = LocalPosition { east_km: mean_km[0], north_km: mean_km[1] };
    let scaled = |element: f64| 1000.0 * sigma_scale * element;
    let (l11, l21, l22) = (scaled(cholesky_km[0]), scaled(cholesky_km[1]), scaled(cholesky_km[2]));
    let covariance_m2 = [l11 * l11, l11 * l21, l11 * l21, l21 * l21 + l22 * l22];
    let Ok(position) = frame.to_position(&local) else {
        return Prediction {
            position_deg: [f64::NAN; 2],
            uncertainty_deg: [f64::NAN; 2],
            covariance_m2,
        };
    };
    let [latitude_scale, longitude_scale] = degrees_per_km(&position);
    let (north_km, east_km) = (covariance_m2[3].sqrt() / 1000.0, l11 / 1000.0);
    Prediction {
        position_deg: [position.latitude_deg(), position.longitude_deg()],
        uncertainty_deg: [north_km * latitude_scale, east_km * longitude_scale],
        covariance_m2,
    }
}

/// Degrees of latitude per km to the north and of longitude per km to the east.
pub(crate) fn degrees_per_km(position: &Position) -> [f64; 2] {
    let (sin, cos) = position.latitude_deg().to_radians().sin_cos();
    let w = 1.0 - WGS84_ECCENTRICITY_SQUARED * sin * sin;
    let meridian_km = WGS84_SEMI_MAJOR_AXIS_KM * (1.0 - WGS84_ECCENTRICITY_SQUARED) / w.powf(1.5);
    let prime_vertical_km = WGS84_SEMI_MAJOR_AXIS_KM / w.sqrt();
    [meridian_km, prime_vertical_km * cos].map(|radius_km| 1_f64.to_degrees() / radius_km)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use heimdall_model::{Backbone, CovarianceKind, Stem};

    use super::*;
    use crate::sample::{
        features, frame, mixture_with_side_inputs, network, network_of, network_with_side_inputs,
        shape,
    };
    use crate::{CheckConfig, WeightPrecision, export};

    fn written(network: &Ensemble, sigma_scale: f64, opset: u32) -> Vec<u8> {
        let config = ExportConfig { opset, ..ExportConfig::default() };
        export(network, &frame(), shape(), sigma_scale, &BTreeMap::new(), &config)
            .unwrap()
            .bytes()
            .to_vec()
    }

    /// Both compute in 32 bits, in different orders: some 1e-6 of a spread of 85 km is 0.1 m.
    #[test]
    fn written_file_says_what_the_network_says() {
        for (covariance, opset) in
            [(CovarianceKind::Full, 17), (CovarianceKind::Diagonal, 14), (CovarianceKind::Full, 20)]
        {
            let network = network_of(covariance, 3);
            let bytes = written(&network, 1.7, opset);

            let parity =
                verify(&bytes, &network, &frame(), 1.7, &features(3), &ExportConfig::default())
                    .unwrap();

            assert_eq!(parity.samples, 3);
            assert!(parity.position_difference_m_max < 0.5, "{parity:?}");
            assert!(parity.uncertainty_difference_relative_max < 1e-5, "{parity:?}");
            assert!(parity.covariance_difference_relative_max < 1e-5, "{parity:?}");
        }
    }

    /// Among the samples are absent receivers and all kinds of fixes.
    #[test]
    fn written_file_takes_the_side_inputs() {
        for backbone in [Backbone::ResNet18, Backbone::Mlp, Backbone::Set] {
            let network = network_with_side_inputs(backbone, 3);
            let bytes = written(&network, 1.3, 17);

            let config = ExportConfig::default();
            let parity = verify(&bytes, &network, &frame(), 1.3, &features(6), &config).unwrap();

            assert!(parity.position_difference_m_max < 0.5, "{backbone:?}: {parity:?}");
            assert!(parity.covariance_difference_relative_max < 1e-5, "{backbone:?}: {parity:?}");
        }
    }

    /// Half of the bytes; eleven bits of a spread of 85 km are 40 m, in each of some layers.
    #[test]
    fn half_precision_halves_the_file_and_stays_close() {
        for network in [
            network(3),
            network_with_side_inputs(Backbone::Mlp, 3),
            network_with_side_inputs(Backbone::Set, 3),
            mixture_with_side_inputs(Backbone::ResNet18, 1, &[3, 4]),
        ] {
            let config =
                ExportConfig { precision: WeightPrecision::F16, ..ExportConfig::default() };
            let half = export(&network, &frame(), shape(), 1.3, &BTreeMap::new(), &config);
            let half = half.unwrap().bytes().to_vec();

            let parity = verify(&half, &network, &frame(), 1.3, &features(6), &config).unwrap();

            let case = format!("{:?}: {parity:?}", network.config().backbone);
            assert!(parity.position_difference_m_max < 500.0, "{case}");
            assert!(parity.position_difference_m_max > 0.5, "not in half precision: {case}");
            if network.config().backbone == Backbone::ResNet18 {
                let single = written(&network, 1.3, 17).len();
                assert!(half.len() < single * 52 / 100, "{} of {single}: {case}", half.len());
            }
        }
    }

    /// The strides of the narrow stem differ along bands and frames.
    #[test]
    fn written_file_has_the_stem_of_the_network() {
        let config = LocalizationNetConfig { stem: Stem::Narrow, ..network(3).config().clone() };
        let network = Ensemble::init(&config, &[3], &Device::flex());
        let bytes = written(&network, 1.0, 17);

        let parity =
            verify(&bytes, &network, &frame(), 1.0, &features(2), &ExportConfig::default());

        assert!(parity.unwrap().position_difference_m_max < 0.5);
    }

    /// Components only where few receivers detect an event, and members that disagree.
    #[test]
    fn written_file_mixes_components_and_members() {
        let config = ExportConfig::default();
        for (backbone, components, seeds) in [
            (Backbone::Mlp, 3, &[3_u64][..]),
            (Backbone::Mlp, 1, &[3, 4, 5]),
            (Backbone::Set, 2, &[3, 4]),
        ] {
            let network = mixture_with_side_inputs(backbone, components, seeds);
            let bytes = written(&network, 1.3, 17);

            let parity = verify(&bytes, &network, &frame(), 1.3, &features(6), &config).unwrap();

            let case = format!("{backbone:?}, {components}, {seeds:?}: {parity:?}");
            assert!(parity.position_difference_m_max < 0.5, "{case}");
            assert!(parity.covariance_difference_relative_max < 1e-4, "{case}");
        }
    }

    /// Positions of the samples lie apart, so that equal outputs are no accident.
    #[test]
    fn samples_have_different_positions() {
        let rows = by_network(&network(3), &frame(), 1.0, &features(2));

        let [first, second] = [&rows[0], &rows[1]].map(|row| row.position().unwrap());
        assert!(first.distance_km(&second) > 0.1, "{first:?}, {second:?}");
        assert!(rows[0].covariance_m2[1].abs() > 1e6, "{:?}", rows[0].covariance_m2);
    }

    #[test]
    fn file_of_another_network_is_refused() {
        let bytes = written(&network(4), 1.0, 17);

        let result =
            verify(&bytes, &network(3), &frame(), 1.0, &features(1), &ExportConfig::default());

        let Err(ExportError::Parity { parity }) = result else { panic!("{result:?}") };
        assert!(parity.position_difference_deg_max > 1e-4, "{parity:?}");
    }

    /// Only uncertainty and covariance depend on the scale: a thousandth is seen there.
    #[test]
    fn file_of_another_scale_is_refused() {
        let network = network(3);
        let bytes = written(&network, 1.001, 17);

        let result =
            verify(&bytes, &network, &frame(), 1.0, &features(1), &ExportConfig::default());

        let Err(ExportError::Parity { parity }) = result else { panic!("{result:?}") };
        assert!(parity.position_difference_m_max < 0.5, "{parity:?}");
        assert!((parity.uncertainty_difference_relative_max - 1e-3).abs() < 1e-5, "{parity:?}");
        assert!((parity.covariance_difference_relative_max) > 1e-3, "{parity:?}");
    }

    #[test]
    fn tolerance_is_that_of_the_configuration() {
        let network = network(3);
        let bytes = written(&network, 1.0, 17);
        let config = ExportConfig {
            check: CheckConfig { max_abs_diff: Some(1e-15) },
            ..ExportConfig::default()
        };

        let result = verify(&bytes, &network, &frame(), 1.0, &features(2), &config);

        assert!(matches!(result, Err(ExportError::Parity { parity }) if parity.tolerance < 1e-14));
    }

    /// By hand: 0.25° of latitude, 0.5° across the antimeridian, 1 m² of a trace of 20 m².
    #[test]
    fn differences_are_the_largest_ones() {
        let row = |longitude_deg: f64, latitude_deg: f64, north_m2: f64| Prediction {
            position_deg: [latitude_deg, longitude_deg],
            uncertainty_deg: [0.1, 0.2],
            covariance_m2: [10.0, 0.0, 0.0, north_m2],
        };
        let mut parity = Parity::none(2, 1e-4);

        parity.compare(&row(10.0, 45.25, 10.0), &row(10.0, 45.0, 10.0));
        parity.compare(&row(179.75, 0.0, 11.0), &row(-179.75, 0.0, 10.0));

        assert!((parity.position_difference_deg_max - 0.5).abs() < 1e-12, "{parity:?}");
        // A degree of the equator is 111.32 km.
        assert!((parity.position_difference_m_max - 55_660.0).abs() < 5.0, "{parity:?}");
        assert!(parity.uncertainty_difference_deg_max < 1e-12, "{parity:?}");
        assert!((parity.covariance_difference_m2_max - 1.0).abs() < 1e-12, "{parity:?}");
        assert!((parity.covariance_difference_relative_max - 0.05).abs() < 1e-12, "{parity:?}");
        assert!(!parity.is_within_tolerance());
    }

    #[test]
    fn horizon_is_a_difference_where_one_sees_beyond_it() {
        let here = Prediction {
            position_deg: [45.0, 8.0],
            uncertainty_deg: [0.1; 2],
            covariance_m2: [1.0, 0.0, 0.0, 1.0],
        };
        let beyond = Prediction {
            position_deg: [f64::NAN; 2],
            uncertainty_deg: [f64::NAN; 2],
            covariance_m2: [1.0, 0.0, 0.0, 1.0],
        };
        let compared = |actual: &Prediction, expected: &Prediction| {
            let mut parity = Parity::none(1, 1e-4);
            parity.compare(actual, expected);
            parity
        };

        assert!(compared(&beyond, &beyond).is_within_tolerance());
        for parity in [compared(&beyond, &here), compared(&here, &beyond)] {
            assert!(!parity.is_within_tolerance());
            assert!(parity.position_difference_deg_max.is_infinite(), "{parity:?}");
        }
    }

    #[test]
    fn file_that_is_none_is_refused() {
        let result =
            verify(b"no model", &network(3), &frame(), 1.0, &features(1), &ExportConfig::default());

        assert!(matches!(result, Err(ExportError::Runtime { .. })));
    }

    #[test]
    fn verification_takes_samples_of_one_shape() {
        let network = network(3);
        let mut samples = features(2);
        samples[1].shape.frames = 9;

        let config = ExportConfig::default();
        let none = verify(&[], &network, &frame(), 1.0, &[], &config);
        let uneven = verify(&[], &network, &frame(), 1.0, &samples, &config);

        assert!(matches!(none, Err(ExportError::NoSamples)));
        assert!(matches!(uneven, Err(ExportError::ShapeMismatch { actual, .. })
            if actual.frames == 9));
    }
}
