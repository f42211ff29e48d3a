//! What an estimate must beat: positions that take no learning.

use heimdall_features::ReceiverScalars;
use heimdall_geo::{LocalPosition, weighted_centroid};

/// Where the receivers stand, and what an event is worth that none of them hears.
#[derive(Clone, Debug)]
pub(crate) struct ReceiverLayout {
    receivers: Vec<LocalPosition>,
    mean: LocalPosition,
}

impl ReceiverLayout {
    /// Takes note of where the receivers stand; there must be at least one.
    pub(crate) fn new(receivers: Vec<LocalPosition>) -> Self {
        let count = receivers.len() as f64;
        let mean = LocalPosition {
            east_km: receivers.iter().map(|receiver| receiver.east_km).sum::<f64>() / count,
            north_km: receivers.iter().map(|receiver| receiver.north_km).sum::<f64>() / count,
        };
        Self { receivers, mean }
    }

    /// Receivers that detect an event, with the SNR in dB.
    fn hearing(&self, scalars: &[Option<ReceiverScalars>]) -> Vec<(LocalPosition, f64)> {
        self.receivers
            .iter()
            .zip(scalars)
            .filter_map(|(&position, scalars)| {
                let scalars = scalars.filter(|scalars| scalars.detected)?;
                Some((position, f64::from(scalars.snr_db)))
            })
            .collect()
    }

    /// Number of receivers that detect an event.
    pub(crate) fn hearing_receivers(&self, scalars: &[Option<ReceiverScalars>]) -> usize {
        self.hearing(scalars).len()
    }

    /// The centroid of the receivers that detect an event, weighted by `10^(SNR / 20)`; the mean of
    /// all receivers where none does.
    pub(crate) fn centroid(&self, scalars: &[Option<ReceiverScalars>]) -> LocalPosition {
        weighted_centroid(&self.hearing(scalars)).unwrap_or(self.mean)
    }

    /// The receiver with the highest SNR among those that detect an event; the mean of all
    /// receivers where none does.
    pub(crate) fn strongest(&self, scalars: &[Option<ReceiverScalars>]) -> LocalPosition {
        let hearing = self.hearing(scalars);
        let strongest = hearing.iter().max_by(|a, b| a.1.total_cmp(&b.1));
        strongest.map_or(self.mean, |&(position, _)| position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> ReceiverLayout {
        let local = |east_km, north_km| LocalPosition { east_km, north_km };
        ReceiverLayout::new(vec![local(0.0, 0.0), local(30.0, 0.0), local(0.0, 60.0)])
    }

    fn heard(snr_db: f32, detected: bool) -> Option<ReceiverScalars> {
        Some(ReceiverScalars {
            power_db: -50.0,
            noise_psd_db: -90.0,
            snr_db,
            bandwidth_hz: 8000.0,
            kurtosis: 1.5,
            detected,
        })
    }

    fn assert_near(position: LocalPosition, east_km: f64, north_km: f64) {
        let expected = LocalPosition { east_km, north_km };
        assert!(position.distance_km(&expected) < 1e-6, "{position:?} is not {expected:?}");
    }

    /// By hand: 20 dB weigh 10, 0 dB weigh 1, so 30 / 11 to the east.
    #[test]
    fn receivers_weigh_as_they_hear() {
        let scalars = [heard(20.0, true), heard(0.0, true), None];

        assert_near(layout().centroid(&scalars), 30.0 / 11.0, 0.0);
        assert_near(layout().strongest(&scalars), 0.0, 0.0);
        assert_eq!(layout().hearing_receivers(&scalars), 2);
    }

    #[test]
    fn receiver_that_detects_nothing_does_not_count() {
        let scalars = [heard(20.0, false), None, heard(5.0, true)];

        assert_near(layout().centroid(&scalars), 0.0, 60.0);
        assert_near(layout().strongest(&scalars), 0.0, 60.0);
    }

    #[test]
    fn unheard_event_is_in_the_middle_of_the_receivers() {
        let scalars = [None, heard(1.0, false), None];

        assert_near(layout().centroid(&scalars), 10.0, 20.0);
        assert_near(layout().strongest(&scalars), 10.0, 20.0);
        assert_eq!(layout().hearing_receivers(&scalars), 0);
    }
}
