//! Cepstral coefficients: the cosine transform of levels over the bands.

use crate::FeatureError;
use crate::real::Real;

/// An orthonormal discrete cosine transform of the second kind, planned for a number of bands.
#[derive(Clone, Debug)]
pub(crate) struct Cepstrum {
    /// `[coefficients, bands]`
    weights: Vec<f64>,
    bands: usize,
}

impl Cepstrum {
    /// Plans the first `coefficients` of the transform of `bands` levels.
    pub(crate) fn new(bands: usize, coefficients: usize) -> Result<Self, FeatureError> {
        if coefficients == 0 || coefficients > bands {
            return Err(FeatureError::InvalidConfig {
                field: "coefficients",
                expected: format!("between 1 and the number of bands, {bands}"),
                actual: coefficients as f64,
            });
        }
        let weight = |index: usize| {
            let (row, band) = (index / bands, index % bands);
            let share = if row == 0 { 1.0 } else { 2.0 };
            let angle = std::f64::consts::PI * row as f64 * (band as f64 + 0.5) / bands as f64;
            (share / bands as f64).sqrt() * angle.cos()
        };
        Ok(Self { weights: (0..coefficients * bands).map(weight).collect(), bands })
    }

    /// Number of coefficients.
    pub(crate) fn coefficients(&self) -> usize {
        self.weights.len() / self.bands
    }

    /// Transforms the levels of one frame; sums are in double precision.
    pub(crate) fn apply<T: Real>(&self, levels_db: &[T], coefficients: &mut [T]) {
        assert_eq!(levels_db.len(), self.bands, "one level per band");
        let rows = self.weights.chunks_exact(self.bands);
        for (coefficient, weights) in coefficients.iter_mut().zip(rows) {
            let sum: f64 = weights.iter().zip(levels_db).map(|(w, &level)| w * level.into()).sum();
            *coefficient = T::rounded(sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transform_of_all_coefficients_keeps_the_energy() {
        let levels = [3.0, -1.0, 4.0, 1.0, -5.0, 9.0, 2.5];
        let mut coefficients = [0.0; 7];

        Cepstrum::new(7, 7).unwrap().apply(&levels, &mut coefficients);

        let energy = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>();
        assert!((energy(&levels) - energy(&coefficients)).abs() < 1e-9);
    }

    #[test]
    fn cosine_over_the_bands_has_one_coefficient() {
        let angle = |band: i32| std::f64::consts::PI * 2.0 * (f64::from(band) + 0.5) / 8.0;
        let levels: Vec<f64> = (0..8).map(|band| angle(band).cos()).collect();
        let mut coefficients = [0.0; 5];

        Cepstrum::new(8, 5).unwrap().apply(&levels, &mut coefficients);

        // The squares of the cosine add up to half of the bands.
        for (coefficient, expected) in coefficients.iter().zip([0.0, 0.0, 2.0, 0.0, 0.0]) {
            assert!((coefficient - expected).abs() < 1e-12, "{coefficients:?}");
        }
    }

    #[test]
    fn more_coefficients_than_bands_are_refused() {
        for coefficients in [0, 9] {
            let error = Cepstrum::new(8, coefficients).unwrap_err();

            assert!(error.to_string().starts_with("`coefficients` must be between 1 and"));
        }
    }
}
