//! The two-layer heads on top of the backbone.

use burn::module::{Module, Param};
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};

/// Standard deviation of the weights of an output layer before training: small, so that the first
/// estimates are close to the bias, whatever the input.
const OUTPUT_WEIGHT_DEVIATION: f64 = 0.01;

/// A hidden layer, a ReLU and an output layer.
#[derive(Module, Debug)]
pub struct Head {
    /// From the embedding to the hidden layer.
    pub hidden: Linear,
    /// From the hidden layer to the outputs.
    pub output: Linear,
}

impl Head {
    /// Makes a head whose outputs are close to `bias` before training.
    pub(crate) fn new(inputs: usize, width: usize, bias: &[f32], device: &Device) -> Self {
        let mut output = LinearConfig::new(width, bias.len())
            .with_bias(false)
            .with_initializer(Initializer::Normal { mean: 0.0, std: OUTPUT_WEIGHT_DEVIATION })
            .init(device);
        let bias = TensorData::new(bias.to_vec(), [bias.len()]);
        output.bias = Some(Param::from_data(bias, device));
        Self { hidden: LinearConfig::new(inputs, width).init(device), output }
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
    use super::*;

    #[test]
    fn untrained_head_states_its_bias() {
        let device = Device::flex();
        let head = Head::new(16, 8, &[0.5, -2.0, 3.0], &device);

        let output = head.forward(Tensor::ones([1, 16], &device)).into_data();

        // Eight hidden values below 1 + 16 · ¼, and weights that stay below 6 deviations.
        for (value, bias) in output.try_to_vec::<f32>().unwrap().into_iter().zip([0.5, -2.0, 3.0]) {
            assert!((value - bias).abs() < 8.0 * 5.0 * 0.06, "{value} is far from {bias}");
        }
    }
}
