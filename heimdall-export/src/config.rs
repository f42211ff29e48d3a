//! How a model is written and checked.

use serde::{Deserialize, Serialize};

use crate::ExportError;

/// Configuration of [`export`](crate::export) and [`verify`](crate::verify).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExportConfig {
    /// Version of the ONNX operator set, 14 to 20.
    pub opset: u32,
    /// How closely the written file must follow the network.
    pub check: CheckConfig,
}

impl Default for ExportConfig {
    fn default() -> Self {
        Self { opset: 17, check: CheckConfig::default() }
    }
}

/// How closely the written file must follow the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckConfig {
    /// Largest difference that is allowed: of positions and uncertainties in degrees, of
    /// covariances as a share of their trace.
    pub max_abs_diff: f64,
}

impl Default for CheckConfig {
    fn default() -> Self {
        Self { max_abs_diff: 1e-4 }
    }
}

impl ExportConfig {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// [`ExportError::InvalidConfig`] for the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), ExportError> {
        let invalid =
            |field, expected, actual| Err(ExportError::InvalidConfig { field, expected, actual });
        if !(14..=20).contains(&self.opset) {
            return invalid("opset", "between 14 and 20", self.opset.to_string());
        }
        let tolerance = self.check.max_abs_diff;
        if !(tolerance > 0.0 && tolerance.is_finite()) {
            return invalid("check.max_abs_diff", "finite and above zero", tolerance.to_string());
        }
        Ok(())
    }

    /// Version of the file format that belongs to the operator set.
    ///
    /// # References
    ///
    /// ONNX, *Versioning*, table "Released versions".
    pub(crate) fn ir_version(&self) -> i64 {
        match self.opset {
            ..=14 => 7,
            15..=18 => 8,
            _ => 9,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_belong_together() {
        for (opset, ir_version) in [(14, 7), (15, 8), (17, 8), (18, 8), (19, 9), (20, 9)] {
            let config = ExportConfig { opset, ..ExportConfig::default() };

            config.validate().unwrap();
            assert_eq!(config.ir_version(), ir_version);
        }
    }

    #[test]
    fn broken_rules_are_refused_by_name() {
        let check = |max_abs_diff| ExportConfig {
            check: CheckConfig { max_abs_diff },
            ..ExportConfig::default()
        };
        let cases = [
            (ExportConfig { opset: 13, ..ExportConfig::default() }, "`opset` must be between 14"),
            (ExportConfig { opset: 21, ..ExportConfig::default() }, "`opset` must be between 14"),
            (check(0.0), "`check.max_abs_diff` must be finite"),
            (check(f64::NAN), "`check.max_abs_diff` must be finite"),
        ];

        for (config, expected) in cases {
            let message = config.validate().unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
    }

    #[test]
    fn unknown_field_is_refused() {
        assert!(serde_json::from_str::<ExportConfig>(r#"{"opzet": 17}"#).is_err());
    }
}
