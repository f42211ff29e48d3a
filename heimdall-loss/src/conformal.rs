//! Regions that hold what they promise without any distribution.

/// Computes the limit below which a new score lies with at least this probability, given the scores
/// of calibration events that are exchangeable with it: the `⌈(n + 1) p⌉`-th smallest.
///
/// With squared Mahalanobis distances as scores, the region is the ellipse of that distance. `None`
/// if there are too few events for the probability.
///
/// # Panics
///
/// If `probability` is not within 0 … 1, or a score is not a number.
///
/// # References
///
/// - V. Vovk, A. Gammerman, G. Shafer, *Algorithmic Learning in a Random World*, Springer, 2005,
///   section 2.2.
/// - S. Braun et al., "Multivariate standardized residuals for conformal prediction", 2025,
///   [arXiv:2507.20941](https://arxiv.org/abs/2507.20941).
pub fn conformal_limit(scores: &[f64], probability: f64) -> Option<f64> {
    assert!((0.0..=1.0).contains(&probability), "a probability is not {probability}");
    assert!(scores.iter().all(|score| !score.is_nan()), "a score is not a number");
    // The slack keeps products that are integers but for rounding from being rounded up.
    let rank = ((scores.len() + 1) as f64 * probability - 1e-9).ceil().max(1.0) as usize;
    let mut sorted = scores.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Of 9 scores, 90 % is rank ⌈10 · 0.9⌉ = 9, the largest, and 95 % rank ⌈9.5⌉ = 10: too few.
    #[test]
    fn rank_is_the_one_worked_out_by_hand() {
        let scores: Vec<f64> = (1..=9).rev().map(f64::from).collect();

        assert_eq!(conformal_limit(&scores, 0.9), Some(9.0));
        assert_eq!(conformal_limit(&scores, 0.5), Some(5.0));
        assert_eq!(conformal_limit(&scores, 0.95), None);
        assert_eq!(conformal_limit(&[], 0.5), None);
    }

    proptest! {
        /// Of n + 1 exchangeable scores each is the last with equal probability: left out in turn,
        /// at least a share of `probability` lies below the limit of the others.
        #[test]
        fn left_out_scores_are_covered(
            scores in prop::collection::vec(0_f64..100.0, 20..60),
            probability in 0.1_f64..0.94,
        ) {
            let covered = (0..scores.len())
                .filter(|&left_out| {
                    let mut others = scores.clone();
                    let score = others.swap_remove(left_out);
                    score <= conformal_limit(&others, probability).unwrap()
                })
                .count();

            prop_assert!(covered as f64 >= probability * scores.len() as f64 - 1e-6);
        }
    }
}
