//! The gradient of the weights of a convolution.

use crate::instructions::{Instructions, Kernel, Lanes};
use crate::shape::{ConvolutionShape, Correlation};
use crate::team::{Shared, share};
use crate::tile::{ROWS, add_outer, load, store};

/// Numbers that the sums of an item may take, to stay in the first cache beside what is read.
const SUMS: usize = 7168;

/// Output pixels whose gradients are read again and again for all taps and channels of an item.
const CHUNK_PIXELS: usize = 64;

/// Numbers of scratch that [`weight_gradient`] needs.
pub(crate) fn scratch_length(shape: &ConvolutionShape, panel: usize) -> usize {
    match shape.output_channels {
        channels if channels == panel => 0,
        channels => channels.div_ceil(panel) * panel * shape.output_pixels(),
    }
}

/// Computes the gradient of the weights, all of it.
///
/// `plan` is the forward one.
///
/// # Shapes
///
/// - `input`: `[batch, input_height, input_width, input_channels]`
/// - `output_gradient`: `[batch, output_height, output_width, output_channels]`
/// - `scratch`: as long as [`scratch_length`] says
/// - `gradient`: `[output_channels, input_channels, height, width]` of the kernel
pub(crate) fn weight_gradient(
    instructions: Instructions,
    shape: &ConvolutionShape,
    plan: &Correlation,
    input: &[f32],
    output_gradient: &[f32],
    scratch: &mut [f32],
    gradient: &mut [f32],
) {
    let panel = instructions.panel();
    assert_eq!(input.len(), plan.source.length());
    assert_eq!(output_gradient.len(), plan.target.length());
    assert_eq!(gradient.len(), shape.weights());
    let output_gradient = if scratch.is_empty() {
        output_gradient
    } else {
        split_panels(output_gradient, shape.output_channels, panel, scratch);
        &*scratch
    };
    let panels = shape.output_channels.div_ceil(panel);
    let panel_length = shape.output_pixels() * panel;
    assert_eq!(output_gradient.len(), panels * panel_length);

    let fitting = SUMS / (plan.slots.len().max(1) * panel) / ROWS * ROWS;
    let item_channels = fitting.max(ROWS).min(shape.input_channels);
    let groups = shape.input_channels.div_ceil(item_channels);
    let gradient = Shared::new(gradient);
    share(panels * groups, &|item| {
        let (index, first_channel) = (item / groups, item % groups * item_channels);
        instructions.run(ItemKernel {
            shape,
            plan,
            input,
            output_gradient: &output_gradient[index * panel_length..][..panel_length],
            gradient,
            first_channel,
            channels: item_channels.min(shape.input_channels - first_channel),
            first_output: index * panel,
        });
    });
}

/// Copies `[pixels, channels]` to `[panels, pixels, panel]`, with zeros beyond the last channel.
fn split_panels(source: &[f32], channels: usize, panel: usize, target: &mut [f32]) {
    let pixels = source.len() / channels;
    let target = Shared::new(target);
    share(pixels.div_ceil(CHUNK_PIXELS), &|item| {
        for pixel in (item * CHUNK_PIXELS..pixels).take(CHUNK_PIXELS) {
            let source = &source[pixel * channels..][..channels];
            for (index, numbers) in source.chunks(panel).enumerate() {
                // SAFETY: each item has its own pixels.
                let row = unsafe { target.slice((index * pixels + pixel) * panel, panel) };
                let (used, unused) = row.split_at_mut(numbers.len());
                used.copy_from_slice(numbers);
                unused.fill(0.0);
            }
        }
    });
}

/// All taps of some input channels, for one panel of output channels.
struct ItemKernel<'a> {
    shape: &'a ConvolutionShape,
    plan: &'a Correlation,
    input: &'a [f32],
    /// `[output pixels, panel]`
    output_gradient: &'a [f32],
    gradient: Shared<'a>,
    first_channel: usize,
    channels: usize,
    first_output: usize,
}

thread_local! {
    /// Sums of the item that a thread works on: `[slots, channels, panel]`.
    static ITEM_SUMS: std::cell::RefCell<Vec<f32>> = const { std::cell::RefCell::new(Vec::new()) };
}

impl Kernel for ItemKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const VECTORS: usize>(self) {
        let panel = VECTORS * V::COUNT;
        let mut sums = ITEM_SUMS.take();
        sums.clear();
        sums.resize(self.plan.slots.len() * self.channels * panel, 0.0);

        let output_rows = self.plan.target.batch * self.plan.target.height;
        let chunk = (CHUNK_PIXELS / self.plan.target.width).max(1);
        for first_row in (0..output_rows).step_by(chunk) {
            let rows = first_row..output_rows.min(first_row + chunk);
            let sums = sums.chunks_exact_mut(self.channels * panel);
            for (slot, sums) in sums.enumerate() {
                let mut channel = 0;
                for tile in sums.chunks_mut(ROWS * panel) {
                    let rows = rows.clone();
                    match tile.len() / panel {
                        1 => self.add_rows::<V, VECTORS, 1>(slot, channel, rows, tile),
                        2 => self.add_rows::<V, VECTORS, 2>(slot, channel, rows, tile),
                        3 => self.add_rows::<V, VECTORS, 3>(slot, channel, rows, tile),
                        4 => self.add_rows::<V, VECTORS, 4>(slot, channel, rows, tile),
                        5 => self.add_rows::<V, VECTORS, 5>(slot, channel, rows, tile),
                        _ => self.add_rows::<V, VECTORS, ROWS>(slot, channel, rows, tile),
                    }
                    channel += ROWS;
                }
            }
        }
        self.write(&sums, panel);
        ITEM_SUMS.set(sums);
    }
}

impl ItemKernel<'_> {
    /// Adds what the pixels of some rows of the output say about `R` channels at one tap.
    #[inline(always)]
    fn add_rows<V: Lanes, const VECTORS: usize, const R: usize>(
        &self,
        slot: usize,
        channel: usize,
        output_rows: std::ops::Range<usize>,
        sums: &mut [f32],
    ) {
        let Correlation { source, target, phases, .. } = self.plan;
        let (rows, columns) = (&phases[0].rows, &phases[0].columns);
        let row_tap = slot / columns.taps.len();
        let column_tap = slot % columns.taps.len();
        let (seen_rows, seen) = (&rows.outputs[row_tap], &columns.outputs[column_tap]);
        let (up, left) = (rows.taps[row_tap].offset, columns.taps[column_tap].offset);
        let left = ((seen.start * columns.source_step) as isize + left) as usize;
        let step = columns.source_step * source.channels;

        // SAFETY: the sums are those of the tile; `Kernel::run` has the instructions turned on.
        let mut tile = unsafe { load::<V, VECTORS, R>(sums.as_ptr()) };
        for output_row in output_rows {
            let (image, row) = (output_row / target.height, output_row % target.height);
            if !seen_rows.contains(&row) {
                continue;
            }
            let input_row = ((row * rows.source_step) as isize + up) as usize;
            let input = ((image * source.height + input_row) * source.width + left)
                * source.channels
                + self.first_channel
                + channel;
            let output = (output_row * target.width + seen.start) * VECTORS * V::COUNT;
            debug_assert!(input + (seen.len() - 1) * step + R <= self.input.len());
            debug_assert!(output + seen.len() * VECTORS * V::COUNT <= self.output_gradient.len());
            // SAFETY: the outputs that see a tap see it inside of the input, which has the length
            // that the plan says; so has the gradient.
            unsafe {
                let left = self.input.as_ptr().add(input);
                let right = self.output_gradient.as_ptr().add(output);
                add_outer(&mut tile, left, step, right, seen.len());
            }
        }
        for (row, numbers) in tile.into_iter().zip(sums.chunks_exact_mut(VECTORS * V::COUNT)) {
            // SAFETY: as for the loads.
            unsafe { store(row, numbers.as_mut_ptr()) };
        }
    }

    /// Puts sums `[slots, channels, panel]` where they belong.
    #[inline(always)]
    fn write(&self, sums: &[f32], panel: usize) {
        let area = self.shape.area();
        let outputs = panel.min(self.shape.output_channels - self.first_output);
        for output in 0..outputs {
            let start = ((self.first_output + output) * self.shape.input_channels
                + self.first_channel)
                * area;
            // SAFETY: each item has its own channels.
            let gradient = unsafe { self.gradient.slice(start, self.channels * area) };
            if self.plan.slots.len() < area {
                gradient.fill(0.0);
            }
            for (slot, place) in self.plan.slots.iter().enumerate() {
                let sums = sums[slot * self.channels * panel + output..].iter().step_by(panel);
                let gradient = gradient[*place..].iter_mut().step_by(area);
                for (number, sum) in gradient.zip(sums) {
                    *number = *sum;
                }
            }
        }
    }
}
