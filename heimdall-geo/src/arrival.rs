//! From arrival times with a common unknown time of emission to the transmitter's position.

mod range;
mod search;
mod timing;

use nalgebra::Matrix3;
use serde::{Deserialize, Serialize};

use crate::Ambiguity;
use crate::Covariance;
use crate::Estimate;
use crate::GeoError;
use crate::LocalFrame;
use crate::LocalPosition;
use crate::Location;
use crate::NoFix;
use crate::PlaneGrid;
use crate::Position;
use crate::SPEED_OF_LIGHT_KM_S;
use crate::arrival::range::{SpacePlane, SpaceReceiver, SurfacePoint};
use crate::arrival::search::Optimum;
use crate::arrival::timing::Timing;
use crate::bound::require_positive;

/// Places of receivers that a position takes.
const PLACES_MIN: usize = 3;
/// Receivers closer than this stand at one place, in km.
const PLACE_KM: f64 = 0.001;
/// A position is determined if its standard deviations differ by less than a factor of a million.
const DETERMINANT_SHARE_MIN: f64 = 1e-12;
/// Smallest ratio of the slope of the fit's influence to its weights: below, nothing but large
/// residuals are left.
const FIRMNESS_MIN: f64 = 0.5;

/// When one receiver received a transmission.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arrival {
    /// Index of the receiver.
    pub receiver: usize,
    /// Time of arrival by its clock, after any instant that the arrivals share, in seconds.
    pub time_s: f64,
    /// Standard deviation of what differs from one transmission to the next, in seconds.
    pub sigma_s: f64,
}

/// How arrival times are turned into a position.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArrivalConfig {
    /// Standard deviation of what stays in each receiver's times however long they are averaged, in
    /// seconds: its clock, its cable, its multipath. 0.1 to 0.3 µs at VHF with satellite clocks, 10
    /// to 20 µs at 77.5 kHz.
    pub timing_floor_s: f64,
    /// Standard deviation in each direction of the position itself, whatever the times, in km: for
    /// a transmitter that moves, or whose true position is only known by a report that is late.
    pub position_floor_km: f64,
    /// Speed of propagation, relative to that of light in vacuum; 0.9997 in air.
    pub propagation_speed_ratio: f64,
    /// Degrees of freedom of Student's distribution of the errors. The fewer, the less a receiver
    /// counts that contradicts the others; a hundred and more are a Gaussian.
    pub tail_degrees: f64,
    /// How likely another position must be, relative to the most likely one, for the answer to be
    /// ambiguous.
    pub alternative_likelihood_min: f64,
}

impl Default for ArrivalConfig {
    fn default() -> Self {
        Self {
            timing_floor_s: 0.1e-6,
            position_floor_km: 0.0,
            propagation_speed_ratio: 0.9997,
            tail_degrees: 3.0,
            alternative_likelihood_min: 0.01,
        }
    }
}

impl ArrivalConfig {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// [`GeoError::InvalidConfig`] for the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), GeoError> {
        let invalid =
            |field, expected, actual| Err(GeoError::InvalidConfig { field, expected, actual });
        if !(0.0..=1.0).contains(&self.timing_floor_s) {
            return invalid("timing_floor_s", "at least 0 and at most 1 s", self.timing_floor_s);
        }
        if !(self.position_floor_km >= 0.0 && self.position_floor_km.is_finite()) {
            return invalid("position_floor_km", "at least 0", self.position_floor_km);
        }
        require_positive("propagation_speed_ratio", self.propagation_speed_ratio)?;
        require_positive("tail_degrees", self.tail_degrees)?;
        let likelihood = self.alternative_likelihood_min;
        if !(likelihood > 0.0 && likelihood <= 1.0) {
            return invalid("alternative_likelihood_min", "above 0 and at most 1", likelihood);
        }
        Ok(())
    }
}

/// A network of receivers with a common clock, prepared for any number of transmissions.
#[derive(Clone, Debug)]
pub struct ArrivalSolver {
    config: ArrivalConfig,
    plane: SpacePlane,
    receivers: Vec<SpaceReceiver>,
    places: Vec<LocalPosition>,
    grid: PlaneGrid,
    /// The center of each cell of the grid, on the ellipsoid.
    cells: Vec<SurfacePoint>,
}

impl ArrivalSolver {
    /// Prepares a network for transmitters within a grid in the plane of `frame`.
    ///
    /// The grid is where a search starts: cells of a twentieth of the network's extent are fine.
    ///
    /// # Shapes
    ///
    /// - `receivers`: `[receivers]`, each with its altitude in m above the ellipsoid
    ///
    /// # Errors
    ///
    /// - [`GeoError::InvalidConfig`] if `config` breaks one of its rules.
    /// - [`GeoError::BeyondHorizon`] if a cell of the grid lies over no point of the Earth.
    pub fn new(
        frame: LocalFrame,
        receivers: &[(Position, f64 /* altitude, m */)],
        grid: PlaneGrid,
        config: &ArrivalConfig,
    ) -> Result<Self, GeoError> {
        config.validate()?;
        let plane = SpacePlane::new(frame);
        let cells = (0..grid.cells()).map(|cell| plane.lift(&grid.center(cell)));
        Ok(Self {
            config: *config,
            plane,
            receivers: receivers
                .iter()
                .map(|(position, altitude_m)| SpaceReceiver::new(position, *altitude_m))
                .collect(),
            places: receivers.iter().map(|(position, _)| frame.to_local(position)).collect(),
            cells: cells.collect::<Result<_, _>>()?,
            grid,
        })
    }

    /// The grid.
    pub fn grid(&self) -> &PlaneGrid {
        &self.grid
    }

    /// Locates a transmitter by the times at which receivers received it.
    ///
    /// With a known altitude, in m above the ellipsoid, signals travel in straight lines through
    /// space; without one, along the surface, and the receivers' altitudes do not count.
    ///
    /// **Fit.** Position and time of emission maximize the likelihood of the times under Student's
    /// distribution, by the method of Levenberg and Marquardt with reweighted squares: one receiver
    /// that is wrong by far loses its weight: within the hull of five receivers or more it is outvoted.
    /// Outside, where ranges change alike, an error of some hundred standard deviations may be taken
    /// for a place some km away and small errors of all. Searches start at the local minima of the misfit on
    /// the grid, and on circles around the receivers.
    ///
    /// **Ambiguity.** Every optimum within the grid whose likelihood is at least
    /// `alternative_likelihood_min` of the largest, and that is three standard deviations of their
    /// difference away from the others, is an answer: three receivers often leave two. Of those that
    /// are equally likely, the nearest to the receivers comes first.
    ///
    /// **Uncertainty.** The variance of a time is `(ν σ² + r²) / (ν + 1) + floor²` with its residual
    /// `r` and the degrees of freedom `ν`; the covariance of the position follows from these and from
    /// the weights of the fit, plus the square of the position's floor.
    ///
    /// # Errors
    ///
    /// [`GeoError::InvalidArrival`] if an arrival names no receiver, comes twice, or is not a finite
    /// number with a positive standard deviation.
    ///
    /// # References
    ///
    /// - D. J. Torrieri, "Statistical theory of passive location systems", *IEEE Transactions on
    ///   Aerospace and Electronic Systems* 20(2), 1984, section on hyperbolic location systems,
    ///   [doi:10.1109/TAES.1984.310439](https://doi.org/10.1109/TAES.1984.310439).
    /// - K. L. Lange, R. J. A. Little, J. M. G. Taylor, "Robust statistical modeling using the t
    ///   distribution", *Journal of the American Statistical Association* 84(408), 1989, section 3,
    ///   [doi:10.1080/01621459.1989.10478852](https://doi.org/10.1080/01621459.1989.10478852).
    /// - P. J. Huber, *Robust Statistics*, Wiley, 1981, section 7.6 (covariance of a robust fit),
    ///   [doi:10.1002/0471725250](https://doi.org/10.1002/0471725250).
    pub fn locate(
        &self,
        arrivals: &[Arrival],
        altitude_m: Option<f64>,
    ) -> Result<Location, GeoError> {
        let timing = self.timing(arrivals, altitude_m)?;
        let places = self.distinct_places(arrivals);
        if places < PLACES_MIN {
            let (receivers, required) = (places, PLACES_MIN);
            return Ok(Location::NoFix(NoFix::TooFewReceivers { receivers, required }));
        }
        Ok(self.judge(&timing, self.optima(&timing)))
    }

    /// The root of the mean squared residual of the best fix, per degree of freedom, in seconds;
    /// none where there is no fix, or nothing to check it by.
    ///
    /// # Errors
    ///
    /// As those of [`ArrivalSolver::locate`].
    pub fn residual_s(
        &self,
        arrivals: &[Arrival],
        altitude_m: Option<f64>,
        place: &LocalPosition,
    ) -> Result<Option<f64>, GeoError> {
        let timing = self.timing(arrivals, altitude_m)?;
        if arrivals.len() <= PLACES_MIN {
            return Ok(None);
        }
        let point = self.plane.lift(place)?;
        let (_, residuals_km) = timing.residuals_km(&timing.ranges_km(&point));
        let squares_km2: f64 = residuals_km.iter().map(|residual_km| residual_km.powi(2)).sum();
        let rms_km = (squares_km2 / (arrivals.len() - PLACES_MIN) as f64).sqrt();
        Ok(Some(rms_km / self.speed_km_s()))
    }

    pub(crate) fn config(&self) -> &ArrivalConfig {
        &self.config
    }

    /// Checks the arrivals of one transmission, to be compared with any number of places.
    pub(crate) fn prepare(
        &self,
        arrivals: &[Arrival],
        altitude_m: Option<f64>,
    ) -> Result<PreparedArrivals<'_>, GeoError> {
        let timing = self.timing(arrivals, altitude_m)?;
        let optima = self.optima(&timing);
        let location = match self.distinct_places(arrivals) {
            ..PLACES_MIN => None,
            _ => Some(self.judge(&timing, optima.clone())),
        };
        let floor_km2 = self.config.position_floor_km.powi(2);
        let location = location.map(|location| location.widened(-floor_km2));
        let answers = location.iter().flat_map(Location::places).copied().collect();
        Ok(PreparedArrivals { solver: self, timing, optima, answers })
    }

    /// Searches from all starts.
    fn optima(&self, timing: &Timing) -> Vec<Optimum> {
        let starts = self.starts(timing).into_iter();
        starts.filter_map(|start| self.refine(timing, start)).collect()
    }

    fn speed_km_s(&self) -> f64 {
        SPEED_OF_LIGHT_KM_S * self.config.propagation_speed_ratio
    }

    /// Checks arrivals, and measures them in km.
    fn timing(&self, arrivals: &[Arrival], altitude_m: Option<f64>) -> Result<Timing, GeoError> {
        let mut named = vec![false; self.receivers.len()];
        for (index, &Arrival { receiver, time_s, sigma_s }) in arrivals.iter().enumerate() {
            let is_new =
                named.get_mut(receiver).is_some_and(|named| !std::mem::replace(named, true));
            if !(is_new && time_s.is_finite() && sigma_s > 0.0 && sigma_s.is_finite()) {
                return Err(GeoError::InvalidArrival { arrival: index, receiver, time_s, sigma_s });
            }
        }
        if let Some(altitude_m) = altitude_m
            && !altitude_m.is_finite()
        {
            let (field, expected) = ("altitude_m", "a finite number");
            return Err(GeoError::InvalidConfig { field, expected, actual: altitude_m });
        }
        let receivers = arrivals.iter().map(|arrival| self.receivers[arrival.receiver]).collect();
        Ok(Timing::new(receivers, arrivals, altitude_m, self.speed_km_s(), &self.config))
    }

    /// Number of places at which the receivers of these arrivals stand.
    fn distinct_places(&self, arrivals: &[Arrival]) -> usize {
        let mut places: Vec<LocalPosition> = Vec::new();
        for arrival in arrivals {
            let place = self.places[arrival.receiver];
            if places.iter().all(|other| other.distance_km(&place) > PLACE_KM) {
                places.push(place);
            }
        }
        places.len()
    }

    /// Sorts out which of the optima are answers.
    fn judge(&self, timing: &Timing, mut optima: Vec<Optimum>) -> Location {
        optima.sort_by(|a, b| a.misfit.total_cmp(&b.misfit));
        let Some(best) = optima.first() else { return Location::NoFix(NoFix::OutsideRegion) };
        // Two optima of the same likelihood differ by rounding.
        const EQUAL_NATS: f64 = 0.005;
        let misfit_max = best.misfit - self.config.alternative_likelihood_min.ln();
        let mut answers: Vec<(Optimum, Covariance)> = Vec::new();
        for optimum in optima.into_iter().take_while(|optimum| optimum.misfit <= misfit_max) {
            if !self.grid.contains(&optimum.place) {
                continue;
            }
            let Some(covariance) = self.covariance(timing, &optimum) else {
                // Where a direction is open, a search may end anywhere along it.
                if answers.is_empty() {
                    return Location::NoFix(NoFix::Undetermined);
                }
                continue;
            };
            let is_new = answers.iter().all(|(other, other_covariance)| {
                let offset = LocalPosition {
                    east_km: optimum.place.east_km - other.place.east_km,
                    north_km: optimum.place.north_km - other.place.north_km,
                };
                // Nearer than three standard deviations of their difference, they are one place: the
                // misfit has a cusp at each receiver, and dents beside it.
                other_covariance.plus(&covariance).mahalanobis_squared(offset) > 9.0
            });
            if is_new {
                answers.push((optimum, covariance));
            }
        }
        let equal_max = answers.first().map_or(0.0, |(best, _)| best.misfit + EQUAL_NATS);
        let equals = answers.iter().take_while(|(optimum, _)| optimum.misfit <= equal_max).count();
        answers[..equals].sort_by(|(a, _), (b, _)| a.ranges_km.total_cmp(&b.ranges_km));

        let estimates = answers
            .into_iter()
            .map(|(optimum, covariance)| Estimate { position: optimum.place, covariance })
            .collect();
        Location::of(estimates, Ambiguity::Branches, NoFix::OutsideRegion)
    }

    /// The covariance of an optimum; none where it leaves a direction open.
    fn covariance(&self, timing: &Timing, optimum: &Optimum) -> Option<Covariance> {
        let point = self.plane.lift(&optimum.place).ok()?;
        let (mut bread, mut filling) = (Matrix3::zeros(), Matrix3::zeros());
        let (mut weights, mut slopes) = (0.0, 0.0);
        for (equation, variance_km2) in timing.equations(&self.plane, &point) {
            let outer = equation.gradient * equation.gradient.transpose();
            bread += equation.weight * outer;
            filling += equation.weight.powi(2) * variance_km2 * outer;
            weights += equation.weight;
            slopes += timing.slope(&equation);
        }
        // The weights of large residuals fall while these grow: the fit holds the place less firmly
        // than its weights say.
        let firmness = (slopes / weights).clamp(FIRMNESS_MIN, 1.0);
        let inverse = bread.try_inverse()? / firmness;
        let covariance = inverse * filling * inverse;
        let floor_km2 = self.config.position_floor_km.powi(2);
        let covariance = Covariance {
            east_km2: covariance.m11,
            east_north_km2: covariance.m12,
            north_km2: covariance.m22,
        };
        let size_km4 = (covariance.east_km2 + covariance.north_km2).powi(2);
        (covariance.determinant_km4() > DETERMINANT_SHARE_MIN * size_km4).then_some(Covariance {
            east_km2: covariance.east_km2 + floor_km2,
            north_km2: covariance.north_km2 + floor_km2,
            ..covariance
        })
    }
}

/// The arrivals of one transmission.
pub(crate) struct PreparedArrivals<'a> {
    solver: &'a ArrivalSolver,
    timing: Timing,
    /// Where searches end, within the grid of the solver and beyond it.
    optima: Vec<Optimum>,
    /// The places that the times alone lead to.
    answers: Vec<Estimate>,
}

impl PreparedArrivals<'_> {
    /// Negative logarithm of the likelihood of a place, with an error of the way of `blur_km`.
    pub(crate) fn misfit_nats(&self, place: &LocalPosition, blur_km: f64) -> f64 {
        match self.solver.plane.lift(place) {
            Ok(point) => {
                let (_, residuals_km) = self.timing.residuals_km(&self.timing.ranges_km(&point));
                self.timing.misfit(&residuals_km, blur_km)
            }
            Err(_) => f64::INFINITY,
        }
    }

    /// The places that the times alone lead to, the most likely one first, with the covariances of
    /// [`ArrivalSolver::locate`] less the position's own floor.
    pub(crate) fn answers(&self) -> &[Estimate] {
        &self.answers
    }

    /// The smallest standard deviation of a time, in km of the way of the signal.
    pub(crate) fn sigma_km_min(&self) -> f64 {
        self.timing.sigma_km_min()
    }

    /// Whether a place beyond a grid explains the times so much better than one with this
    /// [`PreparedArrivals::misfit_nats`] that the latter is no alternative to it.
    pub(crate) fn lead_out_of(&self, grid: &PlaneGrid, misfit_nats: f64) -> bool {
        let excess_max = -self.solver.config.alternative_likelihood_min.ln();
        self.optima.iter().any(|optimum| {
            !grid.contains(&optimum.place) && misfit_nats - optimum.misfit > excess_max
        })
    }
}

#[cfg(test)]
mod tests;
