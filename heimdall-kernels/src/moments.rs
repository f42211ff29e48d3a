//! The arithmetic of Adam: weights and moments in one pass.

use crate::instructions::{Instructions, Kernel, Lanes};
use crate::team::{Shared, share};

/// Numbers that a thread takes at a time.
const PART_LENGTH: usize = 1 << 14;

/// The factors of one step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepFactors {
    pub(crate) beta_1: f32,
    pub(crate) beta_2: f32,
    /// Share of the weights that is added to the gradient.
    pub(crate) gradient_decay: f32,
    /// What the weights are multiplied by before the step.
    pub(crate) kept: f32,
    /// Learning rate, corrected for the youth of both moments.
    pub(crate) rate: f32,
    /// Added to the root of the second moment.
    pub(crate) epsilon: f32,
}

/// Weights of a tensor, and what the optimizer knows about them: all of one length.
pub(crate) struct Moments<'a> {
    pub(crate) weights: &'a mut [f32],
    pub(crate) first: &'a mut [f32],
    pub(crate) second: &'a mut [f32],
}

/// Moves the moments towards the gradient, and the weights against them.
pub(crate) fn step(
    instructions: Instructions,
    factors: StepFactors,
    gradient: &[f32],
    moments: Moments<'_>,
) {
    let length = gradient.len();
    let Moments { weights, first, second } = moments;
    assert_eq!([weights.len(), first.len(), second.len()], [length; 3]);
    let [weights, first, second] = [weights, first, second].map(Shared::new);
    share(length.div_ceil(PART_LENGTH), &|part| {
        let start = part * PART_LENGTH;
        let length = PART_LENGTH.min(length - start);
        instructions.run(StepKernel {
            factors,
            gradient: &gradient[start..][..length],
            // SAFETY: each item has its own part.
            moments: unsafe {
                Moments {
                    weights: weights.slice(start, length),
                    first: first.slice(start, length),
                    second: second.slice(start, length),
                }
            },
        });
    });
}

struct StepKernel<'a> {
    factors: StepFactors,
    gradient: &'a [f32],
    moments: Moments<'a>,
}

impl Kernel for StepKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const VECTORS: usize>(mut self) {
        let length = self.gradient.len();
        let mut place = 0;
        while place + V::COUNT <= length {
            self.at::<V>(place);
            place += V::COUNT;
        }
        while place < length {
            self.at::<f32>(place);
            place += 1;
        }
    }
}

impl StepKernel<'_> {
    #[inline(always)]
    fn at<V: Lanes>(&mut self, place: usize) {
        let StepFactors { beta_1, beta_2, gradient_decay, kept, rate, epsilon } = self.factors;
        // SAFETY: a vector lies within the part, and all four slices are equally long, as `step`
        // asserts; `Kernel::run` has the instructions turned on.
        unsafe {
            let weights = self.moments.weights.as_mut_ptr().add(place);
            let first = self.moments.first.as_mut_ptr().add(place);
            let second = self.moments.second.as_mut_ptr().add(place);
            let weight = V::load(weights);
            let gradient = weight
                .multiply_add(V::splat(gradient_decay), V::load(self.gradient.as_ptr().add(place)));
            let mean = V::splat(1.0 - beta_1)
                .multiply_add(gradient, V::splat(beta_1).multiply(V::load(first)));
            let square = V::splat(1.0 - beta_2)
                .multiply(gradient)
                .multiply_add(gradient, V::splat(beta_2).multiply(V::load(second)));
            mean.store(first);
            square.store(second);
            let change =
                V::splat(rate).multiply(mean).divide(square.square_root().add(V::splat(epsilon)));
            weight.multiply(V::splat(kept)).subtract(change).store(weights);
        }
    }
}
