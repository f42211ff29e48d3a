//! Which source pixels each output pixel of a convolution sees, padding left out.

use std::ops::Range;

/// The shape of a convolution with zeros around the input. Pairs go down and to the right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConvolutionShape {
    pub(crate) batch: usize,
    pub(crate) input_height: usize,
    pub(crate) input_width: usize,
    pub(crate) input_channels: usize,
    pub(crate) output_channels: usize,
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) padding: [usize; 2],
}

impl ConvolutionShape {
    /// # Panics
    ///
    /// If the window does not fit into the padded input.
    pub(crate) fn validate(&self) {
        for (axis, length) in [self.input_height, self.input_width].into_iter().enumerate() {
            let (kernel, padded) = (self.kernel[axis], length + 2 * self.padding[axis]);
            assert!(self.stride[axis] > 0 && kernel > 0, "stride and kernel must be at least 1");
            assert!(
                kernel <= padded,
                "a kernel of {kernel} does not fit into an input of {padded}"
            );
        }
    }

    fn output_length(&self, axis: usize, input_length: usize) -> usize {
        (input_length + 2 * self.padding[axis] - self.kernel[axis]) / self.stride[axis] + 1
    }

    pub(crate) fn output_height(&self) -> usize {
        self.output_length(0, self.input_height)
    }

    pub(crate) fn output_width(&self) -> usize {
        self.output_length(1, self.input_width)
    }

    /// Pixels of the input, over the whole batch.
    pub(crate) fn input_pixels(&self) -> usize {
        self.batch * self.input_height * self.input_width
    }

    /// Pixels of the output, over the whole batch.
    pub(crate) fn output_pixels(&self) -> usize {
        self.batch * self.output_height() * self.output_width()
    }

    /// Places of the kernel.
    pub(crate) fn area(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    pub(crate) fn weights(&self) -> usize {
        self.output_channels * self.input_channels * self.area()
    }

    fn input_grid(&self) -> Grid {
        Grid {
            batch: self.batch,
            height: self.input_height,
            width: self.input_width,
            channels: self.input_channels,
        }
    }

    fn output_grid(&self) -> Grid {
        Grid {
            batch: self.batch,
            height: self.output_height(),
            width: self.output_width(),
            channels: self.output_channels,
        }
    }

    /// From input to output.
    pub(crate) fn forward(&self) -> Correlation {
        let axis = |axis: usize, input: usize, output: usize| {
            let padding = self.padding[axis] as isize;
            let taps = (0..self.kernel[axis])
                .map(|kernel| Tap { offset: kernel as isize - padding, kernel });
            vec![Axis::new(0, 1, output, taps, self.stride[axis], input)]
        };
        Correlation::new(
            self.kernel[1],
            self.input_grid(),
            self.output_grid(),
            &axis(0, self.input_height, self.output_height()),
            &axis(1, self.input_width, self.output_width()),
        )
    }

    /// From the gradient of the output to that of the input.
    ///
    /// With a stride of two, an input pixel in an even row saw other taps of the kernel than one in
    /// an odd row: each phase of the stride is a correlation of its own, with a stride of one.
    pub(crate) fn input_gradient(&self) -> Correlation {
        let axis = |axis: usize, input: usize, output: usize| {
            let (stride, padding) = (self.stride[axis], self.padding[axis]);
            let phase = |phase: usize| {
                // Output `i` saw input `i · stride + kernel − padding`: solve for `i`.
                let taps = (0..self.kernel[axis]).rev().filter_map(|kernel| {
                    let distance = (phase + padding) as isize - kernel as isize;
                    let stride = stride as isize;
                    (distance % stride == 0).then_some(Tap { offset: distance / stride, kernel })
                });
                let count = input.saturating_sub(phase).div_ceil(stride);
                Axis::new(phase, stride, count, taps, 1, output)
            };
            (0..stride).map(phase).collect::<Vec<_>>()
        };
        Correlation::new(
            self.kernel[1],
            self.output_grid(),
            self.input_grid(),
            &axis(0, self.input_height, self.output_height()),
            &axis(1, self.input_width, self.output_width()),
        )
    }
}

/// The shape of an image whose channels lie one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) batch: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
}

impl Grid {
    /// Numbers in the image.
    pub(crate) fn length(&self) -> usize {
        self.batch * self.height * self.width * self.channels
    }
}

/// One place of the kernel along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tap {
    /// Distance from the source position of an output, which is `output · source_step`.
    pub(crate) offset: isize,
    /// Place in the kernel.
    pub(crate) kernel: usize,
}

/// Neighboring outputs that see the same taps, and see no padding through them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) start: usize,
    pub(crate) count: usize,
    pub(crate) first_tap: usize,
    pub(crate) taps: usize,
}

/// One axis of a correlation: outputs `target_start + i · target_step` for `i < count`, made from
/// sources `i · source_step + offset`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Axis {
    pub(crate) target_start: usize,
    pub(crate) target_step: usize,
    pub(crate) source_step: usize,
    /// In the order of their offsets, which are neighbors; none that sees nothing but padding.
    pub(crate) taps: Vec<Tap>,
    pub(crate) segments: Vec<Segment>,
    /// The outputs that see a source through each tap: never none.
    pub(crate) outputs: Vec<Range<usize>>,
}

impl Axis {
    /// Takes taps in the order of their offsets, which are neighbors.
    fn new(
        target_start: usize,
        target_step: usize,
        count: usize,
        taps: impl Iterator<Item = Tap>,
        source_step: usize,
        source_length: usize,
    ) -> Self {
        let is_inside = |output: usize, tap: &Tap| {
            usize::try_from((output * source_step) as isize + tap.offset)
                .is_ok_and(|source| source < source_length)
        };
        // The first tap of an axis has the lowest offset: what is used has no gap.
        let taps: Vec<Tap> =
            taps.filter(|tap| (0..count).any(|output| is_inside(output, tap))).collect();
        let mut segments: Vec<Segment> = Vec::new();
        for output in 0..count {
            let first_tap =
                taps.iter().position(|tap| is_inside(output, tap)).unwrap_or(taps.len());
            let seen = taps[first_tap..].iter().take_while(|tap| is_inside(output, tap)).count();
            match segments.last_mut() {
                Some(last) if (last.first_tap, last.taps) == (first_tap, seen) => last.count += 1,
                _ => segments.push(Segment { start: output, count: 1, first_tap, taps: seen }),
            }
        }
        let outputs = taps.iter().map(|tap| {
            let first = (0..count).find(|output| is_inside(*output, tap));
            let first = first.expect("a tap that sees nothing was left out");
            let seeing = (first..count).take_while(|output| is_inside(*output, tap)).count();
            first..first + seeing
        });
        let outputs = outputs.collect();
        Self { target_start, target_step, source_step, taps, segments, outputs }
    }
}

/// A pair of axes, and where its taps begin among the packed weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Phase {
    pub(crate) rows: Axis,
    pub(crate) columns: Axis,
    pub(crate) first_slot: usize,
}

/// Output pixels of one phase that all see the same taps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) phase: usize,
    pub(crate) rows: Segment,
    pub(crate) columns: Segment,
    /// Pixels are counted along columns, rows and batch.
    pub(crate) first_pixel: usize,
    pub(crate) pixels: usize,
}

/// Pixels of a block, at most: enough that threads seldom ask for more, few enough to share out.
const BLOCK_PIXELS: usize = 96;

/// A sum over the taps of a kernel for each pixel of a target, with all padding left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Correlation {
    pub(crate) source: Grid,
    pub(crate) target: Grid,
    pub(crate) phases: Vec<Phase>,
    /// The place in the kernel, `row · width + column`, of each slot of the packed weights.
    pub(crate) slots: Vec<usize>,
    /// All pixels of the target, each in one block.
    pub(crate) blocks: Vec<Block>,
}

impl Correlation {
    fn new(
        kernel_width: usize,
        source: Grid,
        target: Grid,
        rows: &[Axis],
        columns: &[Axis],
    ) -> Self {
        let mut phases = Vec::new();
        let mut slots = Vec::new();
        let mut blocks = Vec::new();
        for rows in rows {
            for columns in columns {
                let phase = phases.len();
                phases.push(Phase {
                    rows: rows.clone(),
                    columns: columns.clone(),
                    first_slot: slots.len(),
                });
                for row in &rows.taps {
                    slots.extend(
                        columns.taps.iter().map(|tap| row.kernel * kernel_width + tap.kernel),
                    );
                }
                for &rows in &rows.segments {
                    for &columns in &columns.segments {
                        let all = target.batch * rows.count * columns.count;
                        blocks.extend((0..all).step_by(BLOCK_PIXELS).map(|first_pixel| Block {
                            phase,
                            rows,
                            columns,
                            first_pixel,
                            pixels: BLOCK_PIXELS.min(all - first_pixel),
                        }));
                    }
                }
            }
        }
        Self { source, target, phases, slots, blocks }
    }
}
