//! The two precisions in which spectra are computed.

use std::ops::AddAssign;

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
/// In single precision, every bin of a transform is off by some 1e-7 of the root of the mean power of
/// all bins. A level that lies `x` dB below that of a frame with the same power in all bins is off by at
/// most `2e-5 + 2e-5 · 10^(x / 20)` dB; with [`SpectralConfig::exact_levels`](crate::SpectralConfig),
/// by at most 1e-4 dB (`tests/golden.rs`).
pub trait Real: sealed::Sealed + FftNum + From<f32> + Into<f64> + PartialOrd + AddAssign {
    /// Whether transforms are exact enough for every level.
    const IS_DOUBLE: bool;

    /// Rounds a number to this precision.
    fn rounded(value: f64) -> Self;

    /// Whether this is neither infinite nor not a number.
    fn is_usable(self) -> bool;

    /// Converts a positive, finite power to decibels.
    fn decibels(self) -> Self;
}

impl Real for f32 {
    const IS_DOUBLE: bool = false;

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
}

impl Real for f64 {
    const IS_DOUBLE: bool = true;

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
}
