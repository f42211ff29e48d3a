//! What a receiver does to what arrives at its antenna: gain, oscillator, clock.

use heimdall_features::ClockQuality;
use serde::{Deserialize, Serialize};

use crate::SimError;
use crate::error::{require, require_finite, require_not_negative, require_positive};
use crate::random::RandomStream;

/// The receivers behind their antennas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReceiverChainConfig {
    /// Standard deviation of the unknown, fixed gain, on signal and noise alike, in dB.
    pub gain_deviation_db: f64,
    /// Standard deviation of the fixed error of the oscillators, in parts per million.
    pub oscillator_ppm: f64,
    /// Power at the antenna that reaches full scale at the mean gain, in dBm.
    ///
    /// The default puts the noise of a residential area in 24 kHz at −60 dB relative to full scale.
    /// Samples are floating-point numbers: a transmitter next door exceeds 1 and is not clipped.
    pub full_scale_dbm: f64,
    /// Automatic gain control; without it, gains are fixed.
    pub agc: Option<Agc>,
    /// The clocks that stamp the samples.
    pub clock: Clock,
}

impl Default for ReceiverChainConfig {
    fn default() -> Self {
        Self {
            gain_deviation_db: 3.0,
            oscillator_ppm: 0.5,
            full_scale_dbm: -57.0,
            agc: None,
            clock: Clock::default(),
        }
    }
}

impl ReceiverChainConfig {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// [`SimError::InvalidConfig`] for the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), SimError> {
        require_not_negative("receiver_chain.gain_deviation_db", self.gain_deviation_db)?;
        require_not_negative("receiver_chain.oscillator_ppm", self.oscillator_ppm)?;
        require_finite("receiver_chain.full_scale_dbm", self.full_scale_dbm)?;
        if let Some(Agc { level_dbfs }) = self.agc {
            require_finite("receiver_chain.agc.level_dbfs", level_dbfs)?;
        }
        self.clock.validate()
    }
}

/// Automatic gain control: every recording is equally loud, and levels say nothing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Agc {
    /// Power of signal and noise together in the recording, in dB relative to full scale.
    pub level_dbfs: f64,
}

impl Default for Agc {
    fn default() -> Self {
        Self { level_dbfs: -20.0 }
    }
}

/// Where the time stamps of the samples come from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Clock {
    /// A receiver of satellite navigation.
    Gps {
        /// Standard deviation of the time stamps, in s.
        sigma_s: f64,
    },
    /// A computer that asks time servers over the internet.
    Ntp {
        /// Smallest standard deviation of the time stamps of a receiver, in s.
        sigma_s_min: f64,
        /// Largest standard deviation of the time stamps of a receiver, in s. Those in between are
        /// equally likely per octave, and each receiver keeps its own.
        sigma_s_max: f64,
    },
    /// A computer that nobody has set.
    FreeRunning {
        /// Time stamps are wrong by up to this, either way, in s.
        error_s_max: f64,
    },
}

impl Default for Clock {
    fn default() -> Self {
        Self::Gps { sigma_s: 100e-9 }
    }
}

impl Clock {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// [`SimError::InvalidConfig`] if an error is negative or not finite.
    pub fn validate(&self) -> Result<(), SimError> {
        match *self {
            Self::Gps { sigma_s } => require_not_negative("receiver_chain.clock.sigma_s", sigma_s),
            Self::Ntp { sigma_s_min, sigma_s_max } => {
                require_positive("receiver_chain.clock.sigma_s_min", sigma_s_min)?;
                require(
                    sigma_s_max.is_finite() && sigma_s_max >= sigma_s_min,
                    "receiver_chain.clock.sigma_s_max",
                    "finite and at least `receiver_chain.clock.sigma_s_min`",
                    sigma_s_max,
                )
            }
            Self::FreeRunning { error_s_max } => {
                require_not_negative("receiver_chain.clock.error_s_max", error_s_max)
            }
        }
    }

    /// What is known about the time stamps.
    pub fn quality(&self) -> ClockQuality {
        match *self {
            Self::Gps { sigma_s } => ClockQuality::Disciplined { sigma_s },
            Self::Ntp { .. } | Self::FreeRunning { .. } => ClockQuality::Unknown,
        }
    }

    /// Draws the standard deviation of the time stamps of one receiver, in s; zero where it is not
    /// by a standard deviation that a clock is described.
    pub(crate) fn draw_sigma_s(&self, random: &mut RandomStream) -> f64 {
        match *self {
            Self::Gps { sigma_s } => sigma_s,
            Self::Ntp { sigma_s_min, sigma_s_max } => {
                random.between(sigma_s_min.ln(), sigma_s_max.ln()).exp()
            }
            Self::FreeRunning { .. } => 0.0,
        }
    }

    /// Draws how much later than stamped the samples of one event were taken, in s.
    pub(crate) fn draw_error_s(&self, sigma_s: f64, random: &mut RandomStream) -> f64 {
        match *self {
            Self::Gps { .. } | Self::Ntp { .. } => sigma_s * random.normal(),
            Self::FreeRunning { error_s_max } => random.between(-error_s_max, error_s_max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, StreamKey};

    #[test]
    fn time_servers_are_as_good_as_configured() {
        let clock = Clock::Ntp { sigma_s_min: 1e-3, sigma_s_max: 1e-2 };
        let mut random = RandomStream::new(1, StreamKey::world(Purpose::ReceiverClock, 0));

        let sigmas: Vec<f64> = (0..400).map(|_| clock.draw_sigma_s(&mut random)).collect();

        assert!(sigmas.iter().all(|sigma_s| (1e-3..=1e-2).contains(sigma_s)));
        // Half of them are below the geometric mean of 3.16 ms: 200 ± 10.
        let below = sigmas.iter().filter(|sigma_s| **sigma_s < 1e-5_f64.sqrt()).count();
        assert!((150..=250).contains(&below), "{below}");
        assert_eq!(clock.quality(), ClockQuality::Unknown);
    }

    #[test]
    fn reversed_deviations_are_refused() {
        let clock = Clock::Ntp { sigma_s_min: 1e-2, sigma_s_max: 1e-3 };

        let error = clock.validate().unwrap_err().to_string();

        assert!(error.contains("receiver_chain.clock.sigma_s_max"), "{error}");
    }
}
