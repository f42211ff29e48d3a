//! Satellite time (weeks of seconds without leap seconds) to UTC.

use heimdall_features::UtcTime;

/// Seconds in a week of satellite time.
pub(super) const WEEK_S: i64 = 7 * 24 * 3600;
/// Nanoseconds in a week of satellite time.
pub(super) const WEEK_NS: i64 = WEEK_S * 1_000_000_000;

/// Start of the first week, 1980-01-06T00:00:00Z, in seconds since 1970.
const FIRST_WEEK_S: i64 = 315_964_800;

/// From when on (in seconds since 1970) satellite time is how many seconds ahead of UTC.
///
/// # References
///
/// International Earth Rotation and Reference Systems Service, *Bulletin C*, 1981 to 2025.
const LEAP_SECONDS: [(i64, i64); 18] = [
    (362_793_600, 1),    // 1981-07-01
    (394_329_600, 2),    // 1982-07-01
    (425_865_600, 3),    // 1983-07-01
    (489_024_000, 4),    // 1985-07-01
    (567_993_600, 5),    // 1988-01-01
    (631_152_000, 6),    // 1990-01-01
    (662_688_000, 7),    // 1991-01-01
    (709_948_800, 8),    // 1992-07-01
    (741_484_800, 9),    // 1993-07-01
    (773_020_800, 10),   // 1994-07-01
    (820_454_400, 11),   // 1996-01-01
    (867_715_200, 12),   // 1997-07-01
    (915_148_800, 13),   // 1999-01-01
    (1_136_073_600, 14), // 2006-01-01
    (1_230_768_000, 15), // 2009-01-01
    (1_341_100_800, 16), // 2012-07-01
    (1_435_708_800, 17), // 2015-07-01
    (1_483_228_800, 18), // 2017-01-01
];

/// Computes the UTC of a time within a week, in the week that brings it closest to `near`.
///
/// A leap second itself is told as the second that follows it, as in all counts since 1970.
pub(super) fn utc_of_week_time(week_time_ns: i64, near: UtcTime) -> UtcTime {
    let (second_of_week, nanoseconds) =
        (week_time_ns.div_euclid(1_000_000_000), week_time_ns.rem_euclid(1_000_000_000));
    let near_s = near.seconds - FIRST_WEEK_S + leap_seconds(|_| near.seconds);
    let week = (near_s - second_of_week + WEEK_S / 2).div_euclid(WEEK_S);

    let seconds = FIRST_WEEK_S + week * WEEK_S + second_of_week;
    UtcTime {
        seconds: seconds - leap_seconds(|leap| seconds - leap),
        nanoseconds: u32::try_from(nanoseconds).expect("a remainder by 1e9 fits"),
    }
}

/// Finds the last entry of the table that has begun at a UTC that may depend on the entry.
fn leap_seconds(utc_s: impl Fn(i64) -> i64) -> i64 {
    let entry = LEAP_SECONDS.iter().rev().find(|&&(from, leap)| from <= utc_s(leap));
    entry.map_or(0, |&(_, leap)| leap)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn utc(text: &str) -> UtcTime {
        let time: Timestamp = text.parse().unwrap();
        UtcTime { seconds: time.as_second(), nanoseconds: 0 }
    }

    #[test]
    fn table_has_the_days_of_the_bulletins() {
        let days = [
            "1981-07-01",
            "1982-07-01",
            "1983-07-01",
            "1985-07-01",
            "1988-01-01",
            "1990-01-01",
            "1991-01-01",
            "1992-07-01",
            "1993-07-01",
            "1994-07-01",
            "1996-01-01",
            "1997-07-01",
            "1999-01-01",
            "2006-01-01",
            "2009-01-01",
            "2012-07-01",
            "2015-07-01",
            "2017-01-01",
        ];
        for (index, day) in days.iter().enumerate() {
            let expected = utc(&format!("{day}T00:00:00Z")).seconds;
            assert_eq!(LEAP_SECONDS[index], (expected, index as i64 + 1), "{day}");
        }
        assert_eq!(utc("1980-01-06T00:00:00Z").seconds, FIRST_WEEK_S);
    }

    /// 2020-08-13 was a Thursday, so that its 06:52:20 is second 4 · 86,400 + 24,740 of the week,
    /// and satellite time 18 s ahead.
    #[test]
    fn thursday_morning_is_found() {
        let time = utc("2020-08-13T06:52:20Z");

        assert_eq!(utc_of_week_time((4 * 86_400 + 24_740 + 18) * 1_000_000_000, time), time);
    }

    /// 23:59:50 UTC on a Saturday is already in the next week of satellite time.
    #[test]
    fn week_that_begins_within_18_s_is_the_right_one() {
        for near in ["2023-03-04T23:59:30Z", "2023-03-05T00:00:30Z"] {
            let before = utc_of_week_time((WEEK_S - 2) * 1_000_000_000, utc(near));
            let after = utc_of_week_time(8_000_000_000, utc(near));

            assert_eq!(before, utc("2023-03-04T23:59:40Z"));
            assert_eq!(after, utc("2023-03-04T23:59:50Z"));
        }
    }

    #[test]
    fn leap_seconds_are_those_of_the_day() {
        // 2016-12-31 was a Saturday: second 6 · 86,400 + 43,200 at noon, plus 17.
        let noon = (6 * 86_400 + 43_200) * 1_000_000_000;
        let near = utc("2016-12-31T13:00:00Z");
        assert_eq!(utc_of_week_time(noon + 17_000_000_000, near), utc("2016-12-31T12:00:00Z"));

        let near = utc("2017-01-07T13:00:00Z");
        assert_eq!(utc_of_week_time(noon + 18_000_000_000, near), utc("2017-01-07T12:00:00Z"));
    }
}
