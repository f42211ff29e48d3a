//! What the layers of an image network are computed with: Burn's own operations, or on a processor
//! the kernels of this project.
//!
//! The two differ in the order of axes between layers, and in rounding. Modules, weights and their
//! order are the same.

use burn::nn::conv::Conv2d;
use burn::nn::pool::MaxPool2d;
use burn::nn::{BatchNorm, PaddingConfig2d};
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use heimdall_kernels::AfterNorm;

/// Who computes the layers of an image network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    /// Burn, on any device; images are `[batch, channels, height, width]`.
    Burn,
    /// `heimdall-kernels`, on a processor; images are `[batch, height, width, channels]`.
    Kernels,
}

impl Arithmetic {
    /// The fastest one that can compute with these images.
    pub(crate) fn of(images: &Tensor<4>) -> Self {
        if heimdall_kernels::supports(images) { Self::Kernels } else { Self::Burn }
    }

    /// Brings images `[batch, channels, height, width]` into the order between layers.
    pub(crate) fn enter(self, images: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Burn => images,
            Self::Kernels => images.permute([0, 2, 3, 1]),
        }
    }

    /// Brings images back into the order `[batch, channels, height, width]`.
    pub(crate) fn leave(self, images: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Burn => images,
            Self::Kernels => images.permute([0, 3, 1, 2]),
        }
    }

    /// Convolves.
    pub(crate) fn convolve(self, layer: &Conv2d, images: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Burn => layer.forward(images),
            Self::Kernels => {
                debug_assert!(layer.bias.is_none() && layer.groups == 1);
                debug_assert_eq!(layer.dilation, [1, 1]);
                let padding = symmetric(&layer.padding);
                heimdall_kernels::convolve(images, layer.weight.val(), layer.stride, padding)
            }
        }
    }

    /// Normalizes, adds the shortcut, and makes negative numbers zero if asked to.
    pub(crate) fn normalize(
        self,
        layer: &BatchNorm,
        images: Tensor<4>,
        shortcut: Option<Tensor<4>>,
        rectify: bool,
    ) -> Tensor<4> {
        let trains = images.device().is_autodiff();
        match self {
            Self::Kernels if trains && layer.training.is_enabled() => {
                normalize_batch(layer, images, AfterNorm { shortcut, rectify })
            }
            Self::Kernels if !trains => {
                let (scale, shift) = scale_and_shift(layer, &images);
                heimdall_kernels::normalize(images, scale, shift, AfterNorm { shortcut, rectify })
            }
            Self::Kernels => {
                // A frozen norm inside of a network that learns: there is no kernel for its
                // gradient, so that it is composed.
                let (scale, shift) = scale_and_shift(layer, &images);
                let [channels] = scale.dims();
                let images = images * scale.reshape([1, 1, 1, channels])
                    + shift.reshape([1, 1, 1, channels]);
                after_norm(images, shortcut, rectify)
            }
            Self::Burn => after_norm(layer.forward(images), shortcut, rectify),
        }
    }

    /// Takes the largest number under each window.
    pub(crate) fn max_pool(self, layer: &MaxPool2d, images: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Burn => layer.forward(images),
            Self::Kernels => {
                debug_assert!(layer.dilation == [1, 1] && !layer.ceil_mode);
                let padding = symmetric(&layer.padding);
                heimdall_kernels::max_pool(images, layer.kernel_size, layer.stride, padding)
            }
        }
    }

    /// Mean over height and width: `[batch, channels]`.
    pub(crate) fn mean_pixel(self, images: Tensor<4>) -> Tensor<2> {
        match self {
            Self::Burn => {
                let [batch, channels, height, width] = images.dims();
                let pixels = images.reshape([batch, channels, height * width]);
                pixels.mean_dim(2).reshape([batch, channels])
            }
            Self::Kernels => {
                let [batch, height, width, channels] = images.dims();
                let pixels = images.reshape([batch, height * width, channels]);
                pixels.mean_dim(1).reshape([batch, channels])
            }
        }
    }
}

/// What comes after a batch norm, as operations of Burn.
fn after_norm(images: Tensor<4>, shortcut: Option<Tensor<4>>, rectify: bool) -> Tensor<4> {
    let sum = match shortcut {
        Some(shortcut) => images + shortcut,
        None => images,
    };
    if rectify { relu(sum) } else { sum }
}

/// Normalizes with the statistics of the batch, and lets the running statistics follow them as
/// [`BatchNorm::forward`] does.
fn normalize_batch(layer: &BatchNorm, images: Tensor<4>, after: AfterNorm) -> Tensor<4> {
    let normalized = heimdall_kernels::normalize_batch(
        images,
        layer.gamma.val(),
        layer.beta.val(),
        layer.epsilon,
        after,
    );
    for (running, batch) in
        [(&layer.running_mean, normalized.mean), (&layer.running_var, normalized.variance)]
    {
        let kept = running.value_sync().mul_scalar(1.0 - layer.momentum);
        running.update((kept + batch.mul_scalar(layer.momentum)).detach());
    }
    normalized.output
}

/// What the running statistics of a batch norm do to each channel: `[channels]` each.
fn scale_and_shift(layer: &BatchNorm, images: &Tensor<4>) -> (Tensor<1>, Tensor<1>) {
    let device = images.device();
    let [mean, variance] =
        [&layer.running_mean, &layer.running_var].map(|running| running.value().to_device(&device));
    let scale = layer.gamma.val() / (variance + layer.epsilon).sqrt();
    let shift = layer.beta.val() - mean * scale.clone();
    (scale, shift)
}

/// The padding on both sides of each axis.
fn symmetric(padding: &PaddingConfig2d) -> [usize; 2] {
    match *padding {
        PaddingConfig2d::Explicit(top, left, bottom, right) if (top, left) == (bottom, right) => {
            [top, left]
        }
        PaddingConfig2d::Valid => [0, 0],
        _ => panic!("the layers of this crate are padded alike on both sides, not by {padding:?}"),
    }
}
