//! Instants as text, exact to the nanosecond.

use heimdall_features::UtcTime;
use jiff::Timestamp;

/// Reads `YYYY-MM-DDThh:mm:ss[.digits]Z`, with any number of digits.
///
/// Digits beyond the nanosecond are rounded. A leap second is told as the second that follows it,
/// as in all counts since 1970. Returns `None` if the text is not such an instant.
///
/// # References
///
/// G. Klyne, C. Newman, "Date and Time on the Internet: Timestamps", RFC 3339, 2002.
pub(crate) fn parse_utc(text: &str) -> Option<UtcTime> {
    let (date_time, rest) = text.split_at_checked(19)?;
    let digits = rest.strip_suffix(['Z', 'z'])?;
    let nanoseconds = match digits.strip_prefix('.') {
        Some(digits) => nanoseconds_of(digits)?,
        None if digits.is_empty() => 0,
        None => return None,
    };
    let shape_is_right = date_time.bytes().enumerate().all(|(index, byte)| match index {
        4 | 7 => byte == b'-',
        10 => matches!(byte, b'T' | b't'),
        13 | 16 => byte == b':',
        _ => byte.is_ascii_digit(),
    });
    if !shape_is_right {
        return None;
    }
    let (minute, second) = date_time.split_at(17);
    let (second, leap_s) = if second == "60" { ("59", 1) } else { (second, 0) };
    let time: Timestamp = format!("{minute}{second}Z").parse().ok()?;
    // Rounding may bring a whole second.
    let carry_s = i64::from(nanoseconds / 1_000_000_000);
    Some(UtcTime {
        seconds: time.as_second() + leap_s + carry_s,
        nanoseconds: nanoseconds % 1_000_000_000,
    })
}

/// Writes an instant with nine digits after the second; `None` beyond the years of four digits.
pub(crate) fn format_utc(time: UtcTime) -> Option<String> {
    let second = Timestamp::from_second(time.seconds).ok()?;
    let text = second.strftime("%Y-%m-%dT%H:%M:%S").to_string();
    (text.len() == 19).then(|| format!("{text}.{:09}Z", time.nanoseconds))
}

/// Moves an instant by a time that is short enough for an `f64` of nanoseconds; `None` beyond the
/// years of people.
pub(super) fn shift(time: UtcTime, by_s: f64) -> Option<UtcTime> {
    let since_1970 = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
    let moved = Timestamp::from_nanosecond(since_1970.checked_add((by_s * 1e9).round() as i128)?);
    let since_1970 = moved.ok()?.as_nanosecond();
    Some(UtcTime {
        seconds: i64::try_from(since_1970.div_euclid(1_000_000_000)).ok()?,
        nanoseconds: u32::try_from(since_1970.rem_euclid(1_000_000_000)).ok()?,
    })
}

/// Reads the digits after a second; up to 1,000,000,000, as the last digits are rounded.
fn nanoseconds_of(digits: &str) -> Option<u32> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value = |byte: u8| u32::from(byte - b'0');
    let digit = |index: usize| digits.as_bytes().get(index).map_or(0, |byte| value(*byte));
    let nanoseconds = (0..9).fold(0, |sum, index| sum * 10 + digit(index));
    Some(nanoseconds + u32::from(digit(9) >= 5))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn utc(seconds: i64, nanoseconds: u32) -> Option<UtcTime> {
        Some(UtcTime { seconds, nanoseconds })
    }

    #[test]
    fn any_number_of_digits_is_read() {
        let cases = [
            ("2020-08-13T06:52:20Z", utc(1_597_301_540, 0)),
            ("2020-08-13T06:52:20.5Z", utc(1_597_301_540, 500_000_000)),
            ("2020-08-13t06:52:20.000000001z", utc(1_597_301_540, 1)),
            ("2020-08-13T06:52:20.123456789123456Z", utc(1_597_301_540, 123_456_789)),
            ("2020-08-13T06:52:20.0000000005Z", utc(1_597_301_540, 1)),
            ("2020-08-13T06:52:20.9999999996Z", utc(1_597_301_541, 0)),
            ("2016-12-31T23:59:60.25Z", utc(1_483_228_800, 250_000_000)),
            ("1969-12-31T23:59:59.75Z", utc(-1, 750_000_000)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_utc(text), expected, "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_instants() {
        for text in [
            "",
            "Z",
            "2020-08-13T06:52:20",
            "2020-08-13T06:52:20+00:00",
            "2020-08-13 06:52:20Z",
            "2020-08-13T06:52:20.Z",
            "2020-08-13T06:52:20,5Z",
            "2020-08-13T06:52:20.5.5Z",
            "2020-13-13T06:52:20Z",
            "2020-02-30T06:52:20Z",
            "2020-08-13T24:52:20Z",
            "2020-08-13T06:52:61Z",
            "20200813T065220Z",
            "äöüäöüäöüäZ",
        ] {
            assert_eq!(parse_utc(text), None, "{text}");
        }
    }

    #[test]
    fn shift_beyond_all_years_has_no_result() {
        let time = UtcTime { seconds: 0, nanoseconds: 0 };
        for by_s in [f64::NEG_INFINITY, -1e300, -1e13, 1e13, 1e300, f64::INFINITY] {
            assert_eq!(shift(time, by_s), None, "{by_s}");
        }
    }

    #[test]
    fn years_of_five_digits_are_not_written() {
        assert_eq!(format_utc(UtcTime { seconds: 253_402_300_800, nanoseconds: 0 }), None);
        assert_eq!(format_utc(UtcTime { seconds: i64::MAX, nanoseconds: 0 }), None);
    }

    proptest! {
        #[test]
        fn written_instants_are_read_back(
            seconds in -62_167_219_200_i64..253_402_300_799,
            nanoseconds in 0_u32..1_000_000_000,
        ) {
            let time = UtcTime { seconds, nanoseconds };

            prop_assert_eq!(parse_utc(&format_utc(time).unwrap()), Some(time));
        }

        #[test]
        fn shift_is_undone_by_its_opposite(
            seconds in -4_000_000_000_i64..4_000_000_000,
            nanoseconds in 0_u32..1_000_000_000,
            by_s in -1e5_f64..1e5,
        ) {
            let time = UtcTime { seconds, nanoseconds };

            let shifted = shift(time, by_s).unwrap();

            prop_assert!((shifted.seconds_since(&time) - by_s).abs() < 1e-9);
            prop_assert_eq!(shift(shifted, -by_s), Some(time));
        }
    }
}
