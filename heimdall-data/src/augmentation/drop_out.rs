//! Receivers that are taken away while a network learns, so that a missing one is nothing new.

use heimdall_features::FeatureMap;

use super::random::EventRandom;

/// Receivers that a fix by delays takes.
const FIX_RECEIVERS_MIN: usize = 3;

/// Takes receivers away, each with a probability. At least one of those that recorded the event
/// stays; the classical fix goes when fewer than three receivers that detect the signal are left,
/// from which it could not have been made.
pub(super) fn drop_receivers(features: &mut FeatureMap, probability: f64, mut random: EventRandom) {
    let present: Vec<usize> =
        (0..features.scalars.len()).filter(|&r| features.scalars[r].is_some()).collect();
    if present.len() < 2 {
        return;
    }
    let mut dropped: Vec<usize> =
        present.iter().copied().filter(|_| random.unit() < probability).collect();
    if dropped.len() == present.len() {
        // Below the length, which is that of a vector in memory.
        let kept = (random.unit() * dropped.len() as f64) as usize;
        dropped.remove(kept);
    }
    for &receiver in &dropped {
        features.remove_receiver(receiver);
    }
    if !dropped.is_empty() && features.hearing_receivers() < FIX_RECEIVERS_MIN {
        features.fix = None;
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
        let random = EventRandom::new("receiver drop-out", seed, epoch, event);
        drop_receivers(&mut features, probability, random);
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
}
