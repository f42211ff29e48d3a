//! The residual block.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, PaddingConfig2d};
use burn::tensor::Tensor;

use crate::arithmetic::Arithmetic;
use crate::weights::Weights;

/// Two 3 × 3 convolutions whose output is added to their input.
///
/// # References
///
/// K. He et al., "Deep residual learning for image recognition", CVPR 2016, section 3.3, option B,
/// [arXiv:1512.03385](https://arxiv.org/abs/1512.03385).
#[derive(Module, Debug)]
pub struct ResidualBlock {
    /// First convolution, which takes the stride.
    pub conv1: Conv2d,
    /// Batch norm after the first convolution.
    pub norm1: BatchNorm,
    /// Second convolution.
    pub conv2: Conv2d,
    /// Batch norm after the second convolution.
    pub norm2: BatchNorm,
    /// Brings the input to the shape of the output, where the two differ.
    pub projection: Option<Projection>,
}

/// A 1 × 1 convolution with a batch norm, beside a [`ResidualBlock`].
#[derive(Module, Debug)]
pub struct Projection {
    /// The convolution, with the stride of the block.
    pub conv: Conv2d,
    /// The batch norm after it.
    pub norm: BatchNorm,
}

impl ResidualBlock {
    pub(crate) fn new(
        input_channels: usize,
        output_channels: usize,
        stride: usize,
        weights: &mut Weights<'_>,
    ) -> Self {
        let device = weights.device();
        let norm = || BatchNormConfig::new(output_channels).init(device);
        let needs_projection = stride != 1 || input_channels != output_channels;
        Self {
            conv1: convolution(input_channels, output_channels, 3, stride, weights),
            norm1: norm(),
            conv2: convolution(output_channels, output_channels, 3, 1, weights),
            norm2: norm(),
            projection: needs_projection.then(|| Projection {
                conv: convolution(input_channels, output_channels, 1, stride, weights),
                norm: norm(),
            }),
        }
    }

    /// Applies the block.
    ///
    /// # Shapes
    ///
    /// - `input`: `[batch, input_channels, height, width]`
    /// - returns: `[batch, output_channels, height / stride, width / stride]`, rounded up
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let arithmetic = Arithmetic::of(&input);
        arithmetic.leave(self.apply(arithmetic, arithmetic.enter(input)))
    }

    /// Applies the block to images in the order of `arithmetic`.
    pub(crate) fn apply(&self, arithmetic: Arithmetic, input: Tensor<4>) -> Tensor<4> {
        let shortcut = match &self.projection {
            Some(projection) => {
                let x = arithmetic.convolve(&projection.conv, input.clone());
                arithmetic.normalize(&projection.norm, x, None, false)
            }
            None => input.clone(),
        };
        let x = arithmetic.convolve(&self.conv1, input);
        let x = arithmetic.normalize(&self.norm1, x, None, true);
        let x = arithmetic.convolve(&self.conv2, x);
        arithmetic.normalize(&self.norm2, x, Some(shortcut), true)
    }
}

/// Makes a square convolution without a bias, padded such that a stride of 1 keeps the size.
///
/// Weights are drawn from a normal distribution with variance `2 / (output_channels · kernel²)`.
///
/// # References
///
/// K. He et al., "Delving deep into rectifiers", ICCV 2015, equation 14,
/// [arXiv:1502.01852](https://arxiv.org/abs/1502.01852).
pub(crate) fn convolution(
    input_channels: usize,
    output_channels: usize,
    kernel: usize,
    stride: usize,
    weights: &mut Weights<'_>,
) -> Conv2d {
    let padding = kernel / 2;
    let mut convolution = Conv2dConfig::new([input_channels, output_channels], [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding))
        .with_bias(false)
        .init(weights.device());
    let fan_out = (output_channels * kernel * kernel) as f32;
    let shape = [output_channels, input_channels, kernel, kernel];
    convolution.weight = weights.normal(shape, (2.0 / fan_out).sqrt());
    convolution
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn block(input: usize, output: usize, stride: usize, device: &Device) -> ResidualBlock {
        ResidualBlock::new(input, output, stride, &mut Weights::new(1, device))
    }

    #[test]
    fn shortcut_is_projected_only_where_shapes_differ() {
        let device = Device::flex();

        assert!(block(8, 8, 1, &device).projection.is_none());
        assert!(block(8, 8, 2, &device).projection.is_some());
        assert!(block(8, 16, 1, &device).projection.is_some());
    }

    /// With the branch silenced (its last batch norm scales by zero), a block is a `ReLU`.
    #[test]
    fn silenced_block_passes_its_input() {
        let device = Device::flex();
        let mut block = block(2, 2, 1, &device);
        block.norm2.gamma = block.norm2.gamma.map(|gamma| gamma.zeros_like());
        let input = Tensor::<4>::from_data([[[[1.0, -2.0]], [[-3.0, 4.0]]]], &device);

        let output = block.forward(input).into_data().try_to_vec::<f32>().unwrap();

        assert_eq!(output, [1.0, 0.0, 0.0, 4.0]);
    }

    #[test]
    fn odd_sizes_are_rounded_up() {
        let device = Device::flex();
        let block = block(2, 4, 2, &device);

        let output = block.forward(Tensor::zeros([1, 2, 9, 1], &device));

        assert_eq!(output.dims(), [1, 4, 5, 1]);
    }

    /// The deviation of 147,456 draws is within 1 % of √(2 / fan-out) (five standard errors).
    #[test]
    fn weights_have_the_variance_of_fan_out() {
        let device = Device::flex();

        let weight = convolution(64, 256, 3, 1, &mut Weights::new(1, &device)).weight.val();

        let deviation = weight.square().mean().sqrt().into_scalar::<f32>();
        let expected = (2.0_f32 / (256.0 * 9.0)).sqrt();
        assert!((deviation / expected - 1.0).abs() < 0.01, "{deviation} is not {expected}");
    }
}
