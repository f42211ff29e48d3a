//! A backbone that treats receivers as a set: one encoder for all, and attention between them.

use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::Tensor;
use burn::tensor::activation::{relu, softmax};

use crate::ResidualBlock;
use crate::side::{FIX_FEATURES, Perceptron, fix_features, per_receiver, receiver_length};
use crate::weights::Weights;
use crate::{SideInputConfig, SideInputs, Standardization};

/// Length of the vector that a [`ReceiverSet`] makes of an event, and of each receiver on the way.
pub const TOKEN_LENGTH: usize = 96;

/// Heads of each attention.
pub const ATTENTION_HEADS: usize = 4;

/// Added to the score of an absent receiver: its share of the attention is zero in any precision.
pub const ABSENT_SCORE: f64 = -1e9;

/// Added to the variance in each normalization.
pub const LAYER_NORM_EPSILON: f64 = 1e-5;

/// Channels of the residual blocks that look at a receiver's levels, each at half the resolution of
/// the one before it.
const IMAGE_CHANNELS: [usize; 4] = [8, 16, 32, 32];

/// Rounds of attention.
const ATTENTION_LAYERS: usize = 2;

/// Sees each receiver with the same encoder, and lets the receivers that are there look at each
/// other.
///
/// Nothing in it belongs to a certain receiver: one may be added, moved or lost, and their order
/// does not matter. What it knows of places it knows from the positions that it is told.
///
/// # References
///
/// A. Vaswani et al., "Attention is all you need", NeurIPS 2017, section 3.2,
/// [arXiv:1706.03762](https://arxiv.org/abs/1706.03762), with the normalization before each part as
/// in R. Xiong et al., "On layer normalization in the transformer architecture", ICML 2020,
/// [arXiv:2002.04745](https://arxiv.org/abs/2002.04745).
#[derive(Module, Debug)]
pub struct ReceiverSet {
    /// Looks at the levels of a receiver.
    pub image: Vec<ResidualBlock>,
    /// Makes one vector of all that is known of a receiver.
    pub receiver: Perceptron,
    /// Makes the vector that asks the receivers, of the classical fix.
    pub query: Linear,
    /// Rounds of attention.
    pub layers: Vec<AttentionLayer>,
    /// Normalization of the answer.
    pub norm: LayerNorm,
}

/// Attention between receivers, and a perceptron on each of them, both added to their input.
#[derive(Module, Debug)]
pub struct AttentionLayer {
    /// Normalization before the attention.
    pub norm1: LayerNorm,
    /// What each receiver asks for, what it offers and what it tells, side by side.
    pub query_key_value: Linear,
    /// Mixes the heads.
    pub output: Linear,
    /// Normalization before the perceptron.
    pub norm2: LayerNorm,
    /// Hidden layer of the perceptron.
    pub hidden: Linear,
    /// Output of the perceptron.
    pub residual: Linear,
}

impl ReceiverSet {
    pub(crate) fn new(config: &SideInputConfig, weights: &mut Weights<'_>) -> Self {
        let mut input = 1;
        let mut block = |output| {
            let block = ResidualBlock::new(input, output, 2, weights);
            input = output;
            block
        };
        let image: Vec<_> = IMAGE_CHANNELS.into_iter().map(&mut block).collect();
        let receiver_inputs = input + receiver_length(config);
        Self {
            image,
            receiver: Perceptron::new(receiver_inputs, &[TOKEN_LENGTH, TOKEN_LENGTH], weights),
            query: linear(FIX_FEATURES, TOKEN_LENGTH, weights),
            layers: (0..ATTENTION_LAYERS).map(|_| AttentionLayer::new(weights)).collect(),
            norm: layer_norm().init(weights.device()),
        }
    }

    /// Makes one vector of each event.
    ///
    /// # Shapes
    ///
    /// - `levels`: `[batch, receivers, bands, frames]`, standardized; any number of receivers
    /// - returns: `[batch, 96]`
    pub fn forward(
        &self,
        levels: Tensor<4>,
        side: &SideInputs,
        config: &SideInputConfig,
        standardization: &Standardization,
    ) -> Tensor<2> {
        let [batch, receivers, bands, frames] = levels.dims();
        let images = levels.reshape([batch * receivers, 1, bands, frames]);
        let images = self.image.iter().fold(images, |x, block| block.forward(x));
        let [_, channels, height, width] = images.dims();
        let images = images.reshape([batch, receivers, channels, height * width]);
        let images = images.mean_dim(3).reshape([batch, receivers, channels]);

        let known = per_receiver(side, config, standardization);
        let receivers = self.receiver.forward(Tensor::cat(vec![images, known], 2));
        let query = self.query.forward(fix_features(side, standardization)).unsqueeze_dim(1);
        let tokens = Tensor::cat(vec![query, receivers], 1); // [batch, 1 + receivers, 96]

        // The query is always there, so that an event without any receiver has an answer too.
        let absent = side.mask.clone().neg() + 1.0;
        let absent = Tensor::cat(vec![absent.zeros_like().narrow(1, 0, 1), absent], 1);
        let scores = (absent * ABSENT_SCORE).unsqueeze_dims::<4>(&[1, 2]);
        let tokens = self.layers.iter().fold(tokens, |x, layer| layer.forward(x, scores.clone()));
        self.norm.forward(tokens.narrow(1, 0, 1)).reshape([batch, TOKEN_LENGTH])
    }
}

impl AttentionLayer {
    fn new(weights: &mut Weights<'_>) -> Self {
        let norm = layer_norm();
        Self {
            norm1: norm.init(weights.device()),
            query_key_value: linear(TOKEN_LENGTH, 3 * TOKEN_LENGTH, weights),
            output: linear(TOKEN_LENGTH, TOKEN_LENGTH, weights),
            norm2: norm.init(weights.device()),
            hidden: linear(TOKEN_LENGTH, 2 * TOKEN_LENGTH, weights),
            residual: linear(2 * TOKEN_LENGTH, TOKEN_LENGTH, weights),
        }
    }

    /// Applies the layer.
    ///
    /// # Shapes
    ///
    /// - `tokens`: `[batch, tokens, 96]`
    /// - `scores`: `[batch, 1, 1, tokens]`, added to the scores of each token
    /// - returns: `[batch, tokens, 96]`
    pub fn forward(&self, tokens: Tensor<3>, scores: Tensor<4>) -> Tensor<3> {
        let [batch, count, length] = tokens.dims();
        let parts = self.query_key_value.forward(self.norm1.forward(tokens.clone()));
        let heads = |part: usize| {
            let part = parts.clone().narrow(2, part * length, length);
            part.reshape([batch, count, ATTENTION_HEADS, length / ATTENTION_HEADS]).swap_dims(1, 2)
        };
        let scale = ((length / ATTENTION_HEADS) as f64).sqrt();
        let attention = softmax(heads(0).matmul(heads(1).transpose()) / scale + scores, 3);
        let told = attention.matmul(heads(2)).swap_dims(1, 2).reshape([batch, count, length]);
        let tokens = tokens + self.output.forward(told);

        let hidden = relu(self.hidden.forward(self.norm2.forward(tokens.clone())));
        tokens + self.residual.forward(hidden)
    }
}

fn layer_norm() -> LayerNormConfig {
    LayerNormConfig::new(TOKEN_LENGTH).with_epsilon(LAYER_NORM_EPSILON)
}

/// Makes a layer whose weights and biases are within the inverse root of its inputs.
fn linear(inputs: usize, outputs: usize, weights: &mut Weights<'_>) -> Linear {
    let mut linear = LinearConfig::new(inputs, outputs).init(weights.device());
    let bound = (inputs as f32).sqrt().recip();
    linear.weight = weights.uniform([inputs, outputs], bound);
    linear.bias = Some(weights.uniform([outputs], bound));
    linear
}
