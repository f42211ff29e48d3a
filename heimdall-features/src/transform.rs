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
/// The window is applied to the spectrum: it is made of three exponentials, so that a windowed bin
/// is `X[k] / 2 - (X[k-1] + X[k+1]) / 4`. The samples are then transformed from where they lie, and
/// one pass over the spectrum does windowing, power, scale and order.
#[derive(Clone)]
pub(crate) struct Transform<T> {
    fft: Arc<dyn Fft<T>>,
    scale: T,
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
    wide: Vec<Complex<T>>,
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
        // The kernel leaves out a factor of two of the window.
        Self { fft, scale: T::rounded(scale / 4.0), arch: Arch::new() }
    }

    pub(crate) fn length(&self) -> usize {
        self.fft.len()
    }

    pub(crate) fn scratch(&self) -> Scratch<T> {
        let zeros = |length| vec![Complex::new(T::zero(), T::zero()); length];
        Scratch {
            wide: zeros(T::buffer_length(self.length())),
            spectrum: zeros(self.length()),
            fft: zeros(self.fft.get_immutable_scratch_len()),
        }
    }

    /// Computes the bins of a frame, from `-sample_rate / 2` upwards.
    pub(crate) fn run(&self, frame: &[Complex32], scratch: &mut Scratch<T>, bins: &mut [T]) {
        assert_eq!(frame.len(), self.length(), "a frame has the length of the transform");
        assert_eq!(bins.len(), self.length(), "there is a place for every bin");
        let Scratch { wide, spectrum, fft } = scratch;
        self.fft.process_immutable_with_scratch(T::widened(frame, wide), spectrum, fft);
        self.arch.dispatch(WindowedPower { spectrum, scale: self.scale, bins });
    }
}

/// Windows a spectrum, squares it, and moves its upper half to the front.
struct WindowedPower<'a, T> {
    spectrum: &'a [Complex<T>],
    scale: T,
    bins: &'a mut [T],
}

impl<T: Real> WithSimd for WindowedPower<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { spectrum, scale, bins } = self;
        let half_of_one = T::rounded(0.5);
        let power = |below: Complex<T>, bin: Complex<T>, above: Complex<T>| {
            let re = bin.re - half_of_one * (below.re + above.re);
            let im = bin.im - half_of_one * (below.im + above.im);
            (re * re + im * im) * scale
        };
        let (length, half) = (spectrum.len(), spectrum.len() / 2);
        let (negative, positive) = bins.split_at_mut(half);
        for (bin, x) in positive[1..].iter_mut().zip(spectrum.windows(3)) {
            *bin = power(x[0], x[1], x[2]);
        }
        for (bin, x) in negative.iter_mut().zip(spectrum[half - 1..].windows(3)) {
            *bin = power(x[0], x[1], x[2]);
        }
        // The spectrum is a circle.
        let (last, first) = (length - 1, 0);
        positive[0] = power(spectrum[last], spectrum[first], spectrum[1]);
        negative[half - 1] = power(spectrum[last - 1], spectrum[last], spectrum[first]);
    }
}
