//! Measurements without recordings: levels and arrival times of events, as three tables of a folder.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use heimdall_features::UtcTime;
use heimdall_geo::{Position, Receiver};
use tracing::warn;

use super::table::{Row, Table, read_receivers_and_gaps};
use crate::DataError;
use crate::recording::parse_utc;

const RECEIVERS: &str = "receivers.csv";
const EVENTS: &str = "events.csv";
const MEASUREMENTS: &str = "measurements.csv";

/// A time has fewer nanoseconds than this, so that the difference of two is in the range of `i128`.
const NANOSECONDS_MAX: f64 = 1e30;

/// A level is within this, in dB.
const LEVEL_DB_MAX: f64 = 1000.0;

/// Receivers, and what they measured of events.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasurementTables {
    /// The receivers, in the order of their table.
    pub receivers: Vec<Receiver>,
    /// The events, in the order of their table.
    pub events: Vec<MeasuredEvent>,
}

/// One transmission, and what receivers measured of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeasuredEvent {
    /// Name of the event.
    pub id: String,
    /// Group of events that were measured under the same conditions; empty where none is told.
    pub set: String,
    /// Name of its session; empty where none is told.
    pub session: String,
    /// Name of its source; empty where none is told.
    pub source: String,
    /// What was transmitted; empty where it is not told.
    pub waveform: String,
    /// When it was, where it is known.
    pub time: Option<UtcTime>,
    /// Where the transmitter was, where it is known.
    pub position: Option<Position>,
    /// Its altitude, in m, where it is known.
    pub altitude_m: Option<f64>,
    /// What receivers measured, one each, in the order of their table.
    pub measurements: Vec<Measurement>,
}

/// What one receiver measured of one event.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measurement {
    /// Index of the receiver.
    pub receiver: usize,
    /// Received level, in dB relative to any reference of the receiver.
    pub rss_db: Option<f64>,
    /// Level above the receiver's noise, in dB.
    pub snr_db: Option<f64>,
    /// The receiver's noise, on the scale of `rss_db`.
    pub noise_db: Option<f64>,
    /// Time of arrival after the earliest one of the event, in seconds. It is exact to 0.2 ns
    /// whenever the event was: the difference is taken of whole nanoseconds.
    pub arrival_s: Option<f64>,
}

/// Reads the tables `receivers.csv`, `events.csv` and `measurements.csv` of a folder.
///
/// - `receivers.csv`: `receiver,latitude,longitude[,altitude_m]`
/// - `events.csv`: `event[,set][,session][,source][,waveform][,time][,latitude,longitude]
///   [,altitude_m]`; a time is one of UTC, as in `2022-07-05T10:51:43Z`, and where a position is not
///   known its two cells are empty
/// - `measurements.csv`: `event,receiver` and any of `rss_db`, `snr_db`, `noise_db`,
///   `arrival_time_ns`
///
/// Other columns are ignored, and an empty cell is a value that was not measured.
///
/// # Errors
///
/// - [`DataError::Read`] if a file cannot be read.
/// - [`DataError::Table`], [`DataError::MissingColumn`] if a table is not one.
/// - [`DataError::Cell`], with the line, for a name that is missing, unknown or comes twice, for a
///   second measurement of the same event by the same receiver, and for what is not a number, not a
///   time or not a position.
pub fn read_measurement_tables(folder: &Path) -> Result<MeasurementTables, DataError> {
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read(&path).map_err(|source| DataError::Read { path, source })
    };
    let [receivers, events, measurements] = [read(RECEIVERS)?, read(EVENTS)?, read(MEASUREMENTS)?];
    MeasurementTables::from_bytes(folder, &receivers, &events, &measurements)
}

impl MeasurementTables {
    /// Reads the contents of the three files of a folder, as [`read_measurement_tables`] does.
    ///
    /// `folder` is for messages. Where events have altitudes, receivers without one are told by a
    /// warning: they count as at 0 m.
    ///
    /// # Errors
    ///
    /// As those of [`read_measurement_tables`], but for [`DataError::Read`].
    pub fn from_bytes(
        folder: &Path,
        receivers: &[u8],
        events: &[u8],
        measurements: &[u8],
    ) -> Result<Self, DataError> {
        let (receivers, low) = read_receivers_and_gaps(&folder.join(RECEIVERS), receivers)?;
        let mut events = read_events(&folder.join(EVENTS), events)?;
        if !low.is_empty() && events.iter().any(|event| event.altitude_m.is_some()) {
            let receivers = low.join(", ");
            warn!(receivers, "events have an altitude, but these receivers count as at 0 m");
        }
        read_measurements(&folder.join(MEASUREMENTS), measurements, &receivers, &mut events)?;
        Ok(Self { receivers, events })
    }
}

fn read_events(path: &Path, bytes: &[u8]) -> Result<Vec<MeasuredEvent>, DataError> {
    let table = Table::read(path, bytes, &["event"])?;
    let mut ids: HashSet<String> = HashSet::new();
    let mut events = Vec::new();
    for row in table.rows() {
        let id = row.name("event", |id| ids.contains(id))?;
        ids.insert(id.clone());
        events.push(MeasuredEvent {
            id,
            set: row.cell("set").to_owned(),
            session: row.cell("session").to_owned(),
            source: row.cell("source").to_owned(),
            waveform: row.cell("waveform").to_owned(),
            time: time_of(&row)?,
            position: row.position()?,
            altitude_m: row.altitude_m()?,
            measurements: Vec::new(),
        });
    }
    Ok(events)
}

/// Reads the time of a line.
fn time_of(row: &Row<'_>) -> Result<Option<UtcTime>, DataError> {
    const COLUMN: &str = "time";
    match row.cell(COLUMN) {
        "" => Ok(None),
        text => {
            let expected = "a time of UTC, such as `2022-07-05T10:51:43Z`";
            parse_utc(text).map(Some).ok_or_else(|| row.invalid(COLUMN, expected))
        }
    }
}

fn read_measurements(
    path: &Path,
    bytes: &[u8],
    receivers: &[Receiver],
    events: &mut [MeasuredEvent],
) -> Result<(), DataError> {
    let table = Table::read(path, bytes, &["event", "receiver"])?;
    let event_of: HashMap<String, usize> =
        events.iter().enumerate().map(|(index, event)| (event.id.clone(), index)).collect();
    let receiver_of: HashMap<&str, usize> =
        receivers.iter().enumerate().map(|(index, r)| (r.name.as_str(), index)).collect();
    let mut arrivals_ns: HashMap<(usize, usize), Nanoseconds> = HashMap::new();
    for row in table.rows() {
        let event = *event_of
            .get(row.cell("event"))
            .ok_or_else(|| row.invalid("event", "an event of `events.csv`"))?;
        let receiver = *receiver_of
            .get(row.cell("receiver"))
            .ok_or_else(|| row.invalid("receiver", "a receiver of `receivers.csv`"))?;
        let measurements = &mut events[event].measurements;
        if measurements.iter().any(|other| other.receiver == receiver) {
            let expected = "a receiver that no line before has for this event";
            return Err(row.invalid("receiver", expected));
        }
        let is_level = |level_db: f64| level_db.abs() <= LEVEL_DB_MAX;
        let level = |column| row.number(column, is_level, "a number of decibels within ±1000");
        measurements.push(Measurement {
            receiver,
            rss_db: level("rss_db")?,
            snr_db: level("snr_db")?,
            noise_db: level("noise_db")?,
            arrival_s: None,
        });
        if let Some(arrival) = arrival_of(&row)? {
            arrivals_ns.insert((event, receiver), arrival);
        }
    }
    for (index, event) in events.iter_mut().enumerate() {
        event.measurements.sort_by_key(|measurement| measurement.receiver);
        let own = |measurement: &Measurement| arrivals_ns.get(&(index, measurement.receiver));
        let first = event.measurements.iter().filter_map(own).map(|arrival| arrival.whole).min();
        for measurement in &mut event.measurements {
            measurement.arrival_s = own(measurement)
                .zip(first)
                .map(|(arrival, first)| ((arrival.whole - first) as f64 + arrival.fraction) * 1e-9);
        }
    }
    Ok(())
}

/// A number of nanoseconds, of up to 30 digits.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Nanoseconds {
    whole: i128,
    fraction: f64,
}

/// Reads the arrival time of a line.
fn arrival_of(row: &Row<'_>) -> Result<Option<Nanoseconds>, DataError> {
    const COLUMN: &str = "arrival_time_ns";
    match row.cell(COLUMN) {
        "" => Ok(None),
        text => match nanoseconds(text) {
            Some(arrival) => Ok(Some(arrival)),
            None => Err(row.invalid(COLUMN, "a number of nanoseconds within ±1e30")),
        },
    }
}

/// Reads a decimal number without rounding its whole part: nanoseconds since 1970 have more digits
/// than a floating-point number holds.
fn nanoseconds(text: &str) -> Option<Nanoseconds> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, decimals) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let is_plain = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = if !whole.is_empty() && is_plain(whole) && is_plain(decimals) {
        let sign = if text.starts_with('-') { -1 } else { 1 };
        let fraction: f64 = format!("0.{decimals}0").parse().ok()?;
        let whole = sign * whole.parse::<i128>().ok()?;
        Nanoseconds { whole, fraction: sign as f64 * fraction }
    } else {
        // With an exponent, the digits are those of a floating-point number.
        let number: f64 = text.parse().ok()?;
        Nanoseconds { whole: number.trunc() as i128, fraction: number.fract() }
    };
    let is_time = number.fraction.is_finite() && (number.whole as f64).abs() < NANOSECONDS_MAX;
    is_time.then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARERS: &str = "receiver,latitude,longitude,altitude_m\na,45,7,100\nb,45.1,7.2,\n";

    fn tables(events: &str, measurements: &str) -> Result<MeasurementTables, DataError> {
        let [receivers, events, measurements] = [HEARERS, events, measurements].map(str::as_bytes);
        MeasurementTables::from_bytes(Path::new("folder"), receivers, events, measurements)
    }

    #[test]
    fn tables_of_a_folder_are_those_of_its_files() {
        let (events, measurements) = ("event\n1\n", "event,receiver,rss_db\n1,b,-70\n");
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [(RECEIVERS, HEARERS), (EVENTS, events), (MEASUREMENTS, measurements)] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }

        let read = read_measurement_tables(folder.path()).unwrap();

        assert_eq!(read, tables(events, measurements).unwrap());
        assert_eq!(read.events[0].measurements[0].receiver, 1);
    }

    #[test]
    fn tables_are_read_whatever_the_order_of_columns_and_lines() {
        let events = "note,event,set,latitude,longitude,altitude_m,time,source,session,waveform\n\
                      x,1,s,45.5,7.5,900,2022-07-05T10:51:43.25Z,car,walk,cw\n,2,,,,,,,,\n";
        let measurements = "receiver,snr_db,event,rss_db,noise_db,rssi\n\
                            b,3.5,1,-90,-93.5,17\na,,1,-80,,9\nb,,2,,,\n";

        let read = tables(events, measurements).unwrap();

        let names: Vec<_> = read.receivers.iter().map(|receiver| receiver.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        let [first, second] = &read.events[..] else { panic!("{read:?}") };
        assert_eq!((first.id.as_str(), first.set.as_str()), ("1", "s"));
        assert_eq!(first.position, Position::new(45.5, 7.5).ok());
        assert_eq!(first.altitude_m, Some(900.0));
        let time = UtcTime { seconds: 1_657_018_303, nanoseconds: 250_000_000 };
        assert_eq!((first.time, second.time), (Some(time), None));
        let names = [&first.session, &first.source, &first.waveform].map(String::as_str);
        assert_eq!(names, ["walk", "car", "cw"]);
        let of_a = Measurement { receiver: 0, rss_db: Some(-80.0), ..Measurement::default() };
        let of_b = Measurement {
            receiver: 1,
            rss_db: Some(-90.0),
            snr_db: Some(3.5),
            noise_db: Some(-93.5),
            arrival_s: None,
        };
        assert_eq!(first.measurements, [of_a, of_b]);
        assert_eq!((second.position, second.altitude_m), (None, None));
        let nothing = Measurement { receiver: 1, ..Measurement::default() };
        assert_eq!(second.measurements, [nothing]);
    }

    /// Unix time in nanoseconds takes 61 bits, and what counts is the last of them.
    #[test]
    fn large_arrival_times_keep_their_last_digit() {
        let measurements = "event,receiver,arrival_time_ns\n\
                            1,a,1700000000123456789.25\n1,b,1700000000123456788\n";

        let read = tables("event\n1\n", measurements).unwrap();

        let arrivals_s: Vec<_> =
            read.events[0].measurements.iter().map(|m| m.arrival_s.unwrap()).collect();
        assert!((arrivals_s[0] - 1.25e-9).abs() < 1e-18, "{arrivals_s:?}");
        assert!(arrivals_s[1].abs() < 1e-18, "{arrivals_s:?}");
    }

    #[test]
    fn numbers_of_nanoseconds_are_numbers() {
        let value = |text| nanoseconds(text).map(|ns| ns.whole as f64 + ns.fraction);
        for (text, expected) in [("12", 12.0), ("-3.5", -3.5), ("+7.", 7.0), ("1.5e3", 1500.0)] {
            assert!((value(text).unwrap() - expected).abs() < 1e-12, "{text}");
        }
        let nines = "9".repeat(31);
        for text in ["", "-", ".", "x", "1.2.3", "NaN", "-inf", "1e99", "1_000", "0x10", &nines[..]]
        {
            assert_eq!(value(text), None, "{text}");
        }
        assert!(value(&nines[2..]).is_some());
    }

    /// The difference of two numbers of nanoseconds must be one as well, whatever their signs.
    #[test]
    fn times_too_far_apart_for_a_difference_are_refused() {
        let far = i128::MAX.to_string();
        let measurements = format!("event,receiver,arrival_time_ns\n1,a,-{far}\n1,b,{far}\n");

        let refused = tables("event\n1\n", &measurements);

        let is_told =
            matches!(&refused, Err(DataError::Cell { line: 2, column: "arrival_time_ns", .. }));
        assert!(is_told, "{refused:?}");
        let apart = format!("event,receiver,arrival_time_ns\n1,a,-{0}\n1,b,{0}\n", &far[..29]);
        let arrivals = tables("event\n1\n", &apart).unwrap().events.remove(0).measurements;
        let difference_s = arrivals[1].arrival_s.unwrap();
        assert!((difference_s / (2e-9 * far[..29].parse::<f64>().unwrap()) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn bad_cell_is_told_with_its_file_and_line() {
        let events = "event,latitude,longitude\n1,45,7\n2,,\n";
        let good = "event,receiver,rss_db\n1,a,-80\n";
        let cases = [
            ("event,latitude,longitude\n1,45,7\n1,,\n", good, EVENTS, 3, "event", "1"),
            ("event,latitude,longitude\n1,95,7\n", good, EVENTS, 2, "latitude", "95"),
            ("event,latitude,longitude\n1,45,\n", good, EVENTS, 2, "longitude", ""),
            ("event,altitude_m\n1,high\n", good, EVENTS, 2, "altitude_m", "high"),
            ("event,altitude_m\n1,-2e8\n", good, EVENTS, 2, "altitude_m", "-2e8"),
            ("event,time\n1,2022-07-05 10:51\n", good, EVENTS, 2, "time", "2022-07-05 10:51"),
            (events, "event,receiver\n1,a\n3,a\n", MEASUREMENTS, 3, "event", "3"),
            (events, "event,receiver\n1,c\n", MEASUREMENTS, 2, "receiver", "c"),
            (events, "event,receiver\n1,a\n2,a\n1,a\n", MEASUREMENTS, 4, "receiver", "a"),
            (events, "event,receiver,rss_db\n1,a,loud\n", MEASUREMENTS, 2, "rss_db", "loud"),
            (events, "event,receiver,snr_db\n1,a,NaN\n", MEASUREMENTS, 2, "snr_db", "NaN"),
            (events, "event,receiver,snr_db\n1,a,1e200\n", MEASUREMENTS, 2, "snr_db", "1e200"),
            (events, "event,receiver,noise_db\n1,a,-1001\n", MEASUREMENTS, 2, "noise_db", "-1001"),
            (
                events,
                "event,receiver,arrival_time_ns\n1,a,soon\n",
                MEASUREMENTS,
                2,
                "arrival_time_ns",
                "soon",
            ),
        ];
        for (events, measurements, file, expected_line, expected_column, expected_text) in cases {
            match tables(events, measurements) {
                Err(DataError::Cell { path, line, column, actual, .. }) => {
                    assert!(path.ends_with(file), "{}", path.display());
                    let found = (line, column, actual.as_str());
                    assert_eq!(found, (expected_line, expected_column, expected_text));
                }
                other => panic!("{measurements} gives {other:?}"),
            }
        }
    }

    #[test]
    fn missing_column_and_missing_file_are_told() {
        let missing = tables("event\n1\n", "event,rss_db\n1,-80\n");
        assert!(matches!(missing, Err(DataError::MissingColumn { column: "receiver", .. })));
        let missing = tables("latitude,longitude\n1,2\n", "event,receiver\n");
        assert!(matches!(missing, Err(DataError::MissingColumn { column: "event", .. })));
        let folder = tempfile::tempdir().unwrap();
        match read_measurement_tables(folder.path()) {
            Err(DataError::Read { path, .. }) => assert!(path.ends_with(RECEIVERS)),
            other => panic!("an empty folder gives {other:?}"),
        }
    }
}
