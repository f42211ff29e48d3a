//! Triangles that overlap by half, applied to a spectrum in one pass.

use std::array;

use pulp::{Simd, WithSimd};

use crate::real::Real;

/// Values that are multiplied at a time: most triangles of a mel scale are over fewer bins than the
/// widest registers hold.
const LANES: usize = 8;

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
    /// Weights of the upper triangle of each segment, and of the lower one; zero beyond its ends.
    rising: Vec<[f32; LANES]>,
    falling: Vec<[f32; LANES]>,
    /// Whether all chunks lie within the spectrum: only a very short one is too short for that.
    fits: bool,
}

impl TriangleRow {
    /// Makes a row of triangles over a spectrum of `bins`.
    ///
    /// `starts` has the first bin of each segment and the end of the last one; `weight` is the
    /// weight of a triangle at a bin.
    pub(crate) fn new(bins: usize, starts: &[usize], weight: impl Fn(usize, usize) -> f32) -> Self {
        let triangles = starts.len() - 2;
        let (segments, rising, falling) = (Vec::new(), Vec::new(), Vec::new());
        let mut row = Self { segments, rising, falling, fits: true };
        for (index, edges) in starts.windows(2).enumerate() {
            let segment = edges[0]..edges[1].max(edges[0]);
            let chunks = segment.len().div_ceil(LANES);
            // A segment at the upper end is read from further below.
            let first = bins.checked_sub(chunks * LANES).map(|last| segment.start.min(last));
            // The mirror image of the lowest bin is beyond the upper end.
            row.fits &= first.is_some_and(|first| first > 0 || chunks == 0);
            let bin = first.unwrap_or(segment.start);
            row.segments.push(Segment { bin, weight: row.rising.len(), chunks });
            for chunk in 0..chunks {
                let lanes = |triangle: Option<usize>| {
                    array::from_fn(|lane| {
                        let bin = bin + chunk * LANES + lane;
                        let triangle = triangle.filter(|&triangle| triangle < triangles);
                        let triangle = triangle.filter(|_| segment.contains(&bin));
                        triangle.map_or(0.0, |triangle| weight(triangle, bin))
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

    /// Returns the largest weight of a triangle.
    pub(crate) fn largest_weight(&self, triangle: usize) -> f32 {
        let largest = |index: usize, weights: &[[f32; LANES]]| {
            let Segment { weight, chunks, .. } = self.segments[index];
            weights[weight..weight + chunks].iter().flatten().copied().fold(0.0, f32::max)
        };
        largest(triangle, &self.rising).max(largest(triangle + 1, &self.falling))
    }
}

/// The application of a row to a spectrum.
pub(crate) struct ApplyRow<'a, T> {
    pub(crate) row: &'a TriangleRow,
    pub(crate) spectrum: &'a [T],
    /// Whether each bin is added to the one on the other side of the center.
    pub(crate) folded: bool,
    /// As many as there are triangles.
    pub(crate) bands: &'a mut [T],
}

impl<T: Real> WithSimd for ApplyRow<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { row, spectrum, folded, bands } = self;
        match (row.fits, folded) {
            (true, false) => add_all(row, bands, chunk(spectrum)),
            (true, true) => add_all(row, bands, folded_chunk(spectrum)),
            (false, _) => add_all(row, bands, any_chunk(spectrum, folded)),
        }
    }
}

/// Computes all bands; `read` returns the bins from one on.
#[inline(always)]
fn add_all<T: Real>(row: &TriangleRow, bands: &mut [T], read: impl Fn(usize) -> [T; LANES]) {
    let (mut rising, _) = add_segment(row, 0, &read, [T::zero(); LANES]);
    for (band, index) in bands.iter_mut().zip(1..) {
        let (next, sums) = add_segment(row, index, &read, rising);
        *band = total(&sums);
        rising = next;
    }
}

/// Adds the bins of a segment to the sums of its falling triangle, and starts those of its rising
/// one.
#[inline(always)]
fn add_segment<T: Real>(
    row: &TriangleRow,
    index: usize,
    read: &impl Fn(usize) -> [T; LANES],
    mut falling: [T; LANES],
) -> ([T; LANES], [T; LANES]) {
    let Segment { mut bin, weight, chunks } = row.segments[index];
    let mut rising = [T::zero(); LANES];
    let rising_weights = &row.rising[weight..weight + chunks];
    let falling_weights = &row.falling[weight..weight + chunks];
    for (up, down) in rising_weights.iter().zip(falling_weights) {
        let values = read(bin);
        for lane in 0..LANES {
            rising[lane] += T::from(up[lane]) * values[lane];
            falling[lane] += T::from(down[lane]) * values[lane];
        }
        bin += LANES;
    }
    (rising, falling)
}

/// Reads bins from one on.
#[inline(always)]
fn chunk<T: Real>(spectrum: &[T]) -> impl Fn(usize) -> [T; LANES] {
    |bin| *spectrum[bin..].first_chunk().expect("the chunks of this row fit")
}

/// Reads bins from one above the center on, each with that on the other side added.
#[inline(always)]
fn folded_chunk<T: Real>(spectrum: &[T]) -> impl Fn(usize) -> [T; LANES] {
    |bin| {
        let upper: &[T; LANES] = spectrum[bin..].first_chunk().expect("the chunks of this row fit");
        // The mirror image of bin `b` is `length - b`.
        let mirrored = &spectrum[..=spectrum.len() - bin];
        let lower: &[T; LANES] = mirrored.last_chunk().expect("as do those on the other side");
        array::from_fn(|lane| upper[lane] + lower[LANES - 1 - lane])
    }
}

/// Reads bins of a spectrum that may end before; weights are zero there.
#[inline(always)]
fn any_chunk<T: Real>(spectrum: &[T], folded: bool) -> impl Fn(usize) -> [T; LANES] {
    let value = |bin: usize| spectrum.get(bin).copied().unwrap_or(T::zero());
    move |first| {
        array::from_fn(|lane| {
            let mirrored = spectrum.len().checked_sub(first + lane).filter(|_| folded);
            value(first + lane) + mirrored.map_or(T::zero(), value)
        })
    }
}

/// Adds the lanes in an order that halves their number again and again.
#[inline(always)]
fn total<T: Real>(lanes: &[T; LANES]) -> T {
    let four: [T; 4] = array::from_fn(|lane| lanes[lane] + lanes[lane + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}
