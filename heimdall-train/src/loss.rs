//! What a network is told about how wrong it is.

use burn::tensor::Tensor;
use heimdall_loss::{
    MixtureComponent, beta_nll_each, gaussian_nll_each, mean_square_each, mixture_nll_each,
};
use heimdall_model::{Estimate, Standardization};
use serde::{Deserialize, Serialize};

use crate::TrainError;

/// What a network is told about how wrong it is: the negative log-likelihood of the truth, by
/// default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossConfig {
    /// Power of the stated variance by which the likelihood of an event is weighted, without a
    /// gradient: 0 is plain likelihood, 0.5 lets events count of which the network is unsure, and
    /// with 1 all residuals count alike.
    pub beta: f64,
    /// First epochs in which only the positions are learned, from the mean square of their errors in
    /// units of the spread.
    pub mean_square_epochs: usize,
}

impl LossConfig {
    /// Checks the rules that the types of the fields cannot express, for so many components.
    pub(crate) fn validate(&self, components: usize) -> Result<(), TrainError> {
        let invalid = |expected| {
            Err(TrainError::InvalidConfig { field: "loss.beta", expected, actual: self.beta })
        };
        if !(0.0..=1.0).contains(&self.beta) {
            return invalid("between 0 and 1");
        }
        if components > 1 && self.beta > 0.0 {
            return invalid("0 where `model.components` is above 1");
        }
        Ok(())
    }

    /// Computes the loss of a batch: of every event, weighted.
    ///
    /// # Shapes
    ///
    /// - `target_km`: `[batch, 2]`; `weights`: `[batch, 1]`
    /// - returns: `[1]`
    pub(crate) fn of(
        &self,
        estimate: Estimate,
        target_km: Tensor<2>,
        weights: Option<Tensor<2>>,
        standardization: &Standardization,
        epoch: usize,
    ) -> Tensor<1> {
        let [east_km, north_km] = standardization.position_deviation_km.map(f64::from);
        let Estimate { mean_km, cholesky_km, components } = estimate;
        let each = if epoch <= self.mean_square_epochs {
            mean_square_each(mean_km, target_km, [east_km, north_km])
        } else if components.len() > 1 {
            let components = components.into_iter().map(|component| MixtureComponent {
                log_weight: component.log_share,
                mean: component.mean_km,
                cholesky: component.cholesky_km,
            });
            mixture_nll_each(components.collect(), target_km)
        } else if self.beta > 0.0 {
            beta_nll_each(mean_km, cholesky_km, target_km, self.beta, east_km * north_km)
        } else {
            gaussian_nll_each(mean_km, cholesky_km, target_km)
        };
        match weights {
            // Over the training split their mean is 1; in a batch of rare events it is more.
            Some(weights) => (each * weights).mean(),
            None => each.mean(),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};
    use heimdall_model::EstimateComponent;

    use super::*;

    fn rows(values: &[f32], columns: usize, device: &Device) -> Tensor<2> {
        let data = TensorData::new(values.to_vec(), [values.len() / columns, columns]);
        Tensor::from_data(data, device)
    }

    /// Two events, of which the first is 3 km off at a deviation of 3 km, the second exact at 1 km.
    fn estimate(device: &Device) -> Estimate {
        Estimate::mixture(vec![EstimateComponent {
            log_share: Tensor::zeros([2, 1], device),
            mean_km: rows(&[3.0, 0.0, 5.0, 5.0], 2, device),
            cholesky_km: rows(&[3.0, 0.0, 3.0, 1.0, 0.0, 1.0], 3, device),
        }])
    }

    fn loss(config: &LossConfig, weights: Option<[f32; 2]>, epoch: usize) -> f64 {
        let device = Device::flex();
        let standardization =
            Standardization { position_deviation_km: [6.0, 1.5], ..Standardization::identity(1) };
        let target_km = rows(&[0.0, 0.0, 5.0, 5.0], 2, &device);
        let weights = weights.map(|weights| rows(&weights, 1, &device));
        let loss = config.of(estimate(&device), target_km, weights, &standardization, epoch);
        f64::from(loss.into_scalar::<f32>())
    }

    /// By hand: the events cost ½ + ln 9 + ln 2π and ln 2π nats, the first with a weight of
    /// `(9 / 9)^½` and the second `(1 / 9)^½`; the first is half a spread off: ⅛.
    #[test]
    fn each_kind_is_the_closed_form() {
        let tau = std::f64::consts::TAU.ln();
        let (first, second) = (0.5 + 9_f64.ln() + tau, tau);
        let plain = LossConfig::default();
        let beta = LossConfig { beta: 0.5, ..plain };
        let square = LossConfig { mean_square_epochs: 2, ..plain };

        for (loss, expected) in [
            (loss(&plain, None, 1), (first + second) / 2.0),
            (loss(&plain, Some([3.0, 1.0]), 1), (3.0 * first + second) / 2.0),
            (loss(&beta, None, 1), (first + second / 3.0) / 2.0),
            (loss(&square, None, 2), 0.125 / 2.0),
            (loss(&square, None, 3), (first + second) / 2.0),
        ] {
            assert!((loss - expected).abs() < 1e-5, "{loss} is not {expected}");
        }
    }

    #[test]
    fn powers_beyond_their_rules_are_refused() {
        for (beta, components) in [(-0.1, 1), (1.1, 1), (f64::NAN, 1), (0.5, 2)] {
            let error = LossConfig { beta, mean_square_epochs: 0 }.validate(components);

            assert!(matches!(error, Err(TrainError::InvalidConfig { field: "loss.beta", .. })));
        }
    }
}
