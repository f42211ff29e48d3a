//! The gradient of a whole network: over several batches, its norm, and the limit of it.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Tensor;
use heimdall_kernels::sum_of_squares;

/// Gradients of the batches that make a step together.
pub(crate) struct AccumulatedGradients<M> {
    sum: GradientsAccumulator<M>,
    pub(crate) batches: usize,
}

impl<M: Module> AccumulatedGradients<M> {
    /// Begins without any.
    pub(crate) fn new() -> Self {
        Self { sum: GradientsAccumulator::new(), batches: 0 }
    }

    /// Adds the gradient of a loss.
    pub(crate) fn add(&mut self, module: &M, loss: Tensor<1>) {
        self.sum.accumulate(module, GradientsParams::from_grads(loss.backward(), module));
        self.batches += 1;
    }

    /// Takes the mean of what was added, and begins anew.
    ///
    /// # Panics
    ///
    /// If nothing was added.
    pub(crate) fn take(&mut self, module: &M) -> GradientsParams {
        let batches = std::mem::take(&mut self.batches);
        assert!(batches > 0, "a step is made of at least one batch");
        let sum = self.sum.grads();
        if batches == 1 { sum } else { scale_gradient(module, sum, 1.0 / batches as f64) }
    }
}

/// Takes the gradients of one part of a module out of those of the whole.
pub(crate) fn split_off<M: Module>(part: &M, gradients: &mut GradientsParams) -> GradientsParams {
    let mut visitor = SplitVisitor { from: gradients, part: GradientsParams::new() };
    part.visit(&mut visitor);
    visitor.part
}

/// Scales a gradient down to a norm, if there is one and where it is above it; the error is a norm
/// that is no number, with or without a limit.
pub(crate) fn clip<M: Module>(
    module: &M,
    gradients: GradientsParams,
    norm_max: Option<f64>,
) -> Result<GradientsParams, f64> {
    let norm = gradient_norm(module, &gradients);
    if !norm.is_finite() {
        return Err(norm);
    }
    Ok(match norm_max {
        Some(norm_max) if norm > norm_max => scale_gradient(module, gradients, norm_max / norm),
        _ => gradients,
    })
}

/// Computes the Euclidean norm of the gradient of all weights together.
pub(crate) fn gradient_norm<M: Module>(module: &M, gradients: &GradientsParams) -> f64 {
    let mut visitor = SquareVisitor { gradients, squares: Vec::new() };
    module.visit(&mut visitor);
    if visitor.squares.is_empty() {
        return 0.0;
    }
    // One number is read from the device, not one per weight.
    f64::from(Tensor::cat(visitor.squares, 0).sum().into_scalar::<f32>()).sqrt()
}

/// Multiplies the gradient of every weight by `factor`.
pub(crate) fn scale_gradient<M: Module>(
    module: &M,
    gradients: GradientsParams,
    factor: f64,
) -> GradientsParams {
    let mut visitor = ScaleVisitor { gradients, factor };
    module.visit(&mut visitor);
    visitor.gradients
}

/// Collects the sum of squares of each gradient.
struct SquareVisitor<'a> {
    gradients: &'a GradientsParams,
    squares: Vec<Tensor<1>>,
}

impl ModuleVisitor for SquareVisitor<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            self.squares.push(sum_of_squares(gradient));
        }
    }
}

/// Moves each gradient of a part.
struct SplitVisitor<'a> {
    from: &'a mut GradientsParams,
    part: GradientsParams,
}

impl ModuleVisitor for SplitVisitor<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.from.remove::<D>(param.id) {
            self.part.register(param.id, gradient);
        }
    }
}

/// Replaces each gradient by a multiple of it.
struct ScaleVisitor {
    gradients: GradientsParams,
    factor: f64,
}

impl ModuleVisitor for ScaleVisitor {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            self.gradients.register(param.id, gradient.mul_scalar(self.factor));
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::LinearConfig;
    use burn::tensor::Device;

    use super::*;

    /// By hand: the loss Σ(x W + b) over the rows (1, 2) and (3, 4) has ∂W = (4, 4; 6, 6) and
    /// ∂b = (2, 2), so the squared norm is 2 · 16 + 2 · 36 + 2 · 4 = 112.
    #[test]
    fn norm_is_that_of_all_gradients_together() {
        let device = Device::flex().autodiff();
        let layer = LinearConfig::new(2, 2).init(&device);
        let input = Tensor::<2>::from_data([[1.0_f32, 2.0], [3.0, 4.0]], &device);
        let loss = layer.forward(input).sum();
        let gradients = GradientsParams::from_grads(loss.backward(), &layer);

        let norm = gradient_norm(&layer, &gradients);
        let scaled = scale_gradient(&layer, gradients, 0.5);

        assert!((norm - 112_f64.sqrt()).abs() < 1e-5, "{norm}");
        let halved = gradient_norm(&layer, &scaled);
        assert!((halved - norm / 2.0).abs() < 1e-5, "{halved}");
    }

    /// The mean of the gradients of equal halves is that of the whole.
    #[test]
    fn batches_that_make_a_step_together_are_as_one() {
        let device = Device::flex().autodiff();
        let layer = LinearConfig::new(2, 2).init(&device);
        let rows = |rows: [[f32; 2]; 2]| Tensor::<2>::from_data(rows, &device);
        let loss = |input: Tensor<2>| layer.forward(input).square().mean();
        let (first, second) = (rows([[1.0, 2.0], [3.0, 4.0]]), rows([[-1.0, 0.5], [2.0, 7.0]]));

        let mut accumulated = AccumulatedGradients::new();
        accumulated.add(&layer, loss(first.clone()));
        accumulated.add(&layer, loss(second.clone()));
        let halves = accumulated.take(&layer);
        accumulated.add(&layer, loss(Tensor::cat(vec![first, second], 0)));
        let whole = accumulated.take(&layer);

        let weight = layer.weight.id;
        let difference = halves.get::<2>(weight).unwrap() - whole.get::<2>(weight).unwrap();
        assert!(difference.abs().max().into_scalar::<f32>() < 1e-5);
        assert_eq!(accumulated.batches, 0);
    }

    #[test]
    fn gradient_is_clipped_to_its_limit_and_no_further() {
        let device = Device::flex().autodiff();
        let layer = LinearConfig::new(2, 2).init(&device);
        let gradients = |factor: f32| {
            let input = Tensor::<2>::from_data([[factor, 0.0]], &device);
            GradientsParams::from_grads(layer.forward(input).sum().backward(), &layer)
        };
        let norm =
            |gradients, limit| gradient_norm(&layer, &clip(&layer, gradients, limit).unwrap());

        // By hand: √(2 · 3² + 2 · 1²).
        assert!((norm(gradients(3.0), Some(2.0)) - 2.0).abs() < 1e-5);
        assert!((norm(gradients(3.0), Some(5.0)) - 20_f64.sqrt()).abs() < 1e-5);
        assert!((norm(gradients(3.0), None) - 20_f64.sqrt()).abs() < 1e-5);
        assert!(clip(&layer, gradients(f32::INFINITY), Some(1.0)).is_err());
    }
}
