//! A radio world with known truth.
