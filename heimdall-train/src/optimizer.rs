//! How a gradient becomes a step.

use burn::optim::ModuleOptimizer;
use heimdall_kernels::{Adam, AdamW};
use serde::{Deserialize, Serialize};

use crate::TrainConfig;

/// Added to the root of the second moment.
const EPSILON: f32 = 1e-8;

/// How a gradient becomes a step: β₁ = 0.9, β₂ = 0.999, ε = 1e-8 with both.
///
/// # References
///
/// D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1,
/// [arXiv:1412.6980](https://arxiv.org/abs/1412.6980). The two decays: I. Loshchilov, F. Hutter,
/// "Decoupled weight decay regularization", ICLR 2019, algorithm 2,
/// [arXiv:1711.05101](https://arxiv.org/abs/1711.05101).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// Adam with the classic weight decay, as in PyTorch's `torch.optim.Adam`: a multiple of the
    /// weight is added to the gradient *before* the moments are taken.
    #[default]
    Adam,
    /// `AdamW`, as in PyTorch's `torch.optim.AdamW`: the weight shrinks *beside* the step, by the
    /// learning rate times the multiple.
    #[serde(rename = "adamw")]
    AdamW,
}

impl OptimizerKind {
    /// Makes the optimizer, without any moments yet.
    pub(crate) fn init(self, weight_decay: f64) -> ModuleOptimizer {
        let penalty = weight_decay as f32;
        match self {
            Self::Adam => ModuleOptimizer::from(Adam::new([0.9, 0.999], EPSILON, penalty)),
            Self::AdamW => ModuleOptimizer::from(AdamW::new([0.9, 0.999], EPSILON, penalty)),
        }
    }
}

/// Makes the optimizer that a configuration asks for, without any moments yet.
pub fn optimizer(config: &TrainConfig) -> ModuleOptimizer {
    config.optimizer.init(config.weight_decay)
}

#[cfg(test)]
mod tests {
    use burn::module::{Module, Param};
    use burn::optim::GradientsParams;
    use burn::tensor::{Device, Tensor};

    use super::*;

    #[derive(Module, Debug)]
    struct Weight {
        value: Param<Tensor<1>>,
    }

    /// The weight after two steps with the gradients 0.5 and −0.25, in f64, as the papers have it.
    fn closed_form(kind: OptimizerKind, rate: f64, decay: f64) -> f64 {
        let (mut weight, mut first, mut second) = (2.0, 0.0, 0.0);
        for (step, gradient) in [0.5, -0.25].into_iter().enumerate() {
            let gradient = match kind {
                OptimizerKind::Adam => gradient + decay * weight,
                OptimizerKind::AdamW => gradient,
            };
            first = 0.9 * first + 0.1 * gradient;
            second = 0.999 * second + 0.001 * gradient * gradient;
            let power = step as i32 + 1;
            let corrected =
                (first / (1.0 - 0.9_f64.powi(power)), second / (1.0 - 0.999_f64.powi(power)));
            let shrunk = match kind {
                OptimizerKind::Adam => weight,
                OptimizerKind::AdamW => weight * (1.0 - rate * decay),
            };
            weight = shrunk - rate * corrected.0 / (corrected.1.sqrt() + 1e-8);
        }
        weight
    }

    #[test]
    fn steps_are_those_of_the_papers() {
        let device = Device::flex().autodiff();
        let (rate, decay) = (0.01, 0.1);
        for kind in [OptimizerKind::Adam, OptimizerKind::AdamW] {
            let mut optimizer = kind.init(decay);
            let mut module = Weight { value: Param::from_data([2.0_f32], &device) };

            for gradient in [0.5_f64, -0.25] {
                let loss = module.value.val() * gradient;
                let gradients = GradientsParams::from_grads(loss.backward(), &module);
                module = optimizer.step(rate, module, gradients);
            }

            let value = f64::from(module.value.val().into_scalar::<f32>());
            let expected = closed_form(kind, rate, decay);
            assert!((value - expected).abs() < 1e-6, "{kind:?}: {value} is not {expected}");
        }
        let [adam, adamw] =
            [OptimizerKind::Adam, OptimizerKind::AdamW].map(|kind| closed_form(kind, rate, decay));
        assert!((adam - adamw).abs() > 1e-4, "the two are one");
    }

    #[test]
    fn kind_is_written_as_people_name_it() {
        assert_eq!(
            serde_json::from_str::<OptimizerKind>("\"adamw\"").unwrap(),
            OptimizerKind::AdamW
        );
        assert!(serde_json::from_str::<OptimizerKind>("\"sgd\"").is_err());
    }
}
