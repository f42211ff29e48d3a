//! The methods, trained and calibrated.

use heimdall_geo::{
    ArrivalConfig, ArrivalSolver, Fingerprints, LevelGrid, LevelGridConfig, LevelModel,
    LevelObservation, LevelSample, LocalPosition, Location, PathLoss, RadioMapConfig,
    fit_path_loss, locate_by_centroid, locate_by_levels_and_arrivals, mahalanobis_squared_at,
};
use heimdall_loss::percentile;
use tracing::info;

use super::network::{Network, Observed};
use super::{LocalizationOptions, Method, blocks};
use crate::PipelineError;

/// Cells of the grid of levels along its longer side.
const LEVEL_CELLS: f64 = 128.0;
/// Cells of the grid of arrival times: searches only start there.
const ARRIVAL_CELLS: f64 = 64.0;
/// One of so many parts of the training is held out to calibrate the regions.
const CALIBRATION_PARTS: usize = 5;
/// Events that a calibration takes, at least.
const CALIBRATION_EVENTS_MIN: usize = 30;
/// Blocks of the calibration along the diagonal of the training, unless their side is given.
const CALIBRATION_BLOCKS: f64 = 25.0;
/// Probability of the regions that are calibrated.
const CALIBRATED_PROBABILITY: f64 = 0.9;
/// Median of the residual of a fit with two degrees of freedom, in standard deviations.
const RESIDUAL_MEDIAN: f64 = 0.83;

/// A method, ready for any event.
pub(super) struct Solver {
    kind: Kind,
    /// What the covariances are multiplied by.
    scale: f64,
}

enum Kind {
    Centroid,
    Level(LevelGrid),
    Fingerprint(Fingerprints),
    Arrival { solver: ArrivalSolver, sigma_s: f64 },
    Fusion { levels: LevelGrid, solver: ArrivalSolver, sigma_s: f64 },
}

impl Solver {
    /// Prepares the method of the options: with samples of known places where it takes any, and for
    /// the events that it will locate, whose residuals tell how good their times are.
    pub(super) fn train(
        network: &Network,
        samples: &[LevelSample],
        events: &[Observed],
        options: &LocalizationOptions,
    ) -> Result<Self, PipelineError> {
        let scale = match options.method {
            Method::Level | Method::Knn if !samples.is_empty() => {
                calibrate(network, samples, options)?
            }
            _ => 1.0,
        };
        let kind = Kind::train(network, samples, events, options)?;
        Ok(Self { kind, scale })
    }

    pub(super) fn locate(
        &self,
        network: &Network,
        event: &Observed,
    ) -> Result<Location, PipelineError> {
        Ok(self.kind.locate(network, event)?.scaled(self.scale))
    }
}

impl Kind {
    fn train(
        network: &Network,
        samples: &[LevelSample],
        events: &[Observed],
        options: &LocalizationOptions,
    ) -> Result<Self, PipelineError> {
        Ok(match options.method {
            Method::Centroid => Self::Centroid,
            Method::Level => Self::Level(level_grid(network, samples, options)?),
            Method::Knn => Self::Fingerprint(Fingerprints::new(samples, &options.fingerprints)?),
            Method::Tdoa => {
                let solver = arrival_solver(network, &options.arrivals)?;
                let sigma_s = timing_sigma_s(&solver, events, options.timing_sigma_s)?;
                Self::Arrival { solver, sigma_s }
            }
            Method::Fusion => {
                let solver = arrival_solver(network, &options.arrivals)?;
                let sigma_s = timing_sigma_s(&solver, events, options.timing_sigma_s)?;
                let levels = level_grid(network, samples, options)?;
                Self::Fusion { levels, solver, sigma_s }
            }
        })
    }

    fn locate(&self, network: &Network, event: &Observed) -> Result<Location, PipelineError> {
        Ok(match self {
            Self::Centroid => locate_by_centroid(&heard(network, event), &network.places),
            Self::Level(levels) => levels.locate(&event.levels),
            Self::Fingerprint(fingerprints) => fingerprints.locate(&event.levels),
            Self::Arrival { solver, sigma_s } => {
                solver.locate(&event.arrivals_with(*sigma_s), event.altitude_m)?
            }
            Self::Fusion { levels, solver, sigma_s } => locate_by_levels_and_arrivals(
                levels,
                &event.levels,
                solver,
                &event.arrivals_with(*sigma_s),
                event.altitude_m,
            )?,
        })
    }
}

/// The receivers that hear an event, with the level above their noise: where that is not measured,
/// above the lowest level that they report.
fn heard(network: &Network, event: &Observed) -> Vec<(LocalPosition, f64)> {
    let receivers = network.places.iter().zip(&network.lowest_db).zip(&event.levels);
    receivers
        .filter_map(|((&place, lowest_db), observation)| match observation {
            LevelObservation::Heard(level_db) if network.levels_are_above_noise() => {
                Some((place, *level_db))
            }
            LevelObservation::Heard(level_db) => Some((place, level_db - (*lowest_db)?)),
            _ => None,
        })
        .collect()
}

/// The levels that receivers expect: from path loss that is fitted to samples, and a map of them;
/// from the path loss of the options where there are no samples.
fn level_grid(
    network: &Network,
    samples: &[LevelSample],
    options: &LocalizationOptions,
) -> Result<LevelGrid, PipelineError> {
    let grid = network.grid(LEVEL_CELLS)?;
    let config = LevelGridConfig::default();
    if samples.is_empty() {
        let expected = &options.path_loss;
        let losses = network.lowest_db.iter().map(|&threshold_db| PathLoss {
            level_1km_db: 0.0,
            exponent: expected.exponent,
            sigma_db: expected.sigma_db,
            threshold_db,
            outage: expected.outage,
        });
        let model = LevelModel {
            receivers: network.places.clone(),
            path_losses: losses.collect(),
            // No level at 1 km is known either: both are one unknown.
            power_sigma_db: None,
            distance_km_min: expected.distance_km_min,
        };
        return Ok(LevelGrid::new(grid, &model, &config)?);
    }
    let model = fit_path_loss(&network.places, &network.lowest_db, samples, &options.path_loss)?;
    if options.path_loss_only {
        return Ok(LevelGrid::new(grid, &model, &config)?);
    }
    let map = RadioMapConfig::default();
    Ok(LevelGrid::with_radio_map(grid, &model, samples, &map, &config)?)
}

fn arrival_solver(
    network: &Network,
    config: &ArrivalConfig,
) -> Result<ArrivalSolver, PipelineError> {
    let grid = network.grid(ARRIVAL_CELLS)?;
    Ok(ArrivalSolver::new(network.frame, &network.positions, grid, config)?)
}

/// The standard deviation of the times: the given one, or what the residuals of the events show
/// where that is more.
fn timing_sigma_s(
    solver: &ArrivalSolver,
    events: &[Observed],
    given_s: f64,
) -> Result<f64, PipelineError> {
    let mut residuals_s = Vec::new();
    for event in events {
        let location = solver.locate(&event.arrivals, event.altitude_m)?;
        if let Some(best) = location.best() {
            residuals_s.extend(solver.residual_s(
                &event.arrivals,
                event.altitude_m,
                &best.position,
            )?);
        }
    }
    let shown_s = percentile(&residuals_s, 50.0).map_or(0.0, |median_s| median_s / RESIDUAL_MEDIAN);
    info!(given_s, shown_s, events = residuals_s.len(), "timing errors");
    Ok(given_s.max(shown_s))
}

/// Finds the scale of the covariances by which 90 % regions hold 90 % of a part of the samples that
/// is held out; 1 where there are too few.
///
/// Whole blocks are held out: beside a known place, regions would look better than they are.
fn calibrate(
    network: &Network,
    samples: &[LevelSample],
    options: &LocalizationOptions,
) -> Result<f64, PipelineError> {
    let places: Vec<LocalPosition> = samples.iter().map(|sample| sample.position).collect();
    let block_km =
        options.blocks_m.map_or_else(|| extent_km(&places) / CALIBRATION_BLOCKS, |m| m / 1e3);
    if block_km <= 0.0 {
        return Ok(1.0);
    }
    let folds = blocks::folds(&places, block_km, CALIBRATION_PARTS);
    let part = |is_held: bool| {
        let chosen = samples.iter().zip(&folds).filter(move |(_, fold)| (**fold == 0) == is_held);
        chosen.map(|(sample, _)| sample.clone()).collect::<Vec<_>>()
    };
    let (held, kept) = (part(true), part(false));
    if held.len() < CALIBRATION_EVENTS_MIN || kept.is_empty() {
        return Ok(1.0);
    }
    let kind = Kind::train(network, &kept, &[], options)?;
    let mut squares = Vec::new();
    for sample in held {
        let levels = sample.observations.clone();
        let event = Observed { levels, ..Observed::default() };
        if let Some(best) = kind.locate(network, &event)?.best() {
            squares.push(best.covariance.mahalanobis_squared(LocalPosition {
                east_km: sample.position.east_km - best.position.east_km,
                north_km: sample.position.north_km - best.position.north_km,
            }));
        }
    }
    if squares.len() < CALIBRATION_EVENTS_MIN {
        return Ok(1.0);
    }
    let quantile = percentile(&squares, 100.0 * CALIBRATED_PROBABILITY).unwrap_or(1.0);
    let scale = quantile / mahalanobis_squared_at(CALIBRATED_PROBABILITY);
    info!(scale, events = squares.len(), "regions calibrated on blocks that were held out");
    Ok(scale)
}

/// The diagonal of the smallest rectangle around places.
fn extent_km(places: &[LocalPosition]) -> f64 {
    let span_km = |coordinate: fn(&LocalPosition) -> f64| {
        let low_km = places.iter().map(coordinate).fold(f64::INFINITY, f64::min);
        let high_km = places.iter().map(coordinate).fold(f64::NEG_INFINITY, f64::max);
        (high_km - low_km).max(0.0)
    };
    span_km(|place| place.east_km).hypot(span_km(|place| place.north_km))
}
