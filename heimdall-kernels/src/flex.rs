//! The layers on the tensors of Burn's CPU backend.

use std::borrow::Cow;
use std::sync::Arc;

use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{DType, Shape};

use crate::buffer::Buffer;
use crate::correlate::correlate;
use crate::instructions::Instructions;
use crate::max_pool;
use crate::norm::{self, NormGradient, Normalization};
use crate::pack::{Order, pack};
use crate::shape::{ConvolutionShape, Correlation, Grid};
use crate::square;
use crate::weight_gradient::{scratch_length, weight_gradient};

/// Brings a tensor's numbers into one piece, in the order of its axes.
fn contiguous(tensor: &FlexTensor) -> Cow<'_, FlexTensor> {
    assert_eq!(tensor.dtype(), DType::F32, "the kernels compute in single precision");
    if tensor.is_contiguous() { Cow::Borrowed(tensor) } else { Cow::Owned(tensor.to_contiguous()) }
}

/// The numbers of a tensor that was made contiguous.
fn numbers(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("the tensor was made contiguous, and holds single precision")
}

fn dims<const D: usize>(tensor: &FlexTensor) -> [usize; D] {
    let axes: Vec<usize> = tensor.layout().shape().iter().copied().collect();
    axes.try_into().unwrap_or_else(|axes| panic!("expected {D} axes, got {axes:?}"))
}

fn tensor<const D: usize>(numbers: Buffer, shape: [usize; D]) -> FlexTensor {
    debug_assert_eq!(numbers.len(), shape.iter().product::<usize>());
    FlexTensor::new(numbers.into_bytes(), Layout::contiguous(Shape::new(shape)), DType::F32)
}

/// Stride and padding, downwards and to the right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) stride: [usize; 2],
    pub(crate) padding: [usize; 2],
}

/// What the backward pass of a convolution needs.
#[derive(Clone, Debug)]
pub(crate) struct Convolution {
    shape: ConvolutionShape,
    input: FlexTensor,
    /// Weights in the order for the gradient of the input.
    packed: Arc<Buffer>,
}

fn convolution_shape(input: &FlexTensor, weight: &FlexTensor, window: Window) -> ConvolutionShape {
    let [batch, input_height, input_width, input_channels] = dims(input);
    let [output_channels, channels, kernel_height, kernel_width] = dims(weight);
    assert_eq!(input_channels, channels, "channels of the input, and those of the weights");
    let Window { stride, padding } = window;
    let shape = ConvolutionShape {
        batch,
        input_height,
        input_width,
        input_channels,
        output_channels,
        kernel: [kernel_height, kernel_width],
        stride,
        padding,
    };
    shape.validate();
    shape
}

fn packed(weight: &[f32], order: Order, plan: &Correlation) -> Buffer {
    let panel = Instructions::fastest().panel();
    let mut packed = Buffer::take(order.packed_length(plan.slots.len(), panel));
    pack(weight, order, &plan.slots, panel, &mut packed);
    packed
}

/// Convolves, without keeping anything.
pub(crate) fn convolve(input: &FlexTensor, weight: &FlexTensor, window: Window) -> FlexTensor {
    let shape = convolution_shape(input, weight, window);
    let plan = shape.forward();
    let (input, weight) = (contiguous(input), contiguous(weight));
    let packed = packed(numbers(&weight), Order::forward(&shape), &plan);
    correlated(&plan, numbers(&input), &packed)
}

fn correlated(plan: &Correlation, source: &[f32], packed: &[f32]) -> FlexTensor {
    let mut target = Buffer::take(plan.target.length());
    correlate(Instructions::fastest(), plan, source, packed, &mut target);
    let Grid { batch, height, width, channels } = plan.target;
    tensor(target, [batch, height, width, channels])
}

impl Convolution {
    /// Convolves, and keeps what the gradients need.
    pub(crate) fn forward(
        input: &FlexTensor,
        weight: &FlexTensor,
        window: Window,
    ) -> (FlexTensor, Self) {
        let shape = convolution_shape(input, weight, window);
        let plan = shape.forward();
        let weight = contiguous(weight);
        let forward_packed = packed(numbers(&weight), Order::forward(&shape), &plan);
        // Both orders are made while the weights are at hand, which are read once.
        let order = Order::input_gradient(&shape);
        let packed = Arc::new(packed(numbers(&weight), order, &shape.input_gradient()));
        let input = contiguous(input).into_owned();
        let output = correlated(&plan, numbers(&input), &forward_packed);
        (output, Self { shape, input, packed })
    }

    /// Gradient of the input.
    pub(crate) fn input_gradient(&self, output_gradient: &FlexTensor) -> FlexTensor {
        let output_gradient = contiguous(output_gradient);
        correlated(&self.shape.input_gradient(), numbers(&output_gradient), &self.packed)
    }

    /// Gradient of the weights.
    pub(crate) fn weight_gradient(&self, output_gradient: &FlexTensor) -> FlexTensor {
        let (instructions, shape) = (Instructions::fastest(), &self.shape);
        let output_gradient = contiguous(output_gradient);
        let mut scratch = Buffer::take(scratch_length(shape, instructions.panel()));
        let mut gradient = Buffer::take(shape.weights());
        weight_gradient(
            instructions,
            shape,
            &shape.forward(),
            numbers(&self.input),
            numbers(&output_gradient),
            &mut scratch,
            &mut gradient,
        );
        let &ConvolutionShape { output_channels, input_channels, kernel: [height, width], .. } =
            shape;
        tensor(gradient, [output_channels, input_channels, height, width])
    }
}

/// What a batch norm does beside normalizing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormOptions {
    /// Whether the shortcut is added; if not, any tensor may stand in its place.
    pub(crate) add_shortcut: bool,
    /// Whether negative results become zero.
    pub(crate) rectify: bool,
    pub(crate) epsilon: f64,
}

/// Computes `input · scale + shift + shortcut`, rectified if asked for.
pub(crate) fn normalize(
    input: &FlexTensor,
    scale: &FlexTensor,
    shift: &FlexTensor,
    shortcut: &FlexTensor,
    options: NormOptions,
) -> FlexTensor {
    let shape: [usize; 4] = dims(input);
    let tensors = [input, scale, shift, shortcut].map(contiguous);
    let [input, scale, shift, shortcut] = tensors.each_ref().map(|tensor| numbers(tensor));
    let mut output = Buffer::take(input.len());
    let normalization = Normalization {
        scale,
        shift,
        shortcut: options.add_shortcut.then_some(shortcut),
        rectify: options.rectify,
    };
    norm::normalize(Instructions::fastest(), input, normalization, &mut output);
    tensor(output, shape)
}

/// What the backward pass of a batch norm needs.
#[derive(Clone, Debug)]
pub(crate) struct BatchNorm {
    input: FlexTensor,
    output: FlexTensor,
    gamma: FlexTensor,
    mean: FlexTensor,
    variance: FlexTensor,
    options: NormOptions,
}

/// Gradients of a batch norm.
pub(crate) struct BatchNormGradients {
    pub(crate) input: FlexTensor,
    pub(crate) gamma: FlexTensor,
    pub(crate) beta: FlexTensor,
    pub(crate) shortcut: Option<FlexTensor>,
}

impl BatchNorm {
    /// Normalizes with the statistics of the batch; returns the output.
    pub(crate) fn forward(
        input: &FlexTensor,
        gamma: &FlexTensor,
        beta: &FlexTensor,
        shortcut: &FlexTensor,
        options: NormOptions,
    ) -> Self {
        let [_, _, _, channels] = dims(input);
        let (input, gamma) = (contiguous(input).into_owned(), contiguous(gamma).into_owned());
        let beta = contiguous(beta);
        let (gammas, betas) = (numbers(&gamma), numbers(&beta));
        let (mut mean, mut variance) = (Buffer::take(channels), Buffer::take(channels));
        norm::statistics(Instructions::fastest(), numbers(&input), &mut mean, &mut variance);
        let (mut scale, mut shift) = (Buffer::take(channels), Buffer::take(channels));
        for channel in 0..channels {
            let deviation = (f64::from(variance[channel]) + options.epsilon).sqrt();
            scale[channel] = (f64::from(gammas[channel]) / deviation) as f32;
            shift[channel] = betas[channel] - mean[channel] * scale[channel];
        }
        let output = normalize(
            &input,
            &tensor(scale, [channels]),
            &tensor(shift, [channels]),
            shortcut,
            options,
        );
        let (mean, variance) = (tensor(mean, [channels]), tensor(variance, [channels]));
        Self { input, output, gamma, mean, variance, options }
    }

    /// The output, and mean and variance of the batch.
    pub(crate) fn outputs(&self) -> (FlexTensor, FlexTensor, FlexTensor) {
        (self.output.clone(), self.mean.clone(), self.variance.clone())
    }

    /// All gradients; that of the shortcut where it is wanted.
    pub(crate) fn gradients(
        &self,
        output_gradient: &FlexTensor,
        with_shortcut: bool,
    ) -> BatchNormGradients {
        let shape: [usize; 4] = dims(&self.input);
        let channels = shape[3];
        let length = shape.iter().product();
        let output_gradient = contiguous(output_gradient);
        let mut input_gradient = Buffer::take(length);
        let mut shortcut_gradient = with_shortcut.then(|| Buffer::take(length));
        let (mut gamma, mut beta) = (Buffer::take(channels), Buffer::take(channels));
        norm::norm_gradient(
            Instructions::fastest(),
            NormGradient {
                input: numbers(&self.input),
                rectified: self.options.rectify.then(|| numbers(&self.output)),
                output_gradient: numbers(&output_gradient),
                gamma: numbers(&self.gamma),
                mean: numbers(&self.mean),
                variance: numbers(&self.variance),
                epsilon: self.options.epsilon,
            },
            &mut input_gradient,
            shortcut_gradient.as_deref_mut(),
            &mut gamma,
            &mut beta,
        );
        BatchNormGradients {
            input: tensor(input_gradient, shape),
            gamma: tensor(gamma, [channels]),
            beta: tensor(beta, [channels]),
            shortcut: shortcut_gradient.map(|gradient| tensor(gradient, shape)),
        }
    }
}

/// What the backward pass of a pooling needs.
#[derive(Clone, Debug)]
pub(crate) struct MaxPool {
    shape: ConvolutionShape,
    input: FlexTensor,
    output: FlexTensor,
}

impl MaxPool {
    /// Pools; keeps input and output.
    pub(crate) fn forward(input: &FlexTensor, kernel: [usize; 2], window: Window) -> Self {
        let [batch, input_height, input_width, channels] = dims(input);
        let Window { stride, padding } = window;
        let shape = ConvolutionShape {
            batch,
            input_height,
            input_width,
            input_channels: channels,
            output_channels: channels,
            kernel,
            stride,
            padding,
        };
        shape.validate();
        let sees = (0..2).all(|axis| padding[axis] < kernel[axis]);
        assert!(sees, "a window that sees nothing but padding has no largest number");
        let input = contiguous(input).into_owned();
        let mut output = Buffer::take(shape.output_pixels() * channels);
        max_pool::max_pool(Instructions::fastest(), &shape, numbers(&input), &mut output);
        let output = tensor(output, [batch, shape.output_height(), shape.output_width(), channels]);
        Self { shape, input, output }
    }

    pub(crate) fn output(&self) -> FlexTensor {
        self.output.clone()
    }

    pub(crate) fn input_gradient(&self, output_gradient: &FlexTensor) -> FlexTensor {
        let output_gradient = contiguous(output_gradient);
        let mut gradient = Buffer::take(self.shape.input_pixels() * self.shape.input_channels);
        max_pool::max_pool_gradient(
            Instructions::fastest(),
            &self.shape,
            numbers(&self.input),
            numbers(&self.output),
            numbers(&output_gradient),
            &mut gradient,
        );
        tensor::<4>(gradient, dims(&self.input))
    }
}

/// Adds up the squares of all numbers.
pub(crate) fn sum_of_squares(tensor: &FlexTensor) -> f32 {
    square::sum_of_squares(Instructions::fastest(), numbers(&contiguous(tensor))) as f32
}
