//! Sums of squares.

use crate::buffer::Buffer;
use crate::instructions::{Instructions, Kernel, Lanes};
use crate::team::{Shared, share};

/// Numbers whose squares are added up in single precision before the sum goes on in double.
const PART_LENGTH: usize = 1 << 12;

/// Adds up the squares of all numbers.
pub(crate) fn sum_of_squares(instructions: Instructions, numbers: &[f32]) -> f64 {
    let parts = numbers.len().div_ceil(PART_LENGTH);
    let mut sums = Buffer::take(parts);
    let shared = Shared::new(&mut sums);
    share(parts, &|part| {
        let start = part * PART_LENGTH;
        let length = PART_LENGTH.min(numbers.len() - start);
        // SAFETY: each item has its own sum.
        let sum = unsafe { shared.slice(part, 1) };
        sum[0] = instructions.run(SquareKernel(&numbers[start..][..length]));
    });
    sums.iter().map(|sum| f64::from(*sum)).sum()
}

struct SquareKernel<'a>(&'a [f32]);

impl Kernel for SquareKernel<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<V: Lanes, const VECTORS: usize>(self) -> f32 {
        let blocks = self.0.chunks_exact(4 * V::COUNT);
        let rest: f32 = blocks.remainder().iter().map(|number| number * number).sum();
        let mut lanes = [0.0; 64];
        // SAFETY: a block has four vectors, and four of the widest vectors have 64 numbers;
        // `Kernel::run` has the instructions turned on.
        unsafe {
            let mut sums = [V::splat(0.0); 4];
            for block in blocks {
                for (index, sum) in sums.iter_mut().enumerate() {
                    let numbers = V::load(block.as_ptr().add(index * V::COUNT));
                    *sum = numbers.multiply_add(numbers, *sum);
                }
            }
            for (index, sum) in sums.into_iter().enumerate() {
                sum.store(lanes.as_mut_ptr().add(index * V::COUNT));
            }
        }
        lanes.iter().sum::<f32>() + rest
    }
}
