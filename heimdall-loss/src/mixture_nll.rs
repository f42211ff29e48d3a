//! Negative log-likelihood of a position under a mixture of Gaussians.

use burn::tensor::Tensor;

use crate::gaussian_nll_each;

/// One Gaussian of a mixture, for each event.
#[derive(Clone, Debug)]
pub struct MixtureComponent {
    /// Natural logarithm of its weight, `[batch, 1]`; the weights of an event add up to one.
    pub log_weight: Tensor<2>,
    /// Mean, `[batch, 2]`, in km.
    pub mean: Tensor<2>,
    /// Cholesky factor of its covariance, `[batch, 3]`, in km.
    pub cholesky: Tensor<2>,
}

/// Computes the negative log-likelihood of each `target` under a mixture of Gaussians:
/// `−ln Σ wₖ Nₖ(target)`.
///
/// The sum is taken relative to its largest term, so that it neither overflows nor vanishes: value
/// and gradients are finite wherever those of at least one component's [`gaussian_nll_each`] are
/// and the others' are not infinite. A component without weight counts from `ln w = −1e9` down.
///
/// # Shapes
///
/// - `target`: `[batch, 2]`, in km
/// - returns: `[batch, 1]`, in nats
///
/// # Panics
///
/// If there are no components.
///
/// # References
///
/// C. M. Bishop, "Mixture density networks", Aston University, 1994, equations 21 and 29.
pub fn mixture_nll_each(components: Vec<MixtureComponent>, target: Tensor<2>) -> Tensor<2> {
    assert!(!components.is_empty(), "a mixture has components");
    let terms = components.into_iter().map(|component| {
        let MixtureComponent { log_weight, mean, cholesky } = component;
        log_weight - gaussian_nll_each(mean, cholesky, target.clone())
    });
    let terms = Tensor::cat(terms.collect(), 1); // [batch, components]
    let largest = terms.clone().detach().max_dim(1);
    let sum = (terms - largest.clone()).exp().sum_dim(1);
    (sum.log() + largest).neg()
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use burn::tensor::{Device, TensorData};
    use proptest::prelude::*;

    use super::*;

    fn rows(values: &[f32], device: &Device) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values.to_vec(), [1, values.len()]), device)
    }

    fn values<const D: usize>(x: Tensor<D>) -> Vec<f64> {
        x.into_data().try_to_vec::<f32>().unwrap().into_iter().map(f64::from).collect()
    }

    #[derive(Clone, Copy, Debug)]
    struct Component {
        weight: f64,
        mean: [f32; 2],
        cholesky: [f32; 3],
    }

    /// Loss, and gradient by the mean and the Cholesky factor of each component.
    fn by_autodiff(components: &[Component]) -> (f64, Vec<[Vec<f64>; 2]>) {
        let device = Device::flex().autodiff();
        let leaves: Vec<_> = components
            .iter()
            .map(|component| MixtureComponent {
                log_weight: rows(&[component.weight.ln() as f32], &device),
                mean: rows(&component.mean, &device).require_grad(),
                cholesky: rows(&component.cholesky, &device).require_grad(),
            })
            .collect();

        let loss = mixture_nll_each(leaves.clone(), rows(&[0.0, 0.0], &device)).sum();
        let gradients = loss.backward();

        let gradients = leaves.iter().map(|leaf| {
            [&leaf.mean, &leaf.cholesky].map(|leaf| values(leaf.grad(&gradients).unwrap()))
        });
        (values(loss)[0], gradients.collect())
    }

    /// Density and `∂ ln N / ∂ mean` of one component at the origin, in f64.
    fn closed_form(component: &Component) -> (f64, [f64; 2]) {
        let [l11, l21, l22] = component.cholesky.map(f64::from);
        let residual = component.mean.map(|m| -f64::from(m));
        let z = [residual[0] / l11, (residual[1] - l21 * residual[0] / l11) / l22];
        let u1 = z[1] / l22;
        let density = (-0.5 * (z[0] * z[0] + z[1] * z[1])).exp() / (TAU * l11 * l22);
        (density, [(z[0] - l21 * u1) / l11, u1])
    }

    proptest! {
        /// The gradient by the mean of a component is minus its share of the density times
        /// `∂ ln N / ∂ mean`.
        #[test]
        fn loss_and_gradients_are_the_closed_form(
            means in prop::array::uniform3(prop::array::uniform2(-5_f32..5.0)),
            sigmas in prop::array::uniform3(0.5_f32..8.0),
            slope in -2_f32..2.0,
            split in 0.05_f64..0.9,
        ) {
            let weights = [0.05, split, 0.95 - split];
            let components: Vec<Component> = (0..3).map(|k| Component {
                weight: weights[k],
                mean: means[k],
                cholesky: [sigmas[k], slope, sigmas[(k + 1) % 3]],
            }).collect();

            let (loss, gradients) = by_autodiff(&components);

            let terms: Vec<_> = components.iter().map(closed_form).collect();
            let density: f64 = components.iter().zip(&terms).map(|(c, (n, _))| c.weight * n).sum();
            prop_assert!((loss + density.ln()).abs() < 1e-4, "{} is not {}", loss, -density.ln());
            for ((component, (n, by_mean)), gradient) in
                components.iter().zip(&terms).zip(&gradients)
            {
                let share = component.weight * n / density;
                for (gradient, by_mean) in gradient[0].iter().zip(by_mean) {
                    prop_assert!((gradient + share * by_mean).abs() < 1e-3 * (1.0 + by_mean.abs()));
                }
            }
        }
    }

    #[test]
    fn one_component_is_a_gaussian() {
        let device = Device::flex();
        let (mean, cholesky) = (rows(&[3.0, -1.0], &device), rows(&[2.0, 0.5, 1.0], &device));
        let target = rows(&[0.0, 0.5], &device);
        let alone = MixtureComponent {
            log_weight: rows(&[0.0], &device),
            mean: mean.clone(),
            cholesky: cholesky.clone(),
        };

        let mixture = mixture_nll_each(vec![alone], target.clone());

        let expected = values(gaussian_nll_each(mean, cholesky, target))[0];
        assert!((values(mixture)[0] - expected).abs() < 1e-6);
    }

    /// Where one component is hopeless, the loss is that of the other, and so are its gradients.
    #[test]
    fn extreme_components_leave_loss_and_gradients_finite() {
        for sigma in [1e-6_f32, 1.0, 1e6] {
            for residual in [0.0_f32, 1e4] {
                let extreme =
                    Component { weight: 0.5, mean: [residual, 0.0], cholesky: [sigma, 0.0, sigma] };
                let near = Component { weight: 0.5, mean: [1.0, 0.0], cholesky: [10.0, 0.0, 10.0] };

                let (loss, gradients) = by_autodiff(&[extreme, near]);

                let case = format!("sigma {sigma}, residual {residual}");
                assert!(loss.is_finite(), "{case}: {loss}");
                let all: Vec<f64> = gradients.concat().concat();
                assert!(all.iter().all(|gradient| gradient.is_finite()), "{case}: {all:?}");
                if residual > 0.0 {
                    let (density, _) = closed_form(&near);
                    let expected = -(0.5 * density).ln();
                    assert!((loss - expected).abs() < 0.01, "{case}: {loss} is not {expected}");
                }
            }
        }
    }
}
