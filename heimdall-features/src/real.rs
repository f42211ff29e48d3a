//! The two precisions in which spectra are computed.

use std::ops::AddAssign;

use num_complex::{Complex, Complex32};
use rustfft::FftNum;

use crate::decibel;

mod sealed {
    /// Keeps others from adding precisions.
    pub trait Sealed {}

    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// A precision in which spectra are computed: `f32`, which is fast, or `f64`, which is exact.
///
/// In single precision, a bin of a transform is off by some 1e-7 of the strongest one. Bands, which
/// average bins, are within 1e-4 dB nevertheless; a single bin far below a strong carrier is not.
pub trait Real: sealed::Sealed + FftNum + From<f32> + Into<f64> + PartialOrd + AddAssign {
    /// Rounds a number to this precision.
    fn rounded(value: f64) -> Self;

    /// Whether this is neither infinite nor not a number.
    fn is_usable(self) -> bool;

    /// Converts a positive, finite power to decibels.
    fn decibels(self) -> Self;

    /// Widens a frame where the precision asks for it; `buffer` has its length then.
    fn widened<'a>(frame: &'a [Complex32], buffer: &'a mut [Complex<Self>]) -> &'a [Complex<Self>];

    /// Elements that [`Self::widened`] needs for a frame of this length.
    fn buffer_length(frame_length: usize) -> usize;
}

impl Real for f32 {
    fn rounded(value: f64) -> Self {
        value as Self
    }

    fn is_usable(self) -> bool {
        self.is_finite()
    }

    #[inline(always)]
    fn decibels(self) -> Self {
        decibel::decibels(self)
    }

    fn widened<'a>(frame: &'a [Complex32], _: &'a mut [Complex32]) -> &'a [Complex32] {
        frame
    }

    fn buffer_length(_: usize) -> usize {
        0
    }
}

impl Real for f64 {
    fn rounded(value: f64) -> Self {
        value
    }

    fn is_usable(self) -> bool {
        self.is_finite()
    }

    #[inline(always)]
    fn decibels(self) -> Self {
        10.0 * self.log10()
    }

    fn widened<'a>(frame: &'a [Complex32], buffer: &'a mut [Complex<Self>]) -> &'a [Complex<Self>] {
        for (wide, sample) in buffer.iter_mut().zip(frame) {
            *wide = Complex::new(sample.re.into(), sample.im.into());
        }
        buffer
    }

    fn buffer_length(frame_length: usize) -> usize {
        frame_length
    }
}
