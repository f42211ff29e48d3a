//! Weights in the order in which the innermost loops read them.

use crate::shape::ConvolutionShape;
use crate::team::{Shared, share};

/// Where the numbers of a packed matrix come from: `weights[lane · lane_step + depth · depth_step +
/// slot]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    lanes: usize,
    lane_step: usize,
    depth: usize,
    depth_step: usize,
}

impl Order {
    /// Vectors along output channels, sums along input channels.
    pub(crate) fn forward(shape: &ConvolutionShape) -> Self {
        let area = shape.area();
        Self {
            lanes: shape.output_channels,
            lane_step: shape.input_channels * area,
            depth: shape.input_channels,
            depth_step: area,
        }
    }

    /// Vectors along input channels, sums along output channels.
    pub(crate) fn input_gradient(shape: &ConvolutionShape) -> Self {
        let area = shape.area();
        Self {
            lanes: shape.input_channels,
            lane_step: area,
            depth: shape.output_channels,
            depth_step: shape.input_channels * area,
        }
    }

    /// Numbers that the packed weights take.
    pub(crate) fn packed_length(&self, slots: usize, panel: usize) -> usize {
        self.lanes.div_ceil(panel) * slots * self.depth * panel
    }
}

/// Rows of depth that are packed at a time, such that what is written stays in the first cache.
const DEPTH: usize = 8;

/// Packs weights `[output_channels, input_channels, height, width]` into
/// `[panels, slots, depth, panel]`, with zeros beyond the last lane.
pub(crate) fn pack(
    weights: &[f32],
    order: Order,
    slots: &[usize],
    panel: usize,
    packed: &mut [f32],
) {
    let panels = order.lanes.div_ceil(panel);
    let depths = order.depth.div_ceil(DEPTH);
    assert_eq!(packed.len(), order.packed_length(slots.len(), panel));
    let packed = Shared::new(packed);
    share(panels * depths, &|item| {
        let (index, first_depth) = (item / depths, item % depths * DEPTH);
        let lanes = panel.min(order.lanes - index * panel);
        let depths = DEPTH.min(order.depth - first_depth);
        for (position, slot) in slots.iter().enumerate() {
            let start = ((index * slots.len() + position) * order.depth + first_depth) * panel;
            // SAFETY: each item has its own panel and depths.
            let rows = unsafe { packed.slice(start, depths * panel) };
            for (row, numbers) in rows.chunks_exact_mut(panel).enumerate() {
                let first =
                    index * panel * order.lane_step + (first_depth + row) * order.depth_step + slot;
                let (used, unused) = numbers.split_at_mut(lanes);
                let source = weights[first..].iter().step_by(order.lane_step);
                for (number, weight) in used.iter_mut().zip(source) {
                    *number = *weight;
                }
                unused.fill(0.0);
            }
        }
    });
}
