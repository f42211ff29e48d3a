//! What a world is made of.

use serde::{Deserialize, Serialize};

use crate::error::{require, require_not_negative, require_positive, require_probability};
use crate::{
    MultipathConfig, Network, NoiseConfig, PathLoss, ReceiverChainConfig, ShadowingConfig,
    SimError, TransmitterConfig, WaveformConfig,
};

/// A world, its inhabitants, and how much of it is simulated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorldConfig {
    /// The receivers.
    pub network: Network,
    /// Sessions: each is one transmitter at one place.
    pub sessions: usize,
    /// Transmissions in each session.
    pub events_per_session: usize,
    /// Seed of the world: its hills, receivers and detours.
    pub seed: u64,
    /// Seed of what happens in the world, that of the world itself if left out. Another one gives
    /// other events in the same world.
    pub event_seed: Option<u64>,
    /// Sample rate of the recordings, in Hz.
    pub sample_rate_hz: f64,
    /// Duration of a recording, in s.
    pub duration_s: f64,
    /// Carrier frequency, in Hz: 144e6 to 146e6 is the 2 m band, 430e6 to 440e6 the one of 70 cm.
    pub frequency_hz: f64,
    /// How far beyond the bounding box of the receivers transmitters can be, in km.
    pub margin_km: f64,
    /// What is transmitted.
    pub waveforms: WaveformConfig,
    /// Who transmits.
    pub transmitters: TransmitterConfig,
    /// Median loss on the way.
    pub path_loss: PathLoss,
    /// Deviations from the median loss.
    pub shadowing: ShadowingConfig,
    /// Detours of the signal; without them there is one straight path.
    pub multipath: Option<MultipathConfig>,
    /// Noise at the receivers' inputs.
    pub noise: NoiseConfig,
    /// The receivers behind their antennas.
    pub receiver_chain: ReceiverChainConfig,
    /// Probability that a receiver records nothing of an event.
    pub outage_probability: f64,
}

impl Default for WorldConfig {
    fn default() -> Self {
        Self {
            network: Network::NorthWestItaly,
            sessions: 500,
            events_per_session: 4,
            seed: 1,
            event_seed: None,
            sample_rate_hz: 24_000.0,
            duration_s: 0.15,
            frequency_hz: 145e6,
            margin_km: 25.0,
            waveforms: WaveformConfig::default(),
            transmitters: TransmitterConfig::default(),
            path_loss: PathLoss::default(),
            shadowing: ShadowingConfig::default(),
            multipath: Some(MultipathConfig::default()),
            noise: NoiseConfig::default(),
            receiver_chain: ReceiverChainConfig::default(),
            outage_probability: 0.05,
        }
    }
}

impl WorldConfig {
    /// Samples in each recording.
    pub fn sample_count(&self) -> usize {
        // Validation keeps the product between 1 and 2²⁸.
        (self.duration_s * self.sample_rate_hz).round() as usize
    }

    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// - [`SimError::InvalidConfig`] for the first field that breaks a rule.
    /// - [`SimError::DuplicateReceiver`] if two receivers have one name.
    pub fn validate(&self) -> Result<(), SimError> {
        self.network.validate()?;
        require(self.sessions > 0, "sessions", "at least 1", self.sessions as f64)?;
        let events = self.events_per_session;
        require(events > 0, "events_per_session", "at least 1", events as f64)?;
        require(
            self.sessions.checked_mul(events).is_some_and(|total| total < 1 << 32),
            "sessions",
            "so few that there are less than 2³² events",
            self.sessions as f64,
        )?;
        require(
            (12_500.0..=1e8).contains(&self.sample_rate_hz),
            "sample_rate_hz",
            "between 12500, the width of the channel, and 1e8",
            self.sample_rate_hz,
        )?;
        require_positive("duration_s", self.duration_s)?;
        require(
            self.sample_count() > 0 && self.duration_s <= 60.0 && self.sample_count() <= 1 << 28,
            "duration_s",
            "at least a sample and at most a minute or 2²⁸ samples",
            self.duration_s,
        )?;
        require(
            (30e6..=3e9).contains(&self.frequency_hz),
            "frequency_hz",
            "between 30e6 and 3e9, where the propagation laws hold",
            self.frequency_hz,
        )?;
        require_not_negative("margin_km", self.margin_km)?;
        self.waveforms.validate()?;
        self.transmitters.validate()?;
        self.path_loss.validate()?;
        self.shadowing.validate()?;
        self.multipath.as_ref().map_or(Ok(()), MultipathConfig::validate)?;
        self.noise.validate()?;
        self.receiver_chain.validate()?;
        require_probability("outage_probability", self.outage_probability)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_document_is_the_default() {
        let config: WorldConfig = serde_json::from_str("{}").unwrap();

        assert_eq!(config, WorldConfig::default());
        assert_eq!(config.validate(), Ok(()));
    }

    #[test]
    fn config_survives_writing_and_reading() {
        let config = WorldConfig {
            network: Network::Stations(Network::NorthWestItaly.stations()[..3].to_vec()),
            path_loss: PathLoss::LogDistance { exponent: 3.5 },
            multipath: None,
            ..WorldConfig::default()
        };

        let text = serde_json::to_string(&config).unwrap();

        assert_eq!(serde_json::from_str::<WorldConfig>(&text).unwrap(), config);
    }

    #[test]
    fn unknown_field_is_refused_by_name() {
        let error = serde_json::from_str::<WorldConfig>(r#"{"sesions": 3}"#).unwrap_err();

        assert!(error.to_string().contains("sesions"), "{error}");
    }

    #[test]
    fn broken_rules_are_refused_by_field() {
        type Break = fn(&mut WorldConfig);
        let cases: [(&str, Break); 9] = [
            ("sessions", |config| config.sessions = 0),
            ("events_per_session", |config| config.events_per_session = 0),
            ("sample_rate_hz", |config| config.sample_rate_hz = 8_000.0),
            ("duration_s", |config| config.duration_s = f64::NAN),
            ("frequency_hz", |config| config.frequency_hz = 77_500.0),
            ("margin_km", |config| config.margin_km = -1.0),
            ("outage_probability", |config| config.outage_probability = 1.5),
            ("shadowing.waves", |config| config.shadowing.waves = 0),
            ("path_loss.exponent", |config| {
                config.path_loss = PathLoss::LogDistance { exponent: 0.0 };
            }),
        ];

        for (expected, break_rule) in cases {
            let mut config = WorldConfig::default();
            break_rule(&mut config);
            match config.validate() {
                Err(SimError::InvalidConfig { field, .. }) => assert_eq!(field, expected),
                other => panic!("`{expected}` led to {other:?}"),
            }
        }
    }
}
