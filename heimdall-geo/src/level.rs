//! What receivers hear of a transmitter at a distance: levels, and silence.

mod fit;
mod grid;
mod map;
mod normal;

pub use fit::{LevelSample, PathLossFitConfig, fit_path_loss};
pub use grid::{LevelGrid, LevelGridConfig};
pub use map::RadioMapConfig;

use serde::{Deserialize, Serialize};

use crate::GeoError;
use crate::LocalPosition;
use crate::NoFix;
use crate::bound::require_positive;

/// Levels beyond this, in dB, are none: the sums of squares of those below are numbers.
const LEVEL_DB_MAX: f64 = 1e6;

/// What a receiver says about one transmission.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LevelObservation {
    /// It hears the transmission at this level, in dB.
    Heard(f64),
    /// It listens and hears nothing: the level is below its threshold, or it is out of order.
    NotHeard,
    /// It did not listen.
    Absent,
}

impl LevelObservation {
    /// Checks that a transmission is heard, at levels that are numbers.
    pub(crate) fn check(observations: &[Self]) -> Result<(), NoFix> {
        let mut is_heard = false;
        for (observation, level) in observations.iter().enumerate() {
            if let Self::Heard(level_db) = level {
                if !is_level(*level_db) {
                    return Err(NoFix::InvalidLevel { observation });
                }
                is_heard = true;
            }
        }
        if is_heard { Ok(()) } else { Err(NoFix::NothingHeard) }
    }
}

/// Whether a number is a level in dB.
pub(crate) fn is_level(level_db: f64) -> bool {
    level_db.abs() <= LEVEL_DB_MAX
}

/// Level over distance at one receiver: `level_1km_db − 10 · exponent · log₁₀(d / 1 km)`, with a
/// Gaussian deviation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathLoss {
    /// Level of a transmitter of mean power at a distance of 1 km, in dB.
    pub level_1km_db: f64,
    /// By how many tens of dB the level falls per decade of distance.
    pub exponent: f64,
    /// Standard deviation of the level around this, by shadowing and fading, in dB.
    pub sigma_db: f64,
    /// Level below which the receiver does not hear, in dB; none where it always says a level.
    pub threshold_db: Option<f64>,
    /// Probability that it does not hear whatever the level is.
    pub outage: f64,
}

impl PathLoss {
    /// Checks that a level can be computed.
    ///
    /// # Errors
    ///
    /// [`GeoError::InvalidConfig`] for the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), GeoError> {
        require_positive("exponent", self.exponent)?;
        require_positive("sigma_db", self.sigma_db)?;
        for (field, actual) in [
            ("level_1km_db", self.level_1km_db),
            ("threshold_db", self.threshold_db.unwrap_or_default()),
        ] {
            if !actual.is_finite() {
                return Err(GeoError::InvalidConfig { field, expected: "a finite number", actual });
            }
        }
        if (0.0..1.0).contains(&self.outage) {
            return Ok(());
        }
        let (field, expected) = ("outage", "at least 0 and below 1");
        Err(GeoError::InvalidConfig { field, expected, actual: self.outage })
    }

    /// Computes the expected level at a distance, in dB.
    pub(crate) fn level_db(&self, distance_km: f64) -> f64 {
        self.level_1km_db - 10.0 * self.exponent * distance_km.log10()
    }
}

/// The receivers of a network, and how they hear.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LevelModel {
    /// Where each receiver stands.
    pub receivers: Vec<LocalPosition>,
    /// How each receiver hears.
    pub path_losses: Vec<PathLoss>,
    /// Standard deviation of the transmitters' power, which all receivers of an event share, in dB;
    /// none where the power may be anything.
    pub power_sigma_db: Option<f64>,
    /// Distances below this count as this, in km: an antenna is not a point.
    pub distance_km_min: f64,
}

impl LevelModel {
    /// Makes a model whose receivers all hear alike.
    pub fn uniform(
        receivers: Vec<LocalPosition>,
        path_loss: PathLoss,
        power_sigma_db: Option<f64>,
    ) -> Self {
        let path_losses = vec![path_loss; receivers.len()];
        Self { receivers, path_losses, power_sigma_db, distance_km_min: 0.01 }
    }

    /// Checks that levels can be computed.
    ///
    /// # Errors
    ///
    /// [`GeoError::InvalidConfig`] for the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), GeoError> {
        if self.path_losses.len() != self.receivers.len() {
            return Err(GeoError::InvalidConfig {
                field: "path_losses",
                expected: "as many as receivers",
                actual: self.path_losses.len() as f64,
            });
        }
        require_positive("distance_km_min", self.distance_km_min)?;
        for place in &self.receivers {
            for (field, actual) in
                [("receivers.east_km", place.east_km), ("receivers.north_km", place.north_km)]
            {
                if !actual.is_finite() {
                    let expected = "a finite number";
                    return Err(GeoError::InvalidConfig { field, expected, actual });
                }
            }
        }
        if let Some(sigma_db) = self.power_sigma_db
            && !(sigma_db >= 0.0 && sigma_db.is_finite())
        {
            let (field, expected) = ("power_sigma_db", "at least 0");
            return Err(GeoError::InvalidConfig { field, expected, actual: sigma_db });
        }
        self.path_losses.iter().try_for_each(PathLoss::validate)
    }

    /// Computes the expected level of a transmitter of mean power at a place, in dB.
    ///
    /// # Panics
    ///
    /// If there is no receiver of this number.
    pub fn level_db(&self, receiver: usize, place: LocalPosition) -> f64 {
        let distance_km = self.receivers[receiver].distance_km(&place).max(self.distance_km_min);
        self.path_losses[receiver].level_db(distance_km)
    }
}
