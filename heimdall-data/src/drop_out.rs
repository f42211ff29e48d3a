//! Receivers that are taken away while a network learns, so that a missing one is nothing new.

use heimdall_features::FeatureMap;

use crate::DataError;

/// Receivers that a fix by delays takes.
const FIX_RECEIVERS_MIN: usize = 3;

/// Takes receivers away at random, the same ones whenever an epoch of a seed sees an event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ReceiverDropOut {
    probability: f64,
}

impl ReceiverDropOut {
    /// Takes each receiver away with a probability.
    pub(crate) fn new(probability: f64) -> Result<Self, DataError> {
        if !(0.0..1.0).contains(&probability) {
            let field = "receiver_drop_out";
            return Err(DataError::InvalidProbability { field, actual: probability });
        }
        Ok(Self { probability })
    }

    /// Takes receivers away from an event. At least one of those that recorded it stays; the
    /// classical fix goes when fewer than three receivers that detect the signal are left, from
    /// which it could not have been made.
    pub(crate) fn apply(self, features: &mut FeatureMap, seed: u64, epoch: usize, event: &str) {
        let present: Vec<usize> =
            (0..features.scalars.len()).filter(|&r| features.scalars[r].is_some()).collect();
        if self.probability <= 0.0 || present.len() < 2 {
            return;
        }
        let mut hasher = blake3::Hasher::new_derive_key("heimdall receiver drop-out");
        hasher.update(&seed.to_le_bytes()).update(&(epoch as u64).to_le_bytes());
        let mut random = hasher.update(event.as_bytes()).finalize_xof();
        let mut draw = || {
            let mut word = [0; 8];
            random.fill(&mut word);
            u64::from_le_bytes(word)
        };

        // The upper 53 bits are what a double holds exactly.
        let mut unit = || (draw() >> 11) as f64 / (1_u64 << 53) as f64;
        let mut dropped: Vec<usize> =
            present.iter().copied().filter(|_| unit() < self.probability).collect();
        if dropped.len() == present.len() {
            // Below the length, which is that of a vector in memory.
            let kept = (unit() * dropped.len() as f64) as usize;
            dropped.remove(kept);
        }
        for &receiver in &dropped {
            features.remove_receiver(receiver);
        }
        if !dropped.is_empty() && features.hearing_receivers() < FIX_RECEIVERS_MIN {
            features.fix = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use heimdall_features::FeatureShape;

    use super::*;
    use crate::testing::feature_map;

    fn complete(event: usize) -> FeatureMap {
        let shape = FeatureShape { receivers: 5, bands: 2, frames: 2 };
        let mut features = feature_map(shape, event);
        for receiver in 0..5 {
            features.scalars[receiver] = features.scalars[4];
            features.scalars[receiver].as_mut().unwrap().detected = true;
        }
        features
    }

    fn dropped(probability: f64, seed: u64, epoch: usize, event: &str) -> FeatureMap {
        let mut features = complete(4);
        ReceiverDropOut::new(probability).unwrap().apply(&mut features, seed, epoch, event);
        features
    }

    #[test]
    fn choice_depends_on_seed_epoch_and_event_alone() {
        let choices = |seed, epoch| -> Vec<_> {
            (0..20).map(|event| dropped(0.4, seed, epoch, &event.to_string()).scalars).collect()
        };

        assert_eq!(choices(1, 1), choices(1, 1));
        assert_ne!(choices(1, 1), choices(1, 2));
        assert_ne!(choices(1, 1), choices(2, 1));
    }

    /// Of 5 · 2,000 receivers 30 % are dropped: 3,000 ± 5 · 46.
    #[test]
    fn share_is_the_probability() {
        let count = |event: usize| {
            dropped(0.3, 1, 1, &event.to_string()).scalars.iter().filter(|s| s.is_none()).count()
        };

        let total: usize = (0..2000).map(count).sum();

        assert!(total.abs_diff(3000) < 230, "{total}");
    }

    #[test]
    fn what_is_dropped_is_as_if_it_had_recorded_nothing() {
        for event in 0..50 {
            let features = dropped(0.9, 3, 1, &event.to_string());

            let present = features.scalars.iter().flatten().count();
            assert!(present >= 1, "all dropped");
            assert_eq!(features.fix.is_some(), present >= 3, "{present} receivers");
            let levels = features.levels_db.chunks(4);
            for ((levels_db, scalars), before) in
                levels.zip(&features.scalars).zip(complete(4).levels_db.chunks(4))
            {
                let expected = if scalars.is_some() { before } else { &[0.0; 4] };
                assert_eq!(levels_db, expected);
            }
        }
    }

    #[test]
    fn probability_of_zero_changes_nothing_and_others_are_refused() {
        assert_eq!(dropped(0.0, 1, 1, "a"), complete(4));
        for probability in [-0.1, 1.0, f64::NAN] {
            let error = ReceiverDropOut::new(probability).unwrap_err();

            assert!(matches!(error, DataError::InvalidProbability { .. }), "{error}");
        }
    }
}
