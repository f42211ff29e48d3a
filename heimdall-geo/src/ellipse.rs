//! The ellipse that holds a given share of a Gaussian in the plane.

use std::f64::consts::{PI, TAU};

use serde::{Deserialize, Serialize};

use crate::Covariance;
use crate::GeoError;
use crate::LocalPosition;
use crate::covariance::mahalanobis_squared_at;

/// An ellipse in the plane, without a center.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ellipse {
    /// Half of the longest diameter, in km.
    pub semi_major_km: f64,
    /// Half of the shortest diameter, in km.
    pub semi_minor_km: f64,
    /// Direction of the longest diameter, clockwise from north, at least 0° and below 180°.
    pub azimuth_deg: f64,
}

impl Ellipse {
    /// Computes the smallest ellipse that holds `probability` of a Gaussian with this covariance.
    ///
    /// Its semi-axes are `√(r λ)`, with the eigenvalues `λ` of the covariance and the `r` of
    /// [`mahalanobis_squared_at`]. The ellipse of one standard deviation, `r = 1`, holds 39.35 %.
    ///
    /// # Errors
    ///
    /// - [`GeoError::InvalidProbability`] unless `0 < probability < 1`.
    /// - [`GeoError::NotPositiveDefinite`] if `covariance` is not a covariance.
    pub fn of(covariance: &Covariance, probability: f64) -> Result<Self, GeoError> {
        if !(probability > 0.0 && probability < 1.0) {
            return Err(GeoError::InvalidProbability { probability });
        }
        let &Covariance { east_km2, east_north_km2, north_km2 } = covariance;
        if !covariance.is_positive_definite() {
            return Err(GeoError::NotPositiveDefinite { east_km2, east_north_km2, north_km2 });
        }

        let half_difference_km2 = (north_km2 - east_km2) / 2.0;
        let radius_km2 = half_difference_km2.hypot(east_north_km2);
        let major_km2 = (north_km2 + east_km2) / 2.0 + radius_km2;
        let minor_km2 = covariance.determinant_km4() / major_km2;
        // The variance at azimuth α is mean + half_difference · cos 2α + east_north · sin 2α.
        let azimuth_deg = (east_north_km2.atan2(half_difference_km2) / 2.0).to_degrees();
        let azimuth_deg = if azimuth_deg < 0.0 { azimuth_deg + 180.0 } else { azimuth_deg };

        let r = mahalanobis_squared_at(probability);
        Ok(Self {
            semi_major_km: (r * major_km2).sqrt(),
            semi_minor_km: (r * minor_km2).sqrt(),
            // A tiny negative angle plus 180° is rounded to 180°.
            azimuth_deg: if azimuth_deg < 180.0 { azimuth_deg } else { 0.0 },
        })
    }

    /// Computes the area, in km².
    pub fn area_km2(&self) -> f64 {
        PI * self.semi_major_km * self.semi_minor_km
    }

    /// Draws the ellipse around `center` as a polygon with `points` corners.
    ///
    /// The first corner is the end of the major axis, the others follow clockwise, at equal steps
    /// of the eccentric anomaly. The first is not repeated at the end.
    pub fn outline(&self, center: LocalPosition, points: usize) -> Vec<LocalPosition> {
        let (sin_azimuth, cos_azimuth) = self.azimuth_deg.to_radians().sin_cos();
        (0..points)
            .map(|point| {
                let (sin, cos) = (TAU * point as f64 / points as f64).sin_cos();
                let (along_km, right_km) = (self.semi_major_km * cos, self.semi_minor_km * sin);
                LocalPosition {
                    east_km: center.east_km + along_km * sin_azimuth + right_km * cos_azimuth,
                    north_km: center.north_km + along_km * cos_azimuth - right_km * sin_azimuth,
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A covariance with these standard deviations along and across an azimuth.
    fn rotated(along_km: f64, across_km: f64, azimuth_deg: f64) -> Covariance {
        let (sin, cos) = azimuth_deg.to_radians().sin_cos();
        let (along_km2, across_km2) = (along_km.powi(2), across_km.powi(2));
        Covariance {
            east_km2: along_km2 * sin * sin + across_km2 * cos * cos,
            east_north_km2: (along_km2 - across_km2) * sin * cos,
            north_km2: along_km2 * cos * cos + across_km2 * sin * sin,
        }
    }

    #[test]
    fn axes_point_where_the_variance_is() {
        struct Case {
            covariance: [f64; 3],
            semi_major_km: f64,
            semi_minor_km: f64,
            azimuth_deg: f64,
        }
        let cases = [
            // To the east, to the north, and a circle.
            Case {
                covariance: [9.0, 0.0, 4.0],
                semi_major_km: 3.0,
                semi_minor_km: 2.0,
                azimuth_deg: 90.0,
            },
            Case {
                covariance: [4.0, 0.0, 9.0],
                semi_major_km: 3.0,
                semi_minor_km: 2.0,
                azimuth_deg: 0.0,
            },
            Case {
                covariance: [4.0, 0.0, 4.0],
                semi_major_km: 2.0,
                semi_minor_km: 2.0,
                azimuth_deg: 0.0,
            },
            // Eigenvalues 5 ± 4, north-east and south-east.
            Case {
                covariance: [5.0, 4.0, 5.0],
                semi_major_km: 3.0,
                semi_minor_km: 1.0,
                azimuth_deg: 45.0,
            },
            Case {
                covariance: [5.0, -4.0, 5.0],
                semi_major_km: 3.0,
                semi_minor_km: 1.0,
                azimuth_deg: 135.0,
            },
        ];
        // The share of the ellipse of one standard deviation.
        let probability = 1.0 - (-0.5_f64).exp();
        for case in cases {
            let [east_km2, east_north_km2, north_km2] = case.covariance;
            let covariance = Covariance { east_km2, east_north_km2, north_km2 };

            let ellipse = Ellipse::of(&covariance, probability).unwrap();

            assert!((ellipse.semi_major_km - case.semi_major_km).abs() < 1e-12, "{ellipse:?}");
            assert!((ellipse.semi_minor_km - case.semi_minor_km).abs() < 1e-12, "{ellipse:?}");
            assert!((ellipse.azimuth_deg - case.azimuth_deg).abs() < 1e-9, "{ellipse:?}");
        }
    }

    #[test]
    fn impossible_probability_is_refused() {
        for probability in [0.0, 1.0, -0.1, 1.5, f64::NAN] {
            let error = Ellipse::of(&rotated(1.0, 1.0, 0.0), probability).unwrap_err();

            assert!(matches!(error, GeoError::InvalidProbability { .. }), "{error}");
        }
    }

    #[test]
    fn line_has_no_ellipse() {
        let line = Covariance { east_km2: 4.0, east_north_km2: 2.0, north_km2: 1.0 };

        let error = Ellipse::of(&line, 0.95).unwrap_err();

        assert_eq!(
            error.to_string(),
            "a covariance is positive definite, but this one is [4, 2; 2, 1] km²"
        );
    }

    proptest! {
        #[test]
        fn axes_and_azimuth_come_back(
            minor_km in 0.1_f64..10.0,
            ratio in 1.1_f64..50.0,
            azimuth_deg in 0.001_f64..179.999,
            probability in 0.01_f64..0.999,
        ) {
            let major_km = minor_km * ratio;
            let covariance = rotated(major_km, minor_km, azimuth_deg);

            let ellipse = Ellipse::of(&covariance, probability).unwrap();

            let r = (-2.0 * (1.0 - probability).ln()).sqrt();
            prop_assert!((ellipse.semi_major_km / (r * major_km) - 1.0).abs() < 1e-9);
            prop_assert!((ellipse.semi_minor_km / (r * minor_km) - 1.0).abs() < 1e-9);
            prop_assert!((ellipse.azimuth_deg - azimuth_deg).abs() < 1e-6, "{:?}", ellipse);
        }

        /// Every corner has the Mahalanobis distance of the probability, and the polygon has the
        /// area of one that is inscribed in an ellipse: `n / 2 · sin(2π / n) · a b`.
        #[test]
        fn outline_lies_on_the_ellipse(
            major_km in 1_f64..10.0,
            minor_km in 0.1_f64..1.0,
            azimuth_deg in 0_f64..180.0,
            points in 3_usize..100,
        ) {
            let covariance = rotated(major_km, minor_km, azimuth_deg);
            let ellipse = Ellipse::of(&covariance, 0.9).unwrap();
            let center = LocalPosition { east_km: 100.0, north_km: -50.0 };

            let outline = ellipse.outline(center, points);

            prop_assert_eq!(outline.len(), points);
            let mut doubled_area_km2 = 0.0;
            for (index, corner) in outline.iter().enumerate() {
                let offset = LocalPosition {
                    east_km: corner.east_km - center.east_km,
                    north_km: corner.north_km - center.north_km,
                };
                let squared = covariance.mahalanobis_squared(offset);
                prop_assert!((squared - mahalanobis_squared_at(0.9)).abs() < 1e-6, "{}", squared);
                let next = outline[(index + 1) % points];
                // Positive where the corners follow clockwise.
                doubled_area_km2 += (corner.north_km - center.north_km)
                    * (next.east_km - center.east_km)
                    - (corner.east_km - center.east_km) * (next.north_km - center.north_km);
            }
            let turn = TAU / points as f64;
            let expected_km2 = ellipse.area_km2() * turn.sin() / turn;
            prop_assert!((doubled_area_km2 / 2.0 / expected_km2 - 1.0).abs() < 1e-6);
        }
    }
}
