//! Negative log-likelihoods that are weighted, or not likelihoods at all, to steer how a network
//! learns.

use burn::tensor::Tensor;

use crate::gaussian_nll_each;

/// Computes the negative log-likelihood of each `target`, weighted by a power of the stated
/// variance.
///
/// The weight is `(√|Σ| / area)^β`, and has no gradient. Plain likelihood weighs the residual of a
/// confident event by its inverse variance, so that a network learns next to nothing from events
/// about which it is unsure; with `β = 1` all residuals weigh the same, as in a mean square, and
/// 0.5 is in between. With `β = 0` this is [`gaussian_nll_each`].
///
/// `area_km2` only sets the scale: an estimate with `√|Σ|` of this size has the weight 1.
///
/// # Shapes
///
/// - `mean`, `target`: `[batch, 2]`, in km
/// - `cholesky`: `[batch, 3]`, `l11 > 0`, `l21` and `l22 > 0`, in km
/// - returns: `[batch, 1]`
///
/// # References
///
/// M. Seitzer et al., "On the pitfalls of heteroscedastic uncertainty estimation with probabilistic
/// neural networks", ICLR 2022, equation 4, with `|Σ|^½` for `σ²` in two dimensions,
/// [arXiv:2203.09168](https://arxiv.org/abs/2203.09168).
pub fn beta_nll_each(
    mean: Tensor<2>,
    cholesky: Tensor<2>,
    target: Tensor<2>,
    beta: f64,
    area_km2: f64,
) -> Tensor<2> {
    // Of a triangle the determinant is the product of the diagonal. Logarithms keep the product of
    // extreme deviations within range.
    let diagonal = |index| cholesky.clone().narrow(1, index, 1).log();
    let log_area = diagonal(0) + diagonal(2) - area_km2.ln();
    let weight = (log_area * beta).exp().detach();
    gaussian_nll_each(mean, cholesky, target) * weight
}

/// Computes half of the squared distance of each `target` from the mean, in units of the spread of
/// the positions: a loss that does not know of uncertainties.
///
/// It is the negative log-likelihood under one Gaussian for all, up to a constant.
///
/// # Shapes
///
/// - `mean`, `target`: `[batch, 2]`, in km
/// - `spread_km`: east and north
/// - returns: `[batch, 1]`
pub fn mean_square_each(mean: Tensor<2>, target: Tensor<2>, spread_km: [f64; 2]) -> Tensor<2> {
    let residual = target - mean;
    let z = |axis: usize| residual.clone().narrow(1, axis, 1) / spread_km[axis];
    (z(0).square() + z(1).square()) * 0.5
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};
    use proptest::prelude::*;

    use super::*;

    fn rows(values: &[f32], columns: usize, device: &Device) -> Tensor<2> {
        let data = TensorData::new(values.to_vec(), [values.len() / columns, columns]);
        Tensor::from_data(data, device)
    }

    fn values<const D: usize>(x: Tensor<D>) -> Vec<f64> {
        x.into_data().try_to_vec::<f32>().unwrap().into_iter().map(f64::from).collect()
    }

    /// Loss and gradients by mean and Cholesky factor of an event at the origin, weighted or not.
    fn by_autodiff(mean: [f32; 2], cholesky: [f32; 3], beta: f64) -> [Vec<f64>; 3] {
        let device = Device::flex().autodiff();
        let mean = rows(&mean, 2, &device).require_grad();
        let cholesky = rows(&cholesky, 3, &device).require_grad();
        let target = rows(&[0.0, 0.0], 2, &device);

        let loss = beta_nll_each(mean.clone(), cholesky.clone(), target, beta, 100.0).sum();
        let gradients = loss.backward();

        [
            values(loss),
            values(mean.grad(&gradients).unwrap()),
            values(cholesky.grad(&gradients).unwrap()),
        ]
    }

    fn assert_are_multiples(values: &[f64], expected: &[f64], factor: f64, case: &str) {
        for (value, expected) in values.iter().zip(expected) {
            let expected = expected * factor;
            let tolerance = 1e-4 * expected.abs() + 1e-30;
            assert!(
                value.is_finite() && (value - expected).abs() <= tolerance,
                "{case}: {value:e} is not {expected:e}"
            );
        }
    }

    /// The weight is a constant for the gradient: everything is that of the plain likelihood, times
    /// `(l11 · l22 / 100)^β`.
    #[test]
    fn weighted_loss_and_gradients_are_multiples_of_the_plain_ones_at_extremes_too() {
        for l11 in [1e-6_f32, 1.0, 1e6] {
            for l22 in [1e-6_f32, 1.0, 1e6] {
                for residual in [[0.0_f32, 0.0], [1e4, -1e4]] {
                    let cholesky = [l11, 0.5 * l22, l22];
                    let plain = by_autodiff(residual, cholesky, 0.0);

                    let weighted = by_autodiff(residual, cholesky, 0.5);

                    let factor = (f64::from(l11) * f64::from(l22) / 100.0).sqrt();
                    let case = format!("{cholesky:?}, {residual:?}");
                    for (weighted, plain) in weighted.iter().zip(&plain) {
                        assert_are_multiples(weighted, plain, factor, &case);
                    }
                }
            }
        }
    }

    proptest! {
        /// With β = 1 and no correlation, the gradient by a round estimate's mean is the residual
        /// over the area, whatever the deviation.
        #[test]
        fn full_weight_makes_residuals_count_alike(
            mean in prop::array::uniform2(-300_f32..300.0),
            sigma_log10 in -2_f32..3.0,
        ) {
            let sigma = 10_f32.powf(sigma_log10);

            let [_, by_mean, _] = by_autodiff(mean, [sigma, 0.0, sigma], 1.0);

            for (gradient, mean) in by_mean.iter().zip(mean) {
                let expected = f64::from(mean) / 100.0;
                prop_assert!((gradient - expected).abs() <= 1e-4 * expected.abs() + 1e-9);
            }
        }
    }

    /// By hand: 3 km at 3 km and 8 km at 2 km cost ½ (1 + 16); the gradients are −residual / spread².
    #[test]
    fn mean_square_is_counted_in_spreads() {
        let device = Device::flex().autodiff();
        let mean = rows(&[1.0, 2.0], 2, &device).require_grad();

        let loss = mean_square_each(mean.clone(), rows(&[4.0, 10.0], 2, &device), [3.0, 2.0]);
        let gradients = loss.clone().sum().backward();

        assert!((values(loss)[0] - 8.5).abs() < 1e-6);
        let gradient = values(mean.grad(&gradients).unwrap());
        assert!((gradient[0] + 1.0 / 3.0).abs() < 1e-6 && (gradient[1] + 2.0).abs() < 1e-6);
    }
}
