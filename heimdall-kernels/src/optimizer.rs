//! Adam and its variant with decoupled decay, in one pass over the weights on a processor.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::{AdamState, AdamWState, AdaptiveMomentumState, LearningRate, Optimizer};
use burn::tensor::{DType, Device, Tensor};

use crate::instructions::Instructions;
use crate::moments::{Moments, StepFactors, step};

/// Adam, as [`burn::optim::Adam`]: the same steps within rounding, and the same state.
///
/// # References
///
/// D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1 with
/// the order of operations at the end of section 2,
/// [arXiv:1412.6980](https://arxiv.org/abs/1412.6980).
#[derive(Clone)]
pub struct Adam {
    betas: [f32; 2],
    epsilon: f32,
    decay: f32,
    burn: burn::optim::Adam,
}

impl std::fmt::Debug for Adam {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { betas, epsilon, decay, burn: _ } = self;
        let mut shown = formatter.debug_struct("Adam");
        shown.field("betas", betas).field("epsilon", epsilon).field("decay", decay).finish()
    }
}

impl Adam {
    /// `decay` times the weights is added to the gradient.
    pub fn new(betas: [f32; 2], epsilon: f32, decay: f32) -> Self {
        let burn = burn::optim::AdamConfig::new()
            .with_beta_1(betas[0])
            .with_beta_2(betas[1])
            .with_epsilon(epsilon)
            .with_weight_decay((decay > 0.0).then_some(WeightDecayConfig { penalty: decay }))
            .build();
        Self { betas, epsilon, decay, burn }
    }
}

impl Optimizer for Adam {
    type State<const D: usize> = AdamState<D>;

    fn step<const D: usize>(
        &self,
        rate: LearningRate,
        weights: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<AdamState<D>>,
    ) -> (Tensor<D>, Option<AdamState<D>>) {
        if !is_supported(&weights) {
            return self.burn.step(rate, weights, gradient, state);
        }
        let decay = Decay { of_gradient: self.decay, of_weights: 0.0 };
        let momentum = state.map(|state| state.momentum);
        let (weights, momentum) =
            fused_step(self.betas, self.epsilon, decay, rate, weights, gradient, momentum);
        (weights, Some(AdamState::new(momentum)))
    }

    fn to_device<const D: usize>(state: AdamState<D>, device: &Device) -> AdamState<D> {
        burn::optim::Adam::to_device(state, device)
    }
}

/// Adam with decoupled decay, as [`burn::optim::AdamW`]: the same steps within rounding, and the
/// same state.
///
/// # References
///
/// I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2,
/// [arXiv:1711.05101](https://arxiv.org/abs/1711.05101).
#[derive(Clone)]
pub struct AdamW {
    betas: [f32; 2],
    epsilon: f32,
    decay: f32,
    burn: burn::optim::AdamW,
}

impl std::fmt::Debug for AdamW {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { betas, epsilon, decay, burn: _ } = self;
        let mut shown = formatter.debug_struct("AdamW");
        shown.field("betas", betas).field("epsilon", epsilon).field("decay", decay).finish()
    }
}

impl AdamW {
    /// Each step takes `decay` times the learning rate of the weights away.
    pub fn new(betas: [f32; 2], epsilon: f32, decay: f32) -> Self {
        let burn = burn::optim::AdamWConfig::new()
            .with_beta_1(betas[0])
            .with_beta_2(betas[1])
            .with_epsilon(epsilon)
            .with_weight_decay(decay)
            .build();
        Self { betas, epsilon, decay, burn }
    }
}

impl Optimizer for AdamW {
    type State<const D: usize> = AdamWState<D>;

    fn step<const D: usize>(
        &self,
        rate: LearningRate,
        weights: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<AdamWState<D>>,
    ) -> (Tensor<D>, Option<AdamWState<D>>) {
        if !is_supported(&weights) {
            return self.burn.step(rate, weights, gradient, state);
        }
        let decay = Decay { of_gradient: 0.0, of_weights: self.decay };
        let momentum = state.map(|state| state.momentum);
        let (weights, momentum) =
            fused_step(self.betas, self.epsilon, decay, rate, weights, gradient, momentum);
        (weights, Some(AdamWState::new(momentum)))
    }

    fn to_device<const D: usize>(state: AdamWState<D>, device: &Device) -> AdamWState<D> {
        burn::optim::AdamW::to_device(state, device)
    }
}

fn is_supported<const D: usize>(weights: &Tensor<D>) -> bool {
    weights.dtype() == DType::F32 && crate::operation::is_processor(&weights.device())
}

/// Where the decay goes.
#[derive(Clone, Copy)]
struct Decay {
    of_gradient: f32,
    of_weights: f32,
}

fn fused_step<const D: usize>(
    [beta_1, beta_2]: [f32; 2],
    epsilon: f32,
    decay: Decay,
    rate: LearningRate,
    weights: Tensor<D>,
    gradient: Tensor<D>,
    momentum: Option<AdaptiveMomentumState<D>>,
) -> (Tensor<D>, AdaptiveMomentumState<D>) {
    let momentum = momentum.unwrap_or_else(|| {
        AdaptiveMomentumState::new(0, weights.zeros_like(), weights.zeros_like())
    });
    let time = momentum.time + 1;
    let exponent = i32::try_from(time).unwrap_or(i32::MAX);
    let second_correction = (1.0 - beta_2.powi(exponent)).sqrt();
    let factors = StepFactors {
        beta_1,
        beta_2,
        gradient_decay: decay.of_gradient,
        kept: (1.0 - rate * f64::from(decay.of_weights)) as f32,
        rate: (rate * f64::from(second_correction / (1.0 - beta_1.powi(exponent)))) as f32,
        epsilon: epsilon * second_correction,
    };
    let [mut weights, gradient, mut first, mut second] =
        [weights, gradient, momentum.moment_1, momentum.moment_2].map(primitive);
    step(
        Instructions::fastest(),
        factors,
        gradient.as_slice().expect("made contiguous"),
        // In place where nobody else holds the tensor, which is the rule.
        Moments {
            weights: weights.storage_mut(),
            first: first.storage_mut(),
            second: second.storage_mut(),
        },
    );
    let state = AdaptiveMomentumState::new(
        time,
        Tensor::from_primitive::<Flex>(first),
        Tensor::from_primitive::<Flex>(second),
    );
    (Tensor::from_primitive::<Flex>(weights), state)
}

/// A tensor whose storage is its numbers, in order.
fn primitive<const D: usize>(tensor: Tensor<D>) -> FlexTensor {
    let tensor = tensor.try_into_primitive::<Flex>().expect("weights on the processor");
    tensor.to_contiguous()
}
