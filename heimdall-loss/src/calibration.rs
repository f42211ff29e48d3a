//! Whether stated uncertainties hold what they promise.
//!
//! All functions take squared Mahalanobis distances, `m² = dᵀ Σ⁻¹ d` with `d` the miss and `Σ` the
//! stated covariance. Of an honest two-dimensional Gaussian they are χ² distributed with two degrees
//! of freedom: `P(m² ≤ x) = 1 − exp(−x / 2)`.

use serde::{Deserialize, Serialize};

/// Two-sided 95 % quantile of the standard normal distribution.
pub const NORMAL_QUANTILE_95: f64 = 1.959_963_984_540_054;

/// Computes the share of events whose region of a given probability contains the truth.
///
/// The region is the ellipse with `m² ≤ −2 ln(1 − probability)`; a distance that is not a number
/// counts as outside. `None` if there are no events.
pub fn coverage(mahalanobis_squared: &[f64], probability: f64) -> Option<f64> {
    let hits = hits(mahalanobis_squared, probability);
    (!mahalanobis_squared.is_empty()).then(|| hits as f64 / mahalanobis_squared.len() as f64)
}

fn hits(mahalanobis_squared: &[f64], probability: f64) -> usize {
    let limit = -2.0 * (-probability).ln_1p();
    mahalanobis_squared.iter().filter(|&&m2| m2 <= limit).count()
}

/// Computes the Wilson score interval of a share: `[lower, upper]`.
///
/// `quantile` is the two-sided quantile of the standard normal distribution, for example
/// [`NORMAL_QUANTILE_95`]. Without trials the interval is `[0, 1]`: nothing is known.
///
/// # Panics
///
/// If there are more successes than trials.
///
/// # References
///
/// E. B. Wilson, "Probable inference, the law of succession, and statistical inference", *Journal
/// of the American Statistical Association* 22(158), 1927,
/// [doi:10.1080/01621459.1927.10502953](https://doi.org/10.1080/01621459.1927.10502953).
pub fn wilson_interval(successes: usize, trials: usize, quantile: f64) -> [f64; 2] {
    assert!(successes <= trials, "{successes} of {trials} trials succeeded");
    if trials == 0 {
        return [0.0, 1.0];
    }
    let (n, z2) = (trials as f64, quantile * quantile);
    let share = successes as f64 / n;
    let center = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = quantile / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    [(center - half).max(0.0), (center + half).min(1.0)]
}

/// Computes the factor by which standard deviations must be multiplied to be honest on average.
///
/// It is `s = √(mean m² / 2)`, which maximizes the likelihood of the events under `s² Σ`: above one
/// the estimates were too sure. `None` if there are no events.
///
/// # References
///
/// D. Levi et al., "Evaluating and calibrating uncertainty prediction in regression tasks", *Sensors*
/// 22(15), 2022, section 4, [doi:10.3390/s22155540](https://doi.org/10.3390/s22155540).
pub fn sigma_scale(mahalanobis_squared: &[f64]) -> Option<f64> {
    let count = mahalanobis_squared.len();
    (count > 0).then(|| (mahalanobis_squared.iter().sum::<f64>() / count as f64 / 2.0).sqrt())
}

/// Computes the probability that the stated Gaussian gave to a miss smaller than the one that
/// happened: `1 − exp(−m² / 2)`, uniform on 0 … 1 if the estimates are honest.
pub fn probability_integral_transform(mahalanobis_squared: f64) -> f64 {
    -(-mahalanobis_squared / 2.0).exp_m1()
}

/// Computes the Kolmogorov–Smirnov statistic against the uniform distribution on 0 … 1.
///
/// It is the greatest vertical distance between the empirical distribution function of `values` and
/// the diagonal. `None` if there are no values.
///
/// # References
///
/// F. J. Massey, "The Kolmogorov–Smirnov test for goodness of fit", *Journal of the American
/// Statistical Association* 46(253), 1951,
/// [doi:10.1080/01621459.1951.10500769](https://doi.org/10.1080/01621459.1951.10500769).
pub fn kolmogorov_smirnov(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len() as f64;
    // The distribution function jumps from `index / n` to `(index + 1) / n` at each value.
    let distance = |(index, value): (usize, &f64)| {
        let index = index as f64;
        (value - index / n).max((index + 1.0) / n - value)
    };
    sorted.iter().enumerate().map(distance).max_by(f64::total_cmp)
}

/// Computes the expected normalized calibration error: how far the stated deviations are from the
/// misses that happen, where deviations are alike.
///
/// Events are sorted by the stated standard deviation and cut into `bins` of equal size; the error
/// is the mean over them of `|RMSE − RMV| / RMV`, with RMV the root of the mean stated variance and
/// RMSE the root of the mean square of the misses. Each event is a stated variance and the square of
/// its miss. `None` if there are fewer events than bins.
///
/// # Panics
///
/// If `bins` is zero.
///
/// # References
///
/// D. Levi et al., as for [`sigma_scale`], equation 5.
pub fn normalized_calibration_error(
    events: &[(f64 /* variance */, f64 /* square */)],
    bins: usize,
) -> Option<f64> {
    assert!(bins > 0, "events are cut into at least one bin");
    if events.len() < bins {
        return None;
    }
    let mut sorted = events.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let error = |bin: usize| {
        let members = &sorted[bin * sorted.len() / bins..(bin + 1) * sorted.len() / bins];
        let stated = members.iter().map(|event| event.0).sum::<f64>().sqrt();
        let happened = members.iter().map(|event| event.1).sum::<f64>().sqrt();
        (happened - stated).abs() / stated
    };
    Some((0..bins).map(error).sum::<f64>() / bins as f64)
}

/// One point of a calibration curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationPoint {
    /// Probability that the regions were stated to have.
    pub probability: f64,
    /// Share of the events inside of their region.
    pub coverage: f64,
    /// Lower end of the 95 % Wilson interval of the coverage.
    pub lower: f64,
    /// Upper end of the 95 % Wilson interval of the coverage.
    pub upper: f64,
}

/// Computes the coverage at each of `probabilities`, with 95 % Wilson intervals.
///
/// Empty if there are no events.
pub fn calibration_curve(
    mahalanobis_squared: &[f64],
    probabilities: &[f64],
) -> Vec<CalibrationPoint> {
    let trials = mahalanobis_squared.len();
    if trials == 0 {
        return Vec::new();
    }
    let point = |&probability: &f64| {
        let hits = hits(mahalanobis_squared, probability);
        let [lower, upper] = wilson_interval(hits, trials, NORMAL_QUANTILE_95);
        CalibrationPoint { probability, coverage: hits as f64 / trials as f64, lower, upper }
    };
    probabilities.iter().map(point).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The quantiles of χ² with two degrees of freedom, at the middles of `count` equal shares.
    fn honest(count: u32) -> Vec<f64> {
        let middle = |index: u32| (f64::from(index) + 0.5) / f64::from(count);
        (0..count).map(|index| -2.0 * (1.0 - middle(index)).ln()).collect()
    }

    /// χ² of two degrees: 1.386, 2.279, 4.605 and 5.991 hold 50, 68, 90 and 95 %.
    #[test]
    fn regions_end_at_the_quantiles_of_chi_squared() {
        for (probability, limit) in [(0.5, 1.386), (0.68, 2.279), (0.9, 4.605), (0.95, 5.991)] {
            let around = [limit - 0.001, limit + 0.001];

            assert!((coverage(&around, probability).unwrap() - 0.5).abs() < 1e-12, "{probability}");
        }
    }

    #[test]
    fn honest_distances_are_covered_as_stated() {
        for probability in [0.1, 0.3935, 0.5, 0.9] {
            let covered = coverage(&honest(10_000), probability).unwrap();

            assert!((covered - probability).abs() <= 0.5e-4 + 1e-9, "{covered} of {probability}");
        }
    }

    #[test]
    fn distance_that_is_no_number_is_outside() {
        assert!(coverage(&[f64::NAN, 0.0], 0.9).unwrap() < 0.51);
        assert_eq!(coverage(&[], 0.9), None);
    }

    /// By hand, with z = 2: 5 of 10 is (0.5 + 0.2) / 1.4 ± 2 / 1.4 · √(0.025 + 0.01).
    #[test]
    fn interval_is_the_one_worked_out_by_hand() {
        let [lower, upper] = wilson_interval(5, 10, 2.0);

        let half = 2.0 / 1.4 * 0.035_f64.sqrt();
        assert!((lower - (0.5 - half)).abs() < 1e-12, "{lower}");
        assert!((upper - (0.5 + half)).abs() < 1e-12, "{upper}");
    }

    /// None of n: the upper end is z² / (n + z²).
    #[test]
    fn interval_of_nothing_is_one_sided() {
        let z2 = NORMAL_QUANTILE_95.powi(2);

        let [lower, upper] = wilson_interval(0, 20, NORMAL_QUANTILE_95);

        assert!(lower.abs() < 1e-12, "{lower}");
        assert!((upper - z2 / (20.0 + z2)).abs() < 1e-12, "{upper}");
        assert!(wilson_interval(0, 0, 2.0).iter().sum::<f64>() > 0.99);
    }

    /// The mean of the middles of ln tends to the mean of χ², which is 2.
    #[test]
    fn honest_distances_need_no_scale() {
        let scale = sigma_scale(&honest(100_000)).unwrap();

        assert!((scale - 1.0).abs() < 1e-5, "{scale}");
        assert_eq!(sigma_scale(&[]), None);
    }

    /// The middles of n equal shares are ½/n away from the diagonal, everywhere.
    #[test]
    fn transform_of_honest_distances_is_uniform() {
        let pit: Vec<f64> = honest(1000).into_iter().map(probability_integral_transform).collect();

        let distance = kolmogorov_smirnov(&pit).unwrap();

        assert!((distance - 0.5e-3).abs() < 1e-9, "{distance}");
    }

    /// The function of {0.2, 0.3, 0.9} is ⅔ from 0.3 to 0.9: ⅔ − 0.3 = 0.3667 above the diagonal.
    #[test]
    fn statistic_is_the_one_worked_out_by_hand() {
        let distance = kolmogorov_smirnov(&[0.9, 0.2, 0.3]).unwrap();

        assert!((distance - (2.0 / 3.0 - 0.3)).abs() < 1e-12, "{distance}");
        assert_eq!(kolmogorov_smirnov(&[]), None);
    }

    /// By hand: the bins hold (1, 4), (1, 4) and (9, 9), (9, 9): |2 − 1| / 1 and 0, so ½.
    #[test]
    fn calibration_error_is_the_one_worked_out_by_hand() {
        let events = [(9.0, 9.0), (1.0, 4.0), (9.0, 9.0), (1.0, 4.0)];

        assert!((normalized_calibration_error(&events, 2).unwrap() - 0.5).abs() < 1e-12);
        // Together: √(26/4) over √(20/4).
        let together = (26.0_f64 / 20.0).sqrt() - 1.0;
        assert!((normalized_calibration_error(&events, 1).unwrap() - together).abs() < 1e-12);
        assert_eq!(normalized_calibration_error(&events, 5), None);
    }

    #[test]
    fn curve_joins_coverage_and_interval() {
        let curve = calibration_curve(&honest(200), &[0.5, 0.9]);

        let [lower, upper] = wilson_interval(180, 200, NORMAL_QUANTILE_95);
        let expected = CalibrationPoint { probability: 0.9, coverage: 0.9, lower, upper };
        assert_eq!(curve.len(), 2);
        assert_eq!(curve[1], expected);
        assert_eq!(calibration_curve(&[], &[0.5]), []);
    }

    proptest! {
        /// Estimates whose deviations are `factor` too small need exactly that factor.
        #[test]
        fn scale_undoes_overconfidence(
            distances in prop::collection::vec(0.01_f64..50.0, 1..50),
            factor in 0.1_f64..10.0,
        ) {
            let inflated: Vec<f64> = distances.iter().map(|m2| m2 * factor * factor).collect();

            let ratio = sigma_scale(&inflated).unwrap() / sigma_scale(&distances).unwrap();

            prop_assert!((ratio / factor - 1.0).abs() < 1e-12);
        }

        /// The ends of the interval solve (p̂ − p)² = z² p (1 − p) / n.
        #[test]
        fn interval_ends_solve_the_score_equation(trials in 1_usize..2000, share in 0_f64..=1.0) {
            // Truncation keeps the product within the number of trials.
            let successes = (share * trials as f64) as usize;
            let (n, observed) = (trials as f64, successes as f64 / trials as f64);
            let z = NORMAL_QUANTILE_95;

            for end in wilson_interval(successes, trials, z) {
                let score = (observed - end).powi(2) - z * z * end * (1.0 - end) / n;
                prop_assert!(score.abs() < 1e-12, "{} at {}", score, end);
            }
        }

        /// The slow definition: the distance just before and at each value.
        #[test]
        fn statistic_is_the_greatest_distance(values in prop::collection::vec(0_f64..1.0, 1..40)) {
            let n = values.len() as f64;
            let expected = values
                .iter()
                .flat_map(|at| {
                    let below = values.iter().filter(|value| *value < at).count() as f64 / n;
                    let up_to = values.iter().filter(|value| *value <= at).count() as f64 / n;
                    [(below - at).abs(), (up_to - at).abs()]
                })
                .fold(0.0, f64::max);

            prop_assert!((kolmogorov_smirnov(&values).unwrap() - expected).abs() < 1e-12);
        }
    }
}
