//! Batch norm, together with what is added to it and with the rectifier after it.

use std::ops::Range;

use crate::buffer::Buffer;
use crate::instructions::{Instructions, Kernel, Lanes};
use crate::team::{Shared, share};

/// Numbers that a thread takes at a time. Sums are kept for each such part and added in order, so
/// that they do not depend on who made them.
const PART_LENGTH: usize = 1 << 14;

/// Rows of a part.
fn part_rows(channels: usize) -> usize {
    (PART_LENGTH / channels).max(16)
}

/// Calls `work` for the rows of each part, on all threads.
fn share_parts(rows: usize, channels: usize, work: impl Fn(usize, Range<usize>) + Sync) {
    let part = part_rows(channels);
    share(rows.div_ceil(part), &|index| {
        work(index, index * part..rows.min((index + 1) * part));
    });
}

/// Computes mean and variance of each channel of `[rows, channels]`, the variance divided by the
/// number of rows.
pub(crate) fn statistics(
    instructions: Instructions,
    input: &[f32],
    mean: &mut [f32],
    variance: &mut [f32],
) {
    let channels = mean.len();
    let rows = input.len() / channels;
    // Distances from the first row do not cancel as squares of the numbers themselves would.
    let origin = &input[..channels];
    let sums = sums_of_parts(rows, channels, |rows, sums| {
        instructions.run(StatisticsKernel { input, origin, rows, sums });
    });
    for channel in 0..channels {
        let (first, second) = (sums[channel], sums[channels + channel]);
        let distance = first / rows as f64;
        mean[channel] = (f64::from(origin[channel]) + distance) as f32;
        variance[channel] = (second / rows as f64 - distance * distance).max(0.0) as f32;
    }
}

/// Lets `work` write two sums per channel for each part, and adds them up in order.
fn sums_of_parts(
    rows: usize,
    channels: usize,
    work: impl Fn(Range<usize>, &mut [f32]) + Sync,
) -> Vec<f64> {
    let parts = rows.div_ceil(part_rows(channels));
    let mut partial = Buffer::take(parts * 2 * channels);
    let shared = Shared::new(&mut partial);
    share_parts(rows, channels, |index, rows| {
        // SAFETY: each part has its own sums.
        let sums = unsafe { shared.slice(index * 2 * channels, 2 * channels) };
        work(rows, sums);
    });
    let mut sums = vec![0.0; 2 * channels];
    for part in partial.chunks_exact(2 * channels) {
        for (sum, partial) in sums.iter_mut().zip(part) {
            *sum += f64::from(*partial);
        }
    }
    sums
}

/// Calls a function for each group of channels: four vectors, one vector, or one channel wide.
macro_rules! for_channels {
    ($channels:expr, $lanes:ident, $self:ident.$function:ident) => {
        let mut channel = 0;
        while channel + 4 * $lanes::COUNT <= $channels {
            $self.$function::<$lanes, 4>(channel);
            channel += 4 * $lanes::COUNT;
        }
        while channel + $lanes::COUNT <= $channels {
            $self.$function::<$lanes, 1>(channel);
            channel += $lanes::COUNT;
        }
        while channel < $channels {
            $self.$function::<f32, 1>(channel);
            channel += 1;
        }
    };
}

/// Sums, over some rows, of the distance from `origin` and of its square.
struct StatisticsKernel<'a> {
    input: &'a [f32],
    origin: &'a [f32],
    rows: Range<usize>,
    sums: &'a mut [f32],
}

impl Kernel for StatisticsKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const VECTORS: usize>(mut self) {
        let channels = self.origin.len();
        assert!(self.rows.end * channels <= self.input.len() && self.sums.len() == 2 * channels);
        for_channels!(channels, V, self.channels);
    }
}

impl StatisticsKernel<'_> {
    #[inline(always)]
    fn channels<V: Lanes, const N: usize>(&mut self, channel: usize) {
        let channels = self.origin.len();
        // SAFETY: `N` vectors of channels lie in each row, as `for_channels` sees to; the rows lie
        // in the input. `Kernel::run` has the instructions turned on.
        unsafe {
            let at = |from: *const f32, vector: usize| V::load(from.add(vector * V::COUNT));
            let origin: [V; N] = std::array::from_fn(|n| at(self.origin.as_ptr().add(channel), n));
            let (mut first, mut second) = ([V::splat(0.0); N], [V::splat(0.0); N]);
            for row in self.rows.clone() {
                let input = self.input.as_ptr().add(row * channels + channel);
                for n in 0..N {
                    let distance = at(input, n).subtract(origin[n]);
                    first[n] = first[n].add(distance);
                    second[n] = distance.multiply_add(distance, second[n]);
                }
            }
            let sums = self.sums.as_mut_ptr().add(channel);
            for n in 0..N {
                first[n].store(sums.add(n * V::COUNT));
                second[n].store(sums.add(channels + n * V::COUNT));
            }
        }
    }
}

/// What is done to `[rows, channels]` after its statistics are known.
#[derive(Clone, Copy)]
pub(crate) struct Normalization<'a> {
    pub(crate) scale: &'a [f32],
    pub(crate) shift: &'a [f32],
    /// Added after scale and shift: as large as the input.
    pub(crate) shortcut: Option<&'a [f32]>,
    /// Whether negative results become zero.
    pub(crate) rectify: bool,
}

/// Computes `input · scale + shift + shortcut`, rectified if asked for.
pub(crate) fn normalize(
    instructions: Instructions,
    input: &[f32],
    normalization: Normalization<'_>,
    output: &mut [f32],
) {
    let channels = normalization.scale.len();
    assert_eq!((normalization.shift.len(), output.len()), (channels, input.len()));
    assert!(normalization.shortcut.is_none_or(|shortcut| shortcut.len() == input.len()));
    let output = Shared::new(output);
    share_parts(input.len() / channels, channels, |_, rows| {
        let (start, length) = (rows.start * channels, rows.len() * channels);
        let shortcut = normalization.shortcut.map(|shortcut| &shortcut[start..][..length]);
        instructions.run(NormalizeKernel {
            input: &input[start..][..length],
            normalization: Normalization { shortcut, ..normalization },
            // SAFETY: each part has its own rows.
            output: unsafe { output.slice(start, length) },
        });
    });
}

struct NormalizeKernel<'a> {
    input: &'a [f32],
    normalization: Normalization<'a>,
    output: &'a mut [f32],
}

impl Kernel for NormalizeKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const VECTORS: usize>(self) {
        match (self.normalization.shortcut, self.normalization.rectify) {
            (Some(shortcut), true) => self.rows::<V, true, true>(shortcut),
            (Some(shortcut), false) => self.rows::<V, true, false>(shortcut),
            (None, true) => self.rows::<V, false, true>(&[]),
            (None, false) => self.rows::<V, false, false>(&[]),
        }
    }
}

impl NormalizeKernel<'_> {
    #[inline(always)]
    fn rows<V: Lanes, const ADD: bool, const RECTIFY: bool>(self, shortcut: &[f32]) {
        let Normalization { scale, shift, .. } = self.normalization;
        let channels = scale.len();
        for start in (0..self.input.len()).step_by(channels) {
            let mut channel = 0;
            // SAFETY: all slices have rows of `channels` numbers, as `normalize` asserts.
            // `Kernel::run` has the instructions turned on.
            unsafe {
                let input = self.input.as_ptr().add(start);
                let shortcut = shortcut.as_ptr().wrapping_add(start);
                let (scale, shift) = (scale.as_ptr(), shift.as_ptr());
                let output = self.output.as_mut_ptr().add(start);
                while channel + V::COUNT <= channels {
                    normalize_at::<V, ADD, RECTIFY>(input, scale, shift, shortcut, output, channel);
                    channel += V::COUNT;
                }
                while channel < channels {
                    normalize_at::<f32, ADD, RECTIFY>(
                        input, scale, shift, shortcut, output, channel,
                    );
                    channel += 1;
                }
            }
        }
    }
}

/// Normalizes one vector.
///
/// # Safety
///
/// The pointers are valid at `channel`, the one to the shortcut only where it is added; the
/// instructions of `V` are turned on.
#[inline(always)]
unsafe fn normalize_at<V: Lanes, const ADD: bool, const RECTIFY: bool>(
    input: *const f32,
    scale: *const f32,
    shift: *const f32,
    shortcut: *const f32,
    output: *mut f32,
    channel: usize,
) {
    // SAFETY: as promised.
    unsafe {
        let mut value = V::load(input.add(channel))
            .multiply_add(V::load(scale.add(channel)), V::load(shift.add(channel)));
        if ADD {
            value = value.add(V::load(shortcut.add(channel)));
        }
        if RECTIFY {
            // In this order, what is not a number stays that.
            value = V::splat(0.0).maximum(value);
        }
        value.store(output.add(channel));
    }
}

/// What the gradient of a batch norm is computed from.
#[derive(Clone, Copy)]
pub(crate) struct NormGradient<'a> {
    pub(crate) input: &'a [f32],
    /// Where the result was rectified: the result.
    pub(crate) rectified: Option<&'a [f32]>,
    pub(crate) output_gradient: &'a [f32],
    pub(crate) gamma: &'a [f32],
    pub(crate) mean: &'a [f32],
    pub(crate) variance: &'a [f32],
    pub(crate) epsilon: f64,
}

/// Computes the gradients of a batch norm that used the statistics of its batch.
///
/// The gradient of the shortcut is the one behind the rectifier.
pub(crate) fn norm_gradient(
    instructions: Instructions,
    of: NormGradient<'_>,
    input_gradient: &mut [f32],
    shortcut_gradient: Option<&mut [f32]>,
    gamma_gradient: &mut [f32],
    beta_gradient: &mut [f32],
) {
    let channels = of.gamma.len();
    let length = of.input.len();
    let rows = length / channels;
    assert_eq!((of.output_gradient.len(), input_gradient.len()), (length, length));
    assert!(of.rectified.is_none_or(|rectified| rectified.len() == length));
    assert!(shortcut_gradient.as_ref().is_none_or(|gradient| gradient.len() == length));
    assert_eq!((of.mean.len(), of.variance.len()), (channels, channels));

    let shortcut_gradient = shortcut_gradient.map(Shared::new);
    let sums = sums_of_parts(rows, channels, |rows, sums| {
        let (start, length) = (rows.start * channels, rows.len() * channels);
        // SAFETY: each part has its own rows.
        let rectified_gradient =
            shortcut_gradient.map(|gradient| unsafe { gradient.slice(start, length) });
        instructions.run(GradientSumsKernel { of, rows, sums, rectified_gradient });
    });

    // The gradient is `a · rectified gradient + b · input + c`, with three numbers per channel.
    let mut factors = Buffer::take(3 * channels);
    let (a, others) = factors.split_at_mut(channels);
    let (b, c) = others.split_at_mut(channels);
    for channel in 0..channels {
        let inverse = 1.0 / (f64::from(of.variance[channel]) + of.epsilon).sqrt();
        let scale = f64::from(of.gamma[channel]) * inverse;
        let (first, second) = (sums[channel], sums[channels + channel] * inverse);
        let slope = -scale * inverse * second / rows as f64;
        gamma_gradient[channel] = second as f32;
        beta_gradient[channel] = first as f32;
        a[channel] = scale as f32;
        b[channel] = slope as f32;
        c[channel] = (-scale * first / rows as f64 - slope * f64::from(of.mean[channel])) as f32;
    }

    let (a, b, c) = (&*a, &*b, &*c);
    let input_gradient = Shared::new(input_gradient);
    share_parts(rows, channels, |_, rows| {
        let (start, length) = (rows.start * channels, rows.len() * channels);
        instructions.run(InputGradientKernel {
            input: &of.input[start..][..length],
            rectified: of.rectified.map(|rectified| &rectified[start..][..length]),
            output_gradient: &of.output_gradient[start..][..length],
            factors: [a, b, c],
            // SAFETY: each part has its own rows.
            input_gradient: unsafe { input_gradient.slice(start, length) },
        });
    });
}

/// Sums, over some rows, of the gradient behind the rectifier, and of its product with the distance
/// of the input from its mean.
struct GradientSumsKernel<'a> {
    of: NormGradient<'a>,
    rows: Range<usize>,
    sums: &'a mut [f32],
    /// Gradient behind the rectifier, for these rows, where it is wanted.
    rectified_gradient: Option<&'a mut [f32]>,
}

impl Kernel for GradientSumsKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const VECTORS: usize>(mut self) {
        let channels = self.of.gamma.len();
        assert!(self.rows.end * channels <= self.of.input.len());
        assert_eq!(self.sums.len(), 2 * channels);
        for_channels!(channels, V, self.channels);
    }
}

impl GradientSumsKernel<'_> {
    #[inline(always)]
    fn channels<V: Lanes, const N: usize>(&mut self, channel: usize) {
        let channels = self.of.gamma.len();
        // SAFETY: as in `StatisticsKernel`; `norm_gradient` asserts that all slices have the same
        // rows.
        unsafe {
            let at = |from: *const f32, vector: usize| V::load(from.add(vector * V::COUNT));
            let mean: [V; N] = std::array::from_fn(|n| at(self.of.mean.as_ptr().add(channel), n));
            let (mut first, mut second) = ([V::splat(0.0); N], [V::splat(0.0); N]);
            for row in self.rows.clone() {
                let start = row * channels + channel;
                let input = self.of.input.as_ptr().add(start);
                let output_gradient = self.of.output_gradient.as_ptr().add(start);
                for n in 0..N {
                    let mut gradient = at(output_gradient, n);
                    if let Some(rectified) = self.of.rectified {
                        gradient = gradient.where_positive(at(rectified.as_ptr().add(start), n));
                    }
                    if let Some(rectified_gradient) = &mut self.rectified_gradient {
                        let start = (row - self.rows.start) * channels + channel;
                        let to = rectified_gradient.as_mut_ptr().add(start);
                        gradient.store(to.add(n * V::COUNT));
                    }
                    first[n] = first[n].add(gradient);
                    let distance = at(input, n).subtract(mean[n]);
                    second[n] = gradient.multiply_add(distance, second[n]);
                }
            }
            let sums = self.sums.as_mut_ptr().add(channel);
            for n in 0..N {
                first[n].store(sums.add(n * V::COUNT));
                second[n].store(sums.add(channels + n * V::COUNT));
            }
        }
    }
}

/// Gradient of the input for some rows, once the sums over all rows are known.
struct InputGradientKernel<'a> {
    input: &'a [f32],
    rectified: Option<&'a [f32]>,
    output_gradient: &'a [f32],
    factors: [&'a [f32]; 3],
    input_gradient: &'a mut [f32],
}

impl Kernel for InputGradientKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const VECTORS: usize>(mut self) {
        let channels = self.factors[0].len();
        for start in (0..self.input.len()).step_by(channels) {
            let mut channel = 0;
            while channel + V::COUNT <= channels {
                self.at::<V>(start, channel);
                channel += V::COUNT;
            }
            while channel < channels {
                self.at::<f32>(start, channel);
                channel += 1;
            }
        }
    }
}

impl InputGradientKernel<'_> {
    #[inline(always)]
    fn at<V: Lanes>(&mut self, start: usize, channel: usize) {
        let place = start + channel;
        // SAFETY: a vector lies within its row; `norm_gradient` cut all slices to the same rows.
        unsafe {
            let mut gradient = V::load(self.output_gradient.as_ptr().add(place));
            if let Some(rectified) = self.rectified {
                gradient = gradient.where_positive(V::load(rectified.as_ptr().add(place)));
            }
            let [a, b, c] = self.factors.map(|factor| V::load(factor.as_ptr().add(channel)));
            let input = V::load(self.input.as_ptr().add(place));
            let result = gradient.multiply_add(a, input.multiply_add(b, c));
            result.store(self.input_gradient.as_mut_ptr().add(place));
        }
    }
}
