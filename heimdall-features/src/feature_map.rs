//! What the network sees of one event.

use serde::{Deserialize, Serialize};

/// Shape of the features of one event: written down here, and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureShape {
    /// Receivers of the network, in its order.
    pub receivers: usize,
    /// Frequency bands, from the lowest up.
    pub bands: usize,
    /// Frames, from the first on.
    pub frames: usize,
}

impl FeatureShape {
    /// Values of one event.
    pub fn len(&self) -> usize {
        self.receivers * self.bands * self.frames
    }

    /// Whether an event has no values at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Numbers about one recording that a spectrogram does not show directly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiverScalars {
    /// Mean power in the occupied band, in dB relative to full scale.
    pub power_db: f32,
    /// Power spectral density of the noise, in dB relative to full scale squared per Hz.
    pub noise_psd_db: f32,
    /// Power in the occupied band above the noise there, in dB.
    pub snr_db: f32,
    /// Width that holds 99 % of the power above the noise, in Hz.
    pub bandwidth_hz: f32,
    /// Kurtosis of the samples, `E|x|⁴ / (E|x|²)²`: 2 for Gaussian noise, 1 for a carrier.
    pub kurtosis: f32,
    /// Whether the signal stands above the detection threshold.
    pub detected: bool,
}

/// Features of what one receiver recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceiverFeatures {
    /// Level above the receiver's own noise floor (or as configured), `[bands, frames]`, in dB.
    pub levels_db: Vec<f32>,
    /// Numbers about the whole recording.
    pub scalars: ReceiverScalars,
}

/// Features of one event: every receiver of the network, those that are absent too.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureMap {
    /// Axes of `levels_db`.
    pub shape: FeatureShape,
    /// `[receivers, bands, frames]`, in dB; zero (the noise floor) where a receiver is absent.
    pub levels_db: Vec<f32>,
    /// `[receivers]`; `None` where a receiver recorded nothing.
    pub scalars: Vec<Option<ReceiverScalars>>,
}

impl FeatureMap {
    /// Puts the features of the receivers together, in the order of the network.
    ///
    /// # Shapes
    ///
    /// - `receivers`: `[receivers]`, each with levels `[bands, frames]`; `None` where a receiver
    ///   recorded nothing
    ///
    /// # Panics
    ///
    /// Panics if a number of receivers or of levels is not that of `shape`.
    pub fn assemble(shape: FeatureShape, receivers: Vec<Option<ReceiverFeatures>>) -> Self {
        assert_eq!(receivers.len(), shape.receivers, "one entry per receiver of the network");
        let mut levels_db = Vec::with_capacity(shape.len());
        let mut scalars = Vec::with_capacity(shape.receivers);
        for (index, receiver) in receivers.into_iter().enumerate() {
            let Some(features) = receiver else {
                levels_db.resize(levels_db.len() + shape.bands * shape.frames, 0.0);
                scalars.push(None);
                continue;
            };
            assert_eq!(
                features.levels_db.len(),
                shape.bands * shape.frames,
                "receiver {index} has a level per band and frame"
            );
            levels_db.extend(features.levels_db);
            scalars.push(Some(features.scalars));
        }
        Self { shape, levels_db, scalars }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: FeatureShape = FeatureShape { receivers: 3, bands: 2, frames: 1 };

    fn features(levels_db: Vec<f32>) -> ReceiverFeatures {
        let scalars = ReceiverScalars {
            power_db: -20.0,
            noise_psd_db: -90.0,
            snr_db: levels_db[0],
            bandwidth_hz: 5e3,
            kurtosis: 1.5,
            detected: true,
        };
        ReceiverFeatures { levels_db, scalars }
    }

    #[test]
    fn absent_receivers_are_at_the_noise_floor() {
        let receivers = vec![Some(features(vec![1.0, 2.0])), None, Some(features(vec![3.0, 4.0]))];

        let map = FeatureMap::assemble(SHAPE, receivers);

        assert_eq!(map.levels_db, [1.0, 2.0, 0.0, 0.0, 3.0, 4.0]);
        let snr_db: Vec<_> = map.scalars.iter().map(|scalars| scalars.map(|s| s.snr_db)).collect();
        assert_eq!(snr_db, [Some(1.0), None, Some(3.0)]);
    }

    #[test]
    #[should_panic(expected = "receiver 2 has a level per band and frame")]
    fn levels_of_another_shape_are_refused() {
        FeatureMap::assemble(SHAPE, vec![None, None, Some(features(vec![1.0]))]);
    }
}
