//! Moments of the samples of a recording that comes in chunks.

use num_complex::Complex32;

/// Sums that are kept apart, so that one addition need not wait for the other.
const LANES: usize = 8;

/// Sums of the second and fourth powers of samples.
///
/// A sample's lane is that of its index, so that the sums are the same, to the last bit, whatever
/// the chunks.
#[derive(Clone, Debug, Default)]
pub(crate) struct SampleMoments {
    second: [f64; LANES],
    fourth: [f64; LANES],
    count: usize,
}

impl SampleMoments {
    /// Takes the next samples.
    pub(crate) fn add(&mut self, samples: &[Complex32]) {
        let to_first_lane = (LANES - self.count % LANES) % LANES;
        let (start, aligned) = samples.split_at(to_first_lane.min(samples.len()));
        self.add_lane_by_lane(start);
        let (chunks, end) = aligned.as_chunks::<LANES>();
        for chunk in chunks {
            for (lane, sample) in chunk.iter().enumerate() {
                self.add_to_lane(lane, sample);
            }
        }
        self.count += chunks.len() * LANES;
        self.add_lane_by_lane(end);
    }

    fn add_lane_by_lane(&mut self, samples: &[Complex32]) {
        for sample in samples {
            self.add_to_lane(self.count % LANES, sample);
            self.count += 1;
        }
    }

    fn add_to_lane(&mut self, lane: usize, sample: &Complex32) {
        let power = f64::from(sample.re).powi(2) + f64::from(sample.im).powi(2);
        self.second[lane] += power;
        self.fourth[lane] += power * power;
    }

    /// Whether all samples were zero.
    pub(crate) fn is_silent(&self) -> bool {
        self.second.iter().sum::<f64>() <= 0.0
    }

    /// Number of samples.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Computes `E|x|⁴ / (E|x|²)²`.
    pub(crate) fn kurtosis(&self) -> f64 {
        let (second, fourth): (f64, f64) = (self.second.iter().sum(), self.fourth.iter().sum());
        fourth * self.count as f64 / (second * second)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{carrier, gaussian_noise};

    fn moments(samples: &[Complex32]) -> SampleMoments {
        let mut moments = SampleMoments::default();
        moments.add(samples);
        moments
    }

    #[test]
    fn kurtosis_tells_a_carrier_from_noise() {
        assert!((moments(&carrier(1000, 0.123)).kurtosis() - 1.0).abs() < 1e-6);
        // The deviation of the estimate is about sqrt(8 / n).
        assert!((moments(&gaussian_noise(40_000, 5)).kurtosis() - 2.0).abs() < 0.06);
    }

    proptest! {
        #[test]
        fn chunks_do_not_change_a_bit(
            length in 1_usize..100,
            chunks in proptest::collection::vec(1_usize..30, 1..4),
        ) {
            let samples = gaussian_noise(length, 3);
            let mut chunked = SampleMoments::default();
            let mut rest = samples.as_slice();
            for &chunk in chunks.iter().cycle() {
                let (now, later) = rest.split_at(chunk.min(rest.len()));
                chunked.add(now);
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }

            let whole = moments(&samples);
            prop_assert_eq!(chunked.kurtosis().to_bits(), whole.kurtosis().to_bits());
            prop_assert_eq!(chunked.count(), length);
        }
    }
}
