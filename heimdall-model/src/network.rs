//! The network, from levels in dB to an estimate in km.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData, assert_shape};

use crate::backbone::EMBEDDING_LENGTH;
use crate::weights::Weights;
use crate::{Estimate, Head, LocalizationNetConfig, ResNet};

/// Locates a transmitter from the levels that the receivers saw.
///
/// Made by [`LocalizationNetConfig::init`]. Standardization of the input and scaling of the output
/// are part of the network, and its configuration carries their numbers: weights on disk
/// (`save_file`, `load_file`) are complete together with the configuration.
#[derive(Module, Debug)]
pub struct LocalizationNet {
    backbone: ResNet,
    position_head: Head,
    uncertainty_head: Head,
    #[module(skip)]
    config: LocalizationNetConfig,
}

impl LocalizationNet {
    pub(crate) fn new(config: &LocalizationNetConfig, device: &Device) -> Self {
        if let Err(error) = config.validate() {
            panic!("a network takes a valid configuration: {error}");
        }
        let mut weights = Weights::new(config.seed, device);
        let backbone = ResNet::new(config.backbone, config.input_channels, &mut weights);
        let mut head =
            |bias: &[f32]| Head::new(EMBEDDING_LENGTH, config.head_width, bias, &mut weights);
        Self {
            backbone,
            position_head: head(&[0.0; 2]),
            uncertainty_head: head(&Estimate::neutral_uncertainty(config.covariance)),
            config: config.clone(),
        }
    }

    /// The configuration from which the network was made.
    pub fn config(&self) -> &LocalizationNetConfig {
        &self.config
    }

    /// The part that turns feature maps into one vector per event.
    pub fn backbone(&self) -> &ResNet {
        &self.backbone
    }

    /// The head that states the standardized position.
    pub fn position_head(&self) -> &Head {
        &self.position_head
    }

    /// The head that states the Cholesky factor before its softplus.
    pub fn uncertainty_head(&self) -> &Head {
        &self.uncertainty_head
    }

    /// Estimates the position of each event.
    ///
    /// The network trains (batch statistics, gradients) where its weights and the input are on an
    /// autodiff device, and infers elsewhere.
    ///
    /// # Shapes
    ///
    /// - `levels_db`: `[batch, input_channels, bands, frames]`, in dB, not standardized
    /// - returns: mean `[batch, 2]` and Cholesky factor `[batch, 3]`, in km
    ///
    /// # Panics
    ///
    /// If the second axis is not `input_channels`.
    pub fn forward(&self, levels_db: Tensor<4>) -> Estimate {
        let embedding = self.backbone.forward(self.standardize(levels_db));
        Estimate::from_heads(
            self.position_head.forward(embedding.clone()),
            self.uncertainty_head.forward(embedding),
            self.config.covariance,
            &self.config.standardization,
        )
    }

    /// Brings the levels of each receiver to mean 0 and deviation 1 over the training split.
    fn standardize(&self, levels_db: Tensor<4>) -> Tensor<4> {
        let channels = self.config.input_channels;
        assert_shape!(levels_db, [_, channels, ..]);
        let device = levels_db.device();
        let per_channel = |values: &[f32]| {
            Tensor::<4>::from_data(TensorData::new(values.to_vec(), [1, channels, 1, 1]), &device)
        };
        let standardization = &self.config.standardization;
        (levels_db - per_channel(&standardization.level_mean_db))
            / per_channel(&standardization.level_deviation_db)
    }
}

#[cfg(test)]
mod tests {
    use burn::module::{ModuleVisitor, Param};
    use burn::tensor::Gradients;

    use super::*;
    use crate::{CovarianceKind, Standardization};

    fn config() -> LocalizationNetConfig {
        LocalizationNetConfig {
            input_channels: 2,
            head_width: 16,
            standardization: Standardization {
                level_mean_db: vec![3.0, -1.0],
                level_deviation_db: vec![2.0, 4.0],
                position_mean_km: [20.0, -30.0],
                position_deviation_km: [70.0, 50.0],
            },
            seed: 7,
            ..LocalizationNetConfig::default()
        }
    }

    /// Levels between −10 and 10 dB without any pattern.
    fn levels_db(batch: usize, device: &Device) -> Tensor<4> {
        let (bands, frames) = (12, 6);
        let value = |index: usize| ((index * 7919 + 13) % 2003) as f32 / 100.15 - 10.0;
        let values: Vec<f32> = (0..batch * 2 * bands * frames).map(value).collect();
        Tensor::from_data(TensorData::new(values, [batch, 2, bands, frames]), device)
    }

    /// Bits of every weight and running statistic, in the order of the modules.
    fn bits(network: &LocalizationNet) -> Vec<u32> {
        struct Collect(Vec<u32>);
        impl ModuleVisitor for Collect {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let values = param.val().into_data().try_to_vec::<f32>().unwrap();
                self.0.extend(values.into_iter().map(f32::to_bits));
            }
        }
        let mut collect = Collect(Vec::new());
        network.visit(&mut collect);
        collect.0
    }

    fn values(estimate: Estimate) -> Vec<f32> {
        let [mean, cholesky] = [estimate.mean_km, estimate.cholesky_km]
            .map(|x| x.into_data().try_to_vec::<f32>().unwrap());
        [mean, cholesky].concat()
    }

    fn assert_close(values: &[f32], expected: &[f32], tolerance: f32) {
        assert_eq!(values.len(), expected.len());
        for (value, expected) in values.iter().zip(expected) {
            assert!((value - expected).abs() <= tolerance, "{value} is not {expected}");
        }
    }

    #[test]
    fn estimate_has_a_row_per_event() {
        let device = Device::flex();
        for covariance in [CovarianceKind::Diagonal, CovarianceKind::Full] {
            let network = LocalizationNetConfig { covariance, ..config() }.init(&device);

            let estimate = network.forward(levels_db(3, &device));

            assert_eq!(estimate.mean_km.dims(), [3, 2]);
            assert_eq!(estimate.cholesky_km.dims(), [3, 3]);
        }
    }

    /// By hand: (5 − 3) / 2 and (−9 + 1) / 4.
    #[test]
    fn levels_are_standardized_per_receiver() {
        let device = Device::flex();
        let network = config().init(&device);

        let x = network.standardize(Tensor::from_data([[[[5.0]], [[-9.0]]]], &device));

        assert_close(&x.into_data().try_to_vec::<f32>().unwrap(), &[1.0, -2.0], 1e-6);
    }

    #[test]
    #[should_panic(expected = "standardization.level_mean_db")]
    fn invalid_configuration_makes_no_network() {
        LocalizationNetConfig { input_channels: 4, ..config() }.init(&Device::flex());
    }

    #[test]
    fn same_seed_gives_the_same_network() {
        let device = Device::flex();
        let first = bits(&config().init(&device));
        // Drawing elsewhere in between changes nothing, nor does the kind of device.
        let again = bits(&config().init(&device.clone().autodiff()));
        let other = bits(&LocalizationNetConfig { seed: 8, ..config() }.init(&device));

        assert!(first == again);
        assert!(first != other);
    }

    #[test]
    fn same_network_gives_the_same_estimate() {
        let device = Device::flex();
        let network = config().init(&device);

        let first = values(network.forward(levels_db(2, &device)));
        let second = values(network.forward(levels_db(2, &device)));

        assert!(first.iter().zip(&second).all(|(a, b)| a.to_bits() == b.to_bits()));
    }

    #[test]
    fn untrained_network_states_mean_and_spread_of_the_positions() {
        let device = Device::flex();
        let network = config().init(&device);

        let estimate = network.forward(levels_db(1, &device));

        // Within a tenth of the spread, whatever the weights.
        let mean_km = estimate.mean_km.into_data().try_to_vec::<f32>().unwrap();
        let cholesky_km = estimate.cholesky_km.into_data().try_to_vec::<f32>().unwrap();
        assert_close(&mean_km, &[20.0, -30.0], 7.0);
        assert_close(&cholesky_km, &[70.0, 0.0, 50.0], 7.0);
    }

    #[test]
    fn weights_survive_a_file() {
        let device = Device::flex();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("network.bpk");
        let network = config().init(&device);
        let expected = values(network.forward(levels_db(2, &device)));

        network.clone().save_file(&path).unwrap();
        let blank = LocalizationNetConfig { seed: 99, ..config() }.init(&device);
        let loaded = blank.try_load_file(&path).unwrap();

        assert!(bits(&loaded) == bits(&network));
        assert_close(&values(loaded.forward(levels_db(2, &device))), &expected, 0.0);
    }

    /// A forward pass in training moves the running statistics; `valid` uses them and does not.
    #[test]
    fn validation_network_uses_running_statistics() {
        let device = Device::flex().autodiff();
        let network = config().init(&device);
        let before = bits(&network);
        network.forward(levels_db(4, &device));
        let validation = network.valid();

        let plain = Device::flex();
        let alone = values(validation.forward(levels_db(1, &plain)));
        let both = values(validation.forward(levels_db(2, &plain)));
        let after = bits(&validation);

        assert!(before != after);
        assert!(bits(&network.valid()) == after);
        // With batch statistics the second event would change the estimate of the first.
        assert_close(&alone[..2], &both[..2], 1e-3);
    }

    #[test]
    fn gradient_reaches_every_parameter() {
        struct Check<'a> {
            gradients: &'a Gradients,
            path: Vec<String>,
            parameters: usize,
        }
        impl ModuleVisitor for Check<'_> {
            fn enter_module(&mut self, name: &str, _: &str) {
                self.path.push(name.to_owned());
            }
            fn exit_module(&mut self, _: &str, _: &str) {
                self.path.pop();
            }
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let path = self.path.join(".");
                if path.contains("running_") {
                    return;
                }
                let gradient = param.val().grad(self.gradients).expect(&path);
                let largest = gradient.abs().max().into_scalar::<f32>();
                assert!(largest > 0.0 && largest.is_finite(), "{path}: {largest}");
                self.parameters += 1;
            }
        }
        let device = Device::flex().autodiff();
        let network = config().init(&device);

        let estimate = network.forward(levels_db(3, &device));
        let gradients =
            (estimate.mean_km.square().sum() + estimate.cholesky_km.square().sum()).backward();

        let mut check = Check { gradients: &gradients, path: Vec::new(), parameters: 0 };
        network.visit(&mut check);
        // 20 convolutions with a weight each, as many batch norms with two; four linear layers.
        assert_eq!(check.parameters, 20 + 20 * 2 + 4 * 2);
    }
}
