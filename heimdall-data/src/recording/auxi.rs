//! The `auxi` chunk, in which programs for software radios keep time and frequency.

use heimdall_features::UtcTime;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::riff::{u16_at, u32_at};

/// Bytes of two times and the center frequency.
const BINARY_BYTES_MIN: usize = 36;

/// What an `auxi` chunk says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Auxi {
    /// When the recording began.
    pub(super) start: Option<UtcTime>,
    /// Frequency that was mixed down to zero, in Hz.
    pub(super) center_frequency_hz: Option<f64>,
}

/// Reads the layout of SpectraVue, which HDSDR, SDRuno, SDRconnect and SDR# share, or the XML of
/// SDR Console.
///
/// Times are taken to be UTC. Fields of zero are not known. The error is what the chunk should
/// have been.
///
/// # References
///
/// RFSPACE Inc., *SpectraVue user guide*, version 3.18, "WAV file format".
pub(super) fn parse(body: &[u8]) -> Result<Auxi, &'static str> {
    if let Some(text) = as_text(body) {
        return parse_xml(&text);
    }
    if body.len() < BINARY_BYTES_MIN {
        return Err("an `auxi` chunk of at least 36 bytes");
    }
    let center_hz = u32_at(body, 32);
    Ok(Auxi {
        start: system_time(&body[..16])?,
        center_frequency_hz: (center_hz > 0).then(|| f64::from(center_hz)),
    })
}

/// Reads a `SYSTEMTIME`: year, month, day of the week, day, hour, minute, second, millisecond.
fn system_time(fields: &[u8]) -> Result<Option<UtcTime>, &'static str> {
    if fields.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let wrong = "an `auxi` chunk with a date and time";
    let field = |index: usize| u16_at(fields, 2 * index);
    let small = |index: usize| i8::try_from(field(index)).map_err(|_| wrong);
    let year = i16::try_from(field(0)).map_err(|_| wrong)?;
    let milliseconds = i32::from(field(7));
    if milliseconds > 999 {
        return Err(wrong);
    }
    let time = DateTime::new(
        year,
        small(1)?,
        small(3)?,
        small(4)?,
        small(5)?,
        small(6)?,
        milliseconds * 1_000_000,
    )
    .and_then(|time| TimeZone::UTC.to_timestamp(time))
    .map_err(|_| wrong)?;
    let nanoseconds = u32::try_from(milliseconds).expect("it is not negative") * 1_000_000;
    Ok(Some(UtcTime { seconds: time.as_second(), nanoseconds }))
}

/// The text of a chunk that starts like XML, in UTF-8 or UTF-16.
fn as_text(body: &[u8]) -> Option<String> {
    let body = body.strip_prefix(b"\xff\xfe").unwrap_or(body);
    match body {
        [b'<', 0, ..] => {
            let units = body.chunks_exact(2).map(|unit| u16_at(unit, 0));
            Some(char::decode_utf16(units).map(|unit| unit.unwrap_or('\u{fffd}')).collect())
        }
        [b'<', ..] => Some(String::from_utf8_lossy(body).into_owned()),
        _ => None,
    }
}

fn parse_xml(text: &str) -> Result<Auxi, &'static str> {
    let attribute = |name: &str| {
        let (_, rest) = text.split_once(&format!(" {name}=\""))?;
        rest.split_once('"').map(|(value, _)| value)
    };
    let frequency = attribute("RadioCenterFreq").map(str::parse::<f64>);
    let seconds = attribute("UTCSeconds").map(|text| {
        let seconds = text.parse().ok()?;
        Timestamp::from_second(seconds).is_ok().then_some(UtcTime { seconds, nanoseconds: 0 })
    });
    Ok(Auxi {
        start: match seconds {
            None => None,
            Some(None) => return Err("an `auxi` chunk with seconds since 1970 as `UTCSeconds`"),
            Some(start) => start,
        },
        center_frequency_hz: frequency
            .transpose()
            .ok()
            .filter(|frequency| frequency.is_none_or(f64::is_finite))
            .ok_or("an `auxi` chunk with a number as `RadioCenterFreq`")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2021-05-04T03:02:01.250Z, a Tuesday, at 7.1 MHz.
    fn binary() -> Vec<u8> {
        let start = [2021_u16, 5, 2, 4, 3, 2, 1, 250];
        let mut body: Vec<u8> = start.iter().flat_map(|field| field.to_le_bytes()).collect();
        body.resize(32, 0);
        body.extend(7_100_000_u32.to_le_bytes());
        body.resize(68, 0);
        body
    }

    #[test]
    fn binary_chunk_tells_time_and_frequency() {
        let start = Some(UtcTime { seconds: 1_620_097_321, nanoseconds: 250_000_000 });

        let expected = Auxi { start, center_frequency_hz: Some(7.1e6) };
        assert_eq!(parse(&binary()), Ok(expected));
        assert_eq!(parse(&[0; 68]), Ok(Auxi::default()));
    }

    #[test]
    fn impossible_times_are_refused() {
        for (field, value) in
            [(0, 40_000_u16), (1, 13), (3, 32), (4, 24), (5, 60), (6, 60), (7, 1000)]
        {
            let mut body = binary();
            body[2 * field..2 * field + 2].copy_from_slice(&value.to_le_bytes());
            assert_eq!(parse(&body), Err("an `auxi` chunk with a date and time"), "{field}");
        }
        assert_eq!(parse(&[1; 35]), Err("an `auxi` chunk of at least 36 bytes"));
    }

    #[test]
    fn text_chunk_tells_time_and_frequency() {
        let text = "<?xml version=\"1.0\"?><SDR-XML-Root><Definition UTCSeconds=\"1620097321\" \
                    ADFrequency=\"1\" RadioCenterFreq=\"10489750000\"/></SDR-XML-Root>";
        let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let start = Some(UtcTime { seconds: 1_620_097_321, nanoseconds: 0 });
        let expected = Auxi { start, center_frequency_hz: Some(10_489_750_000.0) };
        assert_eq!(parse(text.as_bytes()).as_ref(), Ok(&expected));
        assert_eq!(parse(&wide).as_ref(), Ok(&expected));
        assert_eq!(parse(&[b"\xff\xfe", wide.as_slice()].concat()), Ok(expected));

        assert_eq!(parse(b"<x/>"), Ok(Auxi::default()));
        for text in ["yes", "9223372036854775807", "-9223372036854775808", "1.5", ""] {
            assert!(parse(format!("<x UTCSeconds=\"{text}\"/>").as_bytes()).is_err(), "{text}");
        }
        assert!(parse(b"<x RadioCenterFreq=\"inf\"/>").is_err());
    }
}
