//! What keeps a model out of the registry.

use std::fmt;

/// A figure of an evaluation that is outside of its bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct GateFailure {
    /// Name of the metric.
    pub metric: String,
    /// Its smallest and its largest value that pass.
    pub bounds: [f64; 2],
    /// Its value.
    pub value: f64,
}

impl fmt::Display for GateFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { metric, bounds: [lower, upper], value } = self;
        write!(f, "`{metric}` must be between {lower} and {upper}, but is {value}")
    }
}

/// The failures as one phrase.
pub(crate) fn phrase(failures: &[GateFailure]) -> String {
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
