//! What a split keeps together, and the names of such groups.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::SplitConfig;
use crate::{DataError, EventLabel};

/// What a split never cuts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitBy {
    /// Events of one source stay together: the honest choice for new transmitters.
    #[default]
    Source,
    /// Events of one session stay together.
    Session,
    /// Events of one square of the map stay together: the honest choice for new places.
    Block,
    /// Events of one period of time stay together, and later ones test: the honest choice for
    /// another season.
    Time,
    /// Nothing stays together: the same source is in training and test, which flatters.
    Event,
}

impl fmt::Display for SplitBy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Source => "source",
            Self::Session => "session",
            Self::Block => "block",
            Self::Time => "time",
            Self::Event => "event",
        })
    }
}

impl SplitConfig {
    /// Name of the group that an event belongs to; `None` if its position is unknown.
    pub(super) fn group(&self, label: &EventLabel) -> Result<Option<String>, DataError> {
        let Some(position) = label.position_km else { return Ok(None) };
        Ok(Some(match self.by {
            SplitBy::Source => label.source.clone(),
            SplitBy::Session => label.session.clone(),
            SplitBy::Block => {
                // The sum makes zero of its negative.
                let [east, north] = [position.east_km, position.north_km]
                    .map(|km| (km / self.block_km).floor() + 0.0);
                format!("{east:.0},{north:.0}")
            }
            SplitBy::Time => self.period(label)?,
            SplitBy::Event => label.event.clone(),
        }))
    }

    /// Start of the period of an event. Names are in the order of time.
    fn period(&self, label: &EventLabel) -> Result<String, DataError> {
        let no_time = || DataError::NoTime { event: label.event.clone() };
        let time = label.time.ok_or_else(no_time)?;
        let period_s = 3600.0 * self.period_hours;
        let start_s = (time.seconds as f64 / period_s).floor() * period_s;
        // Times of people are far within the range.
        let start = Timestamp::from_second(start_s as i64).map_err(|_| no_time())?;
        Ok(start.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
    }
}
