//! The receivers of a world, and what surrounds them.

use heimdall_geo::{Position, Receiver};
use serde::{Deserialize, Serialize};

use crate::SimError;
use crate::error::{require, require_finite, require_positive};
use crate::noise::Environment;

/// The receivers that listen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Seven stations in north-west Italy, on the coast, in the plain and in the mountains.
    #[default]
    NorthWestItaly,
    /// Stations that are listed one by one.
    Stations(Vec<Station>),
}

/// A receiver, and the noise that it lives in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Station {
    /// The receiver, and where it stands.
    pub receiver: Receiver,
    /// Surroundings that make the man-made noise; those of the noise configuration if absent.
    #[serde(default)]
    pub environment: Option<Environment>,
    /// Gain of the antenna towards the horizon, over an isotropic one, in dB. Noise comes from
    /// everywhere, so that only signals gain.
    #[serde(default)]
    pub antenna_gain_db: f64,
}

impl Station {
    /// Makes a station of which nothing but the receiver is known.
    pub fn of(receiver: Receiver) -> Self {
        Self { receiver, environment: None, antenna_gain_db: 0.0 }
    }
}

impl Network {
    /// Lists the stations.
    pub fn stations(&self) -> Vec<Station> {
        match self {
            Self::NorthWestItaly => NORTH_WEST_ITALY.iter().map(StationRow::station).collect(),
            Self::Stations(stations) => stations.clone(),
        }
    }

    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// - [`SimError::InvalidConfig`] if there is no station, or the height of one is no height.
    /// - [`SimError::DuplicateReceiver`] if two have one name.
    pub fn validate(&self) -> Result<(), SimError> {
        let stations = self.stations();
        let count = stations.len();
        require((1..1 << 24).contains(&count), "network.stations", "at least one", count as f64)?;
        for (place, station) in stations.iter().enumerate() {
            let Station { receiver, antenna_gain_db, .. } = station;
            let height_field = "network.stations.receiver.antenna_height_m";
            require_positive(height_field, receiver.antenna_height_m)?;
            require_finite("network.stations.receiver.altitude_m", receiver.altitude_m)?;
            require_finite("network.stations.antenna_gain_db", *antenna_gain_db)?;
            if stations[..place].iter().any(|other| other.receiver.name == receiver.name) {
                return Err(SimError::DuplicateReceiver { name: receiver.name.clone() });
            }
        }
        Ok(())
    }
}

/// A row of the table of stations.
struct StationRow {
    name: &'static str,
    latitude_deg: f64,
    longitude_deg: f64,
    altitude_m: f64,
    antenna_height_m: f64,
    environment: Environment,
    antenna_gain_db: f64,
}

impl StationRow {
    fn station(&self) -> Station {
        let position = Position::new(self.latitude_deg, self.longitude_deg)
            .expect("the table has positions on the Earth only");
        Station {
            receiver: Receiver {
                name: self.name.to_owned(),
                position,
                altitude_m: self.altitude_m,
                antenna_height_m: self.antenna_height_m,
            },
            environment: Some(self.environment),
            antenna_gain_db: self.antenna_gain_db,
        }
    }
}

/// Effective antenna heights are assumptions, and so are surroundings and antenna gains: they are
/// chosen such that the median levels are those that are known for this network.
const NORTH_WEST_ITALY: [StationRow; 7] = [
    StationRow {
        name: "Aquila di Giaveno",
        latitude_deg: 45.02,
        longitude_deg: 7.29,
        altitude_m: 600.0,
        antenna_height_m: 150.0,
        environment: Environment::Rural,
        antenna_gain_db: 0.7,
    },
    StationRow {
        name: "Montanaro",
        latitude_deg: 45.234,
        longitude_deg: 7.857,
        altitude_m: 300.0,
        antenna_height_m: 20.0,
        environment: Environment::Rural,
        antenna_gain_db: 2.2,
    },
    StationRow {
        name: "Torino",
        latitude_deg: 45.044,
        longitude_deg: 7.672,
        altitude_m: 250.0,
        antenna_height_m: 30.0,
        environment: Environment::Residential,
        antenna_gain_db: 0.6,
    },
    StationRow {
        name: "Coazze",
        latitude_deg: 45.03,
        longitude_deg: 7.27,
        altitude_m: 700.0,
        antenna_height_m: 200.0,
        environment: Environment::Quiet,
        antenna_gain_db: 5.3,
    },
    StationRow {
        name: "Passo dei Giovi",
        latitude_deg: 44.561,
        longitude_deg: 8.956,
        altitude_m: 480.0,
        antenna_height_m: 200.0,
        environment: Environment::Quiet,
        antenna_gain_db: 0.4,
    },
    StationRow {
        name: "Genova",
        latitude_deg: 44.395,
        longitude_deg: 8.956,
        altitude_m: 100.0,
        antenna_height_m: 40.0,
        environment: Environment::Residential,
        antenna_gain_db: 0.0,
    },
    StationRow {
        name: "Milano-Baggio",
        latitude_deg: 45.478,
        longitude_deg: 9.123,
        altitude_m: 120.0,
        antenna_height_m: 25.0,
        environment: Environment::Residential,
        antenna_gain_db: -0.3,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_without_a_station_is_refused() {
        let error = Network::Stations(Vec::new()).validate().unwrap_err();

        assert_eq!(error.to_string(), "`network.stations` must be at least one, but is 0");
    }

    #[test]
    fn two_stations_of_one_name_are_refused() {
        let mut stations = Network::NorthWestItaly.stations();
        stations[3].receiver.name = "Torino".to_owned();

        let error = Network::Stations(stations).validate().unwrap_err();

        assert_eq!(error, SimError::DuplicateReceiver { name: "Torino".to_owned() });
    }
}
