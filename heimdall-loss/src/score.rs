//! Proper scores: one number for how right and how sure a Gaussian estimate is.

use std::f64::consts::{PI, SQRT_2, TAU};

/// Angles of the quadrature.
const ANGLES: usize = 48;
/// Radii of the quadrature, an even number of intervals up to [`RADIUS_MAX`].
const RADII: usize = 96;
/// Largest radius of the quadrature, in standard deviations: `exp(−8.5² / 2)` is 2 · 10⁻¹⁶.
const RADIUS_MAX: f64 = 8.5;

/// Computes the energy score of a Gaussian estimate in the plane.
///
/// It is `E|X − y| − ½ E|X − X'|` with `X` and `X'` drawn from the estimate and `y` the truth: the
/// distance for an estimate that is a point, and less for one that is rightly unsure. Smaller is
/// better; its unit is that of the miss.
///
/// # Shapes
///
/// - `miss`: truth minus mean, east and north
/// - `covariance`: variance to the east, covariance, variance to the north
///
/// # References
///
/// T. Gneiting, A. E. Raftery, "Strictly proper scoring rules, prediction, and estimation", *Journal
/// of the American Statistical Association* 102(477), 2007, equation 22,
/// [doi:10.1198/016214506000001437](https://doi.org/10.1198/016214506000001437).
pub fn energy_score(miss: [f64; 2], covariance: [f64; 3]) -> f64 {
    let [l11, l21, l22] = cholesky(covariance);
    let directions: Vec<[f64; 2]> = (0..ANGLES)
        .map(|index| {
            let (sin, cos) = (TAU * index as f64 / ANGLES as f64).sin_cos();
            [l11 * cos, l21 * cos + l22 * sin]
        })
        .collect();
    let mean_over_angles = |radius: f64| {
        let distance =
            |[east, north]: &[f64; 2]| (radius * east - miss[0]).hypot(radius * north - miss[1]);
        directions.iter().map(distance).sum::<f64>() / ANGLES as f64
    };

    // The radius has Rayleigh's distribution; Simpson's rule over its density.
    let step = RADIUS_MAX / RADII as f64;
    let to_truth: f64 = (0..=RADII)
        .map(|index| {
            let radius = step * index as f64;
            let weight = match index {
                0 | RADII => 1.0,
                _ if index % 2 == 1 => 4.0,
                _ => 2.0,
            };
            weight * radius * (-radius * radius / 2.0).exp() * mean_over_angles(radius)
        })
        .sum::<f64>()
        * step
        / 3.0;

    // The difference of two draws is a draw of √2 times the spread around zero, whose radius and
    // direction are independent; the mean of a Rayleigh radius is √(π/2).
    let spread = |[east, north]: &[f64; 2]| east.hypot(*north);
    let mean_spread = directions.iter().map(spread).sum::<f64>() / ANGLES as f64;
    to_truth - 0.5 * SQRT_2 * (PI / 2.0).sqrt() * mean_spread
}

fn cholesky([variance_east, covariance, variance_north]: [f64; 3]) -> [f64; 3] {
    let l11 = variance_east.sqrt();
    let l21 = covariance / l11;
    [l11, l21, (variance_north - l21 * l21).max(0.0).sqrt()]
}

/// Computes the continuous ranked probability score of a Gaussian estimate along one axis:
/// `σ (z (2 Φ(z) − 1) + 2 φ(z) − 1/√π)` with `z` the miss over `σ`.
///
/// # References
///
/// As for [`energy_score`], section 4.2.
pub fn gaussian_crps(miss: f64, sigma: f64) -> f64 {
    let z = miss / sigma;
    let density = (-z * z / 2.0).exp() / TAU.sqrt();
    // 2 Φ(z) − 1 is the error function of z / √2.
    sigma * (z * libm::erf(z / SQRT_2) + 2.0 * density - 1.0 / PI.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For a round estimate on the truth, `E|X| = σ √(π/2)` and `E|X − X'| = σ √π`.
    #[test]
    fn round_estimate_on_the_truth_has_the_closed_form() {
        for sigma in [1e-3, 1.0, 50.0] {
            let score = energy_score([0.0, 0.0], [sigma * sigma, 0.0, sigma * sigma]);

            let expected = sigma * PI.sqrt() * (0.5_f64.sqrt() - 0.5);
            assert!((score / expected - 1.0).abs() < 1e-6, "{score} is not {expected}");
        }
    }

    #[test]
    fn estimate_that_is_a_point_scores_its_distance() {
        let score = energy_score([3.0, -4.0], [1e-12, 0.0, 1e-12]);

        assert!((score - 5.0).abs() < 1e-5, "{score}");
    }

    /// Along a line the energy score is the score of that axis.
    #[test]
    fn thin_estimate_scores_as_its_axis_does() {
        for miss in [0.0, 1.0, 7.0] {
            let score = energy_score([miss, 0.0], [4.0, 0.0, 1e-14]);

            let expected = gaussian_crps(miss, 2.0);
            // The edges of the absolute value cost the quadrature some accuracy.
            assert!((score - expected).abs() < 5e-3, "{score} is not {expected}");
        }
    }

    /// Means over 200,000 pairs of draws; the distances deviate by some 2, so 0.0045 per mean.
    #[test]
    fn score_is_the_mean_over_draws() {
        let covariance = [4.0, -1.5, 2.0];
        let miss = [1.5, 2.5];
        let [l11, l21, l22] = cholesky(covariance);
        let mut state = 7_u64;
        let mut uniform = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
        };
        let mut draw = || {
            let (radius, angle) = ((-2.0 * uniform().ln()).sqrt(), TAU * uniform());
            let (a, b) = (radius * angle.cos(), radius * angle.sin());
            [l11 * a, l21 * a + l22 * b]
        };
        let (mut to_truth, mut to_other) = (0.0, 0.0);
        let draws = 200_000;
        for _ in 0..draws {
            let (a, b) = (draw(), draw());
            to_truth += (a[0] - miss[0]).hypot(a[1] - miss[1]);
            to_other += (a[0] - b[0]).hypot(a[1] - b[1]);
        }

        let expected = (to_truth - 0.5 * to_other) / f64::from(draws);
        let score = energy_score(miss, covariance);
        assert!((score - expected).abs() < 0.02, "{score} is not {expected}");
    }

    /// The definition: the integral of the squared difference of the distribution functions, by
    /// steps of a thousandth.
    #[test]
    fn axis_score_is_the_integral_of_its_definition() {
        for (miss, sigma) in [(0.0, 1.0), (1.3, 0.7), (-4.0, 2.0)] {
            let step = 1e-3;
            let integral: f64 = (-30_000..30_000)
                .map(|index| {
                    let x = (f64::from(index) + 0.5) * step;
                    let below = 0.5 * (1.0 + libm::erf(x / sigma / SQRT_2));
                    let truth = if x >= miss { 1.0 } else { 0.0 };
                    (below - truth) * (below - truth) * step
                })
                .sum();

            let score = gaussian_crps(miss, sigma);
            assert!((score - integral).abs() < 1e-3, "{score} is not {integral}");
        }
    }
}
