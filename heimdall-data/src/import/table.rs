//! Tables that people write: receivers and transmitters, as comma-separated values.

use std::path::Path;

use csv::{ReaderBuilder, StringRecord, Trim};
use heimdall_geo::{Position, Receiver};

use crate::DataError;

/// Height of an antenna of which nothing is said, in m.
pub(crate) const ANTENNA_HEIGHT_M_DEFAULT: f64 = 10.0;

/// An altitude is within this, in m: a satellite may be that high, and squares stay numbers.
const ALTITUDE_M_MAX: f64 = 1e8;

/// A transmitter that may be heard.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownSource {
    /// Name of the source.
    pub name: String,
    /// Frequency on which it transmits, in Hz.
    pub frequency_hz: f64,
    /// Where it stands, if somebody knows.
    pub position: Option<Position>,
}

/// Reads a table `receiver,latitude,longitude[,altitude_m][,antenna_height_m]`.
///
/// `path` is for messages. Other columns are ignored; an altitude that is not told is 0 m, and an
/// antenna height 10 m.
///
/// # Errors
///
/// [`DataError::Table`], [`DataError::MissingColumn`] and [`DataError::Cell`], with the line.
pub fn read_receivers(path: &Path, bytes: &[u8]) -> Result<Vec<Receiver>, DataError> {
    Ok(read_receivers_and_gaps(path, bytes)?.0)
}

/// Reads receivers, and lists the names of those whose altitude is not told.
pub(super) fn read_receivers_and_gaps(
    path: &Path,
    bytes: &[u8],
) -> Result<(Vec<Receiver>, Vec<String>), DataError> {
    let table = Table::read(path, bytes, &["receiver", "latitude", "longitude"])?;
    let mut receivers: Vec<Receiver> = Vec::new();
    let mut without_altitude = Vec::new();
    for row in table.rows() {
        let name = row.name("receiver", |name| receivers.iter().any(|other| other.name == name))?;
        let position = row.position()?.ok_or_else(|| row.invalid("latitude", "a number"))?;
        let altitude_m = row.altitude_m()?;
        if altitude_m.is_none() {
            without_altitude.push(name.clone());
        }
        let antenna_height_m =
            row.number("antenna_height_m", |height_m| height_m >= 0.0, "a height in meters")?;
        receivers.push(Receiver {
            name,
            position,
            altitude_m: altitude_m.unwrap_or(0.0),
            antenna_height_m: antenna_height_m.unwrap_or(ANTENNA_HEIGHT_M_DEFAULT),
        });
    }
    Ok((receivers, without_altitude))
}

/// Reads a table `source,frequency_hz,latitude,longitude`, of which the last two may be empty.
///
/// `path` is for messages. Other columns are ignored.
///
/// # Errors
///
/// [`DataError::Table`], [`DataError::MissingColumn`] and [`DataError::Cell`], with the line.
pub fn read_sources(path: &Path, bytes: &[u8]) -> Result<Vec<KnownSource>, DataError> {
    let mut sources = Vec::new();
    add_sources(path, bytes, &mut sources)?;
    Ok(sources)
}

/// Adds the sources of a table to those of other tables.
pub(super) fn add_sources(
    path: &Path,
    bytes: &[u8],
    sources: &mut Vec<KnownSource>,
) -> Result<(), DataError> {
    let table = Table::read(path, bytes, &["source", "frequency_hz", "latitude", "longitude"])?;
    for row in table.rows() {
        let name = row.name("source", |name| sources.iter().any(|other| other.name == name))?;
        let expected = "a frequency in hertz that no other source has";
        let is_new = |frequency_hz: f64| {
            let differs = |other: &KnownSource| (other.frequency_hz - frequency_hz).abs() > 0.0;
            frequency_hz > 0.0 && sources.iter().all(differs)
        };
        let frequency_hz = row
            .number("frequency_hz", is_new, expected)?
            .ok_or_else(|| row.invalid("frequency_hz", expected))?;
        let position = row.position()?;
        sources.push(KnownSource { name, frequency_hz, position });
    }
    Ok(())
}

/// A table with named columns.
pub(super) struct Table<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    header: StringRecord,
    records: Vec<StringRecord>,
}

impl<'a> Table<'a> {
    pub(super) fn read(
        path: &'a Path,
        bytes: &'a [u8],
        columns: &[&'static str],
    ) -> Result<Self, DataError> {
        let unreadable =
            |source| DataError::Table { path: path.to_owned(), source: Box::new(source) };
        let mut reader = ReaderBuilder::new().trim(Trim::All).from_reader(bytes);
        let header = reader.headers().map_err(unreadable)?.clone();
        for &column in columns {
            if !header.iter().any(|name| name == column) {
                return Err(DataError::MissingColumn { path: path.to_owned(), column });
            }
        }
        let records = reader.into_records().collect::<Result<_, _>>().map_err(unreadable)?;
        Ok(Self { path, bytes, header, records })
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.records.iter().map(|record| Row { table: self, record })
    }
}

/// A line of a table.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    table: &'a Table<'a>,
    record: &'a StringRecord,
}

impl Row<'_> {
    /// The text of a cell; empty where the table has no such column.
    pub(super) fn cell(&self, column: &str) -> &str {
        let index = self.table.header.iter().position(|name| name == column);
        index.and_then(|index| self.record.get(index)).unwrap_or_default()
    }

    pub(super) fn name(
        &self,
        column: &'static str,
        is_taken: impl Fn(&str) -> bool,
    ) -> Result<String, DataError> {
        match self.cell(column) {
            "" => Err(self.invalid(column, "a name")),
            name if is_taken(name) => Err(self.invalid(column, "a name that no line before has")),
            name => Ok(name.to_owned()),
        }
    }

    /// The number in a cell, which follows a rule; `None` where the cell is empty.
    pub(super) fn number(
        &self,
        column: &'static str,
        rule: impl Fn(f64) -> bool,
        expected: &'static str,
    ) -> Result<Option<f64>, DataError> {
        let text = self.cell(column);
        if text.is_empty() {
            return Ok(None);
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() && rule(number) => Ok(Some(number)),
            _ => Err(self.invalid(column, expected)),
        }
    }

    /// The altitude of a line; `None` where the cell is empty.
    pub(super) fn altitude_m(&self) -> Result<Option<f64>, DataError> {
        let is_altitude = |altitude_m: f64| altitude_m.abs() <= ALTITUDE_M_MAX;
        self.number("altitude_m", is_altitude, "an altitude in meters, within ±100000 km")
    }

    /// The position of a line; `None` where both of its cells are empty.
    pub(super) fn position(&self) -> Result<Option<Position>, DataError> {
        let latitude_rule = "a latitude within ±90°";
        let longitude_rule = "a longitude within ±180°";
        let latitude_deg = self.number("latitude", |value| value.abs() <= 90.0, latitude_rule)?;
        let longitude_deg =
            self.number("longitude", |value| value.abs() <= 180.0, longitude_rule)?;
        match (latitude_deg, longitude_deg) {
            (Some(latitude_deg), Some(longitude_deg)) => {
                let position = Position::new(latitude_deg, longitude_deg);
                Ok(Some(position.map_err(|_| self.invalid("latitude", latitude_rule))?))
            }
            (None, None) => Ok(None),
            (None, Some(_)) => Err(self.invalid("latitude", latitude_rule)),
            (Some(_), None) => Err(self.invalid("longitude", longitude_rule)),
        }
    }

    /// Number of the line, from 1 on; the position of a record is before the blank lines above it.
    fn line(&self) -> u64 {
        let bytes = self.table.bytes;
        let before = self.record.position().map_or(0, |position| position.byte() as usize);
        let blank = bytes.iter().skip(before).take_while(|byte| matches!(byte, b'\r' | b'\n'));
        let start = before + blank.count();
        1 + bytes.iter().take(start).filter(|byte| **byte == b'\n').count() as u64
    }

    pub(super) fn invalid(&self, column: &'static str, expected: &'static str) -> DataError {
        DataError::Cell {
            path: self.table.path.to_owned(),
            line: self.line(),
            column,
            expected,
            actual: self.cell(column).to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receivers(text: &str) -> Result<Vec<Receiver>, DataError> {
        read_receivers(Path::new("receivers.csv"), text.as_bytes())
    }

    fn sources(text: &str) -> Result<Vec<KnownSource>, DataError> {
        read_sources(Path::new("sources.csv"), text.as_bytes())
    }

    #[test]
    fn receivers_are_read_whatever_the_order_of_columns() {
        let text = "\u{feff}note,longitude, latitude,receiver,altitude_m\r\n\
                    \"a, b\",8.798828,46.499351,HB9ODP,1500\r\n\
                    ,-3.5,-51,\"Bad Höfen, Süd\",\r\n";

        let expected = |name: &str, latitude_deg, longitude_deg, altitude_m| Receiver {
            name: name.to_owned(),
            position: Position::new(latitude_deg, longitude_deg).unwrap(),
            altitude_m,
            antenna_height_m: ANTENNA_HEIGHT_M_DEFAULT,
        };
        assert_eq!(
            receivers(text).unwrap(),
            [
                expected("HB9ODP", 46.499351, 8.798828, 1500.0),
                expected("Bad Höfen, Süd", -51.0, -3.5, 0.0)
            ]
        );
    }

    #[test]
    fn bad_cell_is_told_with_its_line() {
        let cases = [
            ("a,1,2\nb,x,2", 3, "latitude", "x"),
            ("a,1,2\n\nb,91,2", 4, "latitude", "91"),
            ("a,1,-180.5", 2, "longitude", "-180.5"),
            ("a,1,NaN", 2, "longitude", "NaN"),
            ("a,,", 2, "latitude", ""),
            ("a,1,", 2, "longitude", ""),
            (",1,2", 2, "receiver", ""),
            ("a,1,2\na,3,4", 3, "receiver", "a"),
        ];
        for (rows, expected_line, expected_column, expected_text) in cases {
            match receivers(&format!("receiver,latitude,longitude\n{rows}\n")) {
                Err(DataError::Cell { line, column, actual, .. }) => {
                    let found = (line, column, actual.as_str());
                    assert_eq!(found, (expected_line, expected_column, expected_text), "{rows}");
                }
                other => panic!("{rows} gives {other:?}"),
            }
        }
    }

    #[test]
    fn broken_table_is_refused() {
        let missing = receivers("receiver,lat,longitude\n");
        assert!(matches!(missing, Err(DataError::MissingColumn { column: "latitude", .. })));
        assert!(matches!(receivers(""), Err(DataError::MissingColumn { .. })));
        match receivers("receiver,latitude,longitude\na,1\n") {
            Err(DataError::Table { source, .. }) => {
                assert!(source.to_string().contains("line: 2"), "{source}");
            }
            other => panic!("a short line gives {other:?}"),
        }
    }

    #[test]
    fn source_may_be_without_position_but_not_without_frequency() {
        let header = "source,frequency_hz,latitude,longitude\n";
        let known = sources(&format!("{header}DCF77,77500,50.0155,9.0108\nx,6e4,,\n")).unwrap();

        let position = Some(Position::new(50.0155, 9.0108).unwrap());
        let expected = KnownSource { name: "DCF77".to_owned(), frequency_hz: 77_500.0, position };
        assert_eq!(known[0], expected);
        assert_eq!((known[1].frequency_hz, known[1].position), (60_000.0, None));

        for rows in ["x,,1,2", "x,-5,1,2", "x,5,1,2\ny,5.0,3,4"] {
            let refused = sources(&format!("{header}{rows}\n"));
            let told = matches!(refused, Err(DataError::Cell { column: "frequency_hz", .. }));
            assert!(told, "{rows} gives {refused:?}");
        }
    }
}
