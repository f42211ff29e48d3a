//! Weights of the events, so that rare numbers of hearing receivers are not forgotten.

use heimdall_data::{DataError, HeimdallDataset};
use serde::{Deserialize, Serialize};

/// How the loss of an event depends on how many receivers detect it.
///
/// Weights are scaled such that their mean over the training split is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassWeights {
    /// Every event counts alike.
    #[default]
    None,
    /// Every number of receivers counts alike: an event counts by the inverse of how often its
    /// number occurs.
    Inverse,
    /// In between: by the inverse of the root of how often its number occurs.
    InverseSquareRoot,
}

impl ClassWeights {
    /// Computes the weight of an event by the number of receivers that detect it, from none up to
    /// all; `None` if all count alike.
    pub(crate) fn measure(self, training: &HeimdallDataset) -> Result<Option<Vec<f32>>, DataError> {
        if self == Self::None {
            return Ok(None);
        }
        let mut counts = vec![0_usize; training.header().shape.receivers + 1];
        for index in 0..training.len() {
            let (_, features) = training.get(index)?;
            counts[features.hearing_receivers()] += 1;
        }
        Ok(Some(self.of(&counts)))
    }

    /// Computes weights from how often each number occurs. One that never does has the weight of
    /// one that occurs once, and no event has it.
    fn of(self, counts: &[usize]) -> Vec<f32> {
        let raw = |&count: &usize| {
            let count = count.max(1) as f64;
            match self {
                Self::None => 1.0,
                Self::Inverse => count.recip(),
                Self::InverseSquareRoot => count.sqrt().recip(),
            }
        };
        let events = counts.iter().sum::<usize>() as f64;
        let mean = counts.iter().map(|count| *count as f64 * raw(count)).sum::<f64>() / events;
        // Single precision, as the loss.
        counts.iter().map(|count| (raw(count) / mean) as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::synthetic;

    /// By hand, of 16 events with three numbers that occur: the inverses have the mean 3/16, and one
    /// that never occurs weighs as if it did once.
    #[test]
    fn rare_numbers_weigh_more() {
        let counts = [4, 9, 0, 3];
        let events: f64 = 16.0;

        let inverse = ClassWeights::Inverse.of(&counts);
        let root = ClassWeights::InverseSquareRoot.of(&counts);

        for (weight, count) in inverse.iter().zip([4.0, 9.0, 1.0, 3.0]) {
            assert!((f64::from(*weight) - 16.0 / 3.0 / count).abs() < 1e-5, "{inverse:?}");
        }
        let mean = |weights: &[f32]| {
            let sum: f64 = weights.iter().zip(counts).map(|(w, c)| f64::from(*w) * c as f64).sum();
            sum / events
        };
        assert!((mean(&inverse) - 1.0).abs() < 1e-6 && (mean(&root) - 1.0).abs() < 1e-6);
        assert!((root[0] / root[1] - 1.5).abs() < 1e-5, "{root:?}");
    }

    #[test]
    fn weights_are_those_of_the_training_split() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = synthetic(folder.path(), 30, 3);

        let weights = ClassWeights::Inverse.measure(&dataset).unwrap().unwrap();

        let heard = |index: usize| dataset.get(index).unwrap().1.hearing_receivers();
        let sum: f32 = (0..30).map(|index| weights[heard(index)]).sum();
        assert!((sum / 30.0 - 1.0).abs() < 1e-5, "{weights:?}");
        assert_eq!(ClassWeights::None.measure(&dataset).unwrap(), None);
    }
}
