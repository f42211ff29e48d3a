//! What an estimate must beat: positions that take no network, and the bound on any.

use std::collections::BTreeMap;

use heimdall_data::FeatureHeader;
use heimdall_features::{FeatureMap, ReceiverScalars};
use heimdall_geo::{
    Arrival, ArrivalConfig, ArrivalSolver, Covariance, FingerprintConfig, Fingerprints, GeoError,
    LevelGrid, LevelGridConfig, LevelModel, LevelObservation, LevelSample, LocalPosition,
    PathLossFitConfig, PlaneGrid, arrival_bound, fit_path_loss, level_bound, weighted_centroid,
};
use heimdall_loss::percentile;

use crate::Method;

/// How far beyond the receivers transmitters are looked for, relative to the larger side of the
/// receivers' bounding box.
const MARGIN_SHARE: f64 = 0.2;
/// Cells along the larger side of the area in which transmitters are looked for.
const GRID_CELLS: f64 = 80.0;
/// Cells along it from which arrival times are searched.
const ARRIVAL_GRID_CELLS: f64 = 24.0;
/// Systematic error of arrival times, in s: detours of 0.3 µs at 10 km that grow with the root of
/// distance are some 0.6 µs at 40 km.
const TIMING_FLOOR_S: f64 = 0.6e-6;
/// Levels further below the threshold of detection than this are noise, and compared as this, in dB.
const FAINT_DB: f64 = 20.0;
/// Training events with the most similar levels whose mean is taken.
const NEIGHBORS: usize = 10;
/// Most training events that path loss is fitted to.
const FITTED_EVENTS_MAX: usize = 2000;

/// The level of a receiver that baselines go by, in dB: above its own noise where that is known;
/// NaN where no level is.
pub(crate) fn level_db(scalars: &ReceiverScalars) -> f64 {
    f64::from(if scalars.snr_db.is_nan() { scalars.power_db } else { scalars.snr_db })
}

/// The power of a receiver, in dB, where it is known: what transmitters are near a receiver by, as
/// long as gains are alike and fixed.
fn power_db(scalars: &ReceiverScalars) -> f64 {
    f64::from(if scalars.power_db.is_nan() { scalars.snr_db } else { scalars.power_db })
}

/// Events that are known to the baselines: what was measured, and where they were.
pub(crate) type KnownEvents<'a> = (&'a [FeatureMap], &'a [LocalPosition]);

/// Everything that the baselines have learned.
#[derive(Debug)]
pub(crate) struct Baselines {
    receivers: Vec<LocalPosition>,
    receivers_mean: LocalPosition,
    region_center: LocalPosition,
    region_side_km: f64,
    training_mean: LocalPosition,
    /// What weighs the receivers of a centroid, in dB.
    weighting: fn(&ReceiverScalars) -> f64,
    learned: Option<Learned>,
    arrivals: ArrivalSolver,
}

/// What takes training events.
#[derive(Debug)]
struct Learned {
    model: LevelModel,
    grid: LevelGrid,
    fingerprints: Fingerprints,
    /// Level from which on each receiver hears, in dB.
    thresholds_db: Vec<Option<f64>>,
}

impl Baselines {
    /// Learns from training events, where there are any.
    ///
    /// # Errors
    ///
    /// That of the plane if the area around the receivers does not lie on the Earth, or if nobody
    /// hears the training events.
    pub(crate) fn learn(
        header: &FeatureHeader,
        training_mean: LocalPosition,
        training: Option<KnownEvents<'_>>,
    ) -> Result<Self, GeoError> {
        let frame = header.frame;
        let receivers: Vec<LocalPosition> =
            header.receivers.iter().map(|receiver| frame.to_local(&receiver.position)).collect();
        let positions = training.map_or(&[][..], |(_, positions)| positions);
        let area = Area::around(&receivers, positions);
        let learned = training
            .filter(|(events, _)| events.iter().any(has_level))
            .map(|known| Learned::from(header, &receivers, &area, known))
            .transpose()?;
        let places: Vec<_> = header.receivers.iter().map(|r| (r.position, r.altitude_m)).collect();
        let config = ArrivalConfig { timing_floor_s: TIMING_FLOOR_S, ..ArrivalConfig::default() };
        let count = receivers.len() as f64;
        let mut baselines = Self {
            receivers_mean: LocalPosition {
                east_km: receivers.iter().map(|receiver| receiver.east_km).sum::<f64>() / count,
                north_km: receivers.iter().map(|receiver| receiver.north_km).sum::<f64>() / count,
            },
            region_center: Area::around(&receivers, &[]).center(),
            region_side_km: area.side_km(),
            arrivals: ArrivalSolver::new(frame, &places, area.grid(ARRIVAL_GRID_CELLS)?, &config)?,
            training_mean,
            weighting: level_db,
            receivers,
            learned,
        };
        if let Some(known) = training {
            baselines.choose_weighting(known);
        }
        Ok(baselines)
    }

    /// Weighs receivers by the power that they receive, if that is nearer to the training events than
    /// the ratio to noise: it is where gains are fixed and alike, and says nothing where they are not.
    fn choose_weighting(&mut self, (events, positions): KnownEvents<'_>) {
        let mut error_km = |weighting| {
            self.weighting = weighting;
            let errors = events.iter().zip(positions);
            let errors_km = errors.map(|(event, place)| self.centroid(event).distance_km(place));
            percentile(&errors_km.collect::<Vec<_>>(), 50.0)
        };
        let weightings: [fn(&ReceiverScalars) -> f64; 2] = [level_db, power_db];
        let [by_ratio_km, by_power_km] = weightings.map(&mut error_km);
        self.weighting = weightings[usize::from(by_power_km < by_ratio_km)];
    }

    /// The path loss that fits the training events, where there are any.
    pub(crate) fn level_model(&self) -> Option<&LevelModel> {
        self.learned.as_ref().map(|learned| &learned.model)
    }

    /// Side of the area in which transmitters are looked for, in km: the root of its size.
    pub(crate) fn region_side_km(&self) -> f64 {
        self.region_side_km
    }

    /// Where each method puts an event; methods without an answer are missing.
    pub(crate) fn locate(
        &self,
        event: &FeatureMap,
    ) -> Result<BTreeMap<Method, LocalPosition>, GeoError> {
        let mut answers = BTreeMap::from([
            (Method::RegionCenter, self.region_center),
            (Method::TrainingMean, self.training_mean),
            (Method::Strongest, self.strongest(event)),
            (Method::Centroid, self.centroid(event)),
        ]);
        if let Some(learned) = &self.learned {
            let observations = observations(event);
            // What nobody hears may be anywhere: the mean is the best guess.
            let grid = learned.grid.posterior(&observations);
            let grid = grid.map_or(self.training_mean, |posterior| posterior.moments().position);
            answers.insert(Method::LevelGrid, grid);
            let nearest = learned.fingerprints.locate(&learned.fingerprint(event));
            let nearest = nearest.best().map_or(self.training_mean, |best| best.position);
            answers.insert(Method::Fingerprints, nearest);
        }
        if let Some(best) = self.arrivals.locate(&arrivals(event), None)?.best() {
            answers.insert(Method::Tdoa, best.position);
        }
        Ok(answers)
    }

    /// Receivers that detect an event, with the level in dB.
    fn hearing(&self, event: &FeatureMap) -> Vec<(LocalPosition, f64)> {
        let scalars = self.receivers.iter().zip(&event.scalars);
        scalars
            .filter_map(|(&position, scalars)| {
                let scalars = scalars.as_ref().filter(|scalars| scalars.detected)?;
                Some((position, (self.weighting)(scalars)))
                    .filter(|(_, level_db)| level_db.is_finite())
            })
            .collect()
    }

    /// The centroid of the receivers that detect an event, weighted by `10^(level / 20)`; the mean of
    /// all receivers where none does.
    fn centroid(&self, event: &FeatureMap) -> LocalPosition {
        weighted_centroid(&self.hearing(event)).unwrap_or(self.receivers_mean)
    }

    /// The receiver with the highest level among those that detect an event; the mean of all
    /// receivers where none does.
    fn strongest(&self, event: &FeatureMap) -> LocalPosition {
        let hearing = self.hearing(event);
        let strongest = hearing.iter().max_by(|a, b| a.1.total_cmp(&b.1));
        strongest.map_or(self.receivers_mean, |&(position, _)| position)
    }

    /// Root of the trace of the Cramér–Rao bound by the levels of all receivers that listened, in
    /// km, with a flat prior over the area; `None` where there is none.
    pub(crate) fn level_bound_km(&self, truth: LocalPosition, event: &FeatureMap) -> Option<f64> {
        let model = &self.learned.as_ref()?.model;
        let (mut places, mut exponents, mut sigmas_db) = (Vec::new(), 0.0, 0.0);
        let listening = self.receivers.iter().zip(&event.scalars).zip(&model.path_losses);
        for ((&place, _), loss) in listening.filter(|((_, scalars), _)| scalars.is_some()) {
            places.push(place);
            exponents += loss.exponent;
            sigmas_db += loss.sigma_db;
        }
        let count = places.len() as f64;
        let side_km = Some(self.region_side_km);
        let bound = level_bound(truth, &places, exponents / count, sigmas_db / count, side_km);
        bound.ok().map(root_of_trace_km)
    }

    /// The same by the arrival times of the receivers that measured one.
    pub(crate) fn arrival_bound_km(&self, truth: LocalPosition, event: &FeatureMap) -> Option<f64> {
        let arrivals: Vec<(LocalPosition, f64)> = arrivals(event)
            .iter()
            .map(|arrival| {
                (self.receivers[arrival.receiver], arrival.sigma_s.hypot(TIMING_FLOOR_S))
            })
            .collect();
        arrival_bound(truth, &arrivals, None).ok().map(root_of_trace_km)
    }
}

fn root_of_trace_km(covariance: Covariance) -> f64 {
    (covariance.east_km2 + covariance.north_km2).sqrt()
}

impl Learned {
    fn from(
        header: &FeatureHeader,
        receivers: &[LocalPosition],
        area: &Area,
        (events, positions): KnownEvents<'_>,
    ) -> Result<Self, GeoError> {
        let samples: Vec<LevelSample> = events
            .iter()
            .zip(positions)
            .map(|(event, &position)| LevelSample { position, observations: observations(event) })
            .collect();
        let step = samples.len().div_ceil(FITTED_EVENTS_MAX);
        let fitted: Vec<LevelSample> = samples.iter().step_by(step).cloned().collect();
        let thresholds_db = thresholds_db(header, &samples, receivers.len());
        let config = PathLossFitConfig::default();
        let model = fit_path_loss(receivers, &thresholds_db, &fitted, &config)?;
        let config = FingerprintConfig {
            neighbors: NEIGHBORS,
            weight_power: 0.0,
            ..FingerprintConfig::default()
        };
        let fingerprints: Vec<LevelSample> = events
            .iter()
            .zip(positions)
            .map(|(event, &position)| LevelSample {
                position,
                observations: fingerprint(event, &thresholds_db),
            })
            .collect();
        Ok(Self {
            grid: LevelGrid::new(area.grid(GRID_CELLS)?, &model, &LevelGridConfig::default())?,
            fingerprints: Fingerprints::new(&fingerprints, &config)?,
            thresholds_db,
            model,
        })
    }

    /// What an event is compared by.
    fn fingerprint(&self, event: &FeatureMap) -> Vec<LevelObservation> {
        fingerprint(event, &self.thresholds_db)
    }
}

/// The levels of all receivers that listened, those too that detected nothing: a level that is too
/// low for certainty still says more than that it is too low.
fn fingerprint(event: &FeatureMap, thresholds_db: &[Option<f64>]) -> Vec<LevelObservation> {
    let receivers = event.scalars.iter().zip(thresholds_db);
    receivers
        .map(|(scalars, threshold_db)| {
            let level_db = scalars.as_ref().map_or(f64::NAN, level_db);
            if level_db.is_nan() {
                return LevelObservation::Absent;
            }
            let faintest_db = threshold_db.map_or(f64::NEG_INFINITY, |db| db - FAINT_DB);
            LevelObservation::Heard(level_db.max(faintest_db))
        })
        .collect()
}

/// Whether some receiver detects an event and says a level.
pub(crate) fn has_level(event: &FeatureMap) -> bool {
    observations(event).iter().any(|said| matches!(said, LevelObservation::Heard(_)))
}

/// Levels from which on receivers hear: that of the detector, or the lowest that was ever heard.
fn thresholds_db(
    header: &FeatureHeader,
    samples: &[LevelSample],
    receivers: usize,
) -> Vec<Option<f64>> {
    let detector_db = header.features.as_ref().map(|features| f64::from(features.detection_snr_db));
    let lowest_db = |receiver: usize| {
        let heard = samples.iter().filter_map(|sample| match sample.observations[receiver] {
            LevelObservation::Heard(level_db) => Some(level_db),
            LevelObservation::NotHeard | LevelObservation::Absent => None,
        });
        heard.min_by(f64::total_cmp)
    };
    (0..receivers).map(|receiver| detector_db.or_else(|| lowest_db(receiver))).collect()
}

/// What each receiver says of an event.
fn observations(event: &FeatureMap) -> Vec<LevelObservation> {
    event
        .scalars
        .iter()
        .map(|scalars| match scalars {
            // What was timed and not measured says nothing about levels.
            Some(scalars) if scalars.detected && level_db(scalars).is_nan() => {
                LevelObservation::Absent
            }
            Some(scalars) if scalars.detected => LevelObservation::Heard(level_db(scalars)),
            Some(_) => LevelObservation::NotHeard,
            None => LevelObservation::Absent,
        })
        .collect()
}

/// When each receiver received an event.
fn arrivals(event: &FeatureMap) -> Vec<Arrival> {
    let arrivals = event.arrivals.iter().enumerate();
    arrivals
        .filter_map(|(receiver, arrival)| {
            let arrival = arrival.as_ref()?;
            Some(Arrival { receiver, time_s: arrival.time_s, sigma_s: arrival.sigma_s })
        })
        .collect()
}

/// The rectangle in which transmitters are looked for.
#[derive(Clone, Copy, Debug)]
struct Area {
    south_west: LocalPosition,
    north_east: LocalPosition,
}

impl Area {
    /// The bounding box of receivers with a margin, widened to hold some positions.
    fn around(receivers: &[LocalPosition], positions: &[LocalPosition]) -> Self {
        let bounds = |places: &[LocalPosition]| {
            let of = |value: fn(&LocalPosition) -> f64| {
                let values = places.iter().map(value);
                values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)))
            };
            (of(|place| place.east_km), of(|place| place.north_km))
        };
        let ((west, east), (south, north)) = bounds(receivers);
        // A single receiver still has some kilometers around it.
        let margin_km = (MARGIN_SHARE * (east - west).max(north - south)).max(0.1);
        let ((west_most, east_most), (south_most, north_most)) = bounds(positions);
        Self {
            south_west: LocalPosition {
                east_km: (west - margin_km).min(west_most),
                north_km: (south - margin_km).min(south_most),
            },
            north_east: LocalPosition {
                east_km: (east + margin_km).max(east_most),
                north_km: (north + margin_km).max(north_most),
            },
        }
    }

    fn width_km(&self) -> f64 {
        self.north_east.east_km - self.south_west.east_km
    }

    fn height_km(&self) -> f64 {
        self.north_east.north_km - self.south_west.north_km
    }

    fn side_km(&self) -> f64 {
        (self.width_km() * self.height_km()).sqrt()
    }

    fn center(&self) -> LocalPosition {
        LocalPosition {
            east_km: f64::midpoint(self.south_west.east_km, self.north_east.east_km),
            north_km: f64::midpoint(self.south_west.north_km, self.north_east.north_km),
        }
    }

    fn grid(&self, cells: f64) -> Result<PlaneGrid, GeoError> {
        let cell_km = self.width_km().max(self.height_km()) / cells;
        PlaneGrid::new(self.south_west, self.north_east, cell_km)
    }
}

#[cfg(test)]
mod tests;
