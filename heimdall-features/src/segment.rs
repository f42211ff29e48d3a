//! Triangles that overlap by half, applied to a spectrum in one pass.

use std::array;

use pulp::{Simd, WithSimd};

use crate::real::Real;

/// Values that are multiplied at a time; as many as the widest registers hold.
const LANES: usize = 16;

/// Bins between two corners, in which one triangle rises and its lower neighbor falls.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Segment {
    bin: usize,
    weight: usize,
    chunks: usize,
}

/// A row of triangles, each of which begins at the middle of its lower neighbor.
///
/// Between two corners lie bins that two triangles share: they are read once for both.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TriangleRow {
    /// One more than there are triangles.
    segments: Vec<Segment>,
    /// Weights of the upper triangle of each segment, and of the lower one; zero behind its end.
    rising: Vec<[f32; LANES]>,
    falling: Vec<[f32; LANES]>,
}

/// What becomes of the bands of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Placement {
    /// They are written in their order.
    Forward,
    /// They are added in reverse order.
    AddedInReverse,
}

impl TriangleRow {
    /// Makes a row of triangles.
    ///
    /// `starts` has the first bin of each segment and the end of the last one; `weight` is the
    /// weight of a triangle at a bin.
    pub(crate) fn new(starts: &[usize], weight: impl Fn(usize, usize) -> f32) -> Self {
        let triangles = starts.len() - 2;
        let mut row = Self { segments: Vec::new(), rising: Vec::new(), falling: Vec::new() };
        for (index, edges) in starts.windows(2).enumerate() {
            let (start, end) = (edges[0], edges[1].max(edges[0]));
            let chunks = (end - start).div_ceil(LANES);
            row.segments.push(Segment { bin: start, weight: row.rising.len(), chunks });
            for chunk in 0..chunks {
                let lanes = |triangle: Option<usize>| {
                    array::from_fn(|lane| {
                        let bin = start + chunk * LANES + lane;
                        let triangle = triangle.filter(|&triangle| triangle < triangles);
                        triangle.filter(|_| bin < end).map_or(0.0, |triangle| weight(triangle, bin))
                    })
                };
                row.rising.push(lanes(Some(index)));
                row.falling.push(lanes(index.checked_sub(1)));
            }
        }
        row
    }

    /// Number of triangles.
    pub(crate) fn bands(&self) -> usize {
        self.segments.len() - 1
    }
}

/// The application of a row to a spectrum.
pub(crate) struct ApplyRow<'a, T> {
    pub(crate) row: &'a TriangleRow,
    pub(crate) spectrum: &'a [T],
    pub(crate) placement: Placement,
    /// As many as there are triangles.
    pub(crate) bands: &'a mut [T],
}

impl<T: Real> WithSimd for ApplyRow<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { row, spectrum, placement, bands } = self;
        let last = bands.len() - 1;
        let (mut rising, _) = add_segment(row, 0, spectrum, [T::zero(); LANES]);
        for band in 0..bands.len() {
            let (next, sums) = add_segment(row, band + 1, spectrum, rising);
            match placement {
                Placement::Forward => bands[band] = total(&sums),
                Placement::AddedInReverse => bands[last - band] += total(&sums),
            }
            rising = next;
        }
    }
}

/// Adds the bins of a segment to the sums of its falling triangle, and starts those of its rising
/// one.
#[inline(always)]
fn add_segment<T: Real>(
    row: &TriangleRow,
    index: usize,
    spectrum: &[T],
    mut falling: [T; LANES],
) -> ([T; LANES], [T; LANES]) {
    let Segment { bin, weight, chunks } = row.segments[index];
    let mut rising = [T::zero(); LANES];
    let rising_weights = &row.rising[weight..weight + chunks];
    let falling_weights = &row.falling[weight..weight + chunks];
    // Behind the end of a segment, weights are zero; behind the end of the spectrum is nothing.
    if let Some(values) = spectrum.get(bin..bin + chunks * LANES) {
        let (values, _) = values.as_chunks::<LANES>();
        for ((up, down), values) in rising_weights.iter().zip(falling_weights).zip(values) {
            for lane in 0..LANES {
                rising[lane] += T::from(up[lane]) * values[lane];
                falling[lane] += T::from(down[lane]) * values[lane];
            }
        }
    } else {
        let weights = rising_weights.as_flattened().iter().zip(falling_weights.as_flattened());
        for ((lane, (&up, &down)), &value) in weights.enumerate().zip(&spectrum[bin..]) {
            rising[lane % LANES] += T::from(up) * value;
            falling[lane % LANES] += T::from(down) * value;
        }
    }
    (rising, falling)
}

/// Adds the lanes in an order that halves their number again and again.
#[inline(always)]
fn total<T: Real>(lanes: &[T; LANES]) -> T {
    let eight: [T; 8] = array::from_fn(|lane| lanes[lane] + lanes[lane + 8]);
    let four: [T; 4] = array::from_fn(|lane| eight[lane] + eight[lane + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}
