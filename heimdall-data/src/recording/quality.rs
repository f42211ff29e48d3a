//! Tells recordings that can be of use from those that cannot.

use heimdall_features::IqRecording;
use num_complex::Complex32;
use serde::{Deserialize, Serialize};

use super::sample_type::FULL_SCALE;
use crate::DataError;

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
    let mut check = SampleCheck::new(FULL_SCALE);
    check.push(&recording.samples);
    check.finish(recording.sample_rate_hz, limits)
}

/// A check of samples that come in chunks.
#[derive(Clone, Debug)]
pub(crate) struct SampleCheck {
    /// The smallest part of a sample that is at the end of the scale.
    full_scale: f32,
    sample_count: usize,
    not_finite_count: usize,
    not_finite_first: usize,
    sounding_count: usize,
    clipped_count: usize,
}

impl SampleCheck {
    pub(crate) fn new(full_scale: f32) -> Self {
        Self {
            full_scale,
            sample_count: 0,
            not_finite_count: 0,
            not_finite_first: 0,
            sounding_count: 0,
            clipped_count: 0,
        }
    }

    /// Looks at the next samples.
    pub(crate) fn push(&mut self, samples: &[Complex32]) {
        for (index, sample) in samples.iter().enumerate() {
            if !sample.is_finite() {
                if self.not_finite_count == 0 {
                    self.not_finite_first = self.sample_count + index;
                }
                self.not_finite_count += 1;
            }
            self.sounding_count += usize::from(sample.norm_sqr() != 0.0);
            let is_clipped = sample.re.abs().max(sample.im.abs()) >= self.full_scale;
            self.clipped_count += usize::from(is_clipped);
        }
        self.sample_count += samples.len();
    }

    /// Share of the samples that are at the end of the scale.
    pub(crate) fn clipping_share(&self) -> f64 {
        self.clipped_count as f64 / self.sample_count.max(1) as f64
    }

    /// Decides on the samples that were seen.
    pub(crate) fn finish(
        &self,
        sample_rate_hz: f64,
        limits: &RecordingLimits,
    ) -> Result<(), DataError> {
        let sample_count = self.sample_count;
        if !(sample_rate_hz.is_finite() && sample_rate_hz > 0.0) {
            return Err(DataError::SampleRate { sample_rate_hz });
        }
        let duration_s = sample_count as f64 / sample_rate_hz;
        if sample_count == 0 || duration_s < limits.duration_s_min {
            let duration_s_min = limits.duration_s_min;
            return Err(DataError::TooShort { duration_s, duration_s_min });
        }
        if self.not_finite_count > 0 {
            let (count, first) = (self.not_finite_count, self.not_finite_first);
            return Err(DataError::NotFinite { count, first, sample_count });
        }
        if self.sounding_count == 0 {
            return Err(DataError::Silent { sample_count });
        }
        let share = self.clipping_share();
        if share > limits.clipping_share_max {
            return Err(DataError::Clipped { share, share_max: limits.clipping_share_max });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use heimdall_features::{ClockQuality, UtcTime};

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
