//! The convolution written out as a sum of products: slow, obvious, and the measure of the fast one
//! on every set of instructions.

use proptest::prelude::*;

use crate::correlate::correlate;
use crate::instructions::Instructions;
use crate::pack::{Order, pack};
use crate::shape::{ConvolutionShape, Correlation};
use crate::weight_gradient::{scratch_length, weight_gradient};

/// Output, gradient of the input, and gradient of the weights.
type Results<T> = [Vec<T>; 3];

fn slow(shape: &ConvolutionShape, [input, weights, seen]: [&[f32]; 3]) -> Results<f64> {
    let mut results = [vec![0.0; seen.len()], vec![0.0; input.len()], vec![0.0; weights.len()]];
    let [height, width] = shape.kernel;
    let inside = |axis: usize, place: usize, tap: usize, length: usize| {
        let source = (place * shape.stride[axis] + tap).checked_sub(shape.padding[axis])?;
        (source < length).then_some(source)
    };
    for image in 0..shape.batch {
        for row in 0..shape.output_height() {
            for column in 0..shape.output_width() {
                for tap in 0..height * width {
                    let Some(up) = inside(0, row, tap / width, shape.input_height) else {
                        continue;
                    };
                    let Some(left) = inside(1, column, tap % width, shape.input_width) else {
                        continue;
                    };
                    let source = (image * shape.input_height + up) * shape.input_width + left;
                    let target =
                        (image * shape.output_height() + row) * shape.output_width() + column;
                    for from in 0..shape.input_channels {
                        for to in 0..shape.output_channels {
                            let x = source * shape.input_channels + from;
                            let y = target * shape.output_channels + to;
                            let w = (to * shape.input_channels + from) * height * width + tap;
                            results[0][y] += f64::from(input[x]) * f64::from(weights[w]);
                            results[1][x] += f64::from(seen[y]) * f64::from(weights[w]);
                            results[2][w] += f64::from(seen[y]) * f64::from(input[x]);
                        }
                    }
                }
            }
        }
    }
    results
}

fn correlated(
    instructions: Instructions,
    plan: &Correlation,
    order: Order,
    source: &[f32],
    weights: &[f32],
) -> Vec<f32> {
    let panel = instructions.panel();
    let mut packed = vec![f32::NAN; order.packed_length(plan.slots.len(), panel)];
    pack(weights, order, &plan.slots, panel, &mut packed);
    let mut target = vec![f32::NAN; plan.target.length()];
    correlate(instructions, plan, source, &packed, &mut target);
    target
}

fn fast(
    instructions: Instructions,
    shape: &ConvolutionShape,
    [input, weights, seen]: [&[f32]; 3],
) -> Results<f32> {
    let mut scratch = vec![f32::NAN; scratch_length(shape, instructions.panel())];
    let mut gradient = vec![f32::NAN; weights.len()];
    let plan = shape.forward();
    weight_gradient(instructions, shape, &plan, input, seen, &mut scratch, &mut gradient);
    [
        correlated(instructions, &plan, Order::forward(shape), input, weights),
        correlated(
            instructions,
            &shape.input_gradient(),
            Order::input_gradient(shape),
            seen,
            weights,
        ),
        gradient,
    ]
}

fn shapes() -> impl Strategy<Value = ConvolutionShape> {
    let kernel = || prop::sample::select(vec![1_usize, 2, 3, 7]);
    let channels = || prop_oneof![1_usize..20, 60_usize..70];
    (
        1_usize..4,
        [1_usize..10, 1_usize..10],
        [channels(), channels()],
        [kernel(), kernel()],
        [1_usize..4, 1_usize..4],
        [0_usize..4, 0_usize..4],
    )
        .prop_map(|(batch, [input_height, input_width], channels, kernel, stride, padding)| {
            ConvolutionShape {
                batch,
                input_height: input_height.max(kernel[0]),
                input_width: input_width.max(kernel[1]),
                input_channels: channels[0],
                output_channels: channels[1],
                kernel,
                stride,
                padding,
            }
        })
}

/// Numbers between −1 and 1 without a pattern.
fn random(seed: u32, length: usize) -> Vec<f32> {
    let mut state = u64::from(seed) * 2 + 1;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    (0..length).map(|_| next()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Within the rounding of a sum of a few thousand products.
    #[test]
    fn all_instructions_compute_the_sum_of_products(shape in shapes(), seed: u32) {
        let input = random(seed, shape.input_pixels() * shape.input_channels);
        let weights = random(seed ^ 1, shape.weights());
        let seen = random(seed ^ 2, shape.output_pixels() * shape.output_channels);
        let expected = slow(&shape, [&input, &weights, &seen]);

        for instructions in Instructions::available() {
            let actual = fast(instructions, &shape, [&input, &weights, &seen]);

            for (expected, actual) in expected.iter().zip(&actual) {
                prop_assert_eq!(expected.len(), actual.len());
                let largest = expected.iter().fold(1_f64, |largest, x| largest.max(x.abs()));
                for (expected, actual) in expected.iter().zip(actual) {
                    let difference = (expected - f64::from(*actual)).abs();
                    prop_assert!(difference <= 1e-5 * largest, "{} is not {}", actual, expected);
                }
            }
        }
    }
}
