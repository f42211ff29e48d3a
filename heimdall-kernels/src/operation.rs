//! The layers, for tensors of Burn.

use std::sync::atomic::{AtomicBool, Ordering};

use burn::backend::{Dispatch, DispatchDevice, Flex};
use burn::tensor::{DType, Device, Tensor};

use crate::extension::{InferenceLayers, Layers};
use crate::flex::{self, NormOptions, Window};

/// Whether the layers of this crate can compute with a tensor: it is in single precision, and on
/// Burn's CPU device, with or without gradients.
pub fn supports(tensor: &Tensor<4>) -> bool {
    tensor.dtype() == DType::F32 && is_processor(&tensor.device())
}

/// Whether a device is Burn's CPU device, with or without gradients, and Burn is not asked for.
pub(crate) fn is_processor(device: &Device) -> bool {
    !DISABLED.load(Ordering::Relaxed)
        && matches!(device.clone().inner().as_dispatch(), DispatchDevice::Flex(_))
}

/// Whether Burn's own operations shall be used.
static DISABLED: AtomicBool = AtomicBool::new(false);

/// Lets Burn's own operations do everything from now on, for comparisons: [`supports`] says no, and
/// the optimizers and sums are Burn's.
pub fn disable() {
    DISABLED.store(true, Ordering::Relaxed);
}

/// Adds up the squares of all numbers of a tensor, on any device: `[1]`.
pub fn sum_of_squares<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let device = tensor.device();
    if tensor.dtype() != DType::F32 || device.is_autodiff() || !is_processor(&device) {
        return tensor.square().sum();
    }
    let tensor = tensor.try_into_primitive::<Flex>().expect("a tensor on the processor");
    Tensor::from_data([flex::sum_of_squares(&tensor)], &device)
}

/// Convolves images, without a bias. Stride and padding go down and to the right.
///
/// # Shapes
///
/// - `input`: `[batch, height, width, input_channels]`
/// - `weight`: `[output_channels, input_channels, kernel_height, kernel_width]`, Burn's own order
/// - returns: `[batch, output_height, output_width, output_channels]`, with
///   `output_height = (height + 2 · padding[0] - kernel_height) / stride[0] + 1`
///
/// # Panics
///
/// If a tensor is not [supported](supports), or the shapes do not fit.
pub fn convolve(
    input: Tensor<4>,
    weight: Tensor<4>,
    stride: [usize; 2],
    padding: [usize; 2],
) -> Tensor<4> {
    let window = Window { stride, padding };
    let output = Dispatch::convolve(input.into_dispatch(), weight.into_dispatch(), window);
    Tensor::from_dispatch(output)
}

/// Takes the largest number under each window, per channel.
///
/// # Shapes
///
/// - `input`: `[batch, height, width, channels]`
/// - returns: `[batch, output_height, output_width, channels]`, as for [`convolve`]
///
/// # Panics
///
/// If the tensor is not [supported](supports), or a window would see nothing but padding.
pub fn max_pool(
    input: Tensor<4>,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
) -> Tensor<4> {
    let window = Window { stride, padding };
    Tensor::from_dispatch(Dispatch::max_pool(input.into_dispatch(), kernel, window))
}

/// What comes after the normalization of a batch, in one pass with it.
#[derive(Debug, Default)]
pub struct AfterNorm {
    /// A tensor of the shape of the input that is added.
    pub shortcut: Option<Tensor<4>>,
    /// Whether negative results become zero, after the shortcut was added.
    pub rectify: bool,
}

impl AfterNorm {
    /// Options, and the shortcut or what stands in its place.
    fn split(
        self,
        epsilon: f64,
        stand_in: &Tensor<1>,
    ) -> (NormOptions, burn::backend::DispatchTensor) {
        let options =
            NormOptions { add_shortcut: self.shortcut.is_some(), rectify: self.rectify, epsilon };
        let shortcut = match self.shortcut {
            Some(shortcut) => shortcut.into_dispatch(),
            None => stand_in.clone().into_dispatch(),
        };
        (options, shortcut)
    }
}

/// A batch that was normalized with its own statistics.
#[derive(Debug)]
pub struct NormalizedBatch {
    /// The result: `[batch, height, width, channels]`.
    pub output: Tensor<4>,
    /// Mean of each channel: `[channels]`, without gradients.
    pub mean: Tensor<1>,
    /// Variance of each channel, divided by the number of pixels: `[channels]`, without gradients.
    pub variance: Tensor<1>,
}

/// Brings each channel to mean 0 and variance 1 over the batch, scales it by `gamma`, shifts it by
/// `beta`, and does what comes after.
///
/// # Shapes
///
/// - `input`: `[batch, height, width, channels]`
/// - `gamma`, `beta`: `[channels]`
///
/// # Panics
///
/// If a tensor is not [supported](supports), or the shapes do not fit.
pub fn normalize_batch(
    input: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
    after: AfterNorm,
) -> NormalizedBatch {
    let (options, shortcut) = after.split(epsilon, &beta);
    let (output, mean, variance) = Dispatch::normalize_batch(
        input.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        shortcut,
        options,
    );
    NormalizedBatch {
        output: Tensor::from_dispatch(output),
        mean: Tensor::from_dispatch(mean),
        variance: Tensor::from_dispatch(variance),
    }
}

/// Scales and shifts each channel, and does what comes after.
///
/// # Shapes
///
/// - `input`: `[batch, height, width, channels]`
/// - `scale`, `shift`: `[channels]`
///
/// # Panics
///
/// If a tensor is not [supported](supports) or wants a gradient, or the shapes do not fit.
pub fn normalize(
    input: Tensor<4>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    after: AfterNorm,
) -> Tensor<4> {
    let (options, shortcut) = after.split(0.0, &shift);
    Tensor::from_dispatch(Dispatch::normalize(
        input.into_dispatch(),
        scale.into_dispatch(),
        shift.into_dispatch(),
        shortcut,
        options,
    ))
}
