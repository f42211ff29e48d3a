//! A small trained-looking network and its features, for the tests of this crate.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use heimdall_features::{FeatureMap, FeatureShape};
use heimdall_geo::{LocalFrame, Position};
use heimdall_model::{CovarianceKind, LocalizationNet, LocalizationNetConfig, Standardization};

pub(crate) fn shape() -> FeatureShape {
    FeatureShape { receivers: 3, bands: 16, frames: 8 }
}

pub(crate) fn frame() -> LocalFrame {
    LocalFrame { origin: Position::new(44.75, 8.5).unwrap() }
}

pub(crate) fn network(seed: u64) -> LocalizationNet {
    network_of(CovarianceKind::Full, seed)
}

/// Makes a network whose batch norms and biases are as uneven as those of a trained one.
pub(crate) fn network_of(covariance: CovarianceKind, seed: u64) -> LocalizationNet {
    let config = LocalizationNetConfig {
        input_channels: 3,
        covariance,
        head_width: 32,
        standardization: Standardization {
            level_mean_db: vec![4.0, 1.5, 9.0],
            level_deviation_db: vec![6.0, 3.0, 11.0],
            position_mean_km: [12.0, -7.0],
            position_deviation_km: [85.0, 60.0],
        },
        seed,
        ..LocalizationNetConfig::default()
    };
    config.init(&Device::flex()).map(&mut Uneven { tensors: 0 })
}

/// Scales and shifts every vector (gains, biases, running statistics) by a fixed pattern.
struct Uneven {
    tensors: usize,
}

impl ModuleMapper for Uneven {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if D != 1 {
            return param;
        }
        self.tensors += 1;
        let offset = self.tensors;
        param.map(|x| {
            let device = x.device();
            let shape = x.dims();
            let pattern = |step: usize, index: usize| ((index + offset) * step % 97) as f32 / 97.0;
            let row = |step: usize, from: f32, width: f32| {
                let values: Vec<f32> =
                    (0..shape[0]).map(|index| from + width * pattern(step, index)).collect();
                Tensor::<D>::from_data(TensorData::new(values, shape), &device)
            };
            // Variances stay above zero.
            x * row(31, 0.7, 0.6) + row(53, 0.0, 0.1)
        })
    }
}

/// Makes feature maps without any pattern, between −5 and 25 dB.
pub(crate) fn features(count: usize) -> Vec<FeatureMap> {
    let level = |index: usize| ((index * 7919 + 13) % 3001) as f32 / 100.0 - 5.0;
    let map = |event: usize| FeatureMap {
        shape: shape(),
        levels_db: (0..shape().len()).map(|index| level(index + 977 * event)).collect(),
        scalars: vec![None; shape().receivers],
    };
    (0..count).map(map).collect()
}
