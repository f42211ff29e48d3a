//! The largest number under each place of a window.

use crate::instructions::{Instructions, Kernel, Lanes};
use crate::shape::ConvolutionShape;
use crate::team::{Shared, share};

/// Computes the largest number under each window, per channel; padding counts as `-∞`.
///
/// The channels of the shape's input and output are the same.
pub(crate) fn max_pool(
    instructions: Instructions,
    shape: &ConvolutionShape,
    input: &[f32],
    output: &mut [f32],
) {
    let channels = shape.input_channels;
    assert_eq!(input.len(), shape.input_pixels() * channels);
    assert_eq!(output.len(), shape.output_pixels() * channels);
    let row_length = shape.output_width() * channels;
    let output = Shared::new(output);
    share(shape.batch * shape.output_height(), &|row| {
        instructions.run(RowKernel {
            shape,
            input,
            image: row / shape.output_height(),
            row: row % shape.output_height(),
            // SAFETY: each item has its own row.
            output: unsafe { output.slice(row * row_length, row_length) },
        });
    });
}

/// One row of the output.
struct RowKernel<'a> {
    shape: &'a ConvolutionShape,
    input: &'a [f32],
    image: usize,
    row: usize,
    output: &'a mut [f32],
}

impl Kernel for RowKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const VECTORS: usize>(self) {
        let channels = self.shape.input_channels;
        for (column, largest) in self.output.chunks_exact_mut(channels).enumerate() {
            largest.fill(f32::NEG_INFINITY);
            for pixel in window(self.shape, self.image, self.row, column) {
                let numbers = &self.input[pixel * channels..][..channels];
                for (largest, number) in largest.iter_mut().zip(numbers) {
                    // What is not a number stays that.
                    let is_larger = *number > *largest || number.is_nan();
                    *largest = if is_larger { *number } else { *largest };
                }
            }
        }
    }
}

/// Computes the gradient of the input: each window's goes to the first of its largest numbers.
pub(crate) fn max_pool_gradient(
    instructions: Instructions,
    shape: &ConvolutionShape,
    input: &[f32],
    output: &[f32],
    output_gradient: &[f32],
    input_gradient: &mut [f32],
) {
    let channels = shape.input_channels;
    assert_eq!(input.len(), shape.input_pixels() * channels);
    assert_eq!(input_gradient.len(), input.len());
    assert_eq!(output.len(), shape.output_pixels() * channels);
    assert_eq!(output_gradient.len(), output.len());
    let image_length = shape.input_height * shape.input_width * channels;
    let input_gradient = Shared::new(input_gradient);
    share(shape.batch, &|image| {
        instructions.run(ImageGradientKernel {
            shape,
            input,
            output,
            output_gradient,
            image,
            // SAFETY: each item has its own image.
            input_gradient: unsafe { input_gradient.slice(image * image_length, image_length) },
        });
    });
}

/// One image of the input.
struct ImageGradientKernel<'a> {
    shape: &'a ConvolutionShape,
    input: &'a [f32],
    output: &'a [f32],
    output_gradient: &'a [f32],
    image: usize,
    input_gradient: &'a mut [f32],
}

impl Kernel for ImageGradientKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const VECTORS: usize>(self) {
        let channels = self.shape.input_channels;
        let (height, width) = (self.shape.output_height(), self.shape.output_width());
        let first_pixel = self.image * self.shape.input_height * self.shape.input_width;
        self.input_gradient.fill(0.0);
        // Gradient of a window that has not found its number yet.
        let mut left = vec![0.0; channels];
        for (row, column) in (0..height).flat_map(|row| (0..width).map(move |column| (row, column)))
        {
            let place = ((self.image * height + row) * width + column) * channels;
            left.copy_from_slice(&self.output_gradient[place..][..channels]);
            let largest = &self.output[place..][..channels];
            for pixel in window(self.shape, self.image, row, column) {
                let numbers = &self.input[pixel * channels..][..channels];
                let gradient =
                    &mut self.input_gradient[(pixel - first_pixel) * channels..][..channels];
                for channel in 0..channels {
                    // Equal to the largest is not below it.
                    let is_it = numbers[channel] >= largest[channel];
                    gradient[channel] += if is_it { left[channel] } else { 0.0 };
                    left[channel] = if is_it { 0.0 } else { left[channel] };
                }
            }
        }
    }
}

/// The pixels of the input under a window, padding left out.
#[inline(always)]
fn window(
    shape: &ConvolutionShape,
    image: usize,
    row: usize,
    column: usize,
) -> impl Iterator<Item = usize> {
    let &ConvolutionShape { input_height, input_width, kernel, stride, padding, .. } = shape;
    let inside = move |axis: usize, place: usize, length: usize| {
        let start = place * stride[axis];
        let end = (start + kernel[axis]).saturating_sub(padding[axis]);
        start.saturating_sub(padding[axis])..end.min(length)
    };
    let (rows, columns) = (inside(0, row, input_height), inside(1, column, input_width));
    rows.flat_map(move |row| {
        let first = (image * input_height + row) * input_width;
        columns.clone().map(move |column| first + column)
    })
}
