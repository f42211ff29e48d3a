//! Who transmits: how strong, and from how high.

use serde::{Deserialize, Serialize};

use crate::SimError;
use crate::error::{require, require_finite, require_not_negative, require_positive};
use crate::random::RandomStream;

/// Kind of a station that transmits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransmitterKind {
    /// A radio in a hand.
    Handheld,
    /// A radio in a car.
    Mobile,
    /// A radio in a house, with an antenna on the roof.
    Base,
}

/// What the transmitters of one kind have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransmitterClass {
    /// Kind of transmitter.
    pub kind: TransmitterKind,
    /// How often this class transmits, relative to the sum of all shares.
    pub share: f64,
    /// Mean power, as radiated by an isotropic antenna, in dBm.
    pub eirp_dbm: f64,
    /// Height of the antenna above the ground, in m.
    pub antenna_height_m: f64,
}

/// The transmitters of a world.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransmitterConfig {
    /// Classes that a session's transmitter is drawn from.
    pub classes: Vec<TransmitterClass>,
    /// Standard deviation of the power around the class's mean, in dB.
    pub power_deviation_db: f64,
    /// Standard deviation of the carrier frequency, in parts per million.
    pub oscillator_ppm: f64,
}

impl Default for TransmitterConfig {
    fn default() -> Self {
        let class = |kind, share, eirp_dbm, antenna_height_m| TransmitterClass {
            kind,
            share,
            eirp_dbm,
            antenna_height_m,
        };
        Self {
            classes: vec![
                class(TransmitterKind::Handheld, 0.3, 34.0, 1.5),
                class(TransmitterKind::Mobile, 0.5, 47.0, 2.0),
                class(TransmitterKind::Base, 0.2, 53.0, 10.0),
            ],
            power_deviation_db: 2.0,
            oscillator_ppm: 0.3,
        }
    }
}

impl TransmitterConfig {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// [`SimError::InvalidConfig`] for the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), SimError> {
        for class in &self.classes {
            require_not_negative("transmitters.classes.share", class.share)?;
            require_finite("transmitters.classes.eirp_dbm", class.eirp_dbm)?;
            require_positive("transmitters.classes.antenna_height_m", class.antenna_height_m)?;
        }
        let total = self.share_total();
        require(total > 0.0, "transmitters.classes", "of shares that add up above 0", total)?;
        require_not_negative("transmitters.power_deviation_db", self.power_deviation_db)?;
        require_not_negative("transmitters.oscillator_ppm", self.oscillator_ppm)
    }

    fn share_total(&self) -> f64 {
        self.classes.iter().map(|class| class.share).sum()
    }

    /// Draws a transmitter.
    pub(crate) fn draw(&self, random: &mut RandomStream) -> TransmitterLatents {
        let mut left = self.share_total() * random.uniform();
        let mut able = self.classes.iter().filter(|class| class.share > 0.0);
        let class = able
            .clone()
            .find(|class| {
                left -= class.share;
                left < 0.0
            })
            .or_else(|| able.next_back())
            .expect("the configuration has been checked to have a class of positive share");
        TransmitterLatents {
            kind: class.kind,
            eirp_dbm: class.eirp_dbm + self.power_deviation_db * random.normal(),
            antenna_height_m: class.antenna_height_m,
            oscillator_ppm: self.oscillator_ppm * random.normal(),
        }
    }
}

/// The transmitter of a session, as nobody but the simulation knows it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransmitterLatents {
    /// Kind of transmitter.
    pub kind: TransmitterKind,
    /// Power, as radiated by an isotropic antenna, in dBm.
    pub eirp_dbm: f64,
    /// Height of the antenna above the ground, in m.
    pub antenna_height_m: f64,
    /// How far its carrier is too high, in parts per million.
    pub oscillator_ppm: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, StreamKey};

    #[test]
    fn class_without_a_share_never_transmits() {
        let mut config = TransmitterConfig::default();
        config.classes[1].share = 0.0;

        let mut random = RandomStream::new(1, StreamKey::at(Purpose::Transmitter, 0));
        let kinds: Vec<_> = (0..500).map(|_| config.draw(&mut random).kind).collect();

        assert!(!kinds.contains(&TransmitterKind::Mobile));
        // Shares of 0.3 and 0.2: of 500 draws 300 ± 11 are handhelds.
        let handhelds = kinds.iter().filter(|kind| **kind == TransmitterKind::Handheld).count();
        assert!((250..=350).contains(&handhelds), "{handhelds} of 500");
    }

    #[test]
    fn classes_without_any_share_are_refused() {
        let config = TransmitterConfig { classes: Vec::new(), ..TransmitterConfig::default() };

        assert!(matches!(
            config.validate(),
            Err(SimError::InvalidConfig { field: "transmitters.classes", .. })
        ));
    }
}
