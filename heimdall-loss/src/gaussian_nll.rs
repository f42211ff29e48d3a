//! Negative log-likelihood of a position under a Gaussian estimate.

use std::f64::consts::TAU;

use burn::tensor::Tensor;

/// Computes the mean negative log-likelihood of `target` under correlated Gaussians: the mean of
/// [`gaussian_nll_each`].
///
/// # Shapes
///
/// - `mean`, `target`: `[batch, 2]`, east and north of the frame's origin, in km
/// - `cholesky`: `[batch, 3]`, `l11 > 0` (east), `l21` and `l22 > 0` (north), in km
/// - returns: `[1]`, in nats per event
pub fn gaussian_nll(mean: Tensor<2>, cholesky: Tensor<2>, target: Tensor<2>) -> Tensor<1> {
    gaussian_nll_each(mean, cholesky, target).mean()
}

/// Computes the negative log-likelihood of each `target` under a correlated Gaussian.
///
/// With `L` the Cholesky factor of the covariance and `z = L⁻¹ (target − mean)`, an event costs
/// `½ |z|² + ln l11 + ln l22 + ln 2π`. Nothing is clamped.
///
/// Value and gradients are finite in f32 wherever the components of `z`, the standard deviations,
/// and the quotients of `z` by them have squares or values below 3.4e38: for standard deviations of
/// 1e-6 to 1e6 km, residuals up to 1e4 km, and correlations whose `l21 / l22` is within ±1e3.
/// Beyond that the loss is infinite, never a wrong number.
///
/// # Shapes
///
/// - `mean`, `target`: `[batch, 2]`, east and north of the frame's origin, in km
/// - `cholesky`: `[batch, 3]`, `l11 > 0` (east), `l21` and `l22 > 0` (north), in km
/// - returns: `[batch, 1]`, in nats
///
/// # References
///
/// C. M. Bishop, *Pattern Recognition and Machine Learning*, Springer, 2006, equation 2.43.
pub fn gaussian_nll_each(mean: Tensor<2>, cholesky: Tensor<2>, target: Tensor<2>) -> Tensor<2> {
    let residual = target - mean;
    let [east, north] = columns(residual);
    let l11 = cholesky.clone().narrow(1, 0, 1);
    let l21 = cholesky.clone().narrow(1, 1, 1);
    let l22 = cholesky.narrow(1, 2, 1);

    // Forward substitution: L z = residual.
    let z1 = east / l11.clone();
    let z2 = (north - l21 * z1.clone()) / l22.clone();
    let nll = (z1.square() + z2.square()) * 0.5 + l11.log() + l22.log();
    nll + TAU.ln()
}

/// Computes the mean negative log-likelihood of `target` under independent Gaussians.
///
/// An event costs `½ ((target − mean) / sigma)² + ln sigma` per axis, summed over both axes, and
/// `ln 2π`: the number that [`gaussian_nll`] gives for `l21 = 0`, so that the two are comparable.
///
/// # Shapes
///
/// - `mean`, `target`: `[batch, 2]`, east and north of the frame's origin, in km
/// - `sigma`: `[batch, 2]`, standard deviations above zero, in km
/// - returns: `[1]`, in nats per event
///
/// # References
///
/// D. A. Nix, A. S. Weigend, "Estimating the mean and variance of the target probability
/// distribution", ICNN 1994, equation 3,
/// [doi:10.1109/ICNN.1994.374138](https://doi.org/10.1109/ICNN.1994.374138).
pub fn diagonal_gaussian_nll(mean: Tensor<2>, sigma: Tensor<2>, target: Tensor<2>) -> Tensor<1> {
    let z = (target - mean) / sigma.clone();
    let nll = z.square() * 0.5 + sigma.log();
    nll.sum_dim(1).mean() + TAU.ln()
}

/// Takes a `[batch, 2]` tensor apart into its columns, `[batch, 1]` each.
fn columns(x: Tensor<2>) -> [Tensor<2>; 2] {
    [x.clone().narrow(1, 0, 1), x.narrow(1, 1, 1)]
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};
    use proptest::prelude::*;

    use super::*;

    /// Loss and gradients of one event, in f64: `[mean; 2]` and `[l11, l21, l22]`.
    struct ClosedForm {
        nll: f64,
        by_mean: [f64; 2],
        by_cholesky: [f64; 3],
    }

    /// With `u = L⁻ᵀ z`: the gradient by the mean is `−u`, by `L` it is `−u zᵀ + diag(1 / lᵢᵢ)`.
    fn closed_form(residual: [f64; 2], [l11, l21, l22]: [f64; 3]) -> ClosedForm {
        let z = [residual[0] / l11, (residual[1] - l21 * residual[0] / l11) / l22];
        let u1 = z[1] / l22;
        let u = [(z[0] - l21 * u1) / l11, u1];
        ClosedForm {
            nll: 0.5 * (z[0] * z[0] + z[1] * z[1]) + l11.ln() + l22.ln() + TAU.ln(),
            by_mean: [-u[0], -u[1]],
            by_cholesky: [1.0 / l11 - u[0] * z[0], -u[1] * z[0], 1.0 / l22 - u[1] * z[1]],
        }
    }

    fn rows(values: &[f32], columns: usize, device: &Device) -> Tensor<2> {
        Tensor::from_data(
            TensorData::new(values.to_vec(), [values.len() / columns, columns]),
            device,
        )
    }

    fn values<const D: usize>(x: Tensor<D>) -> Vec<f64> {
        x.into_data().try_to_vec::<f32>().unwrap().into_iter().map(f64::from).collect()
    }

    /// Loss, gradient by the mean and gradient by the Cholesky factor, of a target at the origin.
    fn by_autodiff(mean: [f32; 2], cholesky: [f32; 3]) -> (f64, Vec<f64>, Vec<f64>) {
        let device = Device::flex().autodiff();
        let mean = rows(&mean, 2, &device).require_grad();
        let cholesky = rows(&cholesky, 3, &device).require_grad();

        let loss = gaussian_nll(mean.clone(), cholesky.clone(), rows(&[0.0, 0.0], 2, &device));
        let gradients = loss.backward();

        let loss = values(loss)[0];
        (loss, values(mean.grad(&gradients).unwrap()), values(cholesky.grad(&gradients).unwrap()))
    }

    /// The difference of two sums of a few f32 terms, in units of the largest term.
    fn assert_close(value: f64, expected: f64, scale: f64, what: &str) {
        let tolerance = 4e-6 * scale.max(expected.abs());
        assert!(
            value.is_finite() && (value - expected).abs() <= tolerance,
            "{what}: {value:e} is not {expected:e} ± {tolerance:e}"
        );
    }

    fn assert_is_closed_form(mean: [f32; 2], cholesky: [f32; 3]) {
        let residual = mean.map(|m| -f64::from(m));
        let [l11, l21, l22] = cholesky.map(f64::from);
        let ClosedForm { nll, by_mean, by_cholesky } = closed_form(residual, [l11, l21, l22]);
        // What the terms are made of before they cancel: z2 has a part from each axis.
        let z1 = residual[0].abs() / l11;
        let z2 = (residual[1].abs() + l21.abs() * z1) / l22;
        let (u2, u1) = (z2 / l22, (z1 + l21.abs() * z2 / l22) / l11);

        let (loss, mean_gradient, cholesky_gradient) = by_autodiff(mean, cholesky);

        let case = format!("mean {mean:?}, cholesky {cholesky:?}");
        assert_close(loss, nll, z1 * z1 + z2 * z2 + l11.ln().abs() + l22.ln().abs(), &case);
        assert_close(mean_gradient[0], by_mean[0], u1, &case);
        assert_close(mean_gradient[1], by_mean[1], u2, &case);
        assert_close(cholesky_gradient[0], by_cholesky[0], 1.0 / l11 + u1 * z1, &case);
        assert_close(cholesky_gradient[1], by_cholesky[1], u2 * z1, &case);
        assert_close(cholesky_gradient[2], by_cholesky[2], 1.0 / l22 + u2 * z2, &case);
    }

    /// By hand: a miss of 3 km at 3 km and of 4 km at 2 km costs ½ (1 + 4) + ln 6 + ln 2π.
    #[test]
    fn miss_costs_what_it_should() {
        let device = Device::flex();

        let loss = gaussian_nll(
            rows(&[1.0, 1.0], 2, &device),
            rows(&[3.0, 0.0, 2.0], 3, &device),
            rows(&[4.0, 5.0], 2, &device),
        );

        let expected = 2.5 + 6_f64.ln() + TAU.ln();
        assert!((values(loss)[0] - expected).abs() < 1e-6);
    }

    #[test]
    fn loss_is_the_mean_over_the_batch() {
        let device = Device::flex();
        let event = |mean: [f32; 2], cholesky: [f32; 3]| {
            closed_form(mean.map(|m| -f64::from(m)), cholesky.map(f64::from)).nll
        };

        let loss = gaussian_nll(
            rows(&[1.0, 2.0, -3.0, 0.5], 2, &device),
            rows(&[1.0, 0.5, 2.0, 4.0, -1.0, 0.5], 3, &device),
            Tensor::zeros([2, 2], &device),
        );

        let expected =
            (event([1.0, 2.0], [1.0, 0.5, 2.0]) + event([-3.0, 0.5], [4.0, -1.0, 0.5])) / 2.0;
        assert!((values(loss)[0] - expected).abs() < 1e-5);
    }

    #[test]
    fn extreme_estimates_have_finite_losses_and_gradients() {
        for l11 in [1e-6, 1.0, 1e6] {
            for l22 in [1e-6, 1.0, 1e6] {
                for slope in [0.0, 0.9, -1e3] {
                    for residual in [[0.0, 0.0], [1e4, 1e4], [-1e4, 0.0], [1e-6, -1e4]] {
                        assert_is_closed_form(residual, [l11, slope * l22, l22]);
                    }
                }
            }
        }
    }

    /// z2 is 1e10 · 1e6 / 1e-6 = 1e22, whose square is beyond f32.
    #[test]
    fn loss_beyond_range_is_infinite() {
        let (loss, ..) = by_autodiff([1e4, 1e4], [1e-6, 1e6, 1e-6]);

        assert!(loss.is_infinite() && loss > 0.0, "{loss}");
    }

    /// The density of a Gaussian integrates to one: here on a grid of ¼ km over ± 16 km.
    #[test]
    fn likelihood_is_a_density() {
        let device = Device::flex();
        let (step, side) = (0.25_f32, 129_i16);
        let cholesky = rows(&[1.5, -0.8, 1.0], 3, &device);

        let mut total = 0.0;
        for east in 0..side {
            for north in 0..side {
                let at = [east, north].map(|index| step * f32::from(index - side / 2));
                let nll = gaussian_nll(
                    rows(&[0.5, 0.25], 2, &device),
                    cholesky.clone(),
                    rows(&at, 2, &device),
                );
                total += (-values(nll)[0]).exp() * f64::from(step * step);
            }
        }

        assert!((total - 1.0).abs() < 1e-4, "{total}");
    }

    proptest! {
        #[test]
        fn loss_and_gradients_are_the_closed_form(
            mean in prop::array::uniform2(-500_f32..500.0),
            l11_log10 in -1_f32..3.0,
            l22_log10 in -1_f32..3.0,
            slope in -3_f32..3.0,
        ) {
            let l22 = 10_f32.powf(l22_log10);
            assert_is_closed_form(mean, [10_f32.powf(l11_log10), slope * l22, l22]);
        }

        #[test]
        fn diagonal_loss_is_the_full_one_without_correlation(
            mean in prop::array::uniform2(-500_f32..500.0),
            sigma in prop::array::uniform2(0.01_f32..500.0),
        ) {
            let device = Device::flex();
            let (mean, target) = (rows(&mean, 2, &device), rows(&[3.0, -4.0], 2, &device));

            let full = gaussian_nll(
                mean.clone(),
                rows(&[sigma[0], 0.0, sigma[1]], 3, &device),
                target.clone(),
            );
            let diagonal = diagonal_gaussian_nll(mean, rows(&sigma, 2, &device), target);

            let (full, diagonal) = (values(full)[0], values(diagonal)[0]);
            prop_assert!((full - diagonal).abs() <= 1e-6 * full.abs().max(10.0));
        }
    }

    #[test]
    fn extreme_diagonal_estimates_have_finite_losses_and_gradients() {
        let device = Device::flex().autodiff();
        for sigma in [1e-6_f32, 1.0, 1e6] {
            for residual in [0.0_f32, 1e4] {
                let deviation = rows(&[sigma, sigma], 2, &device).require_grad();
                let mean = rows(&[residual, 0.0], 2, &device).require_grad();

                let loss = diagonal_gaussian_nll(
                    mean.clone(),
                    deviation.clone(),
                    rows(&[0.0, 0.0], 2, &device),
                );
                let gradients = loss.backward();

                let (r, s) = (f64::from(residual), f64::from(sigma));
                let case = format!("sigma {sigma}, residual {residual}");
                let nll = 0.5 * (r / s).powi(2) + 2.0 * s.ln() + TAU.ln();
                assert_close(values(loss)[0], nll, 10.0, &case);
                let by_mean = values(mean.grad(&gradients).unwrap());
                assert_close(by_mean[0], r / (s * s), 0.0, &case);
                let by_sigma = values(deviation.grad(&gradients).unwrap());
                assert_close(by_sigma[0], 1.0 / s - r * r / s.powi(3), 1.0 / s, &case);
                assert_close(by_sigma[1], 1.0 / s, 0.0, &case);
            }
        }
    }
}
