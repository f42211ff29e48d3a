//! How much weaker a signal becomes on its way.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::SimError;
use crate::error::require_positive;

/// Speed of light in a vacuum, in km/s.
pub const SPEED_OF_LIGHT_KM_PER_S: f64 = 299_792.458;

/// Nothing is nearer to a receiver than this, in km: at zero distance there is no path loss.
const DISTANCE_KM_MIN: f64 = 0.01;

/// The two ends of a radio link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkGeometry {
    /// Distance along the ground, in km; less than 10 m counts as 10 m.
    pub distance_km: f64,
    /// Carrier frequency, in Hz.
    pub frequency_hz: f64,
    /// Effective height of the receiver's antenna, in m.
    pub receiver_height_m: f64,
    /// Height of the transmitter's antenna, in m.
    pub transmitter_height_m: f64,
}

/// Median loss between two isotropic antennas, as a function of distance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum PathLoss {
    /// Okumura and Hata's formula for suburbs, extended beyond 20 km, never below free space.
    ///
    /// The receiver is the base station of the formula, the transmitter its mobile.
    ///
    /// # References
    ///
    /// - M. Hata, "Empirical formula for propagation loss in land mobile radio services", *IEEE
    ///   Transactions on Vehicular Technology* 29(3), 1980,
    ///   [doi:10.1109/T-VT.1980.23859](https://doi.org/10.1109/T-VT.1980.23859).
    /// - Recommendation ITU-R P.529, the exponent `b` of the distance beyond 20 km.
    #[default]
    OkumuraHata,
    /// Loss in free space.
    FreeSpace,
    /// The direct ray and its reflection by flat ground, which cancel each other more and more with
    /// distance, never below free space.
    ///
    /// # References
    ///
    /// T. S. Rappaport, *Wireless Communications: Principles and Practice*, 2nd edition, 2002,
    /// equation 4.53.
    TwoRay,
    /// Free space up to 1 km, and from there on 10 times `exponent` dB per decade of distance.
    LogDistance {
        /// Exponent of the power law: 2 is free space, 3.5 to 4 is common on the ground.
        exponent: f64,
    },
}

impl PathLoss {
    /// Computes the median loss, in dB.
    pub fn loss_db(&self, link: &LinkGeometry) -> f64 {
        let distance_km = link.distance_km.max(DISTANCE_KM_MIN);
        match *self {
            Self::OkumuraHata => okumura_hata_db(distance_km, link)
                .max(free_space_db(distance_km, link.frequency_hz)),
            Self::FreeSpace => free_space_db(distance_km, link.frequency_hz),
            Self::TwoRay => {
                let heights_m2 = link.receiver_height_m * link.transmitter_height_m;
                (40.0 * (1000.0 * distance_km).log10() - 20.0 * heights_m2.log10())
                    .max(free_space_db(distance_km, link.frequency_hz))
            }
            Self::LogDistance { exponent } => {
                free_space_db(distance_km.min(1.0), link.frequency_hz)
                    + 10.0 * exponent * distance_km.max(1.0).log10()
            }
        }
    }

    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// [`SimError::InvalidConfig`] if the exponent is not a finite number above zero.
    pub fn validate(&self) -> Result<(), SimError> {
        match *self {
            Self::OkumuraHata | Self::FreeSpace | Self::TwoRay => Ok(()),
            Self::LogDistance { exponent } => require_positive("path_loss.exponent", exponent),
        }
    }
}

/// Loss in free space: `20 log₁₀(4π d f / c)`, in dB.
fn free_space_db(distance_km: f64, frequency_hz: f64) -> f64 {
    20.0 * (4.0 * PI * distance_km * frequency_hz / SPEED_OF_LIGHT_KM_PER_S).log10()
}

fn okumura_hata_db(distance_km: f64, link: &LinkGeometry) -> f64 {
    let frequency_mhz = link.frequency_hz / 1e6;
    let frequency_log = frequency_mhz.log10();
    let (base_m, mobile_m) = (link.receiver_height_m, link.transmitter_height_m);

    let mobile_gain_db = (1.1 * frequency_log - 0.7) * mobile_m - (1.56 * frequency_log - 0.8);
    let distance_exponent = if distance_km <= 20.0 {
        1.0
    } else {
        let base_m = base_m / (1.0 + 7e-6 * base_m.powi(2)).sqrt();
        1.0 + (0.14 + 1.87e-4 * frequency_mhz + 1.07e-3 * base_m)
            * (distance_km / 20.0).log10().powf(0.8)
    };
    // The exponent is 1 wherever the logarithm is negative.
    let distance_log = distance_km.log10().powf(distance_exponent);
    let urban_db = 69.55 + 26.16 * frequency_log - 13.82 * base_m.log10() - mobile_gain_db
        + (44.9 - 6.55 * base_m.log10()) * distance_log;
    let suburban_relief_db = 2.0 * (frequency_mhz / 28.0).log10().powi(2) + 5.4;
    urban_db - suburban_relief_db
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A base station of 30 m and a mobile of 1.5 m on 150 MHz.
    fn link(distance_km: f64) -> LinkGeometry {
        LinkGeometry {
            distance_km,
            frequency_hz: 150e6,
            receiver_height_m: 30.0,
            transmitter_height_m: 1.5,
        }
    }

    /// Worked out with log 150 = 2.176091, log 30 = 1.477121, a = −0.054152 and a relief of
    /// 6.462687 dB: `69.55 + 56.926541 − 20.413815 + 0.054152 + 35.224856 · D − 6.462687`, where D
    /// is log 10 = 1 at 10 km. At 50 km the exponent is 1 + 0.200049 · 0.478469 = 1.095717, so D is
    /// 1.698970 to this power, 1.787386.
    #[test]
    fn hata_gives_the_values_worked_out_by_hand() {
        let near_db = PathLoss::OkumuraHata.loss_db(&link(10.0));
        let far_db = PathLoss::OkumuraHata.loss_db(&link(50.0));

        assert!((near_db - 134.8790).abs() < 1e-3, "{near_db}");
        assert!((far_db - 162.6146).abs() < 1e-3, "{far_db}");
    }

    /// 100 m at 150 MHz: `32.4478 + 20 log 0.1 + 20 log 150 = 55.9696` dB, far above what the
    /// formula says there.
    #[test]
    fn hata_is_never_below_free_space() {
        let masts = LinkGeometry { transmitter_height_m: 30.0, ..link(0.1) };

        let hata_db = PathLoss::OkumuraHata.loss_db(&masts);

        assert!(okumura_hata_db(0.1, &masts) < 50.0);
        assert!((hata_db - 55.9696).abs() < 1e-3, "{hata_db}");
    }

    /// The wavelength is 1.998616 m, so that 10 km are 5003.46 of them.
    #[test]
    fn free_space_is_the_closed_form() {
        let loss_db = PathLoss::FreeSpace.loss_db(&link(10.0));

        let wavelengths = 10_000.0 / (299_792_458.0 / 150e6);
        let closed_form_db = 20.0 * (4.0 * PI * wavelengths).log10();
        assert!((loss_db - closed_form_db).abs() < 1e-9, "{loss_db} is not {closed_form_db}");
    }

    #[test]
    fn log_distance_falls_by_its_exponent_and_starts_in_free_space() {
        let law = PathLoss::LogDistance { exponent: 3.5 };

        let decade_db = law.loss_db(&link(100.0)) - law.loss_db(&link(10.0));

        assert!((decade_db - 35.0).abs() < 1e-9, "{decade_db}");
        for distance_km in [0.2, 1.0] {
            let difference_db =
                law.loss_db(&link(distance_km)) - PathLoss::FreeSpace.loss_db(&link(distance_km));
            assert!(difference_db.abs() < 1e-9, "{difference_db} at {distance_km} km");
        }
    }

    /// At 10 km, 30 m and 1.5 m: 160 − 20 log 45 = 126.9357 dB; the rays cross over to free space at
    /// 4π · 45 / 1.9986 m = 283 m.
    #[test]
    fn two_rays_give_the_value_worked_out_by_hand() {
        let far_db = PathLoss::TwoRay.loss_db(&link(10.0));
        let near_db = PathLoss::TwoRay.loss_db(&link(0.2));

        assert!((far_db - 126.9357).abs() < 1e-3, "{far_db}");
        let free_db = PathLoss::FreeSpace.loss_db(&link(0.2));
        assert!((near_db - free_db).abs() < 1e-9, "{near_db} is not {free_db}");
    }

    #[test]
    fn transmitter_on_top_of_a_receiver_has_a_finite_loss() {
        for law in [PathLoss::OkumuraHata, PathLoss::FreeSpace, PathLoss::TwoRay] {
            assert!(law.loss_db(&link(0.0)).is_finite());
        }
    }
}
