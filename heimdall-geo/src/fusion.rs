//! One probability of levels and arrival times together.

use std::f64::consts::TAU;

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
use crate::NoFix;
use crate::PlaneGrid;
use crate::arrival::PreparedArrivals;
use crate::plane_grid::{REGION_PROBABILITY, check_share};

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
/// of the times; where that is what spreads a peak, the answer of the times alone takes its place. Two
/// arrival times, which give a hyperbola and no place, count too.
///
/// With fewer than two arrival times the answer is that of the levels; where nothing is heard, that
/// of the arrival times.
///
/// There is no fix if the region of 90 % takes more than the share of the grid that the config of
/// `levels` allows, or if the measurements lead out of the grid: if they fit best at its border, or if
/// a place beyond it explains the times so much better that the best one within is no alternative. A
/// peak at the border is no alternative to one within.
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
    match LevelObservation::check(observations) {
        Err(NoFix::NothingHeard) => return solver.locate(arrivals, altitude_m),
        Err(reason) => return Ok(Location::NoFix(reason)),
        Ok(()) if arrivals.len() < ARRIVALS_MIN => return Ok(levels.locate(observations)),
        Ok(()) => {}
    }
    let level_nats = levels.log_likelihood(observations);
    let arrivals = solver.prepare(arrivals, altitude_m)?;
    let search = Search { levels: levels.grid(), level_nats, arrivals };
    let Some(posterior) = search.posterior(*levels.grid()) else {
        return Ok(Location::NoFix(NoFix::Unexplained));
    };
    let region = posterior.probability.smallest_region(REGION_PROBABILITY);
    if let Err(reason) = check_share(&region, levels.config().area_share_max) {
        return Ok(Location::NoFix(reason));
    }
    let floor_km2 = solver.config().position_floor_km.powi(2);
    Ok(search.judge(search.peaks(&posterior), levels.config().peak_ratio_min).widened(floor_km2))
}

/// A part of the probability that stands apart.
struct Peak {
    /// Logarithm of the likelihood, integrated over the peak.
    mass_nats: f64,
    estimate: Estimate,
    /// The most likely cell of the peak, and the size of the cells around it.
    top: LocalPosition,
    cell_km: f64,
}

/// A probability, and what was lost in making it add up to 1.
struct Scaled {
    probability: GridPosterior,
    /// Logarithm of the likelihood of the most likely cell.
    largest_nats: f64,
}

/// What is known about one transmission.
struct Search<'a> {
    levels: &'a PlaneGrid,
    level_nats: Vec<f64>,
    arrivals: PreparedArrivals<'a>,
}

impl Search<'_> {
    /// The probability of each cell of a grid; none where no cell has any.
    fn posterior(&self, grid: PlaneGrid) -> Option<Scaled> {
        let blur_km = blur_km(grid.cell_km());
        let nats: Vec<f64> =
            (0..grid.cells()).map(|cell| self.nats(&grid.center(cell), blur_km)).collect();
        let largest_nats = nats.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let probability = GridPosterior::from_log_likelihood(grid, nats)?;
        Some(Scaled { probability, largest_nats })
    }

    /// Finds the peaks of a probability, on finer grids where they are small.
    fn peaks(&self, Scaled { probability: posterior, largest_nats }: &Scaled) -> Vec<Peak> {
        let (grid, probability) = (posterior.grid(), posterior.probability());
        let mut peaks = Vec::new();
        for group in grid.groups(&posterior.smallest_region(KEPT_PROBABILITY)) {
            let mass: f64 = group.iter().map(|&cell| probability[cell]).sum();
            if mass < MASS_SHARE_MIN {
                continue;
            }
            let finer = (group.len() < RESOLVED_CELLS).then(|| grid.around(&group, CELLS));
            match finer {
                Some(finer) if finer.cell_km() < CELL_RATIO_MAX * grid.cell_km() => {
                    peaks.extend(self.posterior(finer).iter().flat_map(|finer| self.peaks(finer)));
                }
                _ => {
                    let peak = coarse_peak(posterior, *largest_nats, &group);
                    let is_blurred = blur_km(grid.cell_km()) > self.arrivals.sigma_km_min();
                    let sharper = self.sharp_peaks(grid, &group, &peak);
                    let sharper = Some(sharper).filter(|sharper| is_blurred && !sharper.is_empty());
                    peaks.extend(sharper.unwrap_or_else(|| vec![peak]));
                }
            }
        }
        peaks
    }

    /// Finds what the times alone say within some cells, where they are surer than the `coarse` peak.
    ///
    /// Far away, where receivers see a place at nearly one angle, an error of half a cell in the times
    /// leaves tens of kilometers open, and cells that are small enough would be too many. Over the small
    /// region that the times leave, the levels change little: its probability is that of a Gaussian.
    fn sharp_peaks(&self, grid: &PlaneGrid, group: &[usize], coarse: &Peak) -> Vec<Peak> {
        let coarse_km4 = coarse.estimate.covariance.determinant_km4();
        let answers = self.arrivals.answers().iter().filter(|answer| {
            grid.cell_of(&answer.position).is_some_and(|cell| group.contains(&cell))
                && answer.covariance.determinant_km4() < coarse_km4
        });
        let peak = |answer: &Estimate| {
            let size_km2 = answer.covariance.determinant_km4().sqrt();
            Peak {
                mass_nats: self.nats(&answer.position, 0.0) + (TAU * size_km2).ln(),
                estimate: *answer,
                top: answer.position,
                cell_km: 0.0,
            }
        };
        answers.map(peak).collect()
    }

    /// Sorts out which of the peaks are answers.
    fn judge(&self, mut peaks: Vec<Peak>, peak_ratio_min: f64) -> Location {
        peaks.sort_by(|a, b| b.mass_nats.total_cmp(&a.mass_nats));
        let Some(heaviest) = peaks.first() else { return Location::NoFix(NoFix::Unexplained) };
        let mass_min = heaviest.mass_nats + peak_ratio_min.ln();
        // On finer grids a peak may leave the first one, by a cell.
        peaks.retain(|peak| {
            peak.mass_nats >= mass_min && self.levels.contains_by(&peak.top, peak.cell_km)
        });
        let Some(best) = peaks.first() else { return Location::NoFix(NoFix::OutsideRegion) };
        let misfit_nats = self.arrivals.misfit_nats(&best.top, blur_km(best.cell_km));
        if self.arrivals.lead_out_of(self.levels, misfit_nats) {
            return Location::NoFix(NoFix::OutsideRegion);
        }
        let estimates: Vec<Estimate> = peaks.into_iter().map(|peak| peak.estimate).collect();
        Location::of(estimates, Ambiguity::Peaks, NoFix::OutsideRegion)
    }

    /// Logarithm of the likelihood of a place.
    fn nats(&self, place: &LocalPosition, blur_km: f64) -> f64 {
        let level_nats = self.levels.interpolate(&self.level_nats, place);
        level_nats - self.arrivals.misfit_nats(place, blur_km)
    }
}

/// The peak that a group of cells is.
fn coarse_peak(posterior: &GridPosterior, largest_nats: f64, group: &[usize]) -> Peak {
    let (grid, probability) = (posterior.grid(), posterior.probability());
    // The largest probability stands for the largest likelihood.
    let largest = probability.iter().copied().fold(0.0, f64::max);
    let mass: f64 = group.iter().map(|&cell| probability[cell]).sum();
    let by_probability = |&a: &usize, &b: &usize| probability[a].total_cmp(&probability[b]);
    let top = group.iter().copied().max_by(by_probability).unwrap_or_default();
    Peak {
        mass_nats: largest_nats + (mass / largest * grid.cell_km().powi(2)).ln(),
        estimate: posterior.moments_of(group.iter().copied()),
        top: grid.center(top),
        cell_km: grid.cell_km(),
    }
}

/// Standard deviation of a place in an evenly filled cell, in one direction.
fn blur_km(cell_km: f64) -> f64 {
    cell_km / 12_f64.sqrt()
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

    fn frame() -> LocalFrame {
        LocalFrame { origin: Position::new(45.0, 8.0).unwrap() }
    }

    fn receivers() -> Vec<(Position, f64)> {
        let place = |&(east, north): &(f64, f64)| frame().to_position(&local(east, north)).unwrap();
        PLACES.iter().map(|at| (place(at), 0.0)).collect()
    }

    fn network() -> (LevelGrid, ArrivalSolver, LevelModel) {
        network_of_power(Some(5.0))
    }

    fn network_of_power(power_sigma_db: Option<f64>) -> (LevelGrid, ArrivalSolver, LevelModel) {
        network_within(60.0, 3.0, power_sigma_db)
    }

    /// Four receivers in the middle of a grid that reaches so far to each side.
    fn network_within(
        reach_km: f64,
        cell_km: f64,
        power_sigma_db: Option<f64>,
    ) -> (LevelGrid, ArrivalSolver, LevelModel) {
        let places: Vec<_> = PLACES.iter().map(|&(east, north)| local(east, north)).collect();
        let loss = PathLoss {
            level_1km_db: 70.0,
            exponent: 3.5,
            sigma_db: 6.0,
            threshold_db: Some(3.0),
            outage: 0.05,
        };
        let model = LevelModel::uniform(places, loss, power_sigma_db);
        let corners = [local(-reach_km, -reach_km), local(reach_km, reach_km)];
        let grid = PlaneGrid::new(corners[0], corners[1], cell_km).unwrap();
        let levels = LevelGrid::new(grid, &model, &LevelGridConfig::default()).unwrap();
        let solver =
            ArrivalSolver::new(frame(), &receivers(), grid, &ArrivalConfig::default()).unwrap();
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

    /// Far away, receivers see a place at nearly one angle: half a cell of 6 km is an error of the times
    /// that leaves a hundred kilometers open.
    #[test]
    fn place_far_away_is_seen_as_closely_as_the_times_allow() {
        let (levels, solver, model) = network_within(400.0, 6.0, Some(5.0));
        let mut random = Random::new(6);
        for place in [local(110.0, 20.0), local(-60.0, -90.0), local(15.0, 100.0)] {
            let (observations, arrivals) = measured(&model, place, &mut random);

            let fused =
                locate_by_levels_and_arrivals(&levels, &observations, &solver, &arrivals, None)
                    .unwrap();
            let by_times = solver.locate(&arrivals, None).unwrap();
            // What the position itself is uncertain by is added once.
            let floored = ArrivalConfig { position_floor_km: 2.0, ..ArrivalConfig::default() };
            let floored =
                ArrivalSolver::new(frame(), &receivers(), *levels.grid(), &floored).unwrap();
            let wider =
                locate_by_levels_and_arrivals(&levels, &observations, &floored, &arrivals, None);

            let growth_km2 = wider.unwrap().best().unwrap().covariance.east_km2
                - fused.best().unwrap().covariance.east_km2;
            assert!((growth_km2 - 4.0).abs() < 1e-6, "{growth_km2}");
            let size_km2 =
                |location: &Location| location.best().unwrap().covariance.determinant_km4().sqrt();
            assert!(size_km2(&fused) < 2.0 * size_km2(&by_times), "{fused:?}, {by_times:?}");
            let best = fused.best().unwrap();
            let offset = local(
                best.position.east_km - place.east_km,
                best.position.north_km - place.north_km,
            );
            let squared = best.covariance.mahalanobis_squared(offset);
            assert!(squared < mahalanobis_squared_at(0.99), "{squared}: {fused:?}");
        }
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

    /// Levels of 10²⁰⁰ dB have no squares, and times of 10³⁰⁰ s neither.
    #[test]
    fn numbers_beyond_all_measure_are_no_fix() {
        let (levels, solver, model) = network();
        let (mut observations, mut arrivals) =
            measured(&model, local(10.0, 0.0), &mut Random::new(4));
        let locate = |observations: &[LevelObservation], arrivals: &[Arrival]| {
            locate_by_levels_and_arrivals(&levels, observations, &solver, arrivals, None).unwrap()
        };

        arrivals[1].time_s = 1e300;
        arrivals[2].time_s = -1e300;
        let by_times = locate(&observations, &arrivals[1..3]);
        for level_db in [1e200, f64::NAN] {
            observations[1] = LevelObservation::Heard(level_db);
            let expected = Location::NoFix(NoFix::InvalidLevel { observation: 1 });
            assert_eq!(locate(&observations, &arrivals[2..]), expected);
        }

        assert_eq!(by_times, Location::NoFix(NoFix::Unexplained));
    }

    /// The grid ends at 60 km. Levels alone are too vague to tell, four times are not; two of them
    /// leave a line, on which the levels lead to the border.
    #[test]
    fn transmitter_outside_of_the_grid_is_no_fix() {
        let (levels, solver, model) = network();
        let mut random = Random::new(5);
        for place in [local(0.0, 75.0), local(-95.0, -10.0), local(200.0, 150.0)] {
            for _ in 0..10 {
                let (observations, arrivals) = measured(&model, place, &mut random);

                let fused =
                    locate_by_levels_and_arrivals(&levels, &observations, &solver, &arrivals, None)
                        .unwrap();

                assert_eq!(fused, Location::NoFix(NoFix::OutsideRegion), "{place:?}");
            }
        }
        let place = local(40.0, -120.0);
        let exact = (0..4).map(|receiver| LevelObservation::Heard(model.level_db(receiver, place)));
        let (_, arrivals) = measured(&model, place, &mut random);
        let fused = locate_by_levels_and_arrivals(
            &levels,
            &exact.collect::<Vec<_>>(),
            &solver,
            &arrivals[..2],
            None,
        );
        assert_eq!(fused.unwrap(), Location::NoFix(NoFix::OutsideRegion));
    }

    /// One level of any power tells nothing, and times of a clock that is good to a second neither.
    #[test]
    fn place_that_may_be_anywhere_is_no_fix() {
        let (levels, solver, model) = network_of_power(None);
        let (mut observations, mut arrivals) =
            measured(&model, local(10.0, 0.0), &mut Random::new(4));
        observations[1..].fill(LevelObservation::Absent);
        for arrival in &mut arrivals {
            arrival.sigma_s = 1.0;
        }

        let fused = locate_by_levels_and_arrivals(&levels, &observations, &solver, &arrivals, None)
            .unwrap();

        assert!(matches!(fused, Location::NoFix(NoFix::TooUncertain { .. })), "{fused:?}");
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
