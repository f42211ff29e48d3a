//! The windowed transform of one frame, and its power.

use std::fmt;
use std::sync::Arc;

use num_complex::{Complex, Complex32};
use pulp::{Arch, Simd, WithSimd};
use rustfft::{Fft, FftPlanner};

use crate::real::Real;

/// Sum of the squares of a periodic Hann window, over its length.
const HANN_POWER: f64 = 0.375;

/// Computes the periodic Hann window, `0.5 - 0.5 cos(2πk / length)`.
pub(crate) fn hann(length: usize) -> impl Iterator<Item = f64> {
    (0..length).map(move |k| 0.5 - 0.5 * (std::f64::consts::TAU * k as f64 / length as f64).cos())
}

/// The transform of frames of one length under a periodic Hann window.
///
/// Samples are weighted before they are transformed. Weights could be put on the spectrum instead,
/// where the window is three numbers; but beside a strong carrier, whose spectrum is wide without a
/// window, that takes the difference of large numbers.
#[derive(Clone)]
pub(crate) struct Transform<T> {
    fft: Arc<dyn Fft<T>>,
    window: Vec<T>,
    /// What the square of a bin is multiplied by.
    scale: f64,
    arch: Arch,
}

impl<T> fmt::Debug for Transform<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Transform").field("length", &self.fft.len()).finish_non_exhaustive()
    }
}

/// Memory that a transform works in.
#[derive(Clone, Debug)]
pub(crate) struct Scratch<T> {
    spectrum: Vec<Complex<T>>,
    fft: Vec<Complex<T>>,
}

impl<T: Real> Transform<T> {
    /// Plans a transform whose bins are densities, in full scale squared per Hz.
    pub(crate) fn density(length: usize, sample_rate_hz: f64) -> Self {
        Self::new(length, 1.0 / (sample_rate_hz * HANN_POWER * length as f64))
    }

    /// Plans a transform whose bins are powers, `|X|²`.
    pub(crate) fn power(length: usize) -> Self {
        Self::new(length, 1.0)
    }

    fn new(length: usize, scale: f64) -> Self {
        let fft = FftPlanner::new().plan_fft_forward(length);
        Self { fft, window: hann(length).map(T::rounded).collect(), scale, arch: Arch::new() }
    }

    /// Plans the same transform in double precision.
    pub(crate) fn in_double_precision(&self) -> Transform<f64> {
        Transform::new(self.length(), self.scale)
    }

    pub(crate) fn length(&self) -> usize {
        self.fft.len()
    }

    pub(crate) fn scratch(&self) -> Scratch<T> {
        let zeros = |length| vec![Complex::new(T::zero(), T::zero()); length];
        Scratch { spectrum: zeros(self.length()), fft: zeros(self.fft.get_inplace_scratch_len()) }
    }

    /// Computes the bins of a frame, from `-sample_rate / 2` upwards.
    pub(crate) fn run(&self, frame: &[Complex32], scratch: &mut Scratch<T>, bins: &mut [T]) {
        assert_eq!(frame.len(), self.length(), "a frame has the length of the transform");
        assert_eq!(bins.len(), self.length(), "there is a place for every bin");
        let Scratch { spectrum, fft } = scratch;
        self.arch.dispatch(Weighted { frame, window: &self.window, weighted: spectrum });
        self.fft.process_with_scratch(spectrum, fft);
        self.arch.dispatch(Power { spectrum, scale: T::rounded(self.scale), bins });
    }
}

/// Puts weights on samples.
struct Weighted<'a, T> {
    frame: &'a [Complex32],
    window: &'a [T],
    weighted: &'a mut [Complex<T>],
}

impl<T: Real> WithSimd for Weighted<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { frame, window, weighted } = self;
        for ((weighted, sample), &weight) in weighted.iter_mut().zip(frame).zip(window) {
            *weighted = Complex::new(T::from(sample.re) * weight, T::from(sample.im) * weight);
        }
    }
}

/// Squares a spectrum, and moves its upper half to the front.
struct Power<'a, T> {
    spectrum: &'a [Complex<T>],
    scale: T,
    bins: &'a mut [T],
}

impl<T: Real> WithSimd for Power<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { spectrum, scale, bins } = self;
        let power = |value: &Complex<T>| (value.re * value.re + value.im * value.im) * scale;
        let half = spectrum.len() / 2;
        let (lower, upper) = bins.split_at_mut(half);
        for (bin, value) in lower.iter_mut().zip(&spectrum[half..]) {
            *bin = power(value);
        }
        for (bin, value) in upper.iter_mut().zip(&spectrum[..half]) {
            *bin = power(value);
        }
    }
}
