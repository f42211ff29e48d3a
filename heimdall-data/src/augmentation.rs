//! Events as they could have been recorded as well: what a network learns from besides the events
//! themselves.

mod drop_out;
mod random;

use heimdall_features::{FeatureMap, LevelReference};
use serde::{Deserialize, Serialize};

use self::drop_out::drop_receivers;
use self::random::EventRandom;
use crate::DataError;

/// How events are changed while a network learns from them, and only then. What happens to an event
/// depends on the seed of the run, the epoch and the name of the event alone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentation {
    /// Probability with which a receiver is taken away, so that a missing one is nothing new. One
    /// that recorded the event always stays.
    pub receiver_drop_out: f64,
    /// Standard deviation of the gain by which a receiver is made louder or quieter than it was, in
    /// dB: signal and noise together, so that nobody learns a gain that other receivers, or the same
    /// ones in another year, do not have. Where no noise was measured, the level is all there is, and
    /// stays.
    pub gain_deviation_db: f64,
    /// Standard deviation of noise on the level of each band and frame, in dB.
    pub level_noise_db: f64,
    /// Most frames by which the levels of an event are moved to earlier or later; the first or last
    /// frame is repeated.
    pub time_shift_frames: usize,
}

impl Default for Augmentation {
    fn default() -> Self {
        Self {
            receiver_drop_out: 0.1,
            gain_deviation_db: 3.0,
            level_noise_db: 0.0,
            time_shift_frames: 0,
        }
    }
}

impl Augmentation {
    /// Changes nothing.
    pub const NONE: Self = Self {
        receiver_drop_out: 0.0,
        gain_deviation_db: 0.0,
        level_noise_db: 0.0,
        time_shift_frames: 0,
    };

    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// [`DataError::InvalidAugmentation`] for the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), DataError> {
        let invalid = |field, expected, actual| {
            Err(DataError::InvalidAugmentation { field, expected, actual })
        };
        if !(0.0..1.0).contains(&self.receiver_drop_out) {
            let actual = self.receiver_drop_out;
            return invalid("receiver_drop_out", "at least 0 and below 1", actual);
        }
        let deviations = [
            ("gain_deviation_db", self.gain_deviation_db),
            ("level_noise_db", self.level_noise_db),
        ];
        match deviations.into_iter().find(|(_, db)| !(*db >= 0.0 && db.is_finite())) {
            Some((field, actual)) => invalid(field, "finite and at least 0", actual),
            None => Ok(()),
        }
    }

    /// Changes an event.
    pub(crate) fn apply(
        &self,
        features: &mut FeatureMap,
        level: LevelReference,
        seed: u64,
        epoch: usize,
        event: &str,
    ) {
        let random = |purpose| EventRandom::new(purpose, seed, epoch, event);
        if self.time_shift_frames > 0 {
            let random = random("heimdall time shift");
            shift_frames(features, self.time_shift_frames, random);
        }
        if self.gain_deviation_db > 0.0 {
            let random = random("heimdall gain of receivers");
            change_gains(features, self.gain_deviation_db, level, random);
        }
        if self.level_noise_db > 0.0 {
            let random = random("heimdall noise on levels");
            add_noise(features, self.level_noise_db, random);
        }
        if self.receiver_drop_out > 0.0 {
            let random = random("heimdall receiver drop-out");
            drop_receivers(features, self.receiver_drop_out, random);
        }
    }
}

/// Moves the levels of all receivers by the same number of frames.
fn shift_frames(features: &mut FeatureMap, frames_max: usize, mut random: EventRandom) {
    let frames = features.shape.frames;
    // Beyond all frames there is nothing but the first or the last one.
    let frames_max = frames_max.min(frames);
    let choices = 2 * frames_max + 1;
    // Below `choices`, which is that of frames in memory.
    let shift = (random.unit() * choices as f64) as usize;
    for row in features.levels_db.chunks_mut(frames.max(1)) {
        let before = row.to_vec();
        for (frame, level_db) in row.iter_mut().enumerate() {
            // The frame that comes to lie here, `frames_max` frames later when nothing moves.
            let source = (frame + shift).saturating_sub(frames_max).min(frames - 1);
            *level_db = before[source];
        }
    }
}

/// Gives each receiver that measured its noise another gain.
fn change_gains(
    features: &mut FeatureMap,
    deviation_db: f64,
    level: LevelReference,
    mut random: EventRandom,
) {
    let per_receiver = features.shape.bands * features.shape.frames;
    for (receiver, scalars) in features.scalars.iter_mut().enumerate() {
        // Drawn for absent receivers too, so that the gain of one does not depend on another.
        let gain_db = (deviation_db * random.normal()) as f32;
        let Some(scalars) = scalars.as_mut().filter(|scalars| !scalars.noise_psd_db.is_nan())
        else {
            continue;
        };
        scalars.power_db += gain_db;
        scalars.noise_psd_db += gain_db;
        if level == LevelReference::Absolute {
            let levels_db = &mut features.levels_db[receiver * per_receiver..][..per_receiver];
            levels_db.iter_mut().for_each(|level_db| *level_db += gain_db);
        }
    }
}

/// Adds noise to the levels of the receivers that are there.
fn add_noise(features: &mut FeatureMap, deviation_db: f64, mut random: EventRandom) {
    let per_receiver = features.shape.bands * features.shape.frames;
    for (receiver, scalars) in features.scalars.iter().enumerate() {
        if scalars.is_none() {
            continue;
        }
        for level_db in &mut features.levels_db[receiver * per_receiver..][..per_receiver] {
            *level_db += (deviation_db * random.normal()) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use heimdall_features::FeatureShape;

    use super::*;
    use crate::testing::feature_map;

    const SHAPE: FeatureShape = FeatureShape { receivers: 5, bands: 2, frames: 4 };

    fn changed(augmentation: Augmentation, level: LevelReference, event: &str) -> FeatureMap {
        let mut features = feature_map(SHAPE, 4);
        augmentation.apply(&mut features, level, 1, 2, event);
        features
    }

    fn levels(features: &FeatureMap, receiver: usize) -> &[f32] {
        &features.levels_db[receiver * 8..][..8]
    }

    #[test]
    fn nothing_is_changed_by_none() {
        let features = changed(Augmentation::NONE, LevelReference::Absolute, "a");

        assert_eq!(features, feature_map(SHAPE, 4));
    }

    /// A gain is on signal and noise: what is between them stays, and so does who detects.
    #[test]
    fn gain_moves_power_and_noise_alike() {
        let augmentation = Augmentation { gain_deviation_db: 3.0, ..Augmentation::NONE };
        let before = feature_map(SHAPE, 4);
        let (mut gains_db, mut absent) = (Vec::new(), 0);
        for event in 0..400 {
            let features = changed(augmentation, LevelReference::NoiseFloor, &event.to_string());

            assert_eq!(features.levels_db, before.levels_db);
            for (after, before) in features.scalars.iter().zip(&before.scalars) {
                let (Some(after), Some(before)) = (after, before) else {
                    absent += 1;
                    assert_eq!(after, before);
                    continue;
                };
                let gain_db = after.power_db - before.power_db;
                assert!((after.noise_psd_db - before.noise_psd_db - gain_db).abs() < 1e-4);
                assert_eq!(after.snr_db.to_bits(), before.snr_db.to_bits());
                assert_eq!(after.detected, before.detected);
                gains_db.push(f64::from(gain_db));
            }
        }

        // 1,600 gains: a deviation of 3 dB within five times 3 / √3200.
        assert_eq!((gains_db.len(), absent), (1600, 400));
        let mean = gains_db.iter().sum::<f64>() / 1600.0;
        let variance = gains_db.iter().map(|db| (db - mean).powi(2)).sum::<f64>() / 1600.0;
        assert!(mean.abs() < 5.0 * 3.0 / 40.0, "{mean}");
        assert!((variance.sqrt() - 3.0).abs() < 0.27, "{variance}");
    }

    #[test]
    fn gain_moves_levels_that_are_absolute() {
        let augmentation = Augmentation { gain_deviation_db: 3.0, ..Augmentation::NONE };
        let before = feature_map(SHAPE, 4);

        let features = changed(augmentation, LevelReference::Absolute, "a");

        let mut gains_db = Vec::new();
        for receiver in 0..5 {
            let gain_db = match (&features.scalars[receiver], &before.scalars[receiver]) {
                (Some(after), Some(before)) => after.power_db - before.power_db,
                _ => 0.0,
            };
            for (after, before) in levels(&features, receiver).iter().zip(levels(&before, receiver))
            {
                assert!((after - before - gain_db).abs() < 1e-4);
            }
            gains_db.push(gain_db);
        }
        assert!(gains_db.iter().any(|gain_db| gain_db.abs() > 0.1), "{gains_db:?}");
    }

    #[test]
    fn level_without_noise_beside_it_stays() {
        let mut features = feature_map(SHAPE, 4);
        for scalars in features.scalars.iter_mut().flatten() {
            scalars.noise_psd_db = f32::NAN;
        }
        let powers = |features: &FeatureMap| -> Vec<_> {
            features.scalars.iter().map(|s| s.map(|s| s.power_db)).collect()
        };
        let before = powers(&features);

        Augmentation::default().apply(&mut features, LevelReference::Absolute, 1, 2, "a");

        let kept = powers(&features).into_iter().zip(before).filter(|(after, _)| after.is_some());
        assert!(kept.into_iter().all(|(after, before)| after == before));
    }

    #[test]
    fn noise_is_on_each_level_of_those_who_are_there() {
        let augmentation = Augmentation { level_noise_db: 2.0, ..Augmentation::NONE };
        let before = feature_map(SHAPE, 4);
        let mut noise = Vec::new();
        for event in 0..200 {
            let features = changed(augmentation, LevelReference::NoiseFloor, &event.to_string());

            for receiver in 0..5 {
                let pairs = levels(&features, receiver).iter().zip(levels(&before, receiver));
                let differences = pairs.map(|(after, before)| f64::from(after - before));
                match features.scalars[receiver] {
                    Some(_) => noise.extend(differences),
                    None => assert!(differences.into_iter().all(|db| db.abs() < 1e-9)),
                }
            }
        }

        let variance = noise.iter().map(|db| db * db).sum::<f64>() / noise.len() as f64;
        assert_eq!(noise.len(), 200 * 4 * 8);
        assert!((variance.sqrt() - 2.0).abs() < 5.0 * 2.0 / 12_800_f64.sqrt(), "{variance}");
    }

    /// Each shift comes about as often as the others, and edges are repeated.
    #[test]
    fn time_shift_moves_all_receivers_together() {
        let augmentation = Augmentation { time_shift_frames: 1, ..Augmentation::NONE };
        let before = feature_map(SHAPE, 4);
        let moved = |shift: i64| -> Vec<f32> {
            let rows = before.levels_db.chunks(4);
            rows.flat_map(|row| (0..4).map(move |f: i64| row[(f + shift).clamp(0, 3) as usize]))
                .collect()
        };
        let mut counts = [0_i32; 3];
        for event in 0..600 {
            let features = changed(augmentation, LevelReference::NoiseFloor, &event.to_string());

            let shift = (-1..=1).find(|&shift| features.levels_db == moved(shift));
            counts[(shift.expect("one of three shifts") + 1) as usize] += 1;
        }

        // A third of 600 is 200 ± 5 · 11.5.
        assert!(counts.iter().all(|count| (count - 200).abs() < 58), "{counts:?}");
    }

    #[test]
    fn fields_beyond_their_rules_are_refused_by_name() {
        for (augmentation, expected) in [
            (Augmentation { receiver_drop_out: 1.0, ..Augmentation::NONE }, "receiver_drop_out"),
            (
                Augmentation { receiver_drop_out: f64::NAN, ..Augmentation::NONE },
                "receiver_drop_out",
            ),
            (Augmentation { gain_deviation_db: -0.1, ..Augmentation::NONE }, "gain_deviation_db"),
            (
                Augmentation { level_noise_db: f64::INFINITY, ..Augmentation::NONE },
                "level_noise_db",
            ),
        ] {
            let error = augmentation.validate().unwrap_err();

            let DataError::InvalidAugmentation { field, .. } = error else { panic!("{error}") };
            assert_eq!(field, expected);
        }
        Augmentation::default().validate().unwrap();
    }
}
