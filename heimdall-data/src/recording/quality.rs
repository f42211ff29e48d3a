//! Tells recordings that can be of use from those that cannot.

use heimdall_features::IqRecording;
use serde::{Deserialize, Serialize};

use crate::DataError;

/// The largest part of a sample that a 16-bit converter tells from clipping.
const FULL_SCALE: f32 = 32_767.0 / 32_768.0;

/// What a recording must fulfill to be kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecordingLimits {
    /// Duration that a recording must have, in seconds.
    pub duration_s_min: f64,
    /// Share of the samples that may be at the end of the scale.
    pub clipping_share_max: f64,
}

impl Default for RecordingLimits {
    fn default() -> Self {
        Self { duration_s_min: 0.1, clipping_share_max: 0.01 }
    }
}

/// Checks that a recording can be a reception.
///
/// # Errors
///
/// The first of [`DataError::SampleRate`], [`DataError::TooShort`], [`DataError::NotFinite`],
/// [`DataError::Silent`] and [`DataError::Clipped`] that applies.
pub fn check_recording(recording: &IqRecording, limits: &RecordingLimits) -> Result<(), DataError> {
    let &IqRecording { ref samples, sample_rate_hz, .. } = recording;
    if !(sample_rate_hz.is_finite() && sample_rate_hz > 0.0) {
        return Err(DataError::SampleRate { sample_rate_hz });
    }
    let duration_s = recording.duration_s();
    if samples.is_empty() || duration_s < limits.duration_s_min {
        let duration_s_min = limits.duration_s_min;
        return Err(DataError::TooShort { duration_s, duration_s_min });
    }
    let sample_count = samples.len();
    if let Some(first) = samples.iter().position(|sample| !sample.is_finite()) {
        let count = samples.iter().filter(|sample| !sample.is_finite()).count();
        return Err(DataError::NotFinite { count, first, sample_count });
    }
    if samples.iter().all(|sample| sample.norm_sqr() == 0.0) {
        return Err(DataError::Silent { sample_count });
    }
    let clipped =
        samples.iter().filter(|sample| sample.re.abs().max(sample.im.abs()) >= FULL_SCALE).count();
    let share = clipped as f64 / sample_count as f64;
    if share > limits.clipping_share_max {
        return Err(DataError::Clipped { share, share_max: limits.clipping_share_max });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use heimdall_features::{ClockQuality, UtcTime};
    use num_complex::Complex32;

    use super::*;

    fn check(samples: Vec<Complex32>) -> Result<(), DataError> {
        let recording = IqRecording {
            samples,
            sample_rate_hz: 1000.0,
            center_frequency_hz: 1e6,
            start: UtcTime::default(),
            clock: ClockQuality::Unknown,
        };
        check_recording(&recording, &RecordingLimits::default())
    }

    fn carrier(count: usize) -> Vec<Complex32> {
        vec![Complex32::new(0.5, -0.5); count]
    }

    #[test]
    fn ordinary_recording_is_kept() {
        assert!(check(carrier(100)).is_ok());
    }

    #[test]
    fn short_recording_is_refused() {
        assert!(matches!(check(carrier(99)), Err(DataError::TooShort { .. })));
        assert!(matches!(check(Vec::new()), Err(DataError::TooShort { .. })));
    }

    #[test]
    fn sample_that_is_no_number_is_told() {
        let mut samples = carrier(200);
        samples[7].im = f32::NAN;
        samples[9].re = f32::INFINITY;

        assert!(matches!(check(samples), Err(DataError::NotFinite { count: 2, first: 7, .. })));
    }

    #[test]
    fn silence_is_refused() {
        let silence = vec![Complex32::new(0.0, -0.0); 100];

        assert!(matches!(check(silence), Err(DataError::Silent { sample_count: 100 })));
    }

    #[test]
    fn clipping_counts_from_the_allowed_share_on() {
        let mut samples = carrier(200);
        samples[0].re = -1.0;
        samples[1].im = FULL_SCALE;
        assert!(check(samples.clone()).is_ok());

        samples[2].re = 1.0;
        match check(samples) {
            Err(DataError::Clipped { share, .. }) => assert!((share - 0.015).abs() < 1e-12),
            other => panic!("three clipped samples of 200 give {other:?}"),
        }
    }
}
