//! Bins and weights of the transforms that delays are measured with.

use num_complex::Complex64;

/// Share of the signal at each end over which it fades in and out, so that the cut through a strong
/// carrier does not pass for a common signal.
const FADE_SHARE: f64 = 0.05;

/// Bins of a transform that are used.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Band {
    mask: Vec<bool>,
}

impl Band {
    /// Takes the bins of a transform of `length` whose frequency, in Hz, passes.
    pub(crate) fn new(length: usize, bin_width_hz: f64, passes: impl Fn(f64) -> bool) -> Self {
        let mask = (0..length).map(|index| passes(signed(index, length) * bin_width_hz)).collect();
        Self { mask }
    }

    /// Whether no bin is used.
    pub(crate) fn is_empty(&self) -> bool {
        !self.mask.contains(&true)
    }

    /// The used bins by rising frequency, as (index, signed number).
    pub(crate) fn bins(&self) -> Vec<(usize, f64)> {
        let length = self.mask.len();
        let half = length / 2;
        (0..length)
            .map(|row| (row + length - half) % length)
            .filter(|&index| self.mask[index])
            .map(|index| (index, signed(index, length)))
            .collect()
    }

    /// Takes in all bins that are at most `reach` bins away from a used one.
    pub(crate) fn widened(&self, reach: f64) -> Self {
        let length = self.mask.len();
        let reach = (reach.ceil() as usize).min(length); // Not negative.
        if 2 * reach + 1 >= length {
            return Self { mask: vec![true; length] };
        }
        // A bin is taken in if there is a used one within reach, around the circle.
        let mut inside =
            (0..=2 * reach).filter(|&offset| self.mask[(offset + length - reach) % length]).count();
        let mut mask = Vec::with_capacity(length);
        for index in 0..length {
            mask.push(inside > 0);
            inside += usize::from(self.mask[(index + reach + 1) % length]);
            inside -= usize::from(self.mask[(index + length - reach) % length]);
        }
        Self { mask }
    }

    /// Sets what lies outside of the band to zero.
    pub(crate) fn cut(&self, spectrum: &[Complex64]) -> Vec<Complex64> {
        let cut = |(value, &used): (&Complex64, &bool)| if used { *value } else { Complex64::ZERO };
        spectrum.iter().zip(&self.mask).map(cut).collect()
    }
}

/// Number of a transform's bin, negative in the upper half.
fn signed(index: usize, length: usize) -> f64 {
    if index < length.div_ceil(2) { index as f64 } else { index as f64 - length as f64 }
}

/// Weights that rise and fall like half a cosine at the ends and are one between them.
pub(crate) fn fade(length: usize) -> Vec<f64> {
    let edge = FADE_SHARE * length as f64;
    let weight = |n: usize| {
        let distance = (n as f64 + 0.5).min(length as f64 - n as f64 - 0.5);
        if distance < edge {
            0.5 - 0.5 * (std::f64::consts::PI * distance / edge).cos()
        } else {
            1.0
        }
    };
    (0..length).map(weight).collect()
}

/// Finds the largest number up to `length` without a prime factor above five.
pub(crate) fn smooth_length(length: usize) -> usize {
    let mut best = 1;
    let mut fives = 1;
    while fives <= length {
        let mut threes = fives;
        while threes <= length {
            let twos = (length / threes).ilog2();
            best = best.max(threes << twos);
            threes *= 3;
        }
        fives *= 5;
    }
    best
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bins_rise_in_frequency() {
        let numbers = |length| {
            let bins = Band::new(length, 1.0, |_| true).bins();
            bins.iter().map(|&(index, _)| index).collect::<Vec<_>>()
        };

        assert_eq!(numbers(6), [3, 4, 5, 0, 1, 2]);
        assert_eq!(numbers(5), [3, 4, 0, 1, 2]);
    }

    #[test]
    fn fade_is_symmetric_and_reaches_one() {
        let weights = fade(1_000);

        for n in 0..500 {
            assert!((weights[n] - weights[999 - n]).abs() < 1e-12);
            assert!(n < 50 || (weights[n] - 1.0).abs() < 1e-12);
        }
        assert!(weights[0] < 1e-3);
    }

    proptest! {
        /// The largest smooth number, found by trying all.
        #[test]
        fn smooth_lengths_are_the_largest(length in 1_usize..5_000) {
            let is_smooth = |&candidate: &usize| {
                let divide = |mut number: usize, factor| {
                    while number.is_multiple_of(factor) {
                        number /= factor;
                    }
                    number
                };
                [2, 3, 5].into_iter().fold(candidate, divide) == 1
            };

            prop_assert_eq!(Some(smooth_length(length)), (1..=length).rev().find(is_smooth));
        }

        /// A bin is taken in exactly if a used one is near, around the circle.
        #[test]
        fn widening_reaches_as_far_as_it_says(
            mask in proptest::collection::vec(any::<bool>(), 1..60),
            reach in 0_usize..40,
        ) {
            let length = mask.len();

            let widened = Band { mask: mask.clone() }.widened(reach as f64);

            for index in 0..length {
                let near = |other: usize| {
                    let distance = index.abs_diff(other);
                    mask[other] && distance.min(length - distance) <= reach
                };
                let everything = 2 * reach + 1 >= length;
                prop_assert_eq!(widened.mask[index], everything || (0..length).any(near));
            }
        }
    }
}
