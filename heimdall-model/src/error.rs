//! What can go wrong between a configuration and a network.

use thiserror::Error;

/// An error of this crate.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum ModelError {
    /// A field of a configuration has a value that no network can be made from.
    #[error("`{field}` must be {expected}, but is {actual}")]
    InvalidConfig {
        /// Path of the field, as the user wrote it: `standardization.level_mean_db`.
        field: &'static str,
        /// The rule that the value breaks, as a phrase that follows "must be".
        expected: String,
        /// The value that was given.
        actual: String,
    },
}
