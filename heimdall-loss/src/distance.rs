//! How far estimates are from the truth.

use serde::{Deserialize, Serialize};

/// Computes a percentile, as NumPy does by default.
///
/// The sorted values stand at 0, 1, … `n − 1`; the percentile is read at `percent / 100 · (n − 1)`,
/// linearly between its two neighbors. `None` if there are no values.
///
/// # Panics
///
/// If `percent` is not within 0 … 100, or a value is not a number.
///
/// # References
///
/// R. J. Hyndman, Y. Fan, "Sample quantiles in statistical packages", *The American Statistician*
/// 50(4), 1996, definition 7, [doi:10.2307/2684934](https://doi.org/10.2307/2684934).
pub fn percentile(values: &[f64], percent: f64) -> Option<f64> {
    assert!((0.0..=100.0).contains(&percent), "a percentile is within 0 and 100, not {percent}");
    assert!(values.iter().all(|value| !value.is_nan()), "a value is not a number");
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    percentile_of_sorted(&sorted, percent)
}

fn percentile_of_sorted(sorted: &[f64], percent: f64) -> Option<f64> {
    let place = percent / 100.0 * sorted.len().checked_sub(1)? as f64;
    // The place is within 0 and the last index.
    let below = sorted[place.floor() as usize];
    let above = sorted[place.ceil() as usize];
    let share = place.fract();
    // Without this, equal infinities would give no number.
    Some(if share > 0.0 { below * (1.0 - share) + above * share } else { below })
}

/// The figures by which a set of errors is reported.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistanceSummary {
    /// Half of the errors are at most this large, in km.
    pub median_km: f64,
    /// 68 % of the errors are at most this large, in km.
    pub p68_km: f64,
    /// 90 % of the errors are at most this large, in km.
    pub p90_km: f64,
    /// Mean of the errors, in km.
    pub mean_km: f64,
}

impl DistanceSummary {
    /// Summarizes errors in km; `None` if there are none.
    ///
    /// # Panics
    ///
    /// If an error is not a number.
    pub fn of(errors_km: &[f64]) -> Option<Self> {
        assert!(errors_km.iter().all(|error| !error.is_nan()), "an error is not a number");
        let mut sorted = errors_km.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            median_km: percentile_of_sorted(&sorted, 50.0)?,
            p68_km: percentile_of_sorted(&sorted, 68.0)?,
            p90_km: percentile_of_sorted(&sorted, 90.0)?,
            mean_km: sorted.iter().sum::<f64>() / sorted.len() as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `numpy.percentile([15, 20, 35, 40, 50], p)`: 40 % is at 1.6, so 20 + 0.6 · 15.
    #[test]
    fn percentile_is_read_between_its_neighbors() {
        let values = [40.0, 15.0, 50.0, 35.0, 20.0];

        for (percent, expected) in [(0.0, 15.0), (40.0, 29.0), (50.0, 35.0), (100.0, 50.0)] {
            let value = percentile(&values, percent).unwrap();
            assert!((value - expected).abs() < 1e-12, "{value} is not {expected}");
        }
    }

    #[test]
    fn nothing_has_no_percentile() {
        assert_eq!(percentile(&[], 50.0), None);
        assert_eq!(DistanceSummary::of(&[]), None);
    }

    #[test]
    fn infinite_errors_stay_infinite() {
        let errors = [1.0, f64::INFINITY, f64::INFINITY];

        assert!(percentile(&errors, 50.0).unwrap().is_infinite());
        assert!(percentile(&errors, 75.0).unwrap().is_infinite());
    }

    #[test]
    #[should_panic(expected = "not a number")]
    fn error_that_is_no_number_is_refused() {
        DistanceSummary::of(&[1.0, f64::NAN]);
    }

    /// Errors of 1 … 101 km: the percentile p is 1 + p.
    #[test]
    fn summary_has_the_percentiles_and_the_mean() {
        let errors: Vec<f64> = (1..=101).rev().map(f64::from).collect();

        let summary = DistanceSummary::of(&errors).unwrap();

        let DistanceSummary { median_km, p68_km, p90_km, mean_km } = summary;
        for (value, expected) in
            [(median_km, 51.0), (p68_km, 69.0), (p90_km, 91.0), (mean_km, 51.0)]
        {
            assert!((value - expected).abs() < 1e-9, "{value} is not {expected}");
        }
    }

    proptest! {
        /// Half-way between two places, the percentile is the mean of their values.
        #[test]
        fn median_of_two_is_their_mean(a in -1e6_f64..1e6, b in -1e6_f64..1e6) {
            prop_assert!((percentile(&[a, b], 50.0).unwrap() - (a + b) / 2.0).abs() < 1e-9);
        }

        #[test]
        fn percentiles_never_fall(
            values in prop::collection::vec(-1e3_f64..1e3, 1..30),
            percents in prop::array::uniform2(0_f64..100.0),
        ) {
            let [low, high] = [percents[0].min(percents[1]), percents[0].max(percents[1])];

            let [low, high] = [low, high].map(|percent| percentile(&values, percent).unwrap());

            prop_assert!(low <= high + 1e-9);
        }
    }
}
