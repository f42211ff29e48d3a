//! What the network says about an event.

use burn::tensor::Tensor;
use burn::tensor::activation::softplus;

use crate::CovarianceKind;

/// The least standard deviation that an estimate without a classical fix has, as a share of the
/// spread of the positions.
///
/// Its square is added to the variances that the network states: no direction is surer.
pub const DEVIATION_FLOOR: f64 = 1e-3;

/// A position and its uncertainty in the local plane: a Gaussian, or a mixture of some.
#[derive(Clone, Debug)]
pub struct Estimate {
    /// Mean, `[batch, 2]`: east and north of the frame's origin, in km.
    pub mean_km: Tensor<2>,
    /// Cholesky factor of the covariance, `[batch, 3]`: `l11` (east), `l21` and `l22` (north), in
    /// km. `l11` and `l22` are above zero; `l21` is zero where the covariance is diagonal.
    pub cholesky_km: Tensor<2>,
    /// The Gaussians of which this is the mixture; a single one is the estimate itself.
    pub components: Vec<EstimateComponent>,
}

/// One of the Gaussians of which an [`Estimate`] is the mixture.
#[derive(Clone, Debug)]
pub struct EstimateComponent {
    /// Natural logarithm of its share, `[batch, 1]`; the shares of an event add up to one.
    pub log_share: Tensor<2>,
    /// Mean, `[batch, 2]`, in km.
    pub mean_km: Tensor<2>,
    /// Cholesky factor of the covariance, `[batch, 3]`, in km.
    pub cholesky_km: Tensor<2>,
}

impl EstimateComponent {
    /// Makes a Gaussian in km of the outputs of the two heads that speak of it.
    ///
    /// The mean is `position · unit + origin`, axis by axis. With `a`, `c` the outputs for the
    /// diagonal and `b` the one between them, the network states the Cholesky factor `softplus(a)`,
    /// `b`, `softplus(c)`, each row scaled by the unit of its axis. The floor of each axis is added to
    /// its variance, `Σ = L Lᵀ + diag(floor)`, so that no direction is surer than the lesser floor,
    /// however large `b` is. Nothing is clamped: a clamp has no gradient.
    ///
    /// # Shapes
    ///
    /// - `log_share`: `[batch, 1]`
    /// - `position`: `[batch, 2]`
    /// - `uncertainty`: `[batch, 2]` with `a`, `c` if diagonal, else `[batch, 3]` with `a`, `b`, `c`
    /// - `origin_km`, `unit_km` and `floor_km2`, a variance: `[batch or 1, 2]`
    pub(crate) fn from_heads(
        log_share: Tensor<2>,
        position: Tensor<2>,
        uncertainty: Tensor<2>,
        covariance: CovarianceKind,
        [origin_km, unit_km, floor_km2]: [Tensor<2>; 3],
    ) -> Self {
        let mean_km = position * unit_km.clone() + origin_km;

        let column = |x: &Tensor<2>, axis| x.clone().narrow(1, axis, 1);
        let last = covariance.head_outputs() - 1;
        let diagonal =
            |output, axis| softplus(column(&uncertainty, output), 1.0) * column(&unit_km, axis);
        let (first, second) = (diagonal(0, 0), diagonal(last, 1));
        let below = match covariance {
            CovarianceKind::Diagonal => first.zeros_like(),
            CovarianceKind::Full => column(&uncertainty, 1) * column(&unit_km, 1),
        };
        // The factor of the sum, without a difference in which a thin ellipse would be lost.
        let [east_km2, north_km2] = [0, 1].map(|axis| column(&floor_km2, axis));
        let l11 = (first.clone().square() + east_km2.clone()).sqrt();
        let l21 = first * below.clone() / l11.clone();
        let tilt_km2 = (below / l11.clone()).square() * east_km2;
        let l22 = (second.square() + north_km2 + tilt_km2).sqrt();
        let cholesky_km = Tensor::cat(vec![l11, l21, l22], 1);
        Self { log_share, mean_km, cholesky_km }
    }
}

impl Estimate {
    /// Makes the mixture of some Gaussians, with its mean and its covariance.
    ///
    /// With `w` the shares and `d` the differences of the means from `Σ w μ`, the covariance is
    /// `Σ w (L Lᵀ + d dᵀ)`: what the Gaussians are unsure of, and what they disagree on.
    ///
    /// # Panics
    ///
    /// If there are no components.
    ///
    /// # References
    ///
    /// B. Lakshminarayanan et al., "Simple and scalable predictive uncertainty estimation using deep
    /// ensembles", NeurIPS 2017, section 2.4, [arXiv:1612.01474](https://arxiv.org/abs/1612.01474).
    pub fn mixture(components: Vec<EstimateComponent>) -> Self {
        assert!(!components.is_empty(), "a mixture has components");
        if components.len() == 1 {
            let EstimateComponent { mean_km, cholesky_km, .. } = components[0].clone();
            return Self { mean_km, cholesky_km, components };
        }
        let shares: Vec<Tensor<2>> =
            components.iter().map(|component| component.log_share.clone().exp()).collect();
        let sum = |terms: Vec<Tensor<2>>| {
            terms.into_iter().reduce(|a, b| a + b).expect("there are components")
        };
        let weighted = |of: &dyn Fn(&EstimateComponent) -> Tensor<2>| {
            sum(components.iter().zip(&shares).map(|(c, share)| of(c) * share.clone()).collect())
        };
        let mean_km = weighted(&|component| component.mean_km.clone());
        let column = |x: &Tensor<2>, index| x.clone().narrow(1, index, 1);
        let second_moments = weighted(&|component| {
            let [l11, l21] = [0, 1].map(|index| column(&component.cholesky_km, index));
            let off = component.mean_km.clone() - mean_km.clone();
            let [east, north] = [0, 1].map(|index| column(&off, index));
            let east_east = l11.clone().square() + east.clone().square();
            let east_north = l11 * l21 + east * north;
            Tensor::cat(vec![east_east, east_north], 1)
        });

        let l11 = column(&second_moments, 0).sqrt();
        let l21 = column(&second_moments, 1) / l11.clone();
        // What north varies beside the line through east, as a sum of squares: a difference would
        // lose a thin ellipse in its rounding.
        let slope = l21.clone() / l11.clone();
        let l22 = weighted(&|component| {
            let [l11, l21, l22] = [0, 1, 2].map(|index| column(&component.cholesky_km, index));
            let off = component.mean_km.clone() - mean_km.clone();
            let [east, north] = [0, 1].map(|index| column(&off, index));
            (l21 - slope.clone() * l11).square()
                + l22.square()
                + (north - slope.clone() * east).square()
        })
        .sqrt();
        let cholesky_km = Tensor::cat(vec![l11, l21, l22], 1);
        Self { mean_km, cholesky_km, components }
    }

    /// Takes the standard deviations along both axes, `[batch, 2]`, in km.
    pub fn sigma_km(&self) -> Tensor<2> {
        let column = |index| self.cholesky_km.clone().narrow(1, index, 1);
        let north_km = (column(1).square() + column(2).square()).sqrt();
        Tensor::cat(vec![column(0), north_km], 1)
    }

    /// Outputs of the uncertainty head at which the standard deviations are the spread of the
    /// positions, without correlation.
    pub(crate) fn neutral_uncertainty(covariance: CovarianceKind) -> Vec<f32> {
        // The inverse of softplus where the floor makes it one; far inside of the range of f32.
        let raw = (1.0 - DEVIATION_FLOOR.powi(2)).sqrt().exp_m1().ln() as f32;
        match covariance {
            CovarianceKind::Diagonal => vec![raw, raw],
            CovarianceKind::Full => vec![raw, 0.0, raw],
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    fn estimate(position: [f32; 2], uncertainty: &[f32], kind: CovarianceKind) -> [Vec<f32>; 2] {
        let device = Device::flex();
        let columns = uncertainty.len();
        let uncertainty = TensorData::new(uncertainty.to_vec(), [1, columns]);

        let estimate = EstimateComponent::from_heads(
            Tensor::zeros([1, 1], &device),
            Tensor::from_data([position], &device),
            Tensor::from_data(uncertainty, &device),
            kind,
            [[[10.0, -20.0]], [[80.0, 50.0]], [[0.0064, 0.0025]]]
                .map(|row| Tensor::from_data(row, &device)),
        );

        [estimate.mean_km, estimate.cholesky_km].map(|x| x.into_data().try_to_vec::<f32>().unwrap())
    }

    /// softplus(0) = ln 2; the rows of the factor carry the deviation of their axis, beside which the
    /// floors of 80 m and 50 m do not count.
    #[test]
    fn outputs_are_scaled_to_km() {
        let [mean_km, cholesky_km] = estimate([0.5, -1.0], &[0.0, 0.3, 0.0], CovarianceKind::Full);

        let diagonal = 2_f32.ln();
        let expected = [80.0 * diagonal, 50.0 * 0.3, 50.0 * diagonal];
        assert_eq!(mean_km, [0.5 * 80.0 + 10.0, -50.0 - 20.0]);
        for (value, expected) in cholesky_km.into_iter().zip(expected) {
            assert!((value - expected).abs() < 1e-4, "{value} is not {expected}");
        }
    }

    #[test]
    fn diagonal_covariance_has_no_correlation() {
        let [_, cholesky_km] = estimate([0.0, 0.0], &[30.0, -1.0], CovarianceKind::Diagonal);

        // softplus(30) is 30 within f32, softplus(−1) is ln(1 + 1/e).
        let north_km = 50.0 * (-1_f32).exp().ln_1p();
        assert!((cholesky_km[0] - 2400.0).abs() < 1e-3, "{cholesky_km:?}");
        assert!(cholesky_km[1].abs() < f32::MIN_POSITIVE, "{cholesky_km:?}");
        assert!((cholesky_km[2] - north_km).abs() < 1e-4, "{cholesky_km:?}");
    }

    /// The covariance is that of the factor without a floor, and the floors on its diagonal: of a
    /// network that states next to no deviation, a large correlation changes nothing of that.
    #[test]
    fn no_direction_is_surer_than_the_floor() {
        for below in [0.0, 0.3, -100.0] {
            let [_, cholesky_km] =
                estimate([0.0, 0.0], &[-30.0, below, -30.0], CovarianceKind::Full);

            let [l11, l21, l22] = [0, 1, 2].map(|index| f64::from(cholesky_km[index]));
            let [east, both, north] = [l11 * l11, l11 * l21, l21 * l21 + l22 * l22];
            let expected = [0.0064, 0.0, 0.0025 + (50.0 * f64::from(below)).powi(2)];
            for (entry, expected) in [east, both, north].into_iter().zip(expected) {
                assert!((entry - expected).abs() < 1e-6 * (1.0 + expected), "{below}: {entry}");
            }
        }
    }

    /// Two halves on a line of 100 km at 45°, each 20 m wide across it: by hand, the short axis of
    /// the whole is that of a half.
    #[test]
    fn thin_mixture_keeps_its_short_axis() {
        let device = Device::flex();
        let half = |km: f32| EstimateComponent {
            log_share: Tensor::from_data([[0.5_f32.ln()]], &device),
            mean_km: Tensor::from_data([[km, km]], &device),
            cholesky_km: Tensor::from_data([[0.02, 0.0, 0.02]], &device),
        };

        let mixture = Estimate::mixture(vec![half(-50.0), half(50.0)]);

        let factor = mixture.cholesky_km.into_data().try_to_vec::<f32>().unwrap();
        // det Σ = (2500 + ε) · 2 ε with ε = 0.0004, of which l11² is 2500 + ε.
        let expected = (2.0_f32 * 0.0004).sqrt();
        assert!((factor[2] / expected - 1.0).abs() < 1e-3, "{factor:?}");
    }

    /// By hand: the north row of the factor is (3, 4), of length 5.
    #[test]
    fn deviations_are_the_lengths_of_the_rows() {
        let device = Device::flex();
        let estimate = Estimate::mixture(vec![EstimateComponent {
            log_share: Tensor::zeros([1, 1], &device),
            mean_km: Tensor::zeros([1, 2], &device),
            cholesky_km: Tensor::from_data([[2.0, 3.0, 4.0]], &device),
        }]);

        let sigma_km = estimate.sigma_km().into_data().try_to_vec::<f32>().unwrap();

        assert_eq!(sigma_km, [2.0, 5.0]);
    }

    /// By hand, with shares of ¼ and ¾: the mean is (3, 1.5), the means differ from it by (−3, −1.5)
    /// and (1, ½), so that they disagree by (3, 1.5, ¾); what the Gaussians are unsure of is
    /// ¼ (1, 0, 4) + ¾ (4, 2, 2) in the order east, east-north, north.
    #[test]
    fn mixture_has_the_moments_of_its_components() {
        let device = Device::flex();
        let component = |share: f32, mean: [f32; 2], cholesky: [f32; 3]| EstimateComponent {
            log_share: Tensor::from_data([[share.ln()]], &device),
            mean_km: Tensor::from_data([mean], &device),
            cholesky_km: Tensor::from_data([cholesky], &device),
        };

        let mixture = Estimate::mixture(vec![
            component(0.25, [0.0, 0.0], [1.0, 0.0, 2.0]),
            component(0.75, [4.0, 2.0], [2.0, 1.0, 1.0]),
        ]);

        let mean = mixture.mean_km.into_data().try_to_vec::<f32>().unwrap();
        let factor = mixture.cholesky_km.into_data().try_to_vec::<f32>().unwrap();
        assert!((mean[0] - 3.0).abs() < 1e-6 && (mean[1] - 1.5).abs() < 1e-6, "{mean:?}");
        let covariance = [
            factor[0] * factor[0],
            factor[0] * factor[1],
            factor[1] * factor[1] + factor[2] * factor[2],
        ];
        for (value, expected) in covariance.into_iter().zip([6.25, 3.0, 3.25]) {
            assert!((value - expected).abs() < 1e-5, "{covariance:?}");
        }
    }

    #[test]
    fn neutral_uncertainty_is_the_spread_of_the_positions() {
        for kind in [CovarianceKind::Diagonal, CovarianceKind::Full] {
            let neutral = Estimate::neutral_uncertainty(kind);

            let [_, cholesky_km] = estimate([0.0, 0.0], &neutral, kind);

            for (value, expected) in cholesky_km.into_iter().zip([80.0, 0.0, 50.0]) {
                assert!((value - expected).abs() < 1e-4, "{value} is not {expected}");
            }
        }
    }
}
