//! What can go wrong when a world is made.

use heimdall_geo::GeoError;
use thiserror::Error;

/// An error of this crate.
#[derive(Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum SimError {
    /// A field of a configuration has a value that no world could be made with.
    #[error("`{field}` must be {expected}, but is {actual}")]
    InvalidConfig {
        /// Path of the field, as the user wrote it: `shadowing.correlation_km`.
        field: &'static str,
        /// The rule that the value breaks, as a phrase that follows "must be".
        expected: &'static str,
        /// The value that was given.
        actual: f64,
    },

    /// Two receivers of a network have one name.
    #[error("every receiver of a network has its own name, but two are called `{name}`")]
    DuplicateReceiver {
        /// The name that they share.
        name: String,
    },

    /// A receiver cannot be seen from above the center of the network.
    #[error("the receiver `{name}` lies beyond the horizon of the network's center")]
    BeyondHorizon {
        /// Name of the receiver.
        name: String,
    },

    /// The area of the transmitters is not a part of the Earth.
    #[error("the network and its margin do not fit into one local plane")]
    Area(#[source] GeoError),
}

/// Refuses a value that breaks a rule.
pub(crate) fn require(
    holds: bool,
    field: &'static str,
    expected: &'static str,
    actual: f64,
) -> Result<(), SimError> {
    if holds { Ok(()) } else { Err(SimError::InvalidConfig { field, expected, actual }) }
}

/// Refuses a value that is not a finite number of at least zero.
pub(crate) fn require_not_negative(field: &'static str, actual: f64) -> Result<(), SimError> {
    require(actual.is_finite() && actual >= 0.0, field, "finite and not negative", actual)
}

/// Refuses a value that is not a finite number above zero.
pub(crate) fn require_positive(field: &'static str, actual: f64) -> Result<(), SimError> {
    require(actual.is_finite() && actual > 0.0, field, "finite and positive", actual)
}

/// Refuses a value that is not a finite number.
pub(crate) fn require_finite(field: &'static str, actual: f64) -> Result<(), SimError> {
    require(actual.is_finite(), field, "finite", actual)
}

/// Refuses a value that is not a probability.
pub(crate) fn require_probability(field: &'static str, actual: f64) -> Result<(), SimError> {
    require((0.0..=1.0).contains(&actual), field, "between 0 and 1", actual)
}
