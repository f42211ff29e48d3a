//! Tables of levels and arrival times become features, in the order of one network's receivers.

use std::collections::HashMap;
use std::path::Path;

use heimdall_features::{ArrivalTime, FeatureMap, FeatureShape, ReceiverScalars, UtcTime};
use heimdall_geo::{LocalFrame, Position};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::measurement::{MeasuredEvent, Measurement, MeasurementTables};
use crate::{DataError, EventLabel, FEATURE_FORMAT_VERSION, FeatureHeader, ShardWriter};

/// Tables of two years may tell the place of a receiver with other digits; further apart, in km, it
/// is another place.
const SAME_PLACE_KM_MAX: f64 = 0.1;

/// Name of the source of events whose source is not told: for all that is known, it is one.
const UNKNOWN_SOURCE: &str = "unknown";

/// What it means that a receiver has no line for an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingLine {
    /// It listened, and heard nothing.
    #[default]
    NotHeard,
    /// It did not listen. A line without a level then says that nothing was heard.
    Absent,
}

/// How tables of measurements become features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TableConfig {
    /// What it means that a receiver has no line for an event.
    pub missing: MissingLine,
    /// Events of no told session are of one if they start within this time, in s: so long, a
    /// transmitter stays about where it is.
    pub session_s: f64,
    /// Standard deviation of arrival times, in s.
    pub timing_sigma_s: f64,
}

impl Default for TableConfig {
    fn default() -> Self {
        Self { missing: MissingLine::default(), session_s: 60.0, timing_sigma_s: 1e-7 }
    }
}

impl TableConfig {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// [`DataError::InvalidField`] for the first number that is not finite and above 0.
    pub fn validate(&self) -> Result<(), DataError> {
        for (field, actual) in
            [("session_s", self.session_s), ("timing_sigma_s", self.timing_sigma_s)]
        {
            if !(actual > 0.0 && actual.is_finite()) {
                let (expected, actual) = ("finite and above 0", actual.to_string());
                return Err(DataError::InvalidField { field, expected, actual });
            }
        }
        Ok(())
    }
}

/// What became of the tables of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableReport {
    /// Events that were written.
    pub events: usize,
    /// Those of them whose place is known.
    pub labelled: usize,
    /// Levels and times that were written.
    pub measurements: usize,
    /// Receivers that the network does not have; what they measured is left out.
    pub unknown_receivers: Vec<String>,
}

/// The receivers of a folder of tables, and how they hear: features of other folders are written in
/// their order, in their plane.
#[derive(Clone, Debug)]
pub struct MeasuredNetwork {
    header: FeatureHeader,
    config: TableConfig,
    /// Whether levels are relative to noise.
    above_noise: bool,
    /// Lowest level that each receiver reports, in dB; none where it reports none.
    lowest_db: Vec<Option<f64>>,
}

impl MeasuredNetwork {
    /// Takes the receivers of some tables, in their order, and a plane around them.
    ///
    /// # Errors
    ///
    /// - [`DataError::InvalidField`] if `config` breaks one of its rules.
    /// - [`DataError::MixedLevels`] if some levels are relative to noise and others are not.
    /// - [`DataError::Plane`] if the receivers do not fit into one plane, or there are none.
    pub fn of(tables: &MeasurementTables, config: &TableConfig) -> Result<Self, DataError> {
        config.validate()?;
        let positions: Vec<Position> = tables.receivers.iter().map(|r| r.position).collect();
        let header = FeatureHeader {
            format_version: FEATURE_FORMAT_VERSION,
            shape: FeatureShape::without_levels(tables.receivers.len()),
            frame: LocalFrame::centered_on(&positions).map_err(DataError::Plane)?,
            receivers: tables.receivers.clone(),
            features: None,
            sample_rate_hz: None,
        };
        let measurements = || tables.events.iter().flat_map(|event| &event.measurements);
        let mut network = Self {
            above_noise: measurements().any(|measurement| snr_db(measurement).is_some()),
            lowest_db: vec![None; header.receivers.len()],
            config: config.clone(),
            header,
        };
        let numbers: Vec<Option<usize>> = (0..tables.receivers.len()).map(Some).collect();
        network.check_levels(tables, &numbers)?;
        for measurement in measurements() {
            let Some(level_db) = network.level_db(measurement) else { continue };
            let lowest_db = &mut network.lowest_db[measurement.receiver];
            *lowest_db = Some(lowest_db.map_or(level_db, |lowest_db| lowest_db.min(level_db)));
        }
        Ok(network)
    }

    /// Writes the events of some tables as features, in the order of the table.
    ///
    /// Receivers are told by their names. Levels take the place of power, and of the ratio to noise
    /// where they are relative to it. A receiver that listened and heard nothing has the lowest level
    /// that it reports in the tables of the network: less than that it does not report. One that never
    /// reports a level there is absent.
    ///
    /// # Errors
    ///
    /// - [`DataError::ForeignReceivers`] if none of the receivers is one of the network, and
    ///   [`DataError::MovedReceiver`] if one stands elsewhere there.
    /// - [`DataError::MixedLevels`] if levels are relative to noise and those of the network are not,
    ///   or the other way around.
    /// - Those of [`ShardWriter`].
    pub fn write(
        &self,
        tables: &MeasurementTables,
        folder: &Path,
    ) -> Result<TableReport, DataError> {
        let (numbers, unknown_receivers) = self.numbers(tables)?;
        self.check_levels(tables, &numbers)?;
        let sessions = sessions(&tables.events, self.config.session_s);
        let mut report = TableReport { unknown_receivers, ..TableReport::default() };
        let mut writer = ShardWriter::create(folder, &self.header)?;
        for (event, session) in tables.events.iter().zip(sessions) {
            let features = self.features(event, &numbers);
            let label = self.label(event, session);
            report.events += 1;
            report.labelled += usize::from(label.position_km.is_some());
            report.measurements += event
                .measurements
                .iter()
                .filter(|measurement| numbers[measurement.receiver].is_some())
                .count();
            writer.push(label, &features)?;
        }
        writer.finish()?;
        Ok(report)
    }

    /// Writes a folder of features of this network without an event.
    ///
    /// # Errors
    ///
    /// Those of [`ShardWriter`].
    pub fn write_nothing(&self, folder: &Path) -> Result<(), DataError> {
        ShardWriter::create(folder, &self.header)?.finish()
    }

    /// The place of each receiver of some tables in the network, and the names of those that have
    /// none.
    fn numbers(
        &self,
        tables: &MeasurementTables,
    ) -> Result<(Vec<Option<usize>>, Vec<String>), DataError> {
        let known: HashMap<&str, usize> = (self.header.receivers.iter().enumerate())
            .map(|(number, receiver)| (receiver.name.as_str(), number))
            .collect();
        let (mut numbers, mut unknown) = (Vec::new(), Vec::new());
        for receiver in &tables.receivers {
            let number = known.get(receiver.name.as_str()).copied();
            match number {
                Some(number) => {
                    let place = &self.header.receivers[number].position;
                    let distance_km = place.distance_km(&receiver.position);
                    if distance_km > SAME_PLACE_KM_MAX {
                        let receiver = receiver.name.clone();
                        return Err(DataError::MovedReceiver { receiver, distance_km });
                    }
                }
                None => unknown.push(receiver.name.clone()),
            }
            numbers.push(number);
        }
        if unknown.len() == tables.receivers.len() {
            return Err(DataError::ForeignReceivers { receivers: unknown.len() });
        }
        Ok((numbers, unknown))
    }

    /// Refuses a level that is on another scale than those of the network.
    fn check_levels(
        &self,
        tables: &MeasurementTables,
        numbers: &[Option<usize>],
    ) -> Result<(), DataError> {
        for event in &tables.events {
            for measurement in &event.measurements {
                let has_level = measurement.rss_db.is_some() || measurement.snr_db.is_some();
                let known = numbers[measurement.receiver].is_some();
                if known && has_level && self.level_db(measurement).is_none() {
                    return Err(DataError::MixedLevels {
                        event: event.id.clone(),
                        receiver: tables.receivers[measurement.receiver].name.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    /// The level of a measurement on the scale of the network, in dB.
    fn level_db(&self, measurement: &Measurement) -> Option<f64> {
        if self.above_noise { snr_db(measurement) } else { measurement.rss_db }
    }

    fn features(&self, event: &MeasuredEvent, numbers: &[Option<usize>]) -> FeatureMap {
        let silent = |lowest_db: &Option<f64>| {
            let lowest_db = (*lowest_db)?;
            let (power_db, snr_db) =
                if self.above_noise { (f64::NAN, lowest_db) } else { (lowest_db, f64::NAN) };
            Some(scalars(power_db, f64::NAN, snr_db, false))
        };
        let mut of_receivers: Vec<Option<ReceiverScalars>> = match self.config.missing {
            MissingLine::NotHeard => self.lowest_db.iter().map(silent).collect(),
            MissingLine::Absent => vec![None; self.lowest_db.len()],
        };
        let mut arrivals = vec![None; of_receivers.len()];
        for measurement in &event.measurements {
            let Some(number) = numbers[measurement.receiver] else { continue };
            let unknown = |value: Option<f64>| value.unwrap_or(f64::NAN);
            of_receivers[number] = match self.level_db(measurement) {
                Some(_) => {
                    let snr_db = if self.above_noise { snr_db(measurement) } else { None };
                    let (power_db, noise_db) = (measurement.rss_db, measurement.noise_db);
                    Some(scalars(unknown(power_db), unknown(noise_db), unknown(snr_db), true))
                }
                // One that tells times and never a level hears whenever it tells a time.
                None if self.lowest_db[number].is_none() && measurement.arrival_s.is_some() => {
                    Some(scalars(f64::NAN, f64::NAN, f64::NAN, true))
                }
                None => silent(&self.lowest_db[number]),
            };
            arrivals[number] = measurement
                .arrival_s
                .map(|time_s| ArrivalTime { time_s, sigma_s: self.config.timing_sigma_s });
        }
        FeatureMap::of_measurements(of_receivers, arrivals)
    }

    fn label(&self, event: &MeasuredEvent, session: String) -> EventLabel {
        let told = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        EventLabel {
            event: event.id.clone(),
            session,
            source: told(&event.source).unwrap_or_else(|| UNKNOWN_SOURCE.to_owned()),
            position_km: event.position.map(|position| self.header.frame.to_local(&position)),
            time: event.time,
            waveform: told(&event.waveform),
        }
    }
}

/// Level above noise, where the two are known.
fn snr_db(measurement: &Measurement) -> Option<f64> {
    measurement.snr_db.or_else(|| Some(measurement.rss_db? - measurement.noise_db?))
}

/// Numbers of a receiver; bandwidth and kurtosis are properties of samples. Decibels have a few
/// hundred as their largest values.
fn scalars(power_db: f64, noise_psd_db: f64, snr_db: f64, detected: bool) -> ReceiverScalars {
    ReceiverScalars {
        power_db: power_db as f32,
        noise_psd_db: noise_psd_db as f32,
        snr_db: snr_db as f32,
        bandwidth_hz: f32::NAN,
        kurtosis: f32::NAN,
        detected,
    }
}

/// The session of each event: the one that is told, else that of the first event of its source
/// within `session_s`, named by when it started, else one of its own.
fn sessions(events: &[MeasuredEvent], session_s: f64) -> Vec<String> {
    let mut sessions: Vec<String> = events
        .iter()
        .map(|event| if event.session.is_empty() { &event.id } else { &event.session }.clone())
        .collect();
    let mut untold: Vec<(&str, UtcTime, usize)> = (events.iter().enumerate())
        .filter(|(_, event)| event.session.is_empty())
        .filter_map(|(index, event)| Some((event.source.as_str(), event.time?, index)))
        .collect();
    untold.sort();
    let mut open: Option<(&str, UtcTime, String)> = None;
    for (source, time, index) in untold {
        let name = match &open {
            Some((other, start, name))
                if *other == source && time.seconds_since(start) < session_s =>
            {
                name.clone()
            }
            _ => session_name(source, time, &events[index].id),
        };
        if open.as_ref().is_none_or(|(.., known)| *known != name) {
            open = Some((source, time, name.clone()));
        }
        sessions[index] = name;
    }
    sessions
}

/// Source and start of a session; the event that it starts with, beyond the years of people.
fn session_name(source: &str, start: UtcTime, first: &str) -> String {
    let Ok(second) = Timestamp::from_second(start.seconds) else { return first.to_owned() };
    let start = second.strftime("%Y-%m-%dT%H:%M:%SZ");
    if source.is_empty() { start.to_string() } else { format!("{source} {start}") }
}

#[cfg(test)]
mod tests;
