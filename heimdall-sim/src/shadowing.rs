//! How hills and houses make a signal weaker or stronger than its distance says.

use heimdall_geo::LocalPosition;
use serde::{Deserialize, Serialize};

use crate::SimError;
use crate::error::{require, require_not_negative, require_positive, require_probability};
use crate::random::RandomStream;

/// How far levels deviate from the median path loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShadowingConfig {
    /// Standard deviation of the part that belongs to the place, in dB.
    pub static_deviation_db: f64,
    /// Standard deviation of the part that is drawn anew in each session, in dB.
    pub session_deviation_db: f64,
    /// Distance at which the correlation of two places has fallen to 1/e, in km.
    pub correlation_km: f64,
    /// Share of the variance that all receivers have in common.
    pub common_share: f64,
    /// Waves that a field is made of.
    pub waves: usize,
}

impl Default for ShadowingConfig {
    fn default() -> Self {
        Self {
            static_deviation_db: 6.0,
            session_deviation_db: 3.0,
            correlation_km: 3.0,
            common_share: 0.4,
            waves: 512,
        }
    }
}

impl ShadowingConfig {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// [`SimError::InvalidConfig`] for the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), SimError> {
        require_not_negative("shadowing.static_deviation_db", self.static_deviation_db)?;
        require_not_negative("shadowing.session_deviation_db", self.session_deviation_db)?;
        require_positive("shadowing.correlation_km", self.correlation_km)?;
        require_probability("shadowing.common_share", self.common_share)?;
        require(self.waves > 0, "shadowing.waves", "at least 1", self.waves as f64)
    }

    /// Mixes a part that all receivers have in common with one that is a receiver's own; both have
    /// variance 1, and so has the mixture.
    pub(crate) fn mix(&self, common: f64, own: f64) -> f64 {
        self.common_share.sqrt() * common + (1.0 - self.common_share).sqrt() * own
    }
}

/// Independent random fields over the plane, each of mean 0, variance 1 and exponential
/// correlation.
///
/// A field is a sum of plane waves (random Fourier features), `√(2/M) Σ cos(k·p + φ)`. The fields
/// share their wave vectors and differ in their phases, so that evaluating them all costs little
/// more than evaluating one.
///
/// # References
///
/// - M. Gudmundson, "Correlation model for shadow fading in mobile radio systems", *Electronics
///   Letters* 27(23), 1991, [doi:10.1049/el:19911328](https://doi.org/10.1049/el:19911328).
/// - A. Rahimi, B. Recht, "Random features for large-scale kernel machines", *NIPS*, 2007. The
///   length of a wave vector follows the spectrum of an exponential correlation in the plane,
///   `|k| = √(1/(1−u)² − 1) / d` for uniform u.
#[derive(Clone, Debug)]
pub(crate) struct RandomFields {
    /// `[waves]`, east and north, in rad/km.
    wave_vectors: Vec<[f64; 2]>,
    /// `[fields, waves]`, cosine and sine of the phases times `√(2/M)`.
    phases: Vec<[f64; 2]>,
}

impl RandomFields {
    pub(crate) fn draw(
        fields: usize,
        waves: usize,
        correlation_km: f64,
        random: &mut RandomStream,
    ) -> Self {
        let wave_vectors = (0..waves)
            .map(|_| {
                let length = ((1.0 - random.uniform()).powi(-2) - 1.0).sqrt() / correlation_km;
                let (sin, cos) = random.angle().sin_cos();
                [length * cos, length * sin]
            })
            .collect();
        let scale = (2.0 / waves as f64).sqrt();
        let phases = (0..fields * waves)
            .map(|_| {
                let (sin, cos) = random.angle().sin_cos();
                [scale * cos, scale * sin]
            })
            .collect();
        Self { wave_vectors, phases }
    }

    /// Evaluates all fields at one place.
    pub(crate) fn at(&self, place: &LocalPosition) -> Vec<f64> {
        let waves: Vec<[f64; 2]> = self
            .wave_vectors
            .iter()
            .map(|[east, north]| {
                let (sin, cos) = (east * place.east_km + north * place.north_km).sin_cos();
                [cos, sin]
            })
            .collect();
        self.phases
            .chunks_exact(waves.len())
            .map(|phases| {
                // cos(k·p + φ) = cos(k·p) cos φ − sin(k·p) sin φ
                phases
                    .iter()
                    .zip(&waves)
                    .map(|(phase, wave)| wave[0] * phase[0] - wave[1] * phase[1])
                    .sum()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, StreamKey};

    fn fields(world: u64) -> RandomFields {
        let mut random = RandomStream::new(world, StreamKey::world(Purpose::Field, 0));
        RandomFields::draw(2, 512, 3.0, &mut random)
    }

    /// Averages over many worlds: a product of two standard normal numbers of correlation r has
    /// variance 1 + r², so that the mean of 3,000 is known within 0.026, and five of that are
    /// allowed.
    #[test]
    fn correlation_falls_exponentially_with_distance() {
        let worlds = 3_000;
        let distances_km = [0.0, 1.5, 3.0, 9.0];
        let mut sums = [0.0; 4];
        let mut across = 0.0;

        for world in 0..worlds {
            let fields = fields(world);
            let origin = fields.at(&LocalPosition { east_km: 20.0, north_km: -7.0 });
            for (sum, distance_km) in sums.iter_mut().zip(distances_km) {
                let (east_km, north_km) = (20.0 + 0.6 * distance_km, -7.0 - 0.8 * distance_km);
                *sum += origin[0] * fields.at(&LocalPosition { east_km, north_km })[0];
            }
            across += origin[0] * origin[1];
        }

        for (sum, distance_km) in sums.iter().zip(distances_km) {
            let (measured, expected) = (sum / worlds as f64, (-distance_km / 3.0).exp());
            assert!((measured - expected).abs() < 0.13, "{measured} at {distance_km} km");
        }
        assert!((across / worlds as f64).abs() < 0.1, "{across}");
    }

    #[test]
    fn mixture_of_two_unit_variances_has_unit_variance() {
        let config = ShadowingConfig::default();

        let common = config.mix(1.0, 0.0);
        let own = config.mix(0.0, 1.0);

        assert!((common * common - 0.4).abs() < 1e-12);
        assert!((common * common + own * own - 1.0).abs() < 1e-12);
    }
}
