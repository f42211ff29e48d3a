//! The layers as operations of Burn, with gradients.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, backend_extension};

use crate::flex::{self, BatchNorm, Convolution, MaxPool, NormOptions, Window};

/// Layers on images whose channels come last.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait Layers: Backend {
    /// Convolves without a bias.
    fn convolve(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        window: Window,
    ) -> FloatTensor<Self>;

    /// Normalizes with the statistics of the batch, which are returned after the output.
    fn normalize_batch(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        shortcut: FloatTensor<Self>,
        options: NormOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Takes the largest number under each window.
    fn max_pool(input: FloatTensor<Self>, kernel: [usize; 2], window: Window) -> FloatTensor<Self>;
}

/// Layers that are used without gradients only.
#[backend_extension(Flex)]
pub(crate) trait InferenceLayers: Backend {
    /// Scales and shifts each channel.
    fn normalize(
        input: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        shortcut: FloatTensor<Self>,
        options: NormOptions,
    ) -> FloatTensor<Self>;
}

impl InferenceLayers for Flex {
    fn normalize(
        input: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        shortcut: FloatTensor<Self>,
        options: NormOptions,
    ) -> FloatTensor<Self> {
        flex::normalize(&input, &scale, &shift, &shortcut, options)
    }
}

impl Layers for Flex {
    fn convolve(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        window: Window,
    ) -> FloatTensor<Self> {
        flex::convolve(&input, &weight, window)
    }

    fn normalize_batch(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        shortcut: FloatTensor<Self>,
        options: NormOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        BatchNorm::forward(&input, &gamma, &beta, &shortcut, options).outputs()
    }

    fn max_pool(input: FloatTensor<Self>, kernel: [usize; 2], window: Window) -> FloatTensor<Self> {
        MaxPool::forward(&input, kernel, window).output()
    }
}

/// Backward pass of a convolution.
#[derive(Debug)]
struct ConvolveStep;

impl Backward<Flex, 2> for ConvolveStep {
    type State = Convolution;

    fn backward(self, ops: Ops<Convolution, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [input, weight] = ops.parents;
        let output_gradient = gradients.consume::<Flex>(&ops.node);
        if let Some(weight) = weight {
            let gradient = ops.state.weight_gradient(&output_gradient);
            gradients.register::<Flex>(weight.id, gradient);
        }
        if let Some(input) = input {
            let gradient = ops.state.input_gradient(&output_gradient);
            gradients.register::<Flex>(input.id, gradient);
        }
    }
}

/// Backward pass of a batch norm.
#[derive(Debug)]
struct NormalizeStep;

impl Backward<Flex, 4> for NormalizeStep {
    type State = (BatchNorm, bool);

    fn backward(self, ops: Ops<Self::State, 4>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [input, gamma, beta, shortcut] = ops.parents;
        let (norm, has_shortcut) = ops.state;
        let output_gradient = gradients.consume::<Flex>(&ops.node);
        let shortcut = shortcut.filter(|_| has_shortcut);
        let computed = norm.gradients(&output_gradient, shortcut.is_some());
        let registered = [
            (input, Some(computed.input)),
            (gamma, Some(computed.gamma)),
            (beta, Some(computed.beta)),
            (shortcut, computed.shortcut),
        ];
        for (node, gradient) in registered {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                gradients.register::<Flex>(node.id, gradient);
            }
        }
    }
}

/// Backward pass of a pooling.
#[derive(Debug)]
struct MaxPoolStep;

impl Backward<Flex, 1> for MaxPoolStep {
    type State = MaxPool;

    fn backward(self, ops: Ops<MaxPool, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [input] = ops.parents;
        let output_gradient = gradients.consume::<Flex>(&ops.node);
        if let Some(input) = input {
            let gradient = ops.state.input_gradient(&output_gradient);
            gradients.register::<Flex>(input.id, gradient);
        }
    }
}

impl<C: CheckpointStrategy> Layers for Autodiff<Flex, C> {
    fn convolve(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        window: Window,
    ) -> FloatTensor<Self> {
        let ((input, input_node), (weight, weight_node)) =
            (input.into_parts(), weight.into_parts());
        match ConvolveStep.prepare::<C>([input_node, weight_node]).compute_bound().stateful() {
            OpsKind::Tracked(step) => {
                let (output, state) = Convolution::forward(&input, &weight, window);
                step.finish(state, output)
            }
            OpsKind::UnTracked(step) => step.finish(flex::convolve(&input, &weight, window)),
        }
    }

    fn normalize_batch(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        shortcut: FloatTensor<Self>,
        options: NormOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let parts = [input, gamma, beta, shortcut].map(FloatTensor::<Self>::into_parts);
        let [(input, input_node), (gamma, gamma_node), (beta, beta_node), (shortcut, node)] = parts;
        let norm = BatchNorm::forward(&input, &gamma, &beta, &shortcut, options);
        let (output, mean, variance) = norm.outputs();
        let nodes = [input_node, gamma_node, beta_node, node];
        let output = match NormalizeStep.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(step) => step.finish((norm, options.add_shortcut), output),
            OpsKind::UnTracked(step) => step.finish(output),
        };
        (output, FloatTensor::<Self>::new(mean), FloatTensor::<Self>::new(variance))
    }

    fn max_pool(input: FloatTensor<Self>, kernel: [usize; 2], window: Window) -> FloatTensor<Self> {
        let (input, node) = input.into_parts();
        let pool = MaxPool::forward(&input, kernel, window);
        let output = pool.output();
        match MaxPoolStep.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(step) => step.finish(pool, output),
            OpsKind::UnTracked(step) => step.finish(output),
        }
    }
}
