//! What a receiver does to what arrives at its antenna: gain, oscillator, clock.

use heimdall_features::ClockQuality;
use serde::{Deserialize, Serialize};

use crate::SimError;
use crate::error::{require_finite, require_not_negative};
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
    /// The clocks that stamp the samples.
    pub clock: Clock,
}

impl Default for ReceiverChainConfig {
    fn default() -> Self {
        Self {
            gain_deviation_db: 3.0,
            oscillator_ppm: 0.5,
            full_scale_dbm: -57.0,
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
        self.clock.validate()
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
            Self::FreeRunning { error_s_max } => {
                require_not_negative("receiver_chain.clock.error_s_max", error_s_max)
            }
        }
    }

    /// What is known about the time stamps.
    pub fn quality(&self) -> ClockQuality {
        match *self {
            Self::Gps { sigma_s } => ClockQuality::Disciplined { sigma_s },
            Self::FreeRunning { .. } => ClockQuality::Unknown,
        }
    }

    /// Draws how much later than stamped the samples of one event were taken, in s.
    pub(crate) fn draw_error_s(&self, random: &mut RandomStream) -> f64 {
        match *self {
            Self::Gps { sigma_s } => sigma_s * random.normal(),
            Self::FreeRunning { error_s_max } => random.between(-error_s_max, error_s_max),
        }
    }
}
