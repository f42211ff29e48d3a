//! The innermost loops: small products of matrices whose result stays in registers.

use crate::instructions::Lanes;

/// Rows of a tile: with four vectors of output channels, 24 of the 32 registers of AVX-512 hold
/// sums; with two, 12 of the 16 of AVX2.
pub(crate) const ROWS: usize = 6;

/// Sums of `R` rows by `VECTORS` vectors of columns.
pub(crate) type Tile<V, const VECTORS: usize, const R: usize> = [[V; VECTORS]; R];

/// Sums of nothing.
///
/// # Safety
///
/// The instructions of `V` are turned on.
#[inline(always)]
pub(crate) unsafe fn zero<V: Lanes, const VECTORS: usize, const R: usize>() -> Tile<V, VECTORS, R> {
    // SAFETY: as promised.
    [[unsafe { V::splat(0.0) }; VECTORS]; R]
}

/// Reads a tile whose rows lie one behind the other.
///
/// # Safety
///
/// The instructions of `V` are turned on, and `from` is valid for the numbers of the tile.
#[inline(always)]
pub(crate) unsafe fn load<V: Lanes, const VECTORS: usize, const R: usize>(
    from: *const f32,
) -> Tile<V, VECTORS, R> {
    // SAFETY: as promised.
    std::array::from_fn(|row| {
        std::array::from_fn(|vector| unsafe {
            V::load(from.add((row * VECTORS + vector) * V::COUNT))
        })
    })
}

/// Writes a row of a tile.
///
/// # Safety
///
/// The instructions of `V` are turned on, and `to` is valid for `VECTORS · COUNT` numbers.
#[inline(always)]
pub(crate) unsafe fn store<V: Lanes, const VECTORS: usize>(row: [V; VECTORS], to: *mut f32) {
    for (vector, numbers) in row.into_iter().enumerate() {
        // SAFETY: as promised.
        unsafe { numbers.store(to.add(vector * V::COUNT)) }
    }
}

/// Adds to each row the product of a source row and a matrix:
/// `tile[r][·] += Σₖ sources[r][k] · matrix[k][·]`.
///
/// # Safety
///
/// The instructions of `V` are turned on, the sources are valid for `depth` numbers each, and the
/// matrix is valid for `depth` rows as wide as the tile.
#[inline(always)]
pub(crate) unsafe fn add_rows<V: Lanes, const VECTORS: usize, const R: usize>(
    tile: &mut Tile<V, VECTORS, R>,
    sources: [*const f32; R],
    matrix: *const f32,
    depth: usize,
) {
    for k in 0..depth {
        // SAFETY: as promised.
        unsafe {
            let columns: [V; VECTORS] = std::array::from_fn(|vector| {
                V::load(matrix.add((k * VECTORS + vector) * V::COUNT))
            });
            for (row, source) in tile.iter_mut().zip(sources) {
                let factor = V::splat(*source.add(k));
                for (sum, column) in row.iter_mut().zip(columns) {
                    *sum = factor.multiply_add(column, *sum);
                }
            }
        }
    }
}

/// Adds outer products of `count` pairs of vectors, which lie at constant distances:
/// `tile[r][·] += Σₖ left[k · left_step + r] · right[k][·]`.
///
/// # Safety
///
/// The instructions of `V` are turned on, every `left` is valid for `R` numbers, and `right` for
/// `count` rows as wide as the tile.
#[inline(always)]
pub(crate) unsafe fn add_outer<V: Lanes, const VECTORS: usize, const R: usize>(
    tile: &mut Tile<V, VECTORS, R>,
    left: *const f32,
    left_step: usize,
    right: *const f32,
    count: usize,
) {
    for k in 0..count {
        // SAFETY: as promised.
        unsafe {
            let columns: [V; VECTORS] =
                std::array::from_fn(|vector| V::load(right.add((k * VECTORS + vector) * V::COUNT)));
            for (index, row) in tile.iter_mut().enumerate() {
                let factor = V::splat(*left.add(k * left_step + index));
                for (sum, column) in row.iter_mut().zip(columns) {
                    *sum = factor.multiply_add(column, *sum);
                }
            }
        }
    }
}
