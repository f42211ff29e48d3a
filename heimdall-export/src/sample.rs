//! A small trained-looking network and its features, for the tests of this crate.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use heimdall_features::{ClassicalFix, FeatureMap, FeatureShape, ReceiverScalars};
use heimdall_geo::{LocalFrame, Position};
use heimdall_model::{
    Backbone, CovarianceKind, Ensemble, LocalizationNetConfig, SideInputConfig, Standardization,
};

pub(crate) fn shape() -> FeatureShape {
    FeatureShape { receivers: 3, bands: 16, frames: 8 }
}

pub(crate) fn frame() -> LocalFrame {
    LocalFrame { origin: Position::new(44.75, 8.5).unwrap() }
}

pub(crate) fn network(seed: u64) -> Ensemble {
    network_of(CovarianceKind::Full, seed)
}

/// Makes a network on levels alone whose batch norms and biases are as uneven as those of a trained
/// one.
pub(crate) fn network_of(covariance: CovarianceKind, seed: u64) -> Ensemble {
    uneven(&LocalizationNetConfig { covariance, ..config(seed) })
}

/// Makes such a network with side inputs.
pub(crate) fn network_with_side_inputs(backbone: Backbone, seed: u64) -> Ensemble {
    mixture_with_side_inputs(backbone, 1, &[seed])
}

/// Makes an ensemble of such networks, whose estimates are mixtures.
pub(crate) fn mixture_with_side_inputs(
    backbone: Backbone,
    components: usize,
    seeds: &[u64],
) -> Ensemble {
    let receivers = 0..shape().receivers;
    let mut side_inputs = SideInputConfig {
        receivers_km: receivers
            .clone()
            .map(|r| [30.0 * r as f32, 10.0 - 20.0 * r as f32])
            .collect(),
        scalar_mean: receivers.clone().map(|r| vec![r as f32, -9.0, 8.0, 50.0, 1.5, 0.4]).collect(),
        scalar_deviation: receivers
            .map(|r| vec![5.0 + r as f32, 2.0, 9.0, 30.0, 0.5, 0.5])
            .collect(),
    };
    let mut config = LocalizationNetConfig { backbone, components, ..config(0) };
    if backbone.treats_receivers_alike() {
        side_inputs.scalar_mean.truncate(1);
        side_inputs.scalar_deviation.truncate(1);
        config.standardization.level_mean_db.truncate(1);
        config.standardization.level_deviation_db.truncate(1);
    }
    let config = LocalizationNetConfig { side_inputs: Some(side_inputs), ..config };
    Ensemble::init(&config, seeds, &Device::flex()).map(&mut Uneven { tensors: 0 })
}

fn uneven(config: &LocalizationNetConfig) -> Ensemble {
    Ensemble::init(config, &[config.seed], &Device::flex()).map(&mut Uneven { tensors: 0 })
}

fn config(seed: u64) -> LocalizationNetConfig {
    LocalizationNetConfig {
        input_channels: 3,
        head_width: 32,
        standardization: Standardization {
            level_mean_db: vec![4.0, 1.5, 9.0],
            level_deviation_db: vec![6.0, 3.0, 11.0],
            position_mean_km: [12.0, -7.0],
            position_deviation_km: [85.0, 60.0],
        },
        seed,
        ..LocalizationNetConfig::default()
    }
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

/// Makes feature maps without any pattern: levels between −5 and 25 dB, one receiver absent from two
/// of three events, no fix, a fix and an ambiguous one in turn.
pub(crate) fn features(count: usize) -> Vec<FeatureMap> {
    let level = |index: usize| ((index * 7919 + 13) % 3001) as f32 / 100.0 - 5.0;
    let map = |event: usize| FeatureMap {
        shape: shape(),
        levels_db: (0..shape().len()).map(|index| level(index + 977 * event)).collect(),
        scalars: (0..shape().receivers)
            .map(|receiver| {
                (receiver + 1 != event % 3).then(|| ReceiverScalars {
                    power_db: level(receiver + 17 * event),
                    noise_psd_db: level(receiver + 23 * event) - 20.0,
                    snr_db: level(receiver + 31 * event),
                    bandwidth_hz: 10.0 * level(receiver + 41 * event),
                    kurtosis: 1.0 + 0.01 * event as f32,
                    detected: (receiver + event).is_multiple_of(2),
                })
            })
            .collect(),
        fix: (!event.is_multiple_of(3)).then(|| ClassicalFix {
            position_km: [level(event), 2.0 * level(event + 5)],
            covariance_km2: [0.04 + event as f32, 0.1, 2.5],
            ambiguous: event % 3 == 2,
        }),
        arrivals: vec![None; shape().receivers],
    };
    (0..count).map(map).collect()
}
