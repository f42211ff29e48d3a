//! The standard normal distribution.

use std::sync::LazyLock;

/// Beyond this many standard deviations the table ends.
const SPAN: f64 = 9.0;
/// Entries of the table per standard deviation.
const ENTRIES_PER_SIGMA: f64 = 512.0;

/// Nodes and weights of the Gauss–Hermite quadrature with seven points, for the weight `exp(−x²)`.
///
/// # References
///
/// M. Abramowitz, I. A. Stegun, *Handbook of Mathematical Functions*, table 25.10.
pub(super) const HERMITE: [(f64, f64); 7] = [
    (0.0, 0.810_264_617_556_807_3),
    (0.816_287_882_858_964_7, 0.425_607_252_610_127_8),
    (-0.816_287_882_858_964_7, 0.425_607_252_610_127_8),
    (1.673_551_628_767_471_4, 0.054_515_582_819_127_03),
    (-1.673_551_628_767_471_4, 0.054_515_582_819_127_03),
    (2.651_961_356_835_233_4, 9.717_812_450_995_192e-4),
    (-2.651_961_356_835_233_4, 9.717_812_450_995_192e-4),
];

static TABLE: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let entries = (2.0 * SPAN * ENTRIES_PER_SIGMA) as usize + 2;
    (0..entries).map(|entry| distribution(entry as f64 / ENTRIES_PER_SIGMA - SPAN)).collect()
});

/// Computes the density `φ(x)`.
pub(super) fn density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
}

/// Computes the distribution function `Φ(x)`, with a relative error below 1e-12 for `x > −9`.
///
/// # References
///
/// M. Abramowitz, I. A. Stegun, *Handbook of Mathematical Functions*, equations 26.2.11 (series)
/// and 26.2.14 (continued fraction).
pub(super) fn distribution(x: f64) -> f64 {
    if x > 0.0 {
        return 1.0 - distribution(-x);
    }
    if x > -3.0 {
        let (mut term, mut sum, mut odd) = (x, x, 1.0);
        while term.abs() > 1e-17 * sum.abs() {
            odd += 2.0;
            term *= x * x / odd;
            sum += term;
        }
        return 0.5 + sum * density(x);
    }
    let fraction = (1..=200).rev().fold(0.0, |rest, index| f64::from(index) / (-x + rest));
    density(x) / (-x + fraction)
}

/// Looks `Φ(x)` up, with an error below 1e-6; 0 and 1 beyond nine standard deviations.
pub(super) fn distribution_fast(x: f64) -> f64 {
    let place = (x.clamp(-SPAN, SPAN) + SPAN) * ENTRIES_PER_SIGMA;
    // Within the table, because of the clamp; a NaN becomes entry 0.
    let entry = place as usize;
    let share = place - entry as f64;
    let table = &*TABLE;
    table[entry] + share * (table[entry + 1] - table[entry])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of any table, and of SciPy's `norm.cdf` for the tails.
    #[test]
    fn distribution_is_that_of_tables() {
        let table = [
            (0.0, 0.5),
            (1.0, 0.841_344_746_068_543),
            (1.959_963_984_540_054, 0.975),
            (-2.9, 1.865_813_300_384_037_8e-3),
            (-3.1, 9.676_032_132_183_56e-4),
            (-6.0, 9.865_876_450_376_946e-10),
            (-8.5, 9.479_534_822_203_318e-18),
        ];
        for (x, expected) in table {
            let actual = distribution(x);

            assert!((actual / expected - 1.0).abs() < 1e-11, "Φ({x}) = {actual}, not {expected}");
        }
    }

    /// The curvature is at most 0.242, so that a chord of 1 / 512 is off by 0.242 / 8 / 512².
    #[test]
    fn table_is_as_good_as_its_step() {
        for step in -2000..2000 {
            let x = f64::from(step) * 0.00517;

            assert!((distribution_fast(x) - distribution(x)).abs() < 2e-7, "at {x}");
        }
        assert!(distribution_fast(-1e9).abs() < 1e-18);
        assert!((distribution_fast(1e9) - 1.0).abs() < 1e-15);
    }
}
