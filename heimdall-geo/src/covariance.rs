//! The covariance of a position in the plane.

use serde::{Deserialize, Serialize};

use crate::LocalPosition;

/// How uncertain a position in the plane is, as the covariance of a Gaussian.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Covariance {
    /// Variance to the east, in km².
    pub east_km2: f64,
    /// Covariance of east and north, in km².
    pub east_north_km2: f64,
    /// Variance to the north, in km².
    pub north_km2: f64,
}

impl Covariance {
    /// Makes `L Lᵀ` from the lower triangle `L`, each entry in km.
    ///
    /// It is positive definite whenever both `l11_km` and `l22_km` differ from zero.
    pub fn from_cholesky(l11_km: f64, l21_km: f64, l22_km: f64) -> Self {
        Self {
            east_km2: l11_km * l11_km,
            east_north_km2: l11_km * l21_km,
            north_km2: l21_km * l21_km + l22_km * l22_km,
        }
    }

    /// Multiplies every entry by `factor`.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        Self {
            east_km2: factor * self.east_km2,
            east_north_km2: factor * self.east_north_km2,
            north_km2: factor * self.north_km2,
        }
    }

    /// Adds another covariance: that of the difference of two independent positions.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            east_km2: self.east_km2 + other.east_km2,
            east_north_km2: self.east_north_km2 + other.east_north_km2,
            north_km2: self.north_km2 + other.north_km2,
        }
    }

    /// Computes the determinant, in km⁴.
    pub fn determinant_km4(&self) -> f64 {
        self.east_km2 * self.north_km2 - self.east_north_km2 * self.east_north_km2
    }

    /// Whether this is the covariance of something that varies in both directions.
    pub fn is_positive_definite(&self) -> bool {
        let determinant = self.determinant_km4();
        self.east_km2 > 0.0 && self.north_km2 > 0.0 && determinant > 0.0 && determinant.is_finite()
    }

    /// Computes the squared Mahalanobis distance `dᵀ Σ⁻¹ d` of an offset from the mean.
    ///
    /// For the offset of the truth from a calibrated estimate it is χ² distributed with two degrees
    /// of freedom: [`mahalanobis_squared_at`] gives its quantiles. It is not a number, or infinite,
    /// where the covariance is not positive definite.
    pub fn mahalanobis_squared(&self, offset: LocalPosition) -> f64 {
        // Whitened by the Cholesky factor, which cannot turn negative by rounding.
        let slope = self.east_north_km2 / self.east_km2;
        let north_rest_km = offset.north_km - slope * offset.east_km;
        let north_rest_km2 = self.determinant_km4() / self.east_km2;
        offset.east_km.powi(2) / self.east_km2 + north_rest_km.powi(2) / north_rest_km2
    }
}

/// Points around the circle by which its probability is computed.
const CIRCLE_POINTS: usize = 256;

impl Covariance {
    /// Computes the radius of the circle around the mean that holds this much of the probability, in
    /// km; 0 for a probability of 0, and not a number where there is none.
    ///
    /// In the direction `φ` of the whitened plane the circle is `r / s(φ)` standard deviations away,
    /// `s² = λ₁ cos² φ + λ₂ sin² φ`, so that it holds `1 − mean exp(−r² / 2 s²)`.
    pub fn circle_radius_km(&self, probability: f64) -> f64 {
        if !(self.is_positive_definite() && (0.0..1.0).contains(&probability)) {
            return f64::NAN;
        }
        let middle_km2 = (self.east_km2 + self.north_km2) / 2.0;
        let half_km2 = ((self.east_km2 - self.north_km2) / 2.0).hypot(self.east_north_km2);
        let (major_km2, minor_km2) = (middle_km2 + half_km2, (middle_km2 - half_km2).max(0.0));
        let squares_km2: Vec<f64> = (0..CIRCLE_POINTS)
            .map(|point| {
                let angle = std::f64::consts::TAU * (point as f64 + 0.5) / CIRCLE_POINTS as f64;
                major_km2 * angle.cos().powi(2) + minor_km2 * angle.sin().powi(2)
            })
            .collect();
        let held = |radius_km: f64| {
            let outside =
                squares_km2.iter().map(|s_km2| (-radius_km * radius_km / 2.0 / s_km2).exp());
            1.0 - outside.sum::<f64>() / CIRCLE_POINTS as f64
        };
        // The circle around the ellipse holds more.
        let (mut low_km, mut high_km) =
            (0.0, (mahalanobis_squared_at(probability) * major_km2).sqrt() + f64::MIN_POSITIVE);
        for _ in 0..60 {
            let middle_km = f64::midpoint(low_km, high_km);
            if held(middle_km) < probability {
                low_km = middle_km;
            } else {
                high_km = middle_km;
            }
        }
        high_km
    }
}

/// Computes the squared Mahalanobis distance within which a Gaussian in the plane has this much of
/// its probability: `−2 ln(1 − probability)`.
///
/// Infinite for a probability of 1, and not a number above it.
pub fn mahalanobis_squared_at(probability: f64) -> f64 {
    -2.0 * (-probability).ln_1p()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn local(east_km: f64, north_km: f64) -> LocalPosition {
        LocalPosition { east_km, north_km }
    }

    /// By hand: [2 0; 3 1] · [2 3; 0 1] = [4 6; 6 10].
    #[test]
    fn cholesky_factor_is_multiplied_with_its_transpose() {
        let covariance = Covariance::from_cholesky(2.0, 3.0, 1.0);

        let expected = Covariance { east_km2: 4.0, east_north_km2: 6.0, north_km2: 10.0 };
        assert_eq!(covariance, expected);
        assert!((covariance.determinant_km4() - 4.0).abs() < 1e-12);
    }

    /// By hand: the inverse of [4 6; 6 10] is [10 −6; −6 4] / 4, so that (1, 1) has 2 / 4.
    #[test]
    fn mahalanobis_distance_is_that_of_the_inverse() {
        let covariance = Covariance::from_cholesky(2.0, 3.0, 1.0);

        let squared = covariance.mahalanobis_squared(local(1.0, 1.0));

        assert!((squared - 0.5).abs() < 1e-12, "{squared} is not 0.5");
    }

    /// Quantiles of χ² with two degrees of freedom, from any table.
    #[test]
    fn quantiles_are_those_of_chi_squared() {
        let table = [(0.3935, 1.0), (0.5, 1.3863), (0.68, 2.2789), (0.9, 4.6052), (0.95, 5.9915)];
        for (probability, expected) in table {
            let squared = mahalanobis_squared_at(probability);

            assert!((squared - expected).abs() < 2e-4, "{squared} is not {expected}");
        }
    }

    /// A round Gaussian has the circle of χ² with two degrees of freedom, one on a line nearly that
    /// of the normal distribution: 1.6449 standard deviations hold 90 %.
    #[test]
    fn circles_hold_what_they_should() {
        let round = Covariance::from_cholesky(2.0, 0.0, 2.0);
        let line = Covariance::from_cholesky(3.0, 4.0, 1e-6);

        assert!((round.circle_radius_km(0.9) - 2.0 * 4.605_170_f64.sqrt()).abs() < 1e-5);
        assert!((line.circle_radius_km(0.9) - 5.0 * 1.644_854).abs() < 0.02, "{line:?}");
        assert!(round.circle_radius_km(0.0).abs() < 1e-9);
        assert!(round.circle_radius_km(1.0).is_nan());
        assert!(round.scaled(-1.0).circle_radius_km(0.9).is_nan());
    }

    #[test]
    fn line_is_not_positive_definite() {
        let line = Covariance { east_km2: 4.0, east_north_km2: 2.0, north_km2: 1.0 };

        assert!(!line.is_positive_definite());
        assert!(!Covariance { east_km2: f64::NAN, ..line }.is_positive_definite());
        assert!(!line.scaled(-1.0).is_positive_definite());
        assert!(Covariance { north_km2: 1.1, ..line }.is_positive_definite());
    }

    proptest! {
        /// The offset `L z` has the squared distance `|z|²`, whatever `L`.
        #[test]
        fn whitening_undoes_the_factor(
            l11_km in 0.01_f64..100.0,
            l21_km in -100_f64..100.0,
            l22_km in 0.1_f64..100.0,
            z1 in -5_f64..5.0,
            z2 in -5_f64..5.0,
        ) {
            let covariance = Covariance::from_cholesky(l11_km, l21_km, l22_km);

            let offset = local(l11_km * z1, l21_km * z1 + l22_km * z2);
            let squared = covariance.mahalanobis_squared(offset);

            // The determinant cancels: it is off by an epsilon of the product of the variances.
            let condition = 1.0 + (l21_km / l22_km).powi(2);
            let tolerance = 1e-13 * condition * (1.0 + z1 * z1 + z2 * z2);
            prop_assert!((squared - (z1 * z1 + z2 * z2)).abs() < tolerance * 10.0);
        }
    }
}
