//! The paths of one link: the first one, which may be late, and two echoes.

use num_complex::{Complex32, Complex64};
use serde::{Deserialize, Serialize};

use crate::SimError;
use crate::error::{require_finite, require_not_negative};
use crate::random::RandomStream;

/// Echoes beside the first path.
const ECHOES: usize = 2;

/// Detours of the signal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MultipathConfig {
    /// Root mean square of the excess delay at 10 km, in s; it grows with the root of distance.
    pub excess_delay_s: f64,
    /// Mean Rice factor, the power of the first path over that of the echoes, in dB.
    pub rice_factor_db: f64,
    /// Standard deviation of the Rice factor from link to link, in dB.
    pub rice_factor_deviation_db: f64,
}

impl Default for MultipathConfig {
    fn default() -> Self {
        Self { excess_delay_s: 0.3e-6, rice_factor_db: 6.0, rice_factor_deviation_db: 4.0 }
    }
}

impl MultipathConfig {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// [`SimError::InvalidConfig`] for the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), SimError> {
        require_not_negative("multipath.excess_delay_s", self.excess_delay_s)?;
        require_finite("multipath.rice_factor_db", self.rice_factor_db)?;
        require_not_negative("multipath.rice_factor_deviation_db", self.rice_factor_deviation_db)
    }

    /// Draws the echoes of a link for a session.
    ///
    /// The first path arrives late by a half-normal delay that belongs to the place: `field` is the
    /// standard normal field there. The echoes follow it after exponential delays of the same size.
    pub(crate) fn draw(&self, distance_km: f64, field: f64, random: &mut RandomStream) -> Detours {
        let scale_s = self.excess_delay_s * (distance_km / 10.0).sqrt();
        Detours {
            excess_delay_s: scale_s * field.abs(),
            echo_delays_s: [(); ECHOES].map(|()| scale_s * random.exponential()),
            rice_factor_db: self.rice_factor_db + self.rice_factor_deviation_db * random.normal(),
        }
    }
}

/// Detours on one link, the same during a whole session.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Detours {
    /// How much later than straight the first path arrives, in s.
    pub(crate) excess_delay_s: f64,
    /// How much later than the first path the echoes arrive, in s.
    echo_delays_s: [f64; ECHOES],
    /// Power of the first path over that of the echoes, in dB.
    rice_factor_db: f64,
}

impl Detours {
    /// The detours where there are none: one path, and it is straight.
    pub(crate) const NONE: Self =
        Self { excess_delay_s: 0.0, echo_delays_s: [0.0; ECHOES], rice_factor_db: f64::INFINITY };

    /// Draws phases and amplitudes for one event. The mean power of all paths together is 1.
    pub(crate) fn draw_paths(&self, random: &mut RandomStream) -> Paths {
        let factor = 10_f64.powf(self.rice_factor_db / 10.0);
        let echo_power = 1.0 / (1.0 + factor);
        let first_phase = random.angle();
        let first = Path {
            gain: Complex64::from_polar((1.0 - echo_power).sqrt(), first_phase),
            delay_s: self.excess_delay_s,
        };
        let mut paths = vec![first];
        if echo_power > 0.0 {
            let scale = (echo_power / ECHOES as f64).sqrt();
            paths.extend(self.echo_delays_s.iter().map(|delay_s| {
                let Complex32 { re, im } = random.complex_normal();
                Path {
                    gain: Complex64::new(f64::from(re), f64::from(im)) * scale,
                    delay_s: self.excess_delay_s + delay_s,
                }
            }));
        }
        Paths(paths)
    }
}

/// One way of the signal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Path {
    /// Factor on amplitude and phase.
    pub(crate) gain: Complex64,
    /// How much later than straight it arrives, in s.
    pub(crate) delay_s: f64,
}

/// All ways of the signal during one event, the first one first.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Paths(pub(crate) Vec<Path>);

impl Paths {
    /// Computes the power that the paths have together relative to its mean, in dB.
    ///
    /// The paths differ by microseconds and the channel is some kilohertz wide: the sum of their
    /// gains is the gain over the whole channel.
    pub(crate) fn fading_db(&self) -> f64 {
        10.0 * self.0.iter().map(|path| path.gain).sum::<Complex64>().norm_sqr().log10()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, StreamKey};

    /// With a Rice factor K and mean power 1, the variance of the power is (1 + 2K) / (1 + K)²:
    /// for K = 4, 9/25, and so its mean over 20,000 events has a standard error of 0.0042.
    #[test]
    fn fading_has_the_moments_of_a_rice_channel() {
        let detours = Detours { rice_factor_db: 10.0 * 4_f64.log10(), ..Detours::NONE };
        let events = 20_000;

        let powers: Vec<f64> = (0..events)
            .map(|event| {
                let key = StreamKey::at(Purpose::Fading, event);
                let paths = detours.draw_paths(&mut RandomStream::new(5, key));
                10_f64.powf(paths.fading_db() / 10.0)
            })
            .collect();

        let mean = powers.iter().sum::<f64>() / events as f64;
        let variance =
            powers.iter().map(|power| (power - mean).powi(2)).sum::<f64>() / events as f64;
        assert!((mean - 1.0).abs() < 0.021, "{mean}");
        // The power's kurtosis is below 9, so the standard error of its variance is below 0.0072.
        assert!((variance - 9.0 / 25.0).abs() < 0.036, "{variance}");
    }

    #[test]
    fn link_without_detours_has_one_straight_path_of_full_power() {
        let key = StreamKey::at(Purpose::Fading, 0);

        let paths = Detours::NONE.draw_paths(&mut RandomStream::new(5, key));

        assert_eq!(paths.0.len(), 1);
        assert!(paths.0[0].delay_s.abs() < 1e-30);
        assert!(paths.fading_db().abs() < 1e-9);
    }

    /// A half-normal of root mean square 0.3 µs · √(40 km / 10 km) = 0.6 µs.
    #[test]
    fn excess_delay_grows_with_the_root_of_distance() {
        let config = MultipathConfig::default();
        let mut random = RandomStream::new(5, StreamKey::at(Purpose::Multipath, 0));

        let detours = config.draw(40.0, -1.0, &mut random);

        assert!((detours.excess_delay_s - 0.6e-6).abs() < 1e-12, "{detours:?}");
        assert!(detours.echo_delays_s.iter().all(|delay_s| *delay_s > 0.0));
    }
}
