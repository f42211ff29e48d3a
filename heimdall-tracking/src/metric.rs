//! Points of a metric, and how MLflow stores them.

use std::collections::BTreeMap;

use serde_json::Value;

/// One point of the history of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Name of the metric: `train/loss`.
    pub key: String,
    /// The value. NaN is kept; ±infinity becomes ±1.7976931348623157e308, the largest number
    /// that MLflow's database holds.
    pub value: f64,
    /// Step of the training at which the value was taken.
    pub step: i64,
    /// Time at which the value was taken, in ms since 1970.
    pub timestamp_ms: i64,
}

/// A value as JSON has it, or as text where JSON has no number for it.
pub(crate) fn to_json(value: f64) -> Value {
    match value {
        value if value.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        value => value.into(),
    }
}

/// Undoes [`to_json`]; what is neither a number nor such a text is no number.
pub(crate) fn from_json(value: &Value) -> f64 {
    match value.as_str() {
        Some("Infinity") => f64::INFINITY,
        Some("-Infinity") => f64::NEG_INFINITY,
        _ => value.as_f64().unwrap_or(f64::NAN),
    }
}

/// A metric's value in the two columns that MLflow has for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct StoredValue {
    pub(crate) value: f64,
    pub(crate) is_nan: bool,
}

impl From<f64> for StoredValue {
    fn from(value: f64) -> Self {
        if value.is_nan() {
            Self { value: 0.0, is_nan: true }
        } else {
            Self { value: value.clamp(f64::MIN, f64::MAX), is_nan: false }
        }
    }
}

impl From<StoredValue> for f64 {
    fn from(stored: StoredValue) -> Self {
        if stored.is_nan { Self::NAN } else { stored.value }
    }
}

/// Picks for each key the point that MLflow shows as the newest: the first among those with the
/// largest step, then time, then stored value.
pub(crate) fn newest_by_key(metrics: &[Metric]) -> BTreeMap<&str, &Metric> {
    let rank =
        |point: &Metric| (point.step, point.timestamp_ms, StoredValue::from(point.value).value);
    let mut newest = BTreeMap::<&str, &Metric>::new();
    for point in metrics {
        newest
            .entry(&point.key)
            .and_modify(|best| {
                if rank(point) > rank(best) {
                    *best = point;
                }
            })
            .or_insert(point);
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_comes_back_from_json() {
        for value in [0.0, -0.0, 1.5e-300, f64::MAX, f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            let text = to_json(value).to_string();

            let back = from_json(&serde_json::from_str(&text).unwrap());
            assert!(back.to_bits() == value.to_bits() || back.is_nan() && value.is_nan(), "{text}");
        }
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "the values are stored, not computed")]
    fn numbers_that_no_column_holds_are_replaced() {
        let stored = |value| StoredValue::from(value);

        assert_eq!(stored(1.5), StoredValue { value: 1.5, is_nan: false });
        assert_eq!(stored(f64::INFINITY).value, 1.797_693_134_862_315_7e308);
        assert_eq!(stored(f64::NEG_INFINITY).value, -1.797_693_134_862_315_7e308);
        assert_eq!(stored(f64::NAN), StoredValue { value: 0.0, is_nan: true });
        assert!(f64::from(stored(f64::NAN)).is_nan());
    }
}
