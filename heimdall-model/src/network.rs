//! The network, from levels in dB to an estimate in km.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData, assert_shape};

use crate::backbone::EMBEDDING_LENGTH;
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
        let head = |bias: &[f32]| Head::new(EMBEDDING_LENGTH, config.head_width, bias, device);
        let network = Self {
            backbone: ResNet::new(config.backbone, config.input_channels, device),
            position_head: head(&[0.0; 2]),
            uncertainty_head: head(&Estimate::neutral_uncertainty(config.covariance)),
            config: config.clone(),
        };
        // Burn draws weights when they are first used; here they are drawn in a fixed order.
        network.visit(&mut Draw);
        network
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

/// Visits each weight and draws it, if that was not done before.
struct Draw;

impl ModuleVisitor for Draw {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        param.val();
    }
}
