//! The same network where something is not as it was in training: another world, a receiver less.

use heimdall_data::HeimdallDataset;

use super::{Judge, Known};
use crate::evaluation::figures;
use crate::predict::Prediction;
use crate::{EvaluatedEvent, OtherWorld, ReceiverLoss, TrainError};

impl Judge<'_> {
    /// Measures the network on events of another world, with what was calibrated in the one that it
    /// knows.
    pub(super) fn other_world(&self, known: &Known) -> Result<OtherWorld, TrainError> {
        let events = known.evaluate(self)?;
        let metrics = figures(&events.iter().collect::<Vec<_>>(), self.recalibration);
        Ok(OtherWorld { metrics, shift: self.shift(known) })
    }

    /// Measures the network on the test events that a receiver detects, with it and without it, for
    /// each receiver in turn; `events` is what it says with all of them.
    pub(super) fn without_receivers(
        &self,
        test: &HeimdallDataset,
        events: &[EvaluatedEvent],
        predict: impl Fn(&HeimdallDataset) -> Result<Vec<Prediction>, TrainError>,
    ) -> Result<Vec<ReceiverLoss>, TrainError> {
        let detected_by = (0..test.len())
            .map(|index| {
                let (_, features) = test.get(index)?;
                let detected = features.scalars.iter().map(|s| s.is_some_and(|s| s.detected));
                Ok(detected.collect())
            })
            .collect::<Result<Vec<Vec<bool>>, TrainError>>()?;
        let receivers = test.header().receivers.iter().enumerate();
        receivers
            .map(|(receiver, named)| {
                let detected: Vec<usize> =
                    (0..test.len()).filter(|&event| detected_by[event][receiver]).collect();
                let with: Vec<&EvaluatedEvent> =
                    detected.iter().map(|&event| &events[event]).collect();
                let set = test.subset(&detected).without_receiver(receiver);
                let without = Known::read(&set, predict(&set)?)?.evaluate(self)?;
                Ok(ReceiverLoss {
                    receiver: named.name.clone(),
                    with: figures(&with, self.recalibration),
                    without: figures(&without.iter().collect::<Vec<_>>(), self.recalibration),
                })
            })
            .collect()
    }
}
