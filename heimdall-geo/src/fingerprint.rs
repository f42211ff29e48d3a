//! Positions by the most similar of levels that were received from known places.

use serde::{Deserialize, Serialize};

use crate::Covariance;
use crate::Estimate;
use crate::GeoError;
use crate::LevelObservation;
use crate::LevelSample;
use crate::LocalPosition;
use crate::Location;
use crate::NoFix;
use crate::centroid::spread;

/// How different two sets of levels are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LevelMetric {
    /// Root of the mean squared difference.
    Euclidean,
    /// Mean absolute difference.
    Manhattan,
}

/// What a receiver counts as that is silent in one of two sets of levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SilentReceiver {
    /// As one that hears the lowest level that it reports anywhere: silence says something.
    LowestLevel,
    /// It is left out, and the others are compared: silence says nothing.
    Ignored,
}

/// How fingerprints are compared, and how many of them make a position.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FingerprintConfig {
    /// Fingerprints that are averaged.
    pub neighbors: usize,
    /// How they are compared.
    pub metric: LevelMetric,
    /// What silence counts as.
    pub silent: SilentReceiver,
    /// Similar fingerprints weigh more: by the inverse of the difference to this power. 0 is the
    /// plain mean.
    pub weight_power: f64,
    /// Fingerprints whose spread is the covariance.
    pub spread_neighbors: usize,
}

impl Default for FingerprintConfig {
    fn default() -> Self {
        Self {
            neighbors: 5,
            metric: LevelMetric::Euclidean,
            silent: SilentReceiver::LowestLevel,
            weight_power: 2.0,
            spread_neighbors: 20,
        }
    }
}

impl FingerprintConfig {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// [`GeoError::InvalidConfig`] for the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), GeoError> {
        let invalid =
            |field, expected, actual| Err(GeoError::InvalidConfig { field, expected, actual });
        if self.neighbors == 0 {
            return invalid("neighbors", "at least 1", 0.0);
        }
        if self.spread_neighbors < 3 {
            let actual = self.spread_neighbors as f64;
            return invalid("spread_neighbors", "at least 3, which span a plane", actual);
        }
        if !(self.weight_power >= 0.0 && self.weight_power.is_finite()) {
            return invalid("weight_power", "at least 0", self.weight_power);
        }
        Ok(())
    }
}

/// Levels that were received from known places.
#[derive(Clone, Debug)]
pub struct Fingerprints {
    config: FingerprintConfig,
    positions: Vec<LocalPosition>,
    /// Fingerprint by fingerprint, the level of each receiver; NaN where it is left out.
    levels_db: Vec<f64>,
    /// Fingerprint by fingerprint, whether each receiver hears.
    heard: Vec<bool>,
    /// Lowest level that each receiver reports.
    lowest_db: Vec<f64>,
}

impl Fingerprints {
    /// Takes note of what was received from known places.
    ///
    /// # Errors
    ///
    /// [`GeoError::InvalidConfig`] if `config` breaks a rule, or if there are no samples.
    ///
    /// # Panics
    ///
    /// If the samples have different numbers of receivers.
    pub fn new(samples: &[LevelSample], config: &FingerprintConfig) -> Result<Self, GeoError> {
        config.validate()?;
        let Some(first) = samples.first() else {
            let (field, expected) = ("samples", "at least one");
            return Err(GeoError::InvalidConfig { field, expected, actual: 0.0 });
        };
        let receivers = first.observations.len();
        let mut lowest_db = vec![f64::INFINITY; receivers];
        for sample in samples {
            assert_eq!(sample.observations.len(), receivers, "each receiver says something");
            for (lowest_db, observation) in lowest_db.iter_mut().zip(&sample.observations) {
                if let LevelObservation::Heard(level_db) = observation {
                    *lowest_db = lowest_db.min(*level_db);
                }
            }
        }
        // A receiver that never hears anything makes no difference.
        for lowest_db in &mut lowest_db {
            if lowest_db.is_infinite() {
                *lowest_db = f64::NAN;
            }
        }
        let mut fingerprints = Self {
            config: *config,
            positions: samples.iter().map(|sample| sample.position).collect(),
            levels_db: Vec::new(),
            heard: samples.iter().flat_map(|sample| heard(&sample.observations)).collect(),
            lowest_db,
        };
        fingerprints.levels_db = samples
            .iter()
            .flat_map(|sample| fingerprints.levels_db(&sample.observations))
            .collect();
        Ok(fingerprints)
    }

    /// The level that each receiver counts as; NaN for one that is left out.
    fn levels_db(&self, observations: &[LevelObservation]) -> Vec<f64> {
        observations
            .iter()
            .zip(&self.lowest_db)
            .map(|(observation, &lowest_db)| match (observation, self.config.silent) {
                // A receiver that no fingerprint knows cannot be compared.
                (LevelObservation::Heard(_), _) if lowest_db.is_nan() => f64::NAN,
                (LevelObservation::Heard(level_db), _) => *level_db,
                (LevelObservation::NotHeard, SilentReceiver::LowestLevel) => lowest_db,
                _ => f64::NAN,
            })
            .collect()
    }

    /// Locates a transmitter at the mean place of the most similar fingerprints.
    ///
    /// A fingerprint with which nothing but silence can be compared is none: that a receiver hears
    /// nothing in both, where the ones that hear did not listen in the other, is true all over the
    /// plane.
    ///
    /// The covariance is the spread of a larger number of the most similar fingerprints around the
    /// position, weighted in the same way, plus the square of the distance to the nearest fingerprint
    /// in both directions: between the fingerprints nothing is known.
    ///
    /// # Shapes
    ///
    /// - `observations`: `[receivers]`
    ///
    /// # Panics
    ///
    /// If there is not one observation of each receiver.
    ///
    /// # References
    ///
    /// P. Bahl, V. N. Padmanabhan, "RADAR: an in-building RF-based user location and tracking
    /// system", IEEE INFOCOM 2000, section 4.2,
    /// [doi:10.1109/INFCOM.2000.832252](https://doi.org/10.1109/INFCOM.2000.832252).
    pub fn locate(&self, observations: &[LevelObservation]) -> Location {
        assert_eq!(observations.len(), self.lowest_db.len(), "each receiver says something");
        if let Err(reason) = LevelObservation::check(observations) {
            return Location::NoFix(reason);
        }
        let heard: Vec<bool> = heard(observations).collect();
        let levels_db = self.levels_db(observations);
        let receivers = levels_db.len();
        let mut near: Vec<(f64, LocalPosition)> = self
            .levels_db
            .chunks_exact(receivers)
            .zip(self.heard.chunks_exact(receivers))
            .zip(&self.positions)
            .filter_map(|((other_db, other_heard), &position)| {
                let is_heard_and_known = |receiver: usize| {
                    (heard[receiver] || other_heard[receiver])
                        && !(levels_db[receiver] - other_db[receiver]).is_nan()
                };
                if !(0..receivers).any(is_heard_and_known) {
                    return None;
                }
                Some((self.difference_db(&levels_db, other_db)?, position))
            })
            .collect();
        let &FingerprintConfig { neighbors, spread_neighbors, .. } = &self.config;
        if near.len() < neighbors {
            return Location::NoFix(NoFix::TooFewFingerprints {
                fingerprints: near.len(),
                required: neighbors,
            });
        }
        let kept = neighbors.max(spread_neighbors);
        if kept < near.len() {
            near.select_nth_unstable_by(kept, |a, b| a.0.total_cmp(&b.0));
            near.truncate(kept);
        }
        near.sort_by(|a, b| a.0.total_cmp(&b.0));

        let position = self.mean(&near[..neighbors]);
        let spread = self.spread(&near[..spread_neighbors.min(near.len())], position);
        Location::Fix(Estimate { position, covariance: spread })
    }

    /// How different two sets of levels are, in dB; nothing where they have no receiver in common.
    fn difference_db(&self, levels_db: &[f64], other_db: &[f64]) -> Option<f64> {
        let (mut sum, mut receivers) = (0.0, 0_u32);
        for (level_db, other_db) in levels_db.iter().zip(other_db) {
            let difference_db = level_db - other_db;
            if difference_db.is_nan() {
                continue;
            }
            receivers += 1;
            sum += match self.config.metric {
                LevelMetric::Euclidean => difference_db * difference_db,
                LevelMetric::Manhattan => difference_db.abs(),
            };
        }
        let mean = sum / f64::from(receivers);
        match self.config.metric {
            _ if receivers == 0 => None,
            LevelMetric::Euclidean => Some(mean.sqrt()),
            LevelMetric::Manhattan => Some(mean),
        }
    }

    /// How much a fingerprint weighs at this difference.
    fn weight(&self, difference_db: f64) -> f64 {
        // Closer than that, levels are equal.
        difference_db.max(0.01).powf(-self.config.weight_power)
    }

    fn mean(&self, near: &[(f64, LocalPosition)]) -> LocalPosition {
        let (mut mean, mut weights) = (LocalPosition::default(), 0.0);
        for (difference_db, position) in near {
            let weight = self.weight(*difference_db);
            weights += weight;
            mean.east_km += weight * position.east_km;
            mean.north_km += weight * position.north_km;
        }
        LocalPosition { east_km: mean.east_km / weights, north_km: mean.north_km / weights }
    }

    fn spread(&self, near: &[(f64, LocalPosition)], around: LocalPosition) -> Covariance {
        let weighted =
            near.iter().map(|&(difference_db, place)| (place, self.weight(difference_db)));
        let (spread, floor_km2) = (spread(weighted, around), self.spacing_km(around).powi(2));
        Covariance {
            east_km2: spread.east_km2 + floor_km2,
            north_km2: spread.north_km2 + floor_km2,
            ..spread
        }
    }

    /// Distance from a position to the nearest fingerprint that is not at it.
    fn spacing_km(&self, around: LocalPosition) -> f64 {
        let distances_km = self.positions.iter().map(|place| place.distance_km(&around));
        let nearest_km = distances_km.filter(|&km| km > 1e-6).fold(f64::INFINITY, f64::min);
        if nearest_km.is_finite() { nearest_km } else { 1e-3 }
    }
}

/// Whether each receiver hears.
fn heard(observations: &[LevelObservation]) -> impl Iterator<Item = bool> {
    observations.iter().map(|observation| matches!(observation, LevelObservation::Heard(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use LevelObservation::{Absent, Heard, NotHeard};

    fn local(east_km: f64, north_km: f64) -> LocalPosition {
        LocalPosition { east_km, north_km }
    }

    fn sample(east_km: f64, north_km: f64, observations: &[LevelObservation]) -> LevelSample {
        LevelSample { position: local(east_km, north_km), observations: observations.to_vec() }
    }

    /// Four corners of a square of 10 km, with receivers at three of them.
    fn square() -> Vec<LevelSample> {
        vec![
            sample(0.0, 0.0, &[Heard(50.0), Heard(20.0), Heard(20.0)]),
            sample(10.0, 0.0, &[Heard(20.0), Heard(50.0), Heard(10.0)]),
            sample(0.0, 10.0, &[Heard(20.0), Heard(10.0), Heard(50.0)]),
            sample(10.0, 10.0, &[Heard(10.0), Heard(20.0), NotHeard]),
        ]
    }

    fn locate(config: FingerprintConfig, observations: &[LevelObservation]) -> Location {
        Fingerprints::new(&square(), &config).unwrap().locate(observations)
    }

    /// By hand: the levels differ by √(3 · 2² / 3) = 2 dB from the first corner, and by
    /// √((38² + 2² + 12²) / 3) dB from the fourth one, which comes next.
    #[test]
    fn neighbors_weigh_by_the_inverse_square_of_their_difference() {
        let config = FingerprintConfig { neighbors: 2, ..FingerprintConfig::default() };

        let location = locate(config, &[Heard(48.0), Heard(22.0), Heard(22.0)]);

        let other_db2 = (38.0_f64.powi(2) + 2.0_f64.powi(2) + 12.0_f64.powi(2)) / 3.0;
        let share = (1.0 / other_db2) / (1.0 / 4.0 + 1.0 / other_db2);
        let position = location.best().unwrap().position;
        let expected = local(10.0 * share, 10.0 * share);
        assert!(position.distance_km(&expected) < 1e-9, "{position:?} is not {expected:?}");
    }

    #[test]
    fn plain_mean_of_all_is_the_middle() {
        let config =
            FingerprintConfig { neighbors: 4, weight_power: 0.0, ..FingerprintConfig::default() };

        let location = locate(config, &[Heard(30.0), Heard(30.0), Heard(30.0)]);

        let estimate = location.best().unwrap();
        assert!(estimate.position.distance_km(&local(5.0, 5.0)) < 1e-12, "{estimate:?}");
        // The corners are 5 km off in both directions, and the nearest is √50 km away.
        assert!((estimate.covariance.east_km2 - 75.0).abs() < 1e-9, "{estimate:?}");
        assert!(estimate.covariance.east_north_km2.abs() < 1e-9, "{estimate:?}");
    }

    /// Nothing from the third receiver is 10 dB, its lowest level: that is what the fourth corner
    /// has, while the third one has 50 dB. Left out, silence does not keep the third corner away.
    #[test]
    fn silence_is_the_lowest_level_or_nothing() {
        for metric in [LevelMetric::Euclidean, LevelMetric::Manhattan] {
            let nearest = |silent| {
                let config = FingerprintConfig {
                    neighbors: 1,
                    metric,
                    silent,
                    ..FingerprintConfig::default()
                };
                locate(config, &[Heard(20.0), Heard(12.0), NotHeard]).best().unwrap().position
            };

            assert!(nearest(SilentReceiver::LowestLevel).distance_km(&local(10.0, 10.0)) < 1e-12);
            assert!(nearest(SilentReceiver::Ignored).distance_km(&local(0.0, 10.0)) < 1e-12);
        }
    }

    /// The fourth corner was heard by the third receiver alone, which did not listen this time: what
    /// the two have in common is silence, and that is no likeness.
    #[test]
    fn silence_alone_makes_no_neighbor() {
        let samples = [
            sample(0.0, 0.0, &[Heard(50.0), NotHeard, NotHeard]),
            sample(10.0, 0.0, &[Heard(20.0), Heard(30.0), NotHeard]),
            sample(10.0, 10.0, &[Absent, NotHeard, Heard(20.0)]),
        ];
        let config = FingerprintConfig { neighbors: 1, ..FingerprintConfig::default() };
        let fingerprints = Fingerprints::new(&samples, &config).unwrap();

        let location = fingerprints.locate(&[Heard(48.0), NotHeard, Absent]);

        assert!(location.best().unwrap().position.distance_km(&local(0.0, 0.0)) < 1e-12);
    }

    #[test]
    fn event_without_levels_has_no_fix() {
        let silence = locate(FingerprintConfig::default(), &[NotHeard, Absent, NotHeard]);
        assert_eq!(silence, Location::NoFix(NoFix::NothingHeard));

        let crowd = FingerprintConfig { neighbors: 9, ..FingerprintConfig::default() };
        let few = NoFix::TooFewFingerprints { fingerprints: 4, required: 9 };
        assert_eq!(locate(crowd, &[Heard(1.0), Absent, Absent]), Location::NoFix(few));
    }

    #[test]
    fn senseless_config_is_refused_by_field() {
        let defaults = FingerprintConfig::default;
        let cases = [
            (FingerprintConfig { neighbors: 0, ..defaults() }, "neighbors"),
            (FingerprintConfig { spread_neighbors: 2, ..defaults() }, "spread_neighbors"),
            (FingerprintConfig { weight_power: f64::NAN, ..defaults() }, "weight_power"),
        ];
        for (config, field) in cases {
            let error = Fingerprints::new(&square(), &config).unwrap_err();

            assert!(error.to_string().contains(&format!("`{field}`")), "{error}");
        }
        assert!(Fingerprints::new(&[], &defaults()).is_err());
    }
}
