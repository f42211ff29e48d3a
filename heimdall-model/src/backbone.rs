//! The residual network that turns feature maps into one vector per event.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, PaddingConfig2d};
use burn::tensor::Tensor;

use crate::arithmetic::Arithmetic;
use crate::block::convolution;
use crate::weights::Weights;
use crate::{ResidualBlock, Stem};

/// Length of the vector that a [`ResNet`] makes of an event.
pub const EMBEDDING_LENGTH: usize = 512;

/// A residual network without its classifier, layer by layer as in torchvision.
///
/// # References
///
/// K. He et al., "Deep residual learning for image recognition", CVPR 2016, table 1,
/// [arXiv:1512.03385](https://arxiv.org/abs/1512.03385).
#[derive(Module, Debug)]
pub struct ResNet {
    /// First convolution: 7 × 7, stride 2, or 1 along the frames with a narrow stem.
    pub conv1: Conv2d,
    /// Batch norm after the first convolution.
    pub norm1: BatchNorm,
    /// Pooling after it: 3 × 3, with the same stride.
    pub pool: MaxPool2d,
    /// Blocks of 64 channels.
    pub layer1: Vec<ResidualBlock>,
    /// Blocks of 128 channels, at half the resolution.
    pub layer2: Vec<ResidualBlock>,
    /// Blocks of 256 channels, at a quarter of the resolution.
    pub layer3: Vec<ResidualBlock>,
    /// Blocks of 512 channels, at an eighth of the resolution.
    pub layer4: Vec<ResidualBlock>,
}

impl ResNet {
    /// Makes a network of so many blocks in each stage.
    pub(crate) fn new(
        blocks: [usize; 4],
        stem: Stem,
        input_channels: usize,
        weights: &mut Weights<'_>,
    ) -> Self {
        let device = weights.device();
        let stride = match stem {
            Stem::Standard => [2, 2],
            Stem::Narrow => [2, 1],
        };
        let mut conv1 = convolution(input_channels, 64, 7, 2, weights);
        conv1.stride = stride;
        let mut stage = |blocks: usize, input: usize, output: usize, stride: usize| {
            let first = ResidualBlock::new(input, output, stride, weights);
            let rest = (1..blocks).map(|_| ResidualBlock::new(output, output, 1, weights));
            std::iter::once(first).chain(rest).collect::<Vec<_>>()
        };
        Self {
            conv1,
            norm1: BatchNormConfig::new(64).init(device),
            pool: MaxPool2dConfig::new([3, 3])
                .with_strides(stride)
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(),
            layer1: stage(blocks[0], 64, 64, 1),
            layer2: stage(blocks[1], 64, 128, 2),
            layer3: stage(blocks[2], 128, 256, 2),
            layer4: stage(blocks[3], 256, EMBEDDING_LENGTH, 2),
        }
    }

    /// All residual blocks, in the order in which they are applied.
    pub fn blocks(&self) -> impl Iterator<Item = &ResidualBlock> {
        [&self.layer1, &self.layer2, &self.layer3, &self.layer4].into_iter().flatten()
    }

    /// Makes one vector of each event: the mean over bands and frames of the last block.
    ///
    /// # Shapes
    ///
    /// - `input`: `[batch, input_channels, bands, frames]`, standardized
    /// - returns: `[batch, 512]`
    pub fn forward(&self, input: Tensor<4>) -> Tensor<2> {
        self.apply(Arithmetic::of(&input), input)
    }

    /// The same with the arithmetic of the caller's choice.
    fn apply(&self, arithmetic: Arithmetic, input: Tensor<4>) -> Tensor<2> {
        let x = arithmetic.convolve(&self.conv1, arithmetic.enter(input));
        let x = arithmetic.normalize(&self.norm1, x, None, true);
        let x = arithmetic.max_pool(&self.pool, x);
        let x = self.blocks().fold(x, |x, block| block.apply(arithmetic, x)); // 512 of 4 × 1
        arithmetic.mean_pixel(x)
    }
}

#[cfg(test)]
mod tests {
    use burn::module::{ModuleVisitor, Param};
    use burn::tensor::{Device, Gradients, TensorData};

    use super::*;
    use crate::Backbone;

    /// In torchvision `sum(p.numel() for p in resnet18().parameters())` is 11,689,512, of which the
    /// classifier has 512 · 1000 + 1000; resnet34 likewise from 21,797,672.
    #[test]
    fn parameters_are_as_many_as_in_torchvision() {
        let device = Device::flex();
        for (kind, channels, expected) in [
            (Backbone::ResNet18, 3, 11_176_512),
            // One more channel has 64 more kernels of 7 × 7.
            (Backbone::ResNet18, 4, 11_176_512 + 64 * 49),
            (Backbone::ResNet34, 3, 21_284_672),
        ] {
            let blocks = kind.stage_blocks().unwrap();
            let network =
                ResNet::new(blocks, Stem::Standard, channels, &mut Weights::new(1, &device));

            // Burn counts the running mean and variance of each batch norm too.
            let norms: usize = network
                .blocks()
                .flat_map(|block| {
                    let projection = block.projection.as_ref().map(|p| &p.norm);
                    [Some(&block.norm1), Some(&block.norm2), projection]
                })
                .flatten()
                .chain([&network.norm1])
                .map(|norm| norm.gamma.lazy_shape().num_elements())
                .sum();
            assert_eq!(network.num_params() - 2 * norms, expected, "{kind:?}, {channels} channels");
        }
    }

    /// By hand: 32 frames become 16, 8, 8, 4, 2 and 1, or stay 32 through the stem and become 16, 8, 4.
    #[test]
    fn narrow_stem_keeps_frames() {
        let device = Device::flex();
        for (stem, expected) in [(Stem::Standard, [4, 1]), (Stem::Narrow, [4, 4])] {
            let network = ResNet::new([1; 4], stem, 1, &mut Weights::new(1, &device));

            let x = network.conv1.forward(Tensor::zeros([1, 1, 128, 32], &device));
            let x = network.blocks().fold(network.pool.forward(x), |x, block| block.forward(x));

            assert_eq!(x.dims()[2..], expected, "{stem:?}");
        }
    }

    #[test]
    fn any_image_becomes_one_vector() {
        let device = Device::flex();
        let network = ResNet::new([2, 2, 2, 2], Stem::Standard, 2, &mut Weights::new(1, &device));

        for [bands, frames] in [[128, 32], [17, 5], [1, 1]] {
            let output = network.forward(Tensor::zeros([2, 2, bands, frames], &device));

            assert_eq!(output.dims(), [2, 512]);
        }
    }

    /// Numbers between −1 and 1 without a pattern.
    fn images(shape: [usize; 4], device: &Device) -> Tensor<4> {
        let number = |index: usize| ((index * 7919 + 13) % 2003) as f32 / 1001.0 - 1.0;
        let numbers: Vec<f32> = (0..shape.iter().product()).map(number).collect();
        Tensor::from_data(TensorData::new(numbers, shape), device)
    }

    /// The largest difference as a share of the largest number.
    fn difference<const D: usize>(actual: Tensor<D>, expected: Tensor<D>) -> f32 {
        let largest = expected.clone().abs().max().into_scalar::<f32>();
        (actual - expected).abs().max().into_scalar::<f32>() / largest
    }

    /// Twenty layers, each within rounding of Burn's, and norms over few pixels in between, which
    /// make rounding larger.
    #[test]
    fn kernels_compute_what_burn_computes() {
        struct Compare<'a> {
            gradients: [&'a Gradients; 2],
            parameters: usize,
        }
        impl ModuleVisitor for Compare<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let [expected, actual] = self.gradients.map(|all| param.val().grad(all));
                let (Some(expected), Some(actual)) = (expected, actual) else { return };
                let difference = difference(actual, expected);
                assert!(difference < 2e-3, "gradient {}: {difference}", self.parameters);
                self.parameters += 1;
            }
        }
        let device = Device::flex().autodiff();
        let network = ResNet::new([2, 2, 2, 2], Stem::Standard, 2, &mut Weights::new(1, &device));
        let input = images([5, 2, 65, 33], &device);

        let expected = network.apply(Arithmetic::Burn, input.clone());
        let actual = network.apply(Arithmetic::Kernels, input);
        let gradients = [&expected, &actual].map(|output| output.clone().square().sum().backward());

        let difference_of_outputs = difference(actual.inner(), expected.inner());
        assert!(difference_of_outputs < 1e-4, "{difference_of_outputs}");
        let [expected, actual] = &gradients;
        let mut compare = Compare { gradients: [expected, actual], parameters: 0 };
        network.visit(&mut compare);
        // 20 convolutions with a weight each, and as many norms with two.
        assert_eq!(compare.parameters, 60);

        let (network, input) = (network.valid(), images([3, 2, 65, 33], &device.inner()));
        let expected = network.apply(Arithmetic::Burn, input.clone());
        let difference = difference(network.apply(Arithmetic::Kernels, input), expected);
        assert!(difference < 1e-5, "{difference}");
    }

    /// Both passes of both kinds let the running statistics follow the batch.
    #[test]
    fn running_statistics_follow_the_batch_as_in_burn() {
        let device = Device::flex().autodiff();
        let input = images([4, 2, 20, 12], &device);
        let statistics = [Arithmetic::Burn, Arithmetic::Kernels].map(|arithmetic| {
            let network =
                ResNet::new([2, 2, 2, 2], Stem::Standard, 2, &mut Weights::new(1, &device));
            network.apply(arithmetic, input.clone());
            let norm = network.valid().norm1;
            [norm.running_mean.value(), norm.running_var.value()]
        });

        let [[mean, variance], [kernel_mean, kernel_variance]] = statistics;
        assert!(difference(kernel_mean, mean) < 1e-5);
        assert!(difference(kernel_variance, variance) < 1e-5);
    }
}
