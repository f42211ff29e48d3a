//! The network, from what is known of an event to an estimate in km.

use burn::module::Module;
use burn::tensor::activation::{log_softmax, sigmoid};
use burn::tensor::{Device, Tensor, TensorData, assert_shape};

use crate::backbone::EMBEDDING_LENGTH;
use crate::receiver_set::{ABSENT_SCORE, TOKEN_LENGTH};
use crate::side::{Perceptron, flat, flat_length, row, variance_floor_km2};
use crate::weights::Weights;
use crate::{
    Backbone, DEVIATION_FLOOR, Estimate, EstimateComponent, Head, LocalizationNetConfig,
    NetworkInput, ReceiverSet, ResNet, SideInputs,
};

/// Widths of the layers of the backbone `mlp`.
const MLP_WIDTHS: [usize; 3] = [256, 256, 256];

/// Widths of the layers that take the side inputs beside a residual network.
const SIDE_WIDTHS: [usize; 2] = [128, 128];

/// Distance at which the components of a mixture start from the first one, in units.
const COMPONENT_RADIUS: f32 = 0.5;

/// Receivers that detect an event, up to which a mixture has more than one component: what one or two
/// of them hear is a ring or a ridge, what three hear is a place.
pub const MIXTURE_RECEIVERS_MAX: usize = 2;

/// Locates a transmitter from what the receivers measured.
///
/// Made by [`LocalizationNetConfig::init`]. Standardization of the input and scaling of the output
/// are part of the network, and its configuration carries their numbers: weights on disk
/// (`save_file`, `load_file`) are complete together with the configuration.
#[derive(Module, Debug)]
pub struct LocalizationNet {
    resnet: Option<ResNet>,
    side: Option<Perceptron>,
    set: Option<ReceiverSet>,
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
        let blocks = config.backbone.stage_blocks();
        let resnet = blocks
            .map(|blocks| ResNet::new(blocks, config.stem, config.input_channels, &mut weights));
        let widths: &[usize] = match config.backbone {
            Backbone::ResNet18 | Backbone::ResNet34 => &SIDE_WIDTHS,
            Backbone::Mlp => &MLP_WIDTHS,
            Backbone::Set => &[],
        };
        let side = config.side_inputs.as_ref().filter(|_| !widths.is_empty());
        let side = side.map(|side| Perceptron::new(flat_length(side), widths, &mut weights));
        let set = config.side_inputs.as_ref().filter(|_| config.backbone == Backbone::Set);
        let set = set.map(|side| ReceiverSet::new(side, &mut weights));

        let embedding_length = resnet.as_ref().map_or(0, |_| EMBEDDING_LENGTH)
            + side.as_ref().map_or(0, |_| widths[widths.len() - 1])
            + set.as_ref().map_or(0, |_| TOKEN_LENGTH);
        let mut head =
            |bias: &[f32]| Head::new(embedding_length, config.head_width, bias, &mut weights);
        let uncertainty = Estimate::neutral_uncertainty(config.covariance);
        Self {
            resnet,
            side,
            set,
            position_head: head(&position_bias(config)),
            uncertainty_head: head(&uncertainty.repeat(config.components)),
            config: config.clone(),
        }
    }

    /// The configuration from which the network was made.
    pub fn config(&self) -> &LocalizationNetConfig {
        &self.config
    }

    /// The part that looks at the levels, if the network takes any.
    pub fn resnet(&self) -> Option<&ResNet> {
        self.resnet.as_ref()
    }

    /// Puts another residual network in the place of the one that looks at the levels.
    pub(crate) fn with_resnet(self, resnet: ResNet) -> Self {
        Self { resnet: Some(resnet), ..self }
    }

    /// The layers that take the side inputs, if the network takes any.
    pub fn side(&self) -> Option<&Perceptron> {
        self.side.as_ref()
    }

    /// The part that treats receivers as a set, if the network has it.
    pub fn set(&self) -> Option<&ReceiverSet> {
        self.set.as_ref()
    }

    /// The head that states the position, and with side inputs the unit of a correction.
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
    /// Without a classical fix, the heads speak of a position and its deviation in units of the
    /// spread of the training positions, from their mean. With one, they speak of its correction,
    /// from the fix, in a unit that the network chooses: the spread times the logistic function of
    /// an output of the position head. A fix that is trusted has a small unit, so that its
    /// precision is not lost; one that is not, such as the wrong one of two, a large unit. However
    /// small, the estimate is not much surer than the fix: see [`FIX_DEVIATION_SHARE`](crate::FIX_DEVIATION_SHARE).
    ///
    /// # Shapes
    ///
    /// - `input`: levels `[batch, input_channels, bands, frames]` and side inputs, as they are
    /// - returns: mean `[batch, 2]` and Cholesky factor `[batch, 3]`, in km
    ///
    /// # Panics
    ///
    /// If there are other receivers than `input_channels`, unless the backbone treats them alike, or
    /// if the network takes side inputs and there are none.
    pub fn forward(&self, input: NetworkInput) -> Estimate {
        let side = self.config.side_inputs.as_ref().map(|config| {
            let side = input.side.expect("a network with side inputs is given them");
            (config, side)
        });
        let standardization = &self.config.standardization;
        let mut embeddings = Vec::with_capacity(2);
        if let Some(resnet) = &self.resnet {
            embeddings.push(resnet.forward(self.standardize(input.levels_db.clone())));
        }
        if let (Some(layers), Some((config, side))) = (&self.side, &side) {
            embeddings.push(layers.forward(flat(side, config, standardization)));
        }
        if let (Some(set), Some((config, side))) = (&self.set, &side) {
            let levels = self.standardize(input.levels_db);
            embeddings.push(set.forward(levels, side, config, standardization));
        }
        let embedding = Tensor::cat(embeddings, 1);

        let position = self.position_head.forward(embedding.clone());
        let uncertainty = self.uncertainty_head.forward(embedding);
        let device = position.device();
        let mean_km = row(&standardization.position_mean_km, &device);
        let spread_km = row(&standardization.position_deviation_km, &device);
        let side = side.as_ref().map(|(_, side)| side);
        let components = self.config.components;
        let frame_km = match side {
            Some(side) => {
                let unit = sigmoid(position.clone().narrow(1, 2 * components, 1));
                let (origin_km, unit) = correction(side, mean_km, unit);
                let floor_km2 = variance_floor_km2(side, spread_km.clone());
                [origin_km, spread_km * unit, floor_km2]
            }
            None => {
                let floor_km2 = (spread_km.clone() * DEVIATION_FLOOR).square();
                [mean_km, spread_km, floor_km2]
            }
        };
        let log_shares = log_shares(&position, side, components);
        let outputs = self.config.covariance.head_outputs();
        let component = |index: usize| {
            EstimateComponent::from_heads(
                log_shares.clone().narrow(1, index, 1),
                position.clone().narrow(1, 2 * index, 2),
                uncertainty.clone().narrow(1, outputs * index, outputs),
                self.config.covariance,
                frame_km.clone(),
            )
        };
        Estimate::mixture((0..components).map(component).collect())
    }

    /// Estimates the position of each event from levels alone, as the mean and the standard
    /// deviation along each axis.
    ///
    /// # Shapes
    ///
    /// - `levels_db`: `[batch, input_channels, bands, frames]`, in dB, not standardized
    /// - returns: `[batch, 2]` and `[batch, 2]`, in km
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward) does.
    pub fn forward_diagonal(&self, levels_db: Tensor<4>) -> (Tensor<2>, Tensor<2>) {
        let estimate = self.forward(levels_db.into());
        let sigma_km = estimate.sigma_km();
        (estimate.mean_km, sigma_km)
    }

    /// Brings the levels of each receiver to mean 0 and deviation 1 over the training split.
    fn standardize(&self, levels_db: Tensor<4>) -> Tensor<4> {
        let channels = self.config.input_channels;
        if !self.config.backbone.treats_receivers_alike() {
            assert_shape!(levels_db, [_, channels, ..]);
        }
        let device = levels_db.device();
        let per_channel = |values: &[f32]| {
            let data = TensorData::new(values.to_vec(), [1, values.len(), 1, 1]);
            Tensor::<4>::from_data(data, &device)
        };
        let standardization = &self.config.standardization;
        (levels_db - per_channel(&standardization.level_mean_db))
            / per_channel(&standardization.level_deviation_db)
    }
}

/// Outputs of the position head before training: the position of each component, the unit of a
/// correction where there are side inputs, and the score of each component where there are several.
///
/// The first component starts at the mean, the others on a circle around it: what starts as one
/// learns as one.
fn position_bias(config: &LocalizationNetConfig) -> Vec<f32> {
    let components = config.components;
    let mut bias = vec![0.0; 2];
    for index in 1..components {
        let angle = std::f32::consts::TAU * index as f32 / (components - 1).max(1) as f32;
        bias.extend([COMPONENT_RADIUS * angle.cos(), COMPONENT_RADIUS * angle.sin()]);
    }
    let scores = if components > 1 { components } else { 0 };
    let unit = usize::from(config.side_inputs.is_some());
    bias.resize(bias.len() + unit + scores, 0.0);
    bias
}

/// The logarithm of the share of each component, `[batch, components]`. With side inputs, an event
/// that three receivers or more detect has the first component alone.
fn log_shares(position: &Tensor<2>, side: Option<&SideInputs>, components: usize) -> Tensor<2> {
    let [batch, outputs] = position.dims();
    if components == 1 {
        return Tensor::zeros([batch, 1], &position.device());
    }
    let scores = position.clone().narrow(1, outputs - components, components);
    let Some(side) = side else { return log_softmax(scores, 1) };
    let many =
        side.hearing().greater_elem(MIXTURE_RECEIVERS_MAX as f64 + 0.5).float() * ABSENT_SCORE;
    let first = scores.clone().narrow(1, 0, 1);
    let others = scores.narrow(1, 1, components - 1) + many;
    log_softmax(Tensor::cat(vec![first, others], 1), 1)
}

/// Where an estimate starts from, `[batch, 2]`, and the share of the spread in which it is stated,
/// `[batch, 1]`: the fix and `unit`, or the mean of the positions and 1 where there is no fix.
fn correction(side: &SideInputs, mean_km: Tensor<2>, unit: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
    let has_fix = side.has_fix();
    let origin_km = (side.fix_km.clone() - mean_km.clone()) * has_fix.clone() + mean_km;
    (origin_km, (unit - 1.0) * has_fix + 1.0)
}

#[cfg(test)]
mod tests;
