//! What a network says about each event of a set.

use std::f64::consts::TAU;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::module::Module;
use heimdall_data::{Batch, BatchOrder, Batcher, HeimdallDataset};
use heimdall_geo::{Covariance, LocalPosition};
use heimdall_model::{Ensemble, NetworkInput, SideInputs};

use crate::TrainError;

/// What a network says about an event, as numbers on the host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Prediction {
    pub(crate) mean_km: LocalPosition,
    pub(crate) covariance: Covariance,
}

impl Prediction {
    /// Squared Mahalanobis distance of the truth.
    pub(crate) fn mahalanobis_squared(&self, truth: LocalPosition) -> f64 {
        self.covariance.mahalanobis_squared(LocalPosition {
            east_km: truth.east_km - self.mean_km.east_km,
            north_km: truth.north_km - self.mean_km.north_km,
        })
    }

    /// Negative log-likelihood of the truth, in nats: `m² / 2 + ln √det Σ + ln 2π`.
    pub(crate) fn nll(&self, truth: LocalPosition) -> f64 {
        self.mahalanobis_squared(truth) / 2.0
            + self.covariance.determinant_km4().ln() / 2.0
            + TAU.ln()
    }
}

/// Lets a network in inference mode look at every event, in the order of the set.
///
/// Returns `None` when the caller asked to stop.
pub(crate) fn predict(
    network: &Ensemble,
    dataset: &HeimdallDataset,
    batch_size: usize,
    cancel: &AtomicBool,
) -> Result<Option<Vec<Prediction>>, TrainError> {
    let devices = network.devices();
    let device = devices.first().expect("a network has weights, and they are on a device");
    let batcher = Batcher::new(dataset, batch_size)?;
    let mut predictions = Vec::with_capacity(dataset.len());
    for batch in batcher.iter(BatchOrder::Stored, device) {
        if cancel.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let batch = batch?;
        let events = batch.events.clone();
        let estimate = network.forward(network_input(batch));
        let means: Vec<f32> = read(estimate.mean_km);
        let factors: Vec<f32> = read(estimate.cholesky_km);
        let (means, _) = means.as_chunks::<2>();
        let (factors, _) = factors.as_chunks::<3>();
        for ((mean, factor), &event) in means.iter().zip(factors).zip(&events) {
            let [east_km, north_km] = mean.map(f64::from);
            let [l11_km, l21_km, l22_km] = factor.map(f64::from);
            let prediction = Prediction {
                mean_km: LocalPosition { east_km, north_km },
                covariance: Covariance::from_cholesky(l11_km, l21_km, l22_km),
            };
            let finite = mean.iter().chain(factor).all(|value| value.is_finite());
            if !(finite && prediction.covariance.is_positive_definite()) {
                let event = dataset.labels()[event].event.clone();
                return Err(TrainError::NonFiniteEstimate { event });
            }
            predictions.push(prediction);
        }
    }
    Ok(Some(predictions))
}

/// Hands a network what a batch holds.
pub(crate) fn network_input(batch: Batch) -> NetworkInput {
    NetworkInput {
        levels_db: batch.levels,
        side: Some(SideInputs {
            scalars: batch.scalars,
            mask: batch.mask,
            receivers_km: batch.receivers_km,
            fix_km: batch.fix_km,
            fix_covariance_km2: batch.fix_covariance_km2,
            fix_status: batch.fix_status,
        }),
    }
}

/// Brings a tensor to the host.
fn read(tensor: burn::tensor::Tensor<2>) -> Vec<f32> {
    tensor.try_into_vec_as().expect("a network computes in single precision")
}

/// Positions of a set whose events are all labelled.
pub(crate) fn truths(dataset: &HeimdallDataset) -> Vec<LocalPosition> {
    let labels = dataset.labels().iter();
    labels.map(|label| label.position_km.expect("a batcher accepted the set")).collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData};
    use heimdall_loss::gaussian_nll;

    use super::*;
    use crate::testing::{synthetic, untrained};

    /// The loss that trains and the figure that is reported are one formula.
    #[test]
    fn likelihood_is_the_one_that_the_network_learned_from() {
        let [east_km, north_km] = [12.0, -7.0];
        let [l11_km, l21_km, l22_km] = [5.0, -2.0, 3.0];
        let truth = LocalPosition { east_km: 10.5, north_km: -1.25 };
        let prediction = Prediction {
            mean_km: LocalPosition { east_km, north_km },
            covariance: Covariance::from_cholesky(l11_km, l21_km, l22_km),
        };

        let nll = prediction.nll(truth);

        let row = |values: &[f64]| {
            let data = TensorData::new(values.to_vec(), [1, values.len()]).convert::<f32>();
            Tensor::<2>::from_data(data, &Device::flex())
        };
        let expected = gaussian_nll(
            row(&[east_km, north_km]),
            row(&[l11_km, l21_km, l22_km]),
            row(&[truth.east_km, truth.north_km]),
        );
        let expected = f64::from(expected.into_scalar::<f32>());
        assert!((nll - expected).abs() < 1e-5, "{nll} is not {expected}");
    }

    /// In inference mode an event's estimate does not depend on the events beside it.
    #[test]
    fn batch_size_does_not_matter() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = synthetic(folder.path(), 7, 1);
        let network = untrained(&dataset).network;
        let cancel = AtomicBool::new(false);

        let single = predict(&network, &dataset, 1, &cancel).unwrap().unwrap();
        let many = predict(&network, &dataset, 4, &cancel).unwrap().unwrap();

        assert_eq!(single.len(), 7);
        for (single, many) in single.iter().zip(&many) {
            assert!(single.mean_km.distance_km(&many.mean_km) < 1e-3, "{single:?}, {many:?}");
        }
    }

    #[test]
    fn raised_flag_stops() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = synthetic(folder.path(), 3, 1);
        let network = untrained(&dataset).network;

        assert_eq!(predict(&network, &dataset, 2, &AtomicBool::new(true)).unwrap(), None);
    }
}
