//! How a model is written and checked.

use serde::{Deserialize, Serialize};

use crate::ExportError;

/// Configuration of [`export`](crate::export) and [`verify`](crate::verify).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExportConfig {
    /// Version of the ONNX operator set, 14 to 20.
    pub opset: u32,
    /// What the layers compute in that have most of the weights.
    pub precision: WeightPrecision,
    /// How closely the written file must follow the network.
    pub check: CheckConfig,
    /// How long the written file is timed.
    pub benchmark: BenchmarkConfig,
}

impl Default for ExportConfig {
    fn default() -> Self {
        Self {
            opset: 17,
            precision: WeightPrecision::default(),
            check: CheckConfig::default(),
            benchmark: BenchmarkConfig::default(),
        }
    }
}

/// What the layers compute in that have most of the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightPrecision {
    /// Single precision.
    #[default]
    F32,
    /// Half precision: half of the size, and some three significant digits.
    F16,
}

/// How closely the written file must follow the network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckConfig {
    /// Largest difference that is allowed: of positions and uncertainties in degrees, of
    /// covariances as a share of their trace. Left out, 1e-4 in single and 0.02 in half precision.
    pub max_abs_diff: Option<f64>,
}

/// How long the written file is timed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BenchmarkConfig {
    /// Time for each batch size, in s; 0 for none.
    pub seconds: f64,
}

impl Default for BenchmarkConfig {
    fn default() -> Self {
        // Times differ from run to run, which what a stage makes should do only if it is asked for.
        Self { seconds: 0.0 }
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
        let tolerance = self.tolerance();
        if !(tolerance > 0.0 && tolerance.is_finite()) {
            return invalid("check.max_abs_diff", "finite and above zero", tolerance.to_string());
        }
        let seconds = self.benchmark.seconds;
        if !(0.0..=600.0).contains(&seconds) {
            return invalid("benchmark.seconds", "between 0 and 600", seconds.to_string());
        }
        Ok(())
    }

    /// Largest difference that is allowed.
    pub(crate) fn tolerance(&self) -> f64 {
        self.check.max_abs_diff.unwrap_or(match self.precision {
            WeightPrecision::F32 => 1e-4,
            // Eleven bits of some 100 km are some 50 m; 0.02° is 2 km.
            WeightPrecision::F16 => 0.02,
        })
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
        let check = |max_abs_diff: f64| ExportConfig {
            check: CheckConfig { max_abs_diff: Some(max_abs_diff) },
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
