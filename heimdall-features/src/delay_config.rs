//! How the delay between two recordings is measured.

use serde::{Deserialize, Serialize};

use crate::FeatureError;

/// How the delay between two recordings is measured; the defaults are for narrow-band FM at VHF.
///
/// For a time signal like DCF77, `band_high_hz: 1000` takes in its phase modulation,
/// `band_low_hz: 20` leaves out its carrier, and receivers whose oscillators are disciplined need
/// no more than `frequency_difference_hz_max: 1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DelayConfig {
    /// Frequency around which the signal lies, in Hz; the center of the first recording where left
    /// out.
    pub frequency_hz: Option<f64>,
    /// Distance from that frequency below which nothing is used, in Hz; takes out a carrier.
    pub band_low_hz: f64,
    /// Distance from that frequency above which nothing is used, in Hz: half of the bandwidth that the
    /// signal occupies, and a guard. What lies beyond adds noise and no signal.
    pub band_high_hz: f64,
    /// Largest difference between the receivers' oscillators that is searched for, in Hz.
    pub frequency_difference_hz_max: f64,
    /// Points at which the correlation is looked at, per independent one.
    pub oversampling: usize,
    /// Effective bandwidth below which a signal is taken for a plain carrier, in Hz.
    pub bandwidth_hz_min: f64,
    /// Probability with which noise alone passes for a common signal.
    pub false_alarm_probability: f64,
}

impl Default for DelayConfig {
    fn default() -> Self {
        Self {
            frequency_hz: None,
            band_low_hz: 0.0,
            band_high_hz: 8_000.0,
            frequency_difference_hz_max: 750.0,
            oversampling: 8,
            bandwidth_hz_min: 100.0,
            false_alarm_probability: 1e-3,
        }
    }
}

impl DelayConfig {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// Returns [`FeatureError::InvalidConfig`] for the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), FeatureError> {
        let check = |holds: bool, field, expected: &str, actual| {
            if holds {
                return Ok(());
            }
            Err(FeatureError::InvalidConfig { field, expected: expected.to_owned(), actual })
        };
        let frequency_hz = self.frequency_hz.unwrap_or(0.0);
        check(frequency_hz.is_finite(), "frequency_hz", "a finite number", frequency_hz)?;
        check(
            self.band_low_hz.is_finite() && self.band_low_hz >= 0.0,
            "band_low_hz",
            "zero or a positive number",
            self.band_low_hz,
        )?;
        check(
            self.band_high_hz.is_finite() && self.band_high_hz > self.band_low_hz,
            "band_high_hz",
            "above `band_low_hz`",
            self.band_high_hz,
        )?;
        let difference_hz = self.frequency_difference_hz_max;
        check(
            difference_hz.is_finite() && difference_hz >= 0.0,
            "frequency_difference_hz_max",
            "zero or a positive number",
            difference_hz,
        )?;
        check(
            (2..=64).contains(&self.oversampling),
            "oversampling",
            "between 2 and 64",
            self.oversampling as f64,
        )?;
        check(
            self.bandwidth_hz_min.is_finite() && self.bandwidth_hz_min > 0.0,
            "bandwidth_hz_min",
            "a positive number",
            self.bandwidth_hz_min,
        )?;
        check(
            self.false_alarm_probability > 0.0 && self.false_alarm_probability < 1.0,
            "false_alarm_probability",
            "between 0 and 1",
            self.false_alarm_probability,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_is_valid() {
        assert_eq!(DelayConfig::default().validate(), Ok(()));
    }

    #[test]
    fn impossible_values_are_refused_by_field() {
        let valid = DelayConfig::default;
        let infinite = f64::INFINITY;
        let cases = [
            ("frequency_hz", DelayConfig { frequency_hz: Some(f64::NAN), ..valid() }),
            ("band_low_hz", DelayConfig { band_low_hz: -1.0, ..valid() }),
            ("band_high_hz", DelayConfig { band_low_hz: 9e3, ..valid() }),
            (
                "frequency_difference_hz_max",
                DelayConfig { frequency_difference_hz_max: infinite, ..valid() },
            ),
            ("oversampling", DelayConfig { oversampling: 1, ..valid() }),
            ("bandwidth_hz_min", DelayConfig { bandwidth_hz_min: 0.0, ..valid() }),
            ("false_alarm_probability", DelayConfig { false_alarm_probability: 1.0, ..valid() }),
        ];
        for (field, config) in cases {
            let error = config.validate().unwrap_err();

            assert!(error.to_string().starts_with(&format!("`{field}`")), "{error}");
        }
    }

    #[test]
    fn unknown_field_is_refused_by_name() {
        let error = serde_json::from_str::<DelayConfig>(r#"{"band_hz": 3}"#).unwrap_err();

        assert!(error.to_string().contains("`band_hz`"), "{error}");
    }
}
