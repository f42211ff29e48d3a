//! What the network says about an event.

use burn::tensor::activation::softplus;
use burn::tensor::{Tensor, TensorData};

use crate::{CovarianceKind, Standardization};

/// The least standard deviation that an estimate has, as a share of the spread of the positions.
///
/// It is added to the softplus, so that an estimate can approach but not reach it.
pub const DEVIATION_FLOOR: f64 = 1e-3;

/// A position and its uncertainty, as a Gaussian in the local plane.
#[derive(Clone, Debug)]
pub struct Estimate {
    /// Mean, `[batch, 2]`: east and north of the frame's origin, in km.
    pub mean_km: Tensor<2>,
    /// Cholesky factor of the covariance, `[batch, 3]`: `l11` (east), `l21` and `l22` (north), in
    /// km. `l11` and `l22` are above zero; `l21` is zero where the covariance is diagonal.
    pub cholesky_km: Tensor<2>,
}

impl Estimate {
    /// Makes an estimate in km of the outputs of the two heads.
    ///
    /// The mean is `position · deviation + mean`, axis by axis. With `a`, `c` the outputs for the
    /// diagonal and `b` the one between them, the Cholesky factor is `softplus(a)`, `b`,
    /// `softplus(c)`, with [`DEVIATION_FLOOR`] added on the diagonal and each row scaled by the
    /// deviation of its axis. Nothing is clamped: a clamp has no gradient.
    ///
    /// # Shapes
    ///
    /// - `position`: `[batch, 2]`, standardized
    /// - `uncertainty`: `[batch, 2]` with `a`, `c` if diagonal, else `[batch, 3]` with `a`, `b`, `c`
    pub(crate) fn from_heads(
        position: Tensor<2>,
        uncertainty: Tensor<2>,
        covariance: CovarianceKind,
        standardization: &Standardization,
    ) -> Self {
        let device = position.device();
        let row = |values: &[f32]| {
            Tensor::<2>::from_data(TensorData::new(values.to_vec(), [1, values.len()]), &device)
        };
        let [east_km, north_km] = standardization.position_deviation_km;
        let mean_km = position * row(&[east_km, north_km]) + row(&standardization.position_mean_km);

        let diagonal = |raw: Tensor<2>| softplus(raw, 1.0) + DEVIATION_FLOOR;
        let last = covariance.head_outputs() - 1;
        let first = diagonal(uncertainty.clone().narrow(1, 0, 1));
        let below = match covariance {
            CovarianceKind::Diagonal => first.zeros_like(),
            CovarianceKind::Full => uncertainty.clone().narrow(1, 1, 1),
        };
        let second = diagonal(uncertainty.narrow(1, last, 1));
        let cholesky_km =
            Tensor::cat(vec![first, below, second], 1) * row(&[east_km, north_km, north_km]);
        Self { mean_km, cholesky_km }
    }

    /// Outputs of the uncertainty head at which the standard deviations are the spread of the
    /// positions, without correlation.
    pub(crate) fn neutral_uncertainty(covariance: CovarianceKind) -> Vec<f32> {
        // The inverse of softplus at `1 − floor`; the result is far inside of the range of f32.
        let raw = (1.0 - DEVIATION_FLOOR).exp_m1().ln() as f32;
        match covariance {
            CovarianceKind::Diagonal => vec![raw, raw],
            CovarianceKind::Full => vec![raw, 0.0, raw],
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn standardization() -> Standardization {
        Standardization {
            position_mean_km: [10.0, -20.0],
            position_deviation_km: [80.0, 50.0],
            ..Standardization::identity(1)
        }
    }

    fn estimate(position: [f32; 2], uncertainty: &[f32], kind: CovarianceKind) -> [Vec<f32>; 2] {
        let device = Device::flex();
        let columns = uncertainty.len();
        let uncertainty = TensorData::new(uncertainty.to_vec(), [1, columns]);

        let estimate = Estimate::from_heads(
            Tensor::from_data([position], &device),
            Tensor::from_data(uncertainty, &device),
            kind,
            &standardization(),
        );

        [estimate.mean_km, estimate.cholesky_km].map(|x| x.into_data().try_to_vec::<f32>().unwrap())
    }

    /// softplus(0) = ln 2; the rows of the factor carry the deviation of their axis.
    #[test]
    fn outputs_are_scaled_to_km() {
        let [mean_km, cholesky_km] = estimate([0.5, -1.0], &[0.0, 0.3, 0.0], CovarianceKind::Full);

        let diagonal = 2_f32.ln() + 0.001;
        let expected = [80.0 * diagonal, 50.0 * 0.3, 50.0 * diagonal];
        assert_eq!(mean_km, [0.5 * 80.0 + 10.0, -50.0 - 20.0]);
        for (value, expected) in cholesky_km.into_iter().zip(expected) {
            assert!((value - expected).abs() < 1e-5, "{value} is not {expected}");
        }
    }

    #[test]
    fn diagonal_covariance_has_no_correlation() {
        let [_, cholesky_km] = estimate([0.0, 0.0], &[30.0, -1.0], CovarianceKind::Diagonal);

        // softplus(30) is 30 within f32, softplus(−1) is ln(1 + 1/e).
        let north_km = 50.0 * ((-1_f32).exp().ln_1p() + 0.001);
        assert!((cholesky_km[0] - 80.0 * 30.001).abs() < 1e-3, "{cholesky_km:?}");
        assert!(cholesky_km[1].abs() < f32::MIN_POSITIVE, "{cholesky_km:?}");
        assert!((cholesky_km[2] - north_km).abs() < 1e-5, "{cholesky_km:?}");
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
