//! The norm of the gradient of a whole network, and its limit.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use heimdall_kernels::sum_of_squares;

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
}
