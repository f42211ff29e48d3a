//! A map of how each receiver hears, drawn from levels of known places (kriging).

use std::collections::BTreeMap;

use nalgebra::{Cholesky, DMatrix, DVector, Dyn};
use serde::{Deserialize, Serialize};

use super::fit::expect;
use super::grid::{LevelGrid, LevelGridConfig, ReceiverMap};
use super::{LevelModel, LevelSample};
use crate::GeoError;
use crate::LocalPosition;
use crate::PlaneGrid;
use crate::bound::require_positive;

/// Samples in one place say little more than this many independent ones.
const SAMPLES_MAX: f64 = 4.0;
/// Places by which a correlation is judged, at most.
const JUDGED_PLACES: usize = 200;

/// How deviations from path loss are drawn into a map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RadioMapConfig {
    /// Samples within one square of this side count as one place, in km; none for one hundredth of
    /// the diagonal of the samples.
    pub place_km: Option<f64>,
    /// Places from which a deviation is interpolated.
    pub neighbors: usize,
    /// Distances over which the correlation of two deviations falls by e, relative to `place_km`:
    /// the one that predicts the places best from each other is taken.
    pub correlation_places: Vec<f64>,
    /// Shares of the variance that belong to the place, and come back: as above.
    pub static_shares: Vec<f64>,
}

impl Default for RadioMapConfig {
    fn default() -> Self {
        Self {
            place_km: None,
            neighbors: 32,
            correlation_places: vec![1.0, 2.0, 4.0, 8.0, 16.0],
            static_shares: vec![0.3, 0.5, 0.7, 0.9],
        }
    }
}

/// What was heard of transmissions from about one place.
#[derive(Clone, Debug)]
struct Place {
    position: LocalPosition,
    /// Mean deviation of each receiver in standard deviations, and the number of samples behind it.
    deviations: Vec<(f64, f64)>,
}

/// How the deviations of two places are correlated.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Correlation {
    length_km: f64,
    static_share: f64,
}

impl Correlation {
    /// Correlation of what belongs to two places.
    ///
    /// # References
    ///
    /// M. Gudmundson, "Correlation model for shadow fading in mobile radio systems", *Electronics
    /// Letters* 27(23), 1991, equation 2.
    fn between(&self, a: &LocalPosition, b: &LocalPosition) -> f64 {
        self.static_share * (-a.distance_km(b) / self.length_km).exp()
    }

    /// Variance of the mean of samples that does not belong to the place.
    fn noise(&self, samples: f64) -> f64 {
        (1.0 - self.static_share) / samples.clamp(1e-3, SAMPLES_MAX)
    }
}

impl LevelGrid {
    /// Computes the levels that `model` expects on a grid, corrected by what was heard of
    /// transmissions from known places.
    ///
    /// Buildings and hills make a receiver hear better or worse than path loss says, and much the
    /// same from neighboring places. The deviations of the samples are interpolated by simple
    /// kriging; far from all samples nothing but path loss is left. The correlation is the one of
    /// the config's that predicts each place best from the others around it.
    ///
    /// # Errors
    ///
    /// [`GeoError::InvalidConfig`] if the model, a config or a sample breaks its rules.
    ///
    /// # References
    ///
    /// N. Cressie, *Statistics for Spatial Data*, Wiley, 1993, section 3.4.5 (simple kriging),
    /// [doi:10.1002/9781119115151](https://doi.org/10.1002/9781119115151).
    pub fn with_radio_map(
        grid: PlaneGrid,
        model: &LevelModel,
        samples: &[LevelSample],
        map_config: &RadioMapConfig,
        config: &LevelGridConfig,
    ) -> Result<Self, GeoError> {
        model.validate()?;
        if samples.is_empty() {
            let (field, expected) = ("samples", "at least one");
            return Err(GeoError::InvalidConfig { field, expected, actual: 0.0 });
        }
        let place_km = place_km(samples, map_config)?;
        let places = places(model, samples, place_km);
        let neighbors = map_config.neighbors;
        let correlation = best_correlation(&places, place_km, map_config);
        let mut maps: Vec<(Vec<f64>, Vec<f64>)> =
            vec![(Vec::new(), Vec::new()); model.receivers.len()];
        for cell in 0..grid.cells() {
            let center = grid.center(cell);
            let near = nearest(&places, &center, neighbors, None);
            let predictions = predict(&places, &near, &center, &correlation);
            for (receiver, (deviation, variance)) in predictions.into_iter().enumerate() {
                let sigma_db = model.path_losses[receiver].sigma_db;
                let level_db = model.level_db(receiver, center) + sigma_db * deviation;
                maps[receiver].0.push(level_db);
                maps[receiver].1.push(1.0 / (sigma_db * sigma_db * variance));
            }
        }
        let maps =
            maps.into_iter().map(|(level_db, precision)| ReceiverMap::new(level_db, precision));
        Self::with_maps(grid, model, config, maps.collect())
    }
}

/// The side of a place, from the config or from the extent of the samples.
fn place_km(samples: &[LevelSample], config: &RadioMapConfig) -> Result<f64, GeoError> {
    let count = |field, values: &[f64]| {
        if values.is_empty() {
            return Err(GeoError::InvalidConfig { field, expected: "at least one", actual: 0.0 });
        }
        values.iter().try_for_each(|&value| require_positive(field, value))
    };
    count("correlation_places", &config.correlation_places)?;
    count("static_shares", &config.static_shares)?;
    if let Some(&actual) = config.static_shares.iter().find(|share| **share >= 1.0) {
        let (field, expected) = ("static_shares", "above 0 and below 1");
        return Err(GeoError::InvalidConfig { field, expected, actual });
    }
    if config.neighbors == 0 {
        let (field, expected) = ("neighbors", "at least 1");
        return Err(GeoError::InvalidConfig { field, expected, actual: 0.0 });
    }
    let place_km = config.place_km.unwrap_or_else(|| {
        let span_km = |coordinate: fn(&LocalPosition) -> f64| {
            let values = samples.iter().map(|sample| coordinate(&sample.position));
            let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
                (low.min(v), high.max(v))
            });
            (high - low).max(0.0)
        };
        let diagonal_km = span_km(|p| p.east_km).hypot(span_km(|p| p.north_km));
        // Samples that are all at one place have no extent; any side will do for them.
        (diagonal_km / 100.0).max(1e-3)
    });
    require_positive("place_km", place_km)?;
    Ok(place_km)
}

/// Gathers the samples of each square.
fn places(model: &LevelModel, samples: &[LevelSample], place_km: f64) -> Vec<Place> {
    #[derive(Clone)]
    struct Sums {
        east_km: f64,
        north_km: f64,
        samples: f64,
        deviations: Vec<(f64, f64)>,
    }
    let empty = Sums {
        east_km: 0.0,
        north_km: 0.0,
        samples: 0.0,
        deviations: vec![(0.0, 0.0); model.receivers.len()],
    };
    let mut squares: BTreeMap<(i64, i64), Sums> = BTreeMap::new();
    for sample in samples {
        let LocalPosition { east_km, north_km } = sample.position;
        // A whole number of a few thousand squares.
        let square = ((north_km / place_km).floor() as i64, (east_km / place_km).floor() as i64);
        let sums = squares.entry(square).or_insert_with(|| empty.clone());
        sums.east_km += east_km;
        sums.north_km += north_km;
        sums.samples += 1.0;
        let hidden = expect(model, sample);
        for (receiver, level) in hidden.levels.iter().enumerate() {
            let expected_db = model.level_db(receiver, sample.position);
            let deviation = (level.level_db - expected_db) / model.path_losses[receiver].sigma_db;
            sums.deviations[receiver].0 += level.weight * deviation;
            sums.deviations[receiver].1 += level.weight;
        }
    }
    let place = |sums: Sums| Place {
        position: LocalPosition {
            east_km: sums.east_km / sums.samples,
            north_km: sums.north_km / sums.samples,
        },
        deviations: sums
            .deviations
            .into_iter()
            .map(|(sum, weight)| if weight > 0.0 { (sum / weight, weight) } else { (0.0, 0.0) })
            .collect(),
    };
    squares.into_values().map(place).collect()
}

/// Lists the places nearest to a point, one of them left out.
fn nearest(
    places: &[Place],
    point: &LocalPosition,
    count: usize,
    except: Option<usize>,
) -> Vec<usize> {
    let mut near: Vec<(f64, usize)> = places
        .iter()
        .enumerate()
        .filter(|(index, _)| Some(*index) != except)
        .map(|(index, place)| (place.position.distance_km(point), index))
        .collect();
    if count < near.len() {
        near.select_nth_unstable_by(count, |a, b| a.0.total_cmp(&b.0));
        near.truncate(count);
    }
    // In the order of the places, whatever the selection leaves.
    let mut indices: Vec<usize> = near.into_iter().map(|(_, index)| index).collect();
    indices.sort_unstable();
    indices
}

/// Predicts deviation and variance of each receiver at a point, in its standard deviations.
fn predict(
    places: &[Place],
    near: &[usize],
    point: &LocalPosition,
    correlation: &Correlation,
) -> Vec<(f64, f64)> {
    let receivers = places.first().map_or(0, |place| place.deviations.len());
    let all = Kriging::new(places, near, point, correlation);
    (0..receivers)
        .map(|receiver| {
            let heard: Vec<usize> = near
                .iter()
                .copied()
                .filter(|&index| places[index].deviations[receiver].1 > 0.0)
                .collect();
            if heard.len() == near.len() {
                all.predict(places, near, receiver, correlation)
            } else {
                Kriging::new(places, &heard, point, correlation).predict(
                    places,
                    &heard,
                    receiver,
                    correlation,
                )
            }
        })
        .collect()
}

/// The weights of places for one point.
struct Kriging {
    /// Correlation of the point with each place.
    with_point: DVector<f64>,
    /// Correlation of the places with each other, without noise.
    among_places: DMatrix<f64>,
}

impl Kriging {
    fn new(
        places: &[Place],
        near: &[usize],
        point: &LocalPosition,
        correlation: &Correlation,
    ) -> Self {
        let position = |index: usize| &places[near[index]].position;
        Self {
            with_point: DVector::from_fn(near.len(), |row, _| {
                correlation.between(position(row), point)
            }),
            among_places: DMatrix::from_fn(near.len(), near.len(), |row, column| {
                correlation.between(position(row), position(column))
            }),
        }
    }

    fn predict(
        &self,
        places: &[Place],
        near: &[usize],
        receiver: usize,
        correlation: &Correlation,
    ) -> (f64, f64) {
        let deviation = |row: usize| places[near[row]].deviations[receiver];
        let mut covariance = self.among_places.clone();
        for row in 0..near.len() {
            covariance[(row, row)] += correlation.noise(deviation(row).1);
        }
        let factor: Cholesky<f64, Dyn> =
            covariance.cholesky().expect("an exponential covariance plus noise has a factor");
        let weights = factor.solve(&self.with_point);
        let mean = (0..near.len()).map(|row| weights[row] * deviation(row).0).sum();
        (mean, 1.0 - weights.dot(&self.with_point))
    }
}

/// Finds the correlation that predicts places best from the others around them.
fn best_correlation(places: &[Place], place_km: f64, config: &RadioMapConfig) -> Correlation {
    let stride = places.len().div_ceil(JUDGED_PLACES).max(1);
    let mut best: Option<(f64, Correlation)> = None;
    for &length in &config.correlation_places {
        for &static_share in &config.static_shares {
            let correlation = Correlation { length_km: length * place_km, static_share };
            let nats: f64 = (0..places.len())
                .step_by(stride)
                .map(|judged| log_likelihood(places, judged, &correlation, config.neighbors))
                .sum();
            if best.is_none_or(|(most, _)| nats > most) {
                best = Some((nats, correlation));
            }
        }
    }
    best.expect("there is at least one correlation to choose from").1
}

/// Log-likelihood of what was heard of one place, predicted from the places around it.
fn log_likelihood(
    places: &[Place],
    judged: usize,
    correlation: &Correlation,
    neighbors: usize,
) -> f64 {
    let place = &places[judged];
    let near = nearest(places, &place.position, neighbors, Some(judged));
    let predictions = predict(places, &near, &place.position, correlation);
    let nats = predictions.iter().zip(&place.deviations).map(|(prediction, deviation)| {
        let &(mean, variance) = prediction;
        let &(actual, samples) = deviation;
        if samples <= 0.0 {
            return 0.0;
        }
        // The prediction is of one sample, the place is the mean of several.
        let variance = variance - correlation.noise(1.0) + correlation.noise(samples);
        -0.5 * ((actual - mean).powi(2) / variance + variance.ln())
    });
    nats.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::{LevelObservation, PathLoss};

    fn local(east_km: f64, north_km: f64) -> LocalPosition {
        LocalPosition { east_km, north_km }
    }

    /// A wave of shadow across a square of 40 km, the same at every receiver's 6 dB scale.
    fn shadow_db(receiver: usize, place: LocalPosition) -> f64 {
        let turn = receiver as f64;
        9.0 * ((place.east_km / 4.0 + turn).sin() * (place.north_km / 5.0 - turn).cos())
    }

    fn model() -> LevelModel {
        let loss = PathLoss {
            level_1km_db: 60.0,
            exponent: 3.5,
            sigma_db: 5.0,
            threshold_db: None,
            outage: 0.0,
        };
        let receivers =
            vec![local(0.0, 0.0), local(40.0, 5.0), local(15.0, 40.0), local(30.0, 30.0)];
        LevelModel::uniform(receivers, loss, Some(3.0))
    }

    fn samples(model: &LevelModel, count: usize, seed: u64) -> Vec<LevelSample> {
        let mut random = Random::new(seed);
        let sample = |random: &mut Random| {
            let position = local(40.0 * random.uniform(), 40.0 * random.uniform());
            let power_db = 3.0 * random.normal();
            let observations = (0..model.receivers.len()).map(|receiver| {
                let level_db = model.level_db(receiver, position) + shadow_db(receiver, position);
                LevelObservation::Heard(level_db + power_db + random.normal())
            });
            LevelSample { position, observations: observations.collect() }
        };
        (0..count).map(|_| sample(&mut random)).collect()
    }

    /// The shadow is the largest error of path loss, and a map of 1,500 places knows it.
    #[test]
    fn map_halves_the_error_of_path_loss() {
        let model = model();
        let grid = PlaneGrid::new(local(0.0, 0.0), local(40.0, 40.0), 1.0).unwrap();
        let config = LevelGridConfig::default();
        let map = RadioMapConfig { place_km: Some(1.0), ..RadioMapConfig::default() };
        let known = samples(&model, 1500, 3);
        let plain = LevelGrid::new(grid, &model, &config).unwrap();
        let mapped = LevelGrid::with_radio_map(grid, &model, &known, &map, &config).unwrap();

        let error_km = |levels: &LevelGrid| {
            let mut errors: Vec<f64> = samples(&model, 100, 4)
                .iter()
                .map(|sample| {
                    let posterior = levels.posterior(&sample.observations).unwrap();
                    posterior.moments().position.distance_km(&sample.position)
                })
                .collect();
            errors.sort_by(f64::total_cmp);
            errors[50]
        };

        let (plain_km, mapped_km) = (error_km(&plain), error_km(&mapped));
        assert!(mapped_km < plain_km / 2.0, "{mapped_km} km with the map, {plain_km} km without");
    }

    /// Simple kriging of one place by hand: the weight is ρ / (s + (1 − s)) with the correlation
    /// `ρ = s exp(−d / l)`, the variance `1 − ρ²`.
    #[test]
    fn one_neighbor_is_weighted_by_its_correlation() {
        let correlation = Correlation { length_km: 2.0, static_share: 0.5 };
        let places = [Place { position: local(0.0, 0.0), deviations: vec![(2.0, 1.0)] }];

        let predictions = predict(&places, &[0], &local(2.0, 0.0), &correlation);

        let weight = 0.5 * (-1.0_f64).exp();
        assert!((predictions[0].0 - 2.0 * weight).abs() < 1e-12, "{predictions:?}");
        assert!((predictions[0].1 - (1.0 - weight * weight)).abs() < 1e-12, "{predictions:?}");
    }

    #[test]
    fn far_from_all_samples_path_loss_is_left() {
        let model = model();
        let grid = PlaneGrid::new(local(400.0, 400.0), local(440.0, 440.0), 10.0).unwrap();
        let known = samples(&model, 100, 5);
        let config = LevelGridConfig::default();

        let map = RadioMapConfig::default();
        let mapped = LevelGrid::with_radio_map(grid, &model, &known, &map, &config).unwrap();

        let plain = LevelGrid::new(grid, &model, &config).unwrap();
        let sample = &samples(&model, 1, 6)[0].observations;
        let (mapped, plain) = (mapped.posterior(sample).unwrap(), plain.posterior(sample).unwrap());
        for (mapped, plain) in mapped.probability().iter().zip(plain.probability()) {
            assert!((mapped - plain).abs() < 1e-9, "{mapped} is not {plain}");
        }
    }

    #[test]
    fn senseless_maps_are_refused_by_field() {
        let model = model();
        let grid = PlaneGrid::new(local(0.0, 0.0), local(1.0, 1.0), 1.0).unwrap();
        let defaults = RadioMapConfig::default;
        let cases = [
            (RadioMapConfig { place_km: Some(0.0), ..defaults() }, "place_km"),
            (RadioMapConfig { neighbors: 0, ..defaults() }, "neighbors"),
            (RadioMapConfig { correlation_places: vec![], ..defaults() }, "correlation_places"),
            (RadioMapConfig { static_shares: vec![1.0], ..defaults() }, "static_shares"),
        ];
        for (map, field) in cases {
            let known = samples(&model, 2, 1);
            let config = LevelGridConfig::default();
            let error = LevelGrid::with_radio_map(grid, &model, &known, &map, &config).unwrap_err();

            assert!(error.to_string().contains(field), "{error}");
        }
    }
}
