//! What the name of a KiwiSDR recording says.

use heimdall_features::UtcTime;
use jiff::Timestamp;

use crate::DataError;

/// Parts of a name such as `20200813T065220Z_77500_HB9ODP_iq.wav`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct KiwiName {
    /// When the recording began, by the clock of the recording computer.
    pub(super) start: UtcTime,
    /// Frequency that the receiver was tuned to, in Hz.
    pub(super) frequency_hz: f64,
    /// Name of the station; it may contain underscores.
    pub(super) station: String,
}

/// Checks that a name tells date, frequency and station.
///
/// # Errors
///
/// [`DataError::KiwiFileName`], with the first part that is not there.
pub(crate) fn check_kiwi_name(file_name: &str) -> Result<(), DataError> {
    KiwiName::parse(file_name).map(|_| ())
}

impl KiwiName {
    /// Takes a name apart; folders before it are ignored.
    ///
    /// # Errors
    ///
    /// [`DataError::KiwiFileName`], with the first part that is not there.
    pub(super) fn parse(file_name: &str) -> Result<Self, DataError> {
        let missing = |missing| DataError::KiwiFileName { file: file_name.to_owned(), missing };
        let base = file_name.rsplit(['/', '\\']).next().unwrap_or(file_name);
        let suffix_start = base.len().checked_sub("_iq.wav".len()).unwrap_or(base.len());
        let stem = match base.split_at_checked(suffix_start) {
            Some((stem, suffix)) if suffix.eq_ignore_ascii_case("_iq.wav") => stem,
            _ => return Err(missing("`_iq.wav` at its end")),
        };

        let (date, rest) = stem.split_once('_').unwrap_or((stem, ""));
        let (frequency, station) = rest.split_once('_').unwrap_or((rest, ""));
        let start = parse_date(date).ok_or_else(|| missing("date and time of UTC"))?;
        let frequency_hz = parse_frequency(frequency).ok_or_else(|| missing("frequency in Hz"))?;
        if station.is_empty() {
            return Err(missing("station"));
        }
        Ok(Self { start, frequency_hz, station: station.to_owned() })
    }
}

fn parse_date(text: &str) -> Option<UtcTime> {
    let shape_is_right = text.len() == 16
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 => byte == b'T',
            15 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        });
    let time: Timestamp = shape_is_right.then(|| text.parse().ok()).flatten()?;
    Some(UtcTime { seconds: time.as_second(), nanoseconds: 0 })
}

fn parse_frequency(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let frequency_hz: f64 = plain.then(|| text.parse().ok()).flatten()?;
    (frequency_hz > 0.0 && frequency_hz.is_finite()).then_some(frequency_hz)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_name_is_read() {
        let cases = [
            ("20200813T065220Z_77500_HB9ODP_iq.wav", 1_597_301_540, 77_500.0, "HB9ODP"),
            ("19991231T235959Z_145500000_a_b-c_iq.wav", 946_684_799, 145_500_000.0, "a_b-c"),
            (
                "20240229T000000Z_4996000.5_Bad Höfen_iq.WAV",
                1_709_164_800,
                4_996_000.5,
                "Bad Höfen",
            ),
            ("some/folder/20200813T065220Z_60000__iq_iq.wav", 1_597_301_540, 60_000.0, "_iq"),
        ];
        for (name, seconds, frequency_hz, station) in cases {
            let start = UtcTime { seconds, nanoseconds: 0 };
            let expected = KiwiName { start, frequency_hz, station: station.to_owned() };
            assert_eq!(KiwiName::parse(name).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn missing_part_of_a_name_is_told() {
        let cases = [
            ("", "`_iq.wav` at its end"),
            ("ü_iq.wa", "`_iq.wav` at its end"),
            ("20200813T065220Z_77500_HB9ODP.wav", "`_iq.wav` at its end"),
            ("20200813_77500_HB9ODP_iq.wav", "date and time of UTC"),
            ("20201313T065220Z_77500_HB9ODP_iq.wav", "date and time of UTC"),
            ("20200813T065220Z_HB9ODP_iq.wav", "frequency in Hz"),
            ("20200813T065220Z_inf_HB9ODP_iq.wav", "frequency in Hz"),
            ("20200813T065220Z_0_HB9ODP_iq.wav", "frequency in Hz"),
            ("20200813T065220Z_77500_iq.wav", "station"),
        ];
        for (name, expected) in cases {
            match KiwiName::parse(name) {
                Err(DataError::KiwiFileName { missing, .. }) => {
                    assert_eq!(missing, expected, "{name}");
                }
                other => panic!("{name} gives {other:?}"),
            }
        }
    }
}
