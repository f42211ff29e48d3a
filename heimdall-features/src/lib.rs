//! From IQ samples to feature maps and delays.

mod error;
mod feature_map;
mod iq;

pub use error::FeatureError;
pub use feature_map::{FeatureMap, FeatureShape, ReceiverFeatures, ReceiverScalars};
pub use iq::{ClockQuality, IqRecording, UtcTime};
