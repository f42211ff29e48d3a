//! How wrong an estimate is, and how honest its uncertainty.
