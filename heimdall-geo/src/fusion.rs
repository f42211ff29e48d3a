//! One probability of levels and arrival times together.

use crate::Ambiguity;
use crate::Arrival;
use crate::ArrivalSolver;
use crate::Estimate;
use crate::GeoError;
use crate::GridPosterior;
use crate::LevelGrid;
use crate::LevelObservation;
use crate::LocalPosition;
use crate::Location;
use crate::PlaneGrid;
use crate::arrival::PreparedArrivals;

/// Cells of a finer grid along its longer side.
const CELLS: f64 = 48.0;
/// Probability of a grid that is looked at more closely.
const KEPT_PROBABILITY: f64 = 0.999;
/// A peak with so many cells is seen closely enough.
const RESOLVED_CELLS: usize = 200;
/// A finer grid must have cells smaller than this share of those before, or nothing is gained.
const CELL_RATIO_MAX: f64 = 0.7;
/// A part of a grid with less of the probability is not looked at more closely.
const MASS_SHARE_MIN: f64 = 1e-3;
/// Arrival times that say something about the place.
const ARRIVALS_MIN: usize = 2;

/// Locates a transmitter by levels and arrival times together.
///
/// The logarithms of both likelihoods are added on the grid of `levels`, and those cells that hold
/// the probability are divided into finer ones until the peaks are resolved: a level tells tens of
/// kilometers, a time tens of meters. On a coarse grid the way across half a cell counts as an error
/// of the times. Two arrival times, which give a hyperbola and no place, count too.
///
/// With fewer than two arrival times the answer is that of the levels; where nothing is heard, that
/// of the arrival times.
///
/// # Errors
///
/// As those of [`ArrivalSolver::locate`].
///
/// # Panics
///
/// If there is not one observation of each receiver of `levels`.
pub fn locate_by_levels_and_arrivals(
    levels: &LevelGrid,
    observations: &[LevelObservation],
    solver: &ArrivalSolver,
    arrivals: &[Arrival],
    altitude_m: Option<f64>,
) -> Result<Location, GeoError> {
    let is_heard = observations.iter().any(|o| matches!(o, LevelObservation::Heard(_)));
    if is_heard && arrivals.len() < ARRIVALS_MIN {
        return Ok(levels.locate(observations));
    }
    let Some(level_nats) = levels.log_likelihood(observations) else {
        return solver.locate(arrivals, altitude_m);
    };
    let arrivals = solver.prepare(arrivals, altitude_m)?;
    let search = Search { levels: levels.grid(), level_nats, arrivals };
    let mut peaks = search.peaks(*levels.grid());
    peaks.sort_by(|a, b| b.mass_nats.total_cmp(&a.mass_nats));
    let floor_km2 = solver.config().position_floor_km.powi(2);
    for peak in &mut peaks {
        peak.estimate.covariance.east_km2 += floor_km2;
        peak.estimate.covariance.north_km2 += floor_km2;
    }
    let mass_min = peaks[0].mass_nats + levels.config().peak_ratio_min.ln();
    let likely = peaks.iter().take_while(|peak| peak.mass_nats >= mass_min);
    let mut likely: Vec<Estimate> = likely.map(|peak| peak.estimate).collect();
    let best = likely.remove(0);
    if likely.is_empty() {
        return Ok(Location::Fix(best));
    }
    Ok(Location::Ambiguous { best, alternatives: likely, reason: Ambiguity::Peaks })
}

/// A part of the probability that stands apart.
struct Peak {
    /// Logarithm of the likelihood, integrated over the peak.
    mass_nats: f64,
    estimate: Estimate,
}

/// What is known about one transmission.
struct Search<'a> {
    levels: &'a PlaneGrid,
    level_nats: Vec<f64>,
    arrivals: PreparedArrivals<'a>,
}

impl Search<'_> {
    /// Finds the peaks of the probability on a grid, on finer grids where they are small.
    fn peaks(&self, grid: PlaneGrid) -> Vec<Peak> {
        let blur_km = grid.cell_km() / 12_f64.sqrt();
        let nats: Vec<f64> =
            (0..grid.cells()).map(|cell| self.nats(&grid.center(cell), blur_km)).collect();
        let largest_nats = nats.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let Some(posterior) = GridPosterior::from_log_likelihood(grid, nats) else {
            return Vec::new();
        };
        let mut peaks = Vec::new();
        for group in grid.groups(&posterior.smallest_region(KEPT_PROBABILITY)) {
            let mass: f64 = group.iter().map(|&cell| posterior.probability()[cell]).sum();
            if mass < MASS_SHARE_MIN {
                continue;
            }
            let finer = (group.len() < RESOLVED_CELLS).then(|| grid.around(&group, CELLS));
            match finer {
                Some(finer) if finer.cell_km() < CELL_RATIO_MAX * grid.cell_km() => {
                    peaks.extend(self.peaks(finer));
                }
                _ => {
                    // The largest probability stands for the largest likelihood.
                    let top = posterior.probability().iter().copied().fold(0.0, f64::max);
                    let area_km2 = grid.cell_km().powi(2);
                    peaks.push(Peak {
                        mass_nats: largest_nats + (mass / top * area_km2).ln(),
                        estimate: posterior.moments_of(group.iter().copied()),
                    });
                }
            }
        }
        peaks
    }

    /// Logarithm of the likelihood of a place.
    fn nats(&self, place: &LocalPosition, blur_km: f64) -> f64 {
        let level_nats = self.levels.interpolate(&self.level_nats, place);
        level_nats - self.arrivals.misfit_nats(place, blur_km)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::{
        ArrivalConfig, LevelGridConfig, LevelModel, LocalFrame, PathLoss, Position,
        SPEED_OF_LIGHT_KM_S, mahalanobis_squared_at,
    };

    const PLACES: [(f64, f64); 4] = [(-30.0, -20.0), (35.0, -25.0), (30.0, 30.0), (-25.0, 35.0)];

    fn local(east_km: f64, north_km: f64) -> LocalPosition {
        LocalPosition { east_km, north_km }
    }

    fn network() -> (LevelGrid, ArrivalSolver, LevelModel) {
        let frame = LocalFrame { origin: Position::new(45.0, 8.0).unwrap() };
        let places: Vec<_> = PLACES.iter().map(|&(east, north)| local(east, north)).collect();
        let receivers: Vec<_> =
            places.iter().map(|place| (frame.to_position(place).unwrap(), 0.0)).collect();
        let loss = PathLoss {
            level_1km_db: 70.0,
            exponent: 3.5,
            sigma_db: 6.0,
            threshold_db: Some(3.0),
            outage: 0.05,
        };
        let model = LevelModel::uniform(places, loss, Some(5.0));
        let grid = PlaneGrid::new(local(-60.0, -60.0), local(60.0, 60.0), 3.0).unwrap();
        let levels = LevelGrid::new(grid, &model, &LevelGridConfig::default()).unwrap();
        let solver =
            ArrivalSolver::new(frame, &receivers, grid, &ArrivalConfig::default()).unwrap();
        (levels, solver, model)
    }

    /// Levels and times of a transmitter, with the errors that the models expect.
    fn measured(
        model: &LevelModel,
        place: LocalPosition,
        random: &mut Random,
    ) -> (Vec<LevelObservation>, Vec<Arrival>) {
        let power_db = 5.0 * random.normal();
        let observations = (0..4)
            .map(|receiver| {
                let level_db = model.level_db(receiver, place) + power_db + 6.0 * random.normal();
                LevelObservation::Heard(level_db)
            })
            .collect();
        let arrivals = (0..4)
            .map(|receiver| Arrival {
                receiver,
                // In the plane, lengths are 0.003 % short at 60 km: 2 m.
                time_s: model.receivers[receiver].distance_km(&place)
                    / (0.9997 * SPEED_OF_LIGHT_KM_S)
                    + 0.1e-6 * random.normal(),
                sigma_s: 5e-8,
            })
            .collect();
        (observations, arrivals)
    }

    #[test]
    fn four_times_settle_the_place_that_levels_only_hint_at() {
        let (levels, solver, model) = network();
        let mut random = Random::new(2);
        let mut hits = 0;
        for _ in 0..60 {
            let place = local(80.0 * (random.uniform() - 0.5), 80.0 * (random.uniform() - 0.5));
            let (observations, arrivals) = measured(&model, place, &mut random);

            let fused =
                locate_by_levels_and_arrivals(&levels, &observations, &solver, &arrivals, None)
                    .unwrap();

            let best = fused.best().unwrap();
            let offset = local(
                best.position.east_km - place.east_km,
                best.position.north_km - place.north_km,
            );
            hits += usize::from(
                best.covariance.mahalanobis_squared(offset) < mahalanobis_squared_at(0.9),
            );
            assert!(best.position.distance_km(&place) < 2.0, "{fused:?} is not {place:?}");
        }

        // Of 60 trials 54 ± 2.3 should hit; Student's tails make the regions wider.
        assert!(hits >= 47, "{hits} of 60");
    }

    /// Two times give a hyperbola, on which the levels choose: across it the place is sharp.
    #[test]
    fn two_times_narrow_what_levels_know() {
        let (levels, solver, model) = network();
        let mut random = Random::new(8);
        let place = local(5.0, -8.0);
        let (observations, arrivals) = measured(&model, place, &mut random);

        let fused =
            locate_by_levels_and_arrivals(&levels, &observations, &solver, &arrivals[..2], None)
                .unwrap();

        let alone = levels.locate(&observations);
        let area =
            |location: &Location| location.best().unwrap().covariance.determinant_km4().sqrt();
        assert!(area(&fused) < area(&alone) / 3.0, "{fused:?}, {alone:?}");
        let difference_km = |at: LocalPosition| {
            model.receivers[1].distance_km(&at) - model.receivers[0].distance_km(&at)
        };
        let off_km = difference_km(fused.best().unwrap().position) - difference_km(place);
        // The mean of a bent line lies beside it.
        assert!(off_km.abs() < 3.0, "{off_km} km");
    }

    #[test]
    fn one_kind_of_measurement_is_enough() {
        let (levels, solver, model) = network();
        let (observations, arrivals) = measured(&model, local(10.0, 0.0), &mut Random::new(4));
        let silence = [LevelObservation::NotHeard; 4];

        let by_levels =
            locate_by_levels_and_arrivals(&levels, &observations, &solver, &arrivals[..1], None);
        let by_times = locate_by_levels_and_arrivals(&levels, &silence, &solver, &arrivals, None);

        assert_eq!(by_levels.unwrap(), levels.locate(&observations));
        assert_eq!(by_times.unwrap(), solver.locate(&arrivals, None).unwrap());
    }
}
