//! The noise at a receiver's input: its own, and that of its surroundings.

use serde::{Deserialize, Serialize};

use crate::SimError;
use crate::error::require_not_negative;

/// Power spectral density of thermal noise at 290 K, in dBm/Hz: `10 log₁₀(k · 290 K / 1 mW)`.
const THERMAL_NOISE_DBM_PER_HZ: f64 = -173.975_2;

/// Surroundings that make the external noise at a receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    /// A city.
    City,
    /// A residential area.
    #[default]
    Residential,
    /// The countryside.
    Rural,
    /// A place so remote that only the noise of the galaxy is left.
    Quiet,
}

impl Environment {
    /// Computes the median external noise figure, in dB above thermal noise.
    ///
    /// # References
    ///
    /// Recommendation ITU-R P.372, "Radio noise": man-made noise `c − 27.7 log₁₀ f` with the
    /// constants of the environmental categories, measured up to 250 MHz and extended beyond, and
    /// galactic noise `52 − 23 log₁₀ f`, f in MHz.
    pub fn noise_figure_db(&self, frequency_hz: f64) -> f64 {
        let frequency_log = (frequency_hz / 1e6).log10();
        match self {
            Self::City => 76.8 - 27.7 * frequency_log,
            Self::Residential => 72.5 - 27.7 * frequency_log,
            Self::Rural => 67.2 - 27.7 * frequency_log,
            Self::Quiet => 52.0 - 23.0 * frequency_log,
        }
    }
}

/// The noise at the inputs of the receivers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NoiseConfig {
    /// Noise figure of the receivers themselves, in dB.
    pub noise_figure_db: f64,
    /// Surroundings of the receivers that name none of their own.
    pub environment: Environment,
}

impl Default for NoiseConfig {
    fn default() -> Self {
        Self { noise_figure_db: 6.0, environment: Environment::Residential }
    }
}

impl NoiseConfig {
    /// Computes the power spectral density of all noise at a receiver's input, in dBm/Hz.
    ///
    /// The noise factors of the surroundings and of the receiver add: `f = f_a + f_r − 1`.
    pub fn density_dbm_per_hz(&self, environment: Environment, frequency_hz: f64) -> f64 {
        let external = factor(environment.noise_figure_db(frequency_hz));
        let internal = factor(self.noise_figure_db);
        THERMAL_NOISE_DBM_PER_HZ + 10.0 * (external + internal - 1.0).log10()
    }

    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// [`SimError::InvalidConfig`] if the noise figure is negative or not finite.
    pub fn validate(&self) -> Result<(), SimError> {
        require_not_negative("noise.noise_figure_db", self.noise_figure_db)
    }
}

fn factor(decibels: f64) -> f64 {
    10_f64.powf(decibels / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At 145 MHz, `72.5 − 27.7 · 2.16137 = 12.630 dB`, a factor of 18.323; with the receiver's
    /// `10^0.6 − 1 = 2.981` it is 21.304, or 13.285 dB above −173.975 dBm/Hz.
    #[test]
    fn residential_noise_at_two_meters_is_as_worked_out() {
        let density = NoiseConfig::default().density_dbm_per_hz(Environment::Residential, 145e6);

        assert!((density + 160.690).abs() < 2e-3, "{density}");
    }

    /// A noiseless receiver under a sky of 52 − 23 · 2 = 6 dB hears thermal noise plus 6 dB.
    #[test]
    fn noiseless_receiver_in_a_quiet_place_hears_the_galaxy() {
        let config = NoiseConfig { noise_figure_db: 0.0, ..NoiseConfig::default() };

        let density = config.density_dbm_per_hz(Environment::Quiet, 100e6);

        assert!((density - (THERMAL_NOISE_DBM_PER_HZ + 6.0)).abs() < 1e-9, "{density}");
    }
}
