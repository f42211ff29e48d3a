//! Fits path loss to levels from known places, silence included.

use nalgebra::{Matrix2, Vector2};
use serde::{Deserialize, Serialize};

use super::normal::{HERMITE, density, distribution};
use super::{LevelModel, LevelObservation, PathLoss};
use crate::GeoError;
use crate::LocalPosition;
use crate::bound::require_positive;

/// Rounds of the fit, at most.
const ROUNDS_MAX: usize = 200;
/// The fit has arrived when no level at 1 km and no deviation changes by more than this, in dB.
const CHANGE_DB_MIN: f64 = 0.005;
/// How many samples the expected shadowing counts for, beside those of a receiver.
const SIGMA_SAMPLES: f64 = 3.0;
/// How many samples the expected outage counts for.
const OUTAGE_SAMPLES: f64 = 4.0;
/// Standard deviation of the exponents of receivers around the expected one.
const EXPONENT_SIGMA: f64 = 1.0;
/// Standard deviation of the levels at 1 km around their mean over the receivers, in dB.
const LEVEL_SIGMA_DB: f64 = 20.0;

/// A transmission from a known place, and what each receiver heard of it.
#[derive(Clone, Debug, PartialEq)]
pub struct LevelSample {
    /// Where it came from.
    pub position: LocalPosition,
    /// What each receiver says.
    pub observations: Vec<LevelObservation>,
}

/// What is expected of path loss before the first sample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PathLossFitConfig {
    /// Expected exponent.
    pub exponent: f64,
    /// Expected standard deviation of the levels, in dB.
    pub sigma_db: f64,
    /// Expected probability that a receiver does not hear whatever the level is.
    pub outage: f64,
    /// Distances below this count as this, in km.
    pub distance_km_min: f64,
}

impl Default for PathLossFitConfig {
    fn default() -> Self {
        Self { exponent: 3.5, sigma_db: 8.0, outage: 0.05, distance_km_min: 0.01 }
    }
}

/// Fits level over distance to each receiver, and the spread of the transmitters' power.
///
/// The fit is by expectation and maximization. Hidden are the power of each transmission, the level
/// of each receiver that hears nothing (a Gaussian that is cut off at its threshold) and whether it
/// was out of order instead. A receiver with few samples stays near what is expected.
///
/// # Shapes
///
/// - `receivers`: `[receivers]`, in km
/// - `thresholds_db`: `[receivers]`, in dB; none where a receiver always says a level
/// - `samples`: each with `[receivers]` observations
///
/// # Errors
///
/// - [`GeoError::InvalidConfig`] if the config or a threshold breaks its rules, or if no receiver
///   hears any sample.
///
/// # Panics
///
/// If a sample or `thresholds_db` has another number of receivers.
///
/// # References
///
/// A. P. Dempster, N. M. Laird, D. B. Rubin, "Maximum likelihood from incomplete data via the EM
/// algorithm", *Journal of the Royal Statistical Society B* 39(1), 1977, section 4.1 (censored data).
pub fn fit_path_loss(
    receivers: &[LocalPosition],
    thresholds_db: &[Option<f64>],
    samples: &[LevelSample],
    config: &PathLossFitConfig,
) -> Result<LevelModel, GeoError> {
    let mut model = first_guess(receivers, thresholds_db, samples, config)?;
    for _ in 0..ROUNDS_MAX {
        let before = model.clone();
        let hidden: Vec<Hidden> = samples.iter().map(|sample| expect(&model, sample)).collect();
        maximize(&mut model, samples, &hidden, config);
        if change_db(&before, &model) < CHANGE_DB_MIN {
            break;
        }
    }
    Ok(model)
}

/// The largest change of a level at 1 km or of a deviation.
fn change_db(before: &LevelModel, after: &LevelModel) -> f64 {
    let losses = before.path_losses.iter().zip(&after.path_losses);
    let changes_db = losses.flat_map(|(before, after)| {
        [after.level_1km_db - before.level_1km_db, after.sigma_db - before.sigma_db]
    });
    changes_db.map(f64::abs).fold(0.0, f64::max)
}

/// The expected path loss, at the level that the receivers hear in the mean.
fn first_guess(
    receivers: &[LocalPosition],
    thresholds_db: &[Option<f64>],
    samples: &[LevelSample],
    config: &PathLossFitConfig,
) -> Result<LevelModel, GeoError> {
    let &PathLossFitConfig { exponent, sigma_db, outage, distance_km_min } = config;
    require_positive("distance_km_min", distance_km_min)?;
    assert_eq!(receivers.len(), thresholds_db.len(), "one threshold belongs to each receiver");
    let mut model = LevelModel {
        receivers: receivers.to_vec(),
        path_losses: thresholds_db
            .iter()
            .map(|&threshold_db| PathLoss {
                level_1km_db: 0.0,
                exponent,
                sigma_db,
                threshold_db,
                outage,
            })
            .collect(),
        power_sigma_db: Some(sigma_db),
        distance_km_min,
    };
    model.validate()?;
    let mut excess = vec![(0.0, 0_usize); receivers.len()];
    for sample in samples {
        assert_eq!(sample.observations.len(), receivers.len(), "each receiver says something");
        for (receiver, observation) in sample.observations.iter().enumerate() {
            if let LevelObservation::Heard(level_db) = observation {
                excess[receiver].0 += level_db - model.level_db(receiver, sample.position);
                excess[receiver].1 += 1;
            }
        }
    }
    let heard: usize = excess.iter().map(|(_, count)| count).sum();
    if heard == 0 {
        let (field, expected) = ("samples", "heard by a receiver");
        return Err(GeoError::InvalidConfig { field, expected, actual: samples.len() as f64 });
    }
    let mean_db = excess.iter().map(|(sum_db, _)| sum_db).sum::<f64>() / heard as f64;
    for (loss, (sum_db, count)) in model.path_losses.iter_mut().zip(excess) {
        loss.level_1km_db = if count > 0 { sum_db / count as f64 } else { mean_db };
    }
    Ok(model)
}

/// What is to be expected of a receiver's level in one sample.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HiddenLevel {
    /// Mean, less the power of the transmitter, in dB.
    pub(super) level_db: f64,
    /// Variance, in dB².
    variance_db2: f64,
    /// Probability that the receiver was in order; 0 where it did not listen.
    pub(super) weight: f64,
}

/// What is to be expected of one sample.
pub(super) struct Hidden {
    pub(super) levels: Vec<HiddenLevel>,
    /// Expected square of the transmitter's power, relative to the mean of all, in dB².
    power_db2: f64,
}

/// Computes the levels and the power to be expected of a sample.
///
/// The heard levels make the power Gaussian; silence cuts into that, by quadrature.
pub(super) fn expect(model: &LevelModel, sample: &LevelSample) -> Hidden {
    let expected_db: Vec<f64> =
        (0..model.receivers.len()).map(|r| model.level_db(r, sample.position)).collect();
    let power_precision = model.power_sigma_db.map_or(0.0, |sigma_db| sigma_db.max(0.1).powi(-2));
    let (mut precision, mut weighted) = (power_precision, 0.0);
    for (receiver, observation) in sample.observations.iter().enumerate() {
        if let LevelObservation::Heard(level_db) = observation {
            let weight = model.path_losses[receiver].sigma_db.powi(-2);
            precision += weight;
            weighted += weight * (level_db - expected_db[receiver]);
        }
    }
    let nodes = HERMITE.map(|(node, weight)| {
        let power_db = (weighted + node * (2.0 * precision).sqrt()) / precision;
        (power_db, weight * silence(model, sample, &expected_db, power_db))
    });
    let total: f64 = nodes.iter().map(|(_, weight)| weight).sum();
    let nodes = nodes.map(|(power_db, weight)| (power_db, weight / total));

    let levels = sample.observations.iter().enumerate().map(|(receiver, observation)| {
        let loss = &model.path_losses[receiver];
        let at_power = |power_db: f64| match observation {
            LevelObservation::Heard(level_db) => {
                HiddenLevel { level_db: level_db - power_db, variance_db2: 0.0, weight: 1.0 }
            }
            LevelObservation::NotHeard => unheard(loss, expected_db[receiver], power_db),
            LevelObservation::Absent => HiddenLevel::default(),
        };
        mixture(nodes.iter().map(|&(power_db, weight)| (weight, at_power(power_db))))
    });
    Hidden {
        levels: levels.collect(),
        power_db2: nodes.iter().map(|(power_db, weight)| weight * power_db * power_db).sum(),
    }
}

/// Probability that those receivers hear nothing that do, of a transmitter of this power.
fn silence(model: &LevelModel, sample: &LevelSample, expected_db: &[f64], power_db: f64) -> f64 {
    let silent = |(observation, _): &(&LevelObservation, _)| {
        matches!(observation, LevelObservation::NotHeard)
    };
    let receivers = sample.observations.iter().zip(model.path_losses.iter().zip(expected_db));
    let probabilities = receivers.filter(silent).map(|(_, (loss, expected_db))| {
        // Without a threshold, only an outage keeps a receiver from hearing.
        let below = loss.threshold_db.map_or(0.0, |threshold_db| {
            distribution(margin(loss, threshold_db, expected_db + power_db))
        });
        loss.outage + (1.0 - loss.outage) * below
    });
    // Where silence is impossible, it says nothing about the power.
    probabilities.product::<f64>().max(f64::MIN_POSITIVE)
}

/// By how many standard deviations the threshold exceeds the expected level.
fn margin(loss: &PathLoss, threshold_db: f64, expected_db: f64) -> f64 {
    // Further out, ratios of the two functions are lost to rounding; nothing depends on them there.
    ((threshold_db - expected_db) / loss.sigma_db).clamp(-8.0, 8.0)
}

/// Computes the level to be expected of a receiver that hears nothing.
fn unheard(loss: &PathLoss, expected_db: f64, power_db: f64) -> HiddenLevel {
    let Some(threshold_db) = loss.threshold_db else { return HiddenLevel::default() };
    let margin = margin(loss, threshold_db, expected_db + power_db);
    let below = distribution(margin);
    let hazard = density(margin) / below;
    HiddenLevel {
        level_db: expected_db - loss.sigma_db * hazard,
        variance_db2: loss.sigma_db.powi(2) * (1.0 - margin * hazard - hazard * hazard).max(0.0),
        weight: below * (1.0 - loss.outage) / (loss.outage + (1.0 - loss.outage) * below),
    }
}

/// Computes the moments of a mixture, each part with its share.
fn mixture(parts: impl Iterator<Item = (f64, HiddenLevel)>) -> HiddenLevel {
    let (mut weight, mut first, mut second) = (0.0, 0.0, 0.0);
    for (share, part) in parts {
        let share = share * part.weight;
        weight += share;
        first += share * part.level_db;
        second += share * (part.level_db * part.level_db + part.variance_db2);
    }
    if weight <= 0.0 {
        return HiddenLevel::default();
    }
    let level_db = first / weight;
    HiddenLevel { level_db, variance_db2: (second / weight - level_db * level_db).max(0.0), weight }
}

/// Fits every receiver, and the spread of the power, to what is to be expected.
fn maximize(
    model: &mut LevelModel,
    samples: &[LevelSample],
    hidden: &[Hidden],
    config: &PathLossFitConfig,
) {
    let count = model.path_losses.len() as f64;
    let mean_db = model.path_losses.iter().map(|loss| loss.level_1km_db).sum::<f64>() / count;
    for receiver in 0..model.receivers.len() {
        fit_receiver(model, receiver, mean_db, samples, hidden, config);
    }
    let power_db2: f64 = hidden.iter().map(|hidden| hidden.power_db2).sum();
    model.power_sigma_db = Some((power_db2 / hidden.len() as f64).sqrt());
}

/// Fits level, exponent, deviation and outage of one receiver.
fn fit_receiver(
    model: &mut LevelModel,
    receiver: usize,
    mean_db: f64,
    samples: &[LevelSample],
    hidden: &[Hidden],
    config: &PathLossFitConfig,
) {
    let place = model.receivers[receiver];
    let row = |sample: &LevelSample| {
        let distance_km = place.distance_km(&sample.position).max(model.distance_km_min);
        Vector2::new(1.0, -10.0 * distance_km.log10())
    };
    let old = model.path_losses[receiver];
    let prior = Matrix2::new(
        (old.sigma_db / LEVEL_SIGMA_DB).powi(2),
        0.0,
        0.0,
        (old.sigma_db / EXPONENT_SIGMA).powi(2),
    );
    let (mut normal, mut right) = (prior, prior * Vector2::new(mean_db, config.exponent));
    for (sample, hidden) in samples.iter().zip(hidden) {
        let HiddenLevel { level_db, weight, .. } = hidden.levels[receiver];
        let row = row(sample);
        normal += weight * row * row.transpose();
        right += weight * row * level_db;
    }
    let solution = normal
        .cholesky()
        .expect("a positive diagonal plus squares is positive definite")
        .solve(&right);

    let (mut squares_db2, mut weights) = (SIGMA_SAMPLES * config.sigma_db.powi(2), SIGMA_SAMPLES);
    let (mut outages, mut listened) = (OUTAGE_SAMPLES * config.outage, OUTAGE_SAMPLES);
    for (sample, hidden) in samples.iter().zip(hidden) {
        let HiddenLevel { level_db, variance_db2, weight } = hidden.levels[receiver];
        let residual_db = level_db - row(sample).dot(&solution);
        squares_db2 += weight * (residual_db.powi(2) + variance_db2);
        weights += weight;
        match sample.observations[receiver] {
            LevelObservation::Heard(_) => listened += 1.0,
            LevelObservation::NotHeard => {
                listened += 1.0;
                outages += 1.0 - weight;
            }
            LevelObservation::Absent => {}
        }
    }
    model.path_losses[receiver] = PathLoss {
        level_1km_db: solution.x,
        // A level that rises with distance is the work of few samples.
        exponent: solution.y.max(0.1),
        sigma_db: (squares_db2 / weights).sqrt(),
        threshold_db: old.threshold_db,
        outage: (outages / listened).min(0.99),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn local(east_km: f64, north_km: f64) -> LocalPosition {
        LocalPosition { east_km, north_km }
    }

    /// Receivers that differ, and samples of them in a square of 60 km, some of them silent.
    fn world(samples: usize, outage: f64) -> (LevelModel, Vec<LevelSample>) {
        let loss = |level_1km_db, exponent, sigma_db| PathLoss {
            level_1km_db,
            exponent,
            sigma_db,
            threshold_db: Some(3.0),
            outage,
        };
        let model = LevelModel {
            receivers: vec![local(5.0, 5.0), local(50.0, 10.0), local(20.0, 55.0)],
            path_losses: vec![loss(60.0, 3.0, 4.0), loss(50.0, 3.5, 6.0), loss(75.0, 4.0, 5.0)],
            power_sigma_db: Some(5.0),
            distance_km_min: 0.01,
        };
        let mut random = Random::new(5);
        let samples = (0..samples).map(|_| {
            let position = local(60.0 * random.uniform(), 60.0 * random.uniform());
            let power_db = 5.0 * random.normal();
            let observations = (0..3).map(|receiver| {
                let loss = &model.path_losses[receiver];
                let level_db =
                    model.level_db(receiver, position) + power_db + loss.sigma_db * random.normal();
                if level_db < 3.0 || random.uniform() < outage {
                    LevelObservation::NotHeard
                } else {
                    LevelObservation::Heard(level_db)
                }
            });
            LevelSample { position, observations: observations.collect() }
        });
        let samples = samples.collect();
        (model, samples)
    }

    /// What the samples alone tell about a model of three receivers.
    fn fitted(model: &LevelModel, samples: &[LevelSample]) -> LevelModel {
        let config = PathLossFitConfig::default();
        fit_path_loss(&model.receivers, &[Some(3.0); 3], samples, &config).unwrap()
    }

    /// With 3,000 samples the standard error of a level at 1 km, extrapolated from some 30 km, is
    /// about 1 dB, that of an exponent 0.07: the tolerances are three of them. A fit to the heard
    /// levels alone would put the exponents of the far receivers far below these.
    #[test]
    fn path_loss_comes_back_in_spite_of_silence() {
        let (model, samples) = world(3000, 0.1);
        let silent = samples.iter().flat_map(|sample| &sample.observations);
        let silent = silent.filter(|o| matches!(o, LevelObservation::NotHeard)).count();
        assert!((1500..6000).contains(&silent), "{silent} of 9000 are silent");

        let fitted = fitted(&model, &samples);

        for (fitted, truth) in fitted.path_losses.iter().zip(&model.path_losses) {
            assert!((fitted.level_1km_db - truth.level_1km_db).abs() < 3.0, "{fitted:?}");
            assert!((fitted.exponent - truth.exponent).abs() < 0.2, "{fitted:?}");
            assert!((fitted.sigma_db - truth.sigma_db).abs() < 0.6, "{fitted:?}");
            assert!((fitted.outage - 0.1).abs() < 0.04, "{fitted:?}");
        }
        let power_sigma_db = fitted.power_sigma_db.unwrap();
        assert!((power_sigma_db - 5.0).abs() < 0.7, "{power_sigma_db} dB");
    }

    #[test]
    fn receiver_without_samples_is_like_the_others() {
        let (model, mut samples) = world(200, 0.0);
        for sample in &mut samples {
            sample.observations[2] = LevelObservation::Absent;
        }

        let fitted = fitted(&model, &samples);

        let unknown = &fitted.path_losses[2];
        assert!((unknown.exponent - 3.5).abs() < 0.01, "{unknown:?}");
        assert!((40.0..75.0).contains(&unknown.level_1km_db), "{unknown:?}");
    }

    #[test]
    fn samples_that_nobody_hears_are_refused() {
        let sample = LevelSample {
            position: local(0.0, 0.0),
            observations: vec![LevelObservation::NotHeard],
        };
        let receivers = [local(1.0, 1.0)];

        let config = PathLossFitConfig::default();
        let error = fit_path_loss(&receivers, &[Some(0.0)], &[sample], &config).unwrap_err();

        assert_eq!(error.to_string(), "`samples` must be heard by a receiver, but is 1");
    }
}
