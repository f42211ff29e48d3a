//! Positions, local planes, uncertainty ellipses and classical localization.
//!
//! Degrees exist at the edges only; in between, positions are kilometers in a plane.
//!
//! ```text
//! Position ──LocalFrame──▶ LocalPosition ◀─ weighted_centroid, LevelGrid, Fingerprints ◀─ levels
//!  degrees                   km           ◀─ ArrivalSolver ◀─ arrival times of one clock
//!                             │           ◀─ locate_by_levels_and_arrivals ◀─ both
//!                             │           ◀─ locate_by_delays (in degrees) ◀─ delays of pairs
//!                        Covariance ──▶ Ellipse
//!                            km²          km
//! ```
//!
//! - A [`Position`] lies on the WGS 84 ellipsoid, a [`LocalPosition`] in the plane of a
//!   [`LocalFrame`], a [`Receiver`] at a position. A [`Region`] or a [`PlaneGrid`] bounds the search.
//! - A [`Covariance`] says how uncertain a position is, and an [`Ellipse`] draws it, on
//!   maps as a [`GeoJsonArea`].
//! - By level: [`weighted_centroid`]; [`LevelGrid`], which knows that silence counts, with the path
//!   loss of [`fit_path_loss`] or a given one; [`Fingerprints`].
//! - By time: [`ArrivalSolver`] for receivers with a common clock, [`locate_by_delays`] for delays
//!   between pairs of recordings. [`locate_by_levels_and_arrivals`] takes levels and times.
//! - A [`Location`] is a fix, an ambiguous one, or none, with the reason.
//! - [`level_bound`] and [`arrival_bound`] say what any method can reach at best.
//!
//! # Example
//!
//! Three receivers of a time signal on 77.5 kHz hear it at these times after its emission:
//!
//! ```
//! use heimdall_geo::{
//!     DelaySolverConfig, Ellipse, Location, PairDelay, Position, Region, locate_by_delays,
//! };
//!
//! let receivers = [
//!     Position::new(46.499351, 8.798828)?,
//!     Position::new(51.466044, 11.977189)?,
//!     Position::new(51.5005, 3.60069)?,
//! ];
//! let arrivals_s = [1.305_221e-3, 0.881_672e-3, 1.387_052e-3];
//! let delay = |first: usize, second: usize| PairDelay {
//!     first,
//!     second,
//!     delay_s: arrivals_s[second] - arrivals_s[first],
//!     sigma_s: 1e-6,
//! };
//! let region = Region::new(Position::new(45.0, 0.0)?, Position::new(55.0, 16.0)?)?;
//!
//! let location = locate_by_delays(
//!     &receivers,
//!     &[delay(0, 1), delay(0, 2), delay(1, 2)],
//!     &region,
//!     &DelaySolverConfig::default(),
//! )?;
//! let Location::Fix(fix) = location else { panic!("no fix, or more than one") };
//! let ellipse = Ellipse::of(&fix.covariance, 0.95)?;
//!
//! let mainflingen = Position::new(50.0155, 9.0108)?;
//! assert!(fix.position.distance_km(&mainflingen) < 0.01);
//! assert!(ellipse.semi_major_km < 15.0);
//! # Ok::<(), heimdall_geo::GeoError>(())
//! ```

mod arrival;
mod bound;
mod centroid;
mod covariance;
mod delay;
mod ellipse;
mod error;
mod fingerprint;
mod fusion;
mod geojson;
mod level;
mod location;
mod plane_grid;
mod position;
#[cfg(test)]
mod random;
mod receiver;
mod region;
#[cfg(test)]
mod testing;

pub use arrival::{Arrival, ArrivalConfig, ArrivalSolver};
pub use bound::{arrival_bound, arrival_sigma_s, level_bound};
pub use centroid::{locate_by_centroid, weighted_centroid};
pub use covariance::{Covariance, mahalanobis_squared_at};
pub use delay::{DelayFix, DelaySolverConfig, PairDelay, SPEED_OF_LIGHT_KM_S, locate_by_delays};
pub use ellipse::Ellipse;
pub use error::GeoError;
pub use fingerprint::{FingerprintConfig, Fingerprints, LevelMetric, SilentReceiver};
pub use fusion::locate_by_levels_and_arrivals;
pub use geojson::GeoJsonArea;
pub use level::{
    LevelGrid, LevelGridConfig, LevelModel, LevelObservation, LevelSample, PathLoss,
    PathLossFitConfig, RadioMapConfig, fit_path_loss,
};
pub use location::{Ambiguity, Estimate, Location, NoFix};
pub use plane_grid::{GridPosterior, PlaneGrid};
pub use position::{
    LocalFrame, LocalPosition, Position, WGS84_ECCENTRICITY_SQUARED, WGS84_SEMI_MAJOR_AXIS_KM,
};
pub use receiver::Receiver;
pub use region::Region;
