//! What is transmitted: speech, data, Morse code, or nothing but a carrier.

mod emission;
mod modulator;
mod voice;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::SimError;
use crate::error::{require, require_not_negative};
use crate::random::RandomStream;

pub(crate) use emission::Emission;
pub(crate) use modulator::Modulator;

/// Kind of a transmission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum WaveformKind {
    /// Speech in a channel of 12.5 kHz, by frequency modulation.
    #[serde(rename = "nbfm_voice")]
    NbfmVoice,
    /// Speech by amplitude modulation without its carrier and lower sideband.
    #[serde(rename = "ssb")]
    Ssb,
    /// Data at 1200 Bd by two tones, which modulate the frequency: packet radio.
    #[serde(rename = "afsk_1200")]
    Afsk1200,
    /// Data at 4800 Bd by four frequencies: digital voice.
    #[serde(rename = "fsk4_4800")]
    Fsk4,
    /// Morse code: a carrier that is keyed on and off.
    #[serde(rename = "cw")]
    Cw,
    /// A carrier that nothing modulates.
    #[serde(rename = "carrier")]
    Carrier,
}

impl WaveformKind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::NbfmVoice, Self::Ssb, Self::Afsk1200, Self::Fsk4, Self::Cw, Self::Carrier];

    /// Returns the name that configurations and reports use.
    pub fn name(self) -> &'static str {
        match self {
            Self::NbfmVoice => "nbfm_voice",
            Self::Ssb => "ssb",
            Self::Afsk1200 => "afsk_1200",
            Self::Fsk4 => "fsk4_4800",
            Self::Cw => "cw",
            Self::Carrier => "carrier",
        }
    }

    /// Root mean square of the frequency around its mean, weighted by power, in Hz: what the
    /// accuracy of a delay depends on. `None` where the correlation has no usable peak.
    ///
    /// A test measures these values on the transmissions themselves.
    pub(crate) fn rms_bandwidth_hz(self) -> Option<f64> {
        match self {
            Self::NbfmVoice => Some(520.0),
            Self::Ssb => Some(780.0),
            Self::Afsk1200 => Some(1890.0),
            Self::Fsk4 => Some(1450.0),
            Self::Cw | Self::Carrier => None,
        }
    }
}

impl fmt::Display for WaveformKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What is transmitted, and how often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WaveformConfig {
    /// How often each kind is transmitted, relative to the sum of all shares.
    pub shares: BTreeMap<WaveformKind, f64>,
    /// Lowest peak deviation of a transmission of speech by frequency modulation, in Hz.
    pub deviation_hz_min: f64,
    /// Highest peak deviation of a transmission of speech by frequency modulation, in Hz.
    pub deviation_hz_max: f64,
}

impl Default for WaveformConfig {
    fn default() -> Self {
        let shares = [
            (WaveformKind::NbfmVoice, 0.6),
            (WaveformKind::Ssb, 0.1),
            (WaveformKind::Afsk1200, 0.1),
            (WaveformKind::Fsk4, 0.1),
            (WaveformKind::Cw, 0.05),
            (WaveformKind::Carrier, 0.05),
        ];
        Self { shares: shares.into(), deviation_hz_min: 2500.0, deviation_hz_max: 3000.0 }
    }
}

impl WaveformConfig {
    /// Makes the configuration of a world in which everybody transmits in the same way.
    pub fn only(kind: WaveformKind) -> Self {
        Self { shares: [(kind, 1.0)].into(), ..Self::default() }
    }

    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// [`SimError::InvalidConfig`] if a share is negative or all are zero, or if the deviations do
    /// not fit into the channel or are reversed.
    pub fn validate(&self) -> Result<(), SimError> {
        for &share in self.shares.values() {
            require_not_negative("waveforms.shares", share)?;
        }
        let total: f64 = self.shares.values().sum();
        require(total > 0.0, "waveforms.shares", "shares that add up above 0", total)?;
        let &Self { deviation_hz_min, deviation_hz_max, .. } = self;
        let field = "waveforms.deviation_hz_min";
        require(deviation_hz_min > 0.0, field, "positive", deviation_hz_min)?;
        require(
            (deviation_hz_min..=5000.0).contains(&deviation_hz_max),
            "waveforms.deviation_hz_max",
            "between `waveforms.deviation_hz_min` and 5000",
            deviation_hz_max,
        )
    }

    /// Draws the kind of a transmission.
    pub(crate) fn draw(&self, random: &mut RandomStream) -> WaveformKind {
        let mut left = self.shares.values().sum::<f64>() * random.uniform();
        let mut able = self.shares.iter().filter(|(_, share)| **share > 0.0);
        let drawn = able.clone().find(|(_, share)| {
            left -= **share;
            left < 0.0
        });
        *drawn
            .or_else(|| able.next_back())
            .expect("the configuration has been checked to have a positive share")
            .0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reversed_deviations_are_refused() {
        let config = WaveformConfig {
            deviation_hz_min: 3000.0,
            deviation_hz_max: 2500.0,
            ..WaveformConfig::default()
        };

        assert!(matches!(
            config.validate(),
            Err(SimError::InvalidConfig { field: "waveforms.deviation_hz_max", .. })
        ));
    }

    #[test]
    fn shares_that_leave_nothing_are_refused() {
        for shares in [BTreeMap::new(), [(WaveformKind::Cw, 0.0)].into()] {
            let config = WaveformConfig { shares, ..WaveformConfig::default() };

            assert!(matches!(
                config.validate(),
                Err(SimError::InvalidConfig { field: "waveforms.shares", .. })
            ));
        }
    }

    #[test]
    fn names_are_those_of_the_configuration() {
        for kind in WaveformKind::ALL {
            let text = format!("{{\"shares\": {{\"{kind}\": 2.0}}}}");
            let config: WaveformConfig = serde_json::from_str(&text).unwrap();

            assert_eq!(
                config,
                WaveformConfig { shares: [(kind, 2.0)].into(), ..Default::default() }
            );
        }
    }
}
