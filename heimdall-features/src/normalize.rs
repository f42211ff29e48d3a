//! What a level of zero means: normalizations, and the statistics that they take.

use std::sync::Once;

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::{FeatureError, FeatureMap, MelSpectrogram};

/// What is done to absolute levels before somebody learns from them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Normalization {
    /// Nothing: levels relative to full scale.
    None,
    /// Zero mean and unit deviation in each recording. The level is lost: who heard a transmission
    /// how well can no longer be told.
    Sample,
    /// Zero mean and unit deviation over a training set; keeps the level, if gains are fixed.
    Dataset {
        /// Those of the training set, and of nothing else.
        statistics: LevelStatistics,
    },
    /// Decibels above the receiver's own noise floor, which no gain changes.
    #[default]
    NoiseFloor,
}

/// Mean and deviation of the levels of a training set.
///
/// Made by [`Moments::level_statistics`]; travels with the model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LevelStatistics {
    /// Mean level, in dB.
    pub mean_db: f64,
    /// Standard deviation of the levels, in dB; positive.
    pub deviation_db: f64,
}

impl LevelStatistics {
    /// Checks that levels can be normalized with these statistics.
    ///
    /// # Errors
    ///
    /// [`FeatureError::InvalidConfig`] if the mean is not finite or the deviation not positive.
    pub fn validate(&self) -> Result<(), FeatureError> {
        let check = |holds, field, expected: &str, actual| {
            if holds {
                return Ok(());
            }
            Err(FeatureError::InvalidConfig { field, expected: expected.to_owned(), actual })
        };
        check(self.mean_db.is_finite(), "mean_db", "a finite number", self.mean_db)?;
        let deviation_db = self.deviation_db;
        check(
            deviation_db.is_finite() && deviation_db > 0.0,
            "deviation_db",
            "a positive number",
            deviation_db,
        )
    }
}

/// Mean and spread of numbers that were seen once.
///
/// # References
///
/// T. F. Chan et al., "Algorithms for computing the sample variance", *The American Statistician*
/// 37(3), 1983, equation 2.1,
/// [doi:10.1080/00031305.1983.10483115](https://doi.org/10.1080/00031305.1983.10483115).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    count: f64,
    mean: f64,
    /// Sum of squared differences from the mean.
    squares: f64,
}

impl Moments {
    /// Takes in some numbers: their own mean and squares first, so that nothing large cancels.
    pub fn add(&mut self, values: &[f32]) {
        if values.is_empty() {
            return;
        }
        let count = values.len() as f64;
        let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
        let squares = values.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>();
        let difference = mean - self.mean;
        let total = self.count + count;
        self.squares += squares + difference.powi(2) * self.count * count / total;
        self.mean += difference * count / total;
        self.count = total;
    }

    /// Takes in the levels of an event; receivers that recorded nothing do not count.
    pub fn add_levels(&mut self, features: &FeatureMap) {
        let receivers =
            features.levels_db.chunks_exact(features.shape.bands * features.shape.frames);
        for (levels_db, scalars) in receivers.zip(&features.scalars) {
            if scalars.is_some() {
                self.add(levels_db);
            }
        }
    }

    /// Whether no number was taken in.
    pub fn is_empty(&self) -> bool {
        self.count < 1.0
    }

    /// Mean; zero of no numbers.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// Standard deviation of the numbers themselves; 1 where they do not differ.
    pub fn deviation(&self) -> f64 {
        let deviation = (self.squares / self.count.max(1.0)).sqrt();
        if deviation > 1e-6 { deviation } else { 1.0 }
    }

    /// The numbers as statistics of levels.
    pub fn level_statistics(&self) -> LevelStatistics {
        LevelStatistics { mean_db: self.mean(), deviation_db: self.deviation() }
    }
}

/// Normalizes the levels of a recording.
///
/// Normalizing by [`Normalization::Sample`] loses the level, of which the first call warns. Levels
/// that are all the same become zero.
///
/// # Shapes
///
/// - returns: `[bands, frames]`, as those of `spectrogram`
///
/// # Errors
///
/// [`FeatureError::InvalidConfig`] if the statistics of a data set cannot be used.
pub fn normalize_features(
    spectrogram: &MelSpectrogram,
    normalization: &Normalization,
) -> Result<Vec<f32>, FeatureError> {
    static WARNING: Once = Once::new();
    let levels_db = &spectrogram.levels_db;
    let (offset, deviation) = match normalization {
        Normalization::None => (0.0, 1.0),
        Normalization::NoiseFloor => (spectrogram.noise_psd_db.into(), 1.0),
        Normalization::Dataset { statistics } => {
            statistics.validate()?;
            (statistics.mean_db, statistics.deviation_db)
        }
        Normalization::Sample => {
            WARNING.call_once(|| {
                warn!("levels are lost, as each recording is normalized by its own mean");
            });
            let mut moments = Moments::default();
            moments.add(levels_db);
            (moments.mean(), moments.deviation())
        }
    };
    let normalized = |&level_db: &f32| ((f64::from(level_db) - offset) / deviation) as f32;
    Ok(levels_db.iter().map(normalized).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FeatureShape, ReceiverScalars};

    fn spectrogram(levels_db: Vec<f32>) -> MelSpectrogram {
        MelSpectrogram { bands: levels_db.len(), frames: 1, levels_db, noise_psd_db: -90.0 }
    }

    fn normalized(levels_db: &[f32], normalization: Normalization) -> Vec<f32> {
        normalize_features(&spectrogram(levels_db.to_vec()), &normalization).unwrap()
    }

    #[test]
    fn each_normalization_does_what_it_says() {
        let levels_db = [-90.0, -80.0, -70.0, -60.0];
        // Differences from the mean of -15, -5, 5, 15: their mean square is 125.
        let root = 125_f32.sqrt();
        let statistics = LevelStatistics { mean_db: -80.0, deviation_db: 5.0 };
        let cases = [
            (Normalization::None, levels_db),
            (Normalization::NoiseFloor, [0.0, 10.0, 20.0, 30.0]),
            (Normalization::Dataset { statistics }, [-2.0, 0.0, 2.0, 4.0]),
            (Normalization::Sample, [-15.0 / root, -5.0 / root, 5.0 / root, 15.0 / root]),
        ];
        for (normalization, expected) in cases {
            for (value, expected) in normalized(&levels_db, normalization).iter().zip(expected) {
                assert!((value - expected).abs() < 1e-5, "{normalization:?}: {value}");
            }
        }
    }

    #[test]
    fn equal_levels_become_zero() {
        assert_eq!(normalized(&[-50.0; 3], Normalization::Sample), [0.0; 3]);
    }

    #[test]
    fn statistics_are_written_and_read() {
        let statistics = LevelStatistics { mean_db: -0.1, deviation_db: 1.0 / 3.0 };
        let normalization = Normalization::Dataset { statistics };

        let json = serde_json::to_string(&normalization).unwrap();

        assert_eq!(serde_json::from_str::<Normalization>(&json).unwrap(), normalization);
        let error = serde_json::from_str::<Normalization>(r#"{"kind": "smple"}"#).unwrap_err();
        assert!(error.to_string().contains("smple"), "{error}");
    }

    #[test]
    fn unusable_statistics_are_refused_by_field() {
        let cases = [(f64::NAN, 1.0, "mean_db"), (0.0, 0.0, "deviation_db")];
        for (mean_db, deviation_db, field) in cases {
            let statistics = LevelStatistics { mean_db, deviation_db };
            let normalization = Normalization::Dataset { statistics };

            let error = normalize_features(&spectrogram(vec![0.0]), &normalization).unwrap_err();

            assert!(error.to_string().starts_with(&format!("`{field}`")), "{error}");
        }
    }

    #[test]
    fn absent_receivers_do_not_count() {
        let scalars = ReceiverScalars {
            power_db: 0.0,
            noise_psd_db: 0.0,
            snr_db: 0.0,
            bandwidth_hz: 0.0,
            kurtosis: 2.0,
            detected: false,
        };
        let map = FeatureMap {
            shape: FeatureShape { receivers: 2, bands: 1, frames: 2 },
            levels_db: vec![3.0, 5.0, 0.0, 0.0],
            scalars: vec![Some(scalars), None],
            arrivals: vec![None; 2],
            fix: None,
        };
        let mut moments = Moments::default();

        moments.add_levels(&map);
        moments.add_levels(&map);

        let expected = LevelStatistics { mean_db: 4.0, deviation_db: 1.0 };
        assert_eq!(moments.level_statistics(), expected);
    }
}
