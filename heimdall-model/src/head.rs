//! The two-layer heads on top of the backbone.

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Tensor, TensorData};

use crate::weights::Weights;

/// Standard deviation of the weights of an output layer before training: small, so that the first
/// estimates are close to the bias, whatever the input.
const OUTPUT_WEIGHT_DEVIATION: f32 = 0.01;

/// A hidden layer, a `ReLU` and an output layer.
#[derive(Module, Debug)]
pub struct Head {
    /// From the embedding to the hidden layer.
    pub hidden: Linear,
    /// From the hidden layer to the outputs.
    pub output: Linear,
}

impl Head {
    /// Makes a head whose outputs are close to `bias` before training.
    pub(crate) fn new(
        inputs: usize,
        width: usize,
        bias: &[f32],
        weights: &mut Weights<'_>,
    ) -> Self {
        let device = weights.device();
        let mut hidden = LinearConfig::new(inputs, width).init(device);
        let bound = (inputs as f32).sqrt().recip();
        hidden.weight = weights.uniform([inputs, width], bound);
        hidden.bias = Some(weights.uniform([width], bound));
        let mut output = LinearConfig::new(width, bias.len()).init(device);
        output.weight = weights.normal([width, bias.len()], OUTPUT_WEIGHT_DEVIATION);
        output.bias = Some(Param::from_data(TensorData::new(bias.to_vec(), [bias.len()]), device));
        Self { hidden, output }
    }

    /// Applies the head.
    ///
    /// # Shapes
    ///
    /// - `embedding`: `[batch, inputs]`
    /// - returns: `[batch, outputs]`
    pub fn forward(&self, embedding: Tensor<2>) -> Tensor<2> {
        self.output.forward(relu(self.hidden.forward(embedding)))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn untrained_head_states_its_bias() {
        let device = Device::flex();
        let head = Head::new(16, 8, &[0.5, -2.0, 3.0], &mut Weights::new(1, &device));

        let output = head.forward(Tensor::ones([1, 16], &device)).into_data();

        // Eight hidden values below 1 + 16 · ¼, and weights that stay below 6 deviations.
        for (value, bias) in output.try_to_vec::<f32>().unwrap().into_iter().zip([0.5, -2.0, 3.0]) {
            assert!((value - bias).abs() < 8.0 * 5.0 * 0.06, "{value} is far from {bias}");
        }
    }
}
