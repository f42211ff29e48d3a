//! How a stage is run, which has no bearing on its result: device, time, attempts, resources.

use std::fmt;
use std::time::Duration;

use heimdall_train::DeviceChoice;
use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// How a stage is run, which has no bearing on its result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunSpec {
    /// Where its arithmetic runs.
    pub device: DeviceChoice,
    /// How long one attempt may take: `90s`, `6h`; any time if absent.
    pub timeout: Option<Span>,
    /// How often it is tried again after a failure.
    pub retries: u32,
    /// How long to wait before the first retry; twice as long before each further one.
    pub backoff: Option<Span>,
    /// Processors that it takes from those of the run; by its kind if absent.
    pub processors: Option<u32>,
    /// Memory that it takes from that of the run: `4GiB`.
    pub memory: Option<ByteCount>,
    /// Graphics processors that it takes from those of the run.
    pub gpus: u32,
}

/// A length of time, written as `90s`, `1h 30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(Duration);

impl Span {
    /// The length of time.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl std::str::FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let duration = text.parse::<SignedDuration>().ok();
        let duration = duration.and_then(|duration| Duration::try_from(duration).ok());
        duration.map(Self).ok_or("a length of time such as `90s`, `15m` or `1h 30m`")
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A duration that came from text is within the bounds of a signed one.
        let duration = SignedDuration::try_from(self.0).unwrap_or(SignedDuration::MAX);
        write!(f, "{duration:#}")
    }
}

/// A number of bytes, written as `512MiB`, `4GiB` or `1000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteCount(u64);

impl ByteCount {
    /// Units that can be written, and what they stand for.
    const UNITS: [(&'static str, u64); 8] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
    ];

    /// The number of bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl From<u64> for ByteCount {
    fn from(bytes: u64) -> Self {
        Self(bytes)
    }
}

impl std::str::FromStr for ByteCount {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "a number of bytes such as `512MiB` or `4GiB`";
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let number: u64 = text[..end].parse().map_err(|_| expected)?;
        let unit = match text[end..].trim_start() {
            "" | "B" => 1,
            unit => Self::UNITS.iter().find(|known| known.0 == unit).ok_or(expected)?.1,
        };
        number.checked_mul(unit).map(Self).ok_or(expected)
    }
}

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = Self::UNITS[..4].iter().rev();
        match binary.into_iter().find(|(_, size)| self.0 >= *size && self.0.is_multiple_of(*size)) {
            Some((unit, size)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// Reads a type that is written as text from text.
macro_rules! as_text {
    ($type:ident, $expected:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse()
                    .map_err(|_| de::Error::invalid_value(de::Unexpected::Str(&text), &$expected))
            }
        }
    };
}

as_text!(Span, "a length of time such as `90s`, `15m` or `1h 30m`");
as_text!(ByteCount, "a number of bytes such as `512MiB` or `4GiB`");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_and_written() {
        let seconds = |text: &str| text.parse::<Span>().map(|span| span.duration().as_secs_f64());

        assert_eq!(seconds("90s"), Ok(90.0));
        assert_eq!(seconds("1h 30m"), Ok(5400.0));
        assert_eq!(seconds("250ms"), Ok(0.25));
        assert!(seconds("soon").is_err() && seconds("-1s").is_err() && seconds("6").is_err());
        let span: Span = "1h 30m".parse().unwrap();
        assert_eq!(span.to_string().parse(), Ok(span));
    }

    #[test]
    fn numbers_of_bytes_are_read_and_written() {
        let bytes = |text: &str| text.parse::<ByteCount>().map(ByteCount::bytes);

        assert_eq!(bytes("4GiB"), Ok(4 << 30));
        assert_eq!(bytes("1 MB"), Ok(1_000_000));
        assert_eq!(bytes("17"), Ok(17));
        for wrong in ["", "GiB", "4Gib", "-1", "99999999999TiB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert_eq!(ByteCount(3 << 30).to_string(), "3GiB");
        assert_eq!(ByteCount(1000).to_string(), "1000B");
    }
}
