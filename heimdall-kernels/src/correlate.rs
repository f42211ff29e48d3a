//! The convolution, and the gradient of its input: sums over taps for each pixel of a target.

use crate::instructions::{Instructions, Kernel, Lanes};
use crate::shape::{Block, Correlation};
use crate::team::{Shared, share};
use crate::tile::{ROWS, add_rows, store, zero};

/// Computes every pixel of the target.
///
/// # Shapes
///
/// - `source`: as the source of the plan, channels last
/// - `packed`: `[panels, slots, source channels, panel]`
/// - `target`: as the target of the plan, channels last
pub(crate) fn correlate(
    instructions: Instructions,
    plan: &Correlation,
    source: &[f32],
    packed: &[f32],
    target: &mut [f32],
) {
    let panel = instructions.panel();
    let panels = plan.target.channels.div_ceil(panel);
    let panel_length = plan.slots.len() * plan.source.channels * panel;
    assert_eq!(source.len(), plan.source.length());
    assert_eq!(target.len(), plan.target.length());
    assert_eq!(packed.len(), panels * panel_length);
    let target = Shared::new(target);
    share(panels * plan.blocks.len(), &|item| {
        let index = item / plan.blocks.len();
        instructions.run(BlockKernel {
            plan,
            block: plan.blocks[item % plan.blocks.len()],
            source,
            weights: &packed[index * panel_length..][..panel_length],
            target,
            first_channel: index * panel,
        });
    });
}

/// The pixels of one block, for one panel of channels.
struct BlockKernel<'a> {
    plan: &'a Correlation,
    block: Block,
    source: &'a [f32],
    weights: &'a [f32],
    target: Shared<'a>,
    first_channel: usize,
}

impl Kernel for BlockKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const VECTORS: usize>(self) {
        let end = self.block.first_pixel + self.block.pixels;
        let mut pixel = self.block.first_pixel;
        while pixel < end {
            match end - pixel {
                1 => self.rows::<V, VECTORS, 1>(pixel),
                2 => self.rows::<V, VECTORS, 2>(pixel),
                3 => self.rows::<V, VECTORS, 3>(pixel),
                4 => self.rows::<V, VECTORS, 4>(pixel),
                5 => self.rows::<V, VECTORS, 5>(pixel),
                _ => self.rows::<V, VECTORS, ROWS>(pixel),
            }
            pixel += ROWS;
        }
    }
}

impl BlockKernel<'_> {
    /// Computes `R` pixels.
    #[inline(always)]
    fn rows<V: Lanes, const VECTORS: usize, const R: usize>(&self, first_pixel: usize) {
        let Correlation { source, target, phases, .. } = self.plan;
        let phase = &phases[self.block.phase];
        let (rows, columns) = (self.block.rows, self.block.columns);
        let mut source_starts = [0_isize; R];
        let mut target_starts = [0_usize; R];
        for index in 0..R {
            let pixel = first_pixel + index;
            let column = columns.start + pixel % columns.count;
            let row = rows.start + pixel / columns.count % rows.count;
            let image = pixel / columns.count / rows.count;
            let (up, left) = (row * phase.rows.source_step, column * phase.columns.source_step);
            source_starts[index] =
                (((image * source.height + up) * source.width + left) * source.channels) as isize;
            let up = phase.rows.target_start + row * phase.rows.target_step;
            let left = phase.columns.target_start + column * phase.columns.target_step;
            target_starts[index] = ((image * target.height + up) * target.width + left)
                * target.channels
                + self.first_channel;
        }

        // SAFETY: `Kernel::run` has the instructions turned on.
        let mut tile = unsafe { zero::<V, VECTORS, R>() };
        // The taps of a row are neighbors in the source and in the weights: one run for all.
        let depth = columns.taps * source.channels;
        if depth > 0 {
            let first_column = phase.columns.taps[columns.first_tap].offset;
            for tap in rows.first_tap..rows.first_tap + rows.taps {
                let offset = (phase.rows.taps[tap].offset * source.width as isize + first_column)
                    * source.channels as isize;
                let slot = phase.first_slot + tap * phase.columns.taps.len() + columns.first_tap;
                let weights = slot * source.channels * VECTORS * V::COUNT;
                debug_assert!(source_starts.iter().all(|start| {
                    *start + offset >= 0 && (*start + offset) as usize + depth <= self.source.len()
                }));
                // SAFETY: the segments of the plan hold taps that lie inside of the source, which
                // has the length that the plan says; so have the weights.
                unsafe {
                    let sources =
                        source_starts.map(|start| self.source.as_ptr().offset(start + offset));
                    add_rows(&mut tile, sources, self.weights.as_ptr().add(weights), depth);
                }
            }
        }

        let channels = (target.channels - self.first_channel).min(VECTORS * V::COUNT);
        for (row, start) in tile.into_iter().zip(target_starts) {
            // SAFETY: each pixel is in one block, and each channel in one panel.
            let pixel = unsafe { self.target.slice(start, channels) };
            if channels == VECTORS * V::COUNT {
                // SAFETY: the pixel has as many numbers as a row of the tile.
                unsafe { store(row, pixel.as_mut_ptr()) };
            } else {
                let mut whole = [0.0; 64];
                // SAFETY: no tile is wider than 64.
                unsafe { store(row, whole.as_mut_ptr()) };
                pixel.copy_from_slice(&whole[..channels]);
            }
        }
    }
}
