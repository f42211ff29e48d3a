//! From features to an estimate of position and uncertainty.
