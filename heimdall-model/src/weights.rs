//! The weights of a network before training.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};

/// Draws initial weights: the same seed gives the same weights on every device.
///
/// The device's own generator is shared by all threads of a process, so that a network made beside
/// another one would depend on the order of the two.
///
/// # References
///
/// G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014,
/// section 5, [doi:10.1145/2660193.2660195](https://doi.org/10.1145/2660193.2660195).
pub(crate) struct Weights<'a> {
    state: u64,
    device: &'a Device,
}

impl<'a> Weights<'a> {
    pub(crate) fn new(seed: u64, device: &'a Device) -> Self {
        Self { state: seed, device }
    }

    /// The device on which the weights are made.
    pub(crate) fn device(&self) -> &'a Device {
        self.device
    }

    /// Draws from a normal distribution with mean 0.
    pub(crate) fn normal<const D: usize>(
        &mut self,
        shape: [usize; D],
        deviation: f32,
    ) -> Param<Tensor<D>> {
        let count = shape.iter().product::<usize>();
        // One more than needed where the count is odd.
        let mut values: Vec<f32> =
            (0..count.div_ceil(2)).flat_map(|_| self.normal_pair(deviation)).collect();
        values.truncate(count);
        Param::from_data(TensorData::new(values, shape), self.device)
    }

    /// Draws from a uniform distribution between `-bound` and `bound`.
    pub(crate) fn uniform<const D: usize>(
        &mut self,
        shape: [usize; D],
        bound: f32,
    ) -> Param<Tensor<D>> {
        let values: Vec<f32> =
            (0..shape.iter().product()).map(|_| (2.0 * self.unit() - 1.0) * bound).collect();
        Param::from_data(TensorData::new(values, shape), self.device)
    }

    /// Draws two independent numbers by the transform of Box and Muller.
    fn normal_pair(&mut self, deviation: f32) -> [f32; 2] {
        let radius = deviation * (-2.0 * self.unit().ln()).sqrt();
        let (sin, cos) = (std::f32::consts::TAU * self.unit()).sin_cos();
        [radius * cos, radius * sin]
    }

    /// Draws a number above 0 and up to 1, from the upper 24 bits of `SplitMix64`.
    fn unit(&mut self) -> f32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        // An f32 holds integers up to 2²⁴ exactly.
        ((bits >> 40) + 1) as f32 / 16_777_216.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(seed: u64, count: usize) -> Vec<f32> {
        let device = Device::flex();
        let drawn = Weights::new(seed, &device).normal([count], 2.0);
        drawn.val().into_data().try_to_vec().unwrap()
    }

    /// The share within ±1, ±2, ±3 deviations is 68.27, 95.45 and 99.73 %; the standard error of a
    /// share of 100,000 draws is at most 0.16 %.
    #[test]
    fn normal_weights_are_normal() {
        let values = draw(1, 100_001);

        assert_eq!(values.len(), 100_001);
        for (limit, expected) in [(2.0, 0.6827), (4.0, 0.9545), (6.0, 0.9973)] {
            let within = values.iter().filter(|value| value.abs() < limit).count();
            let share = within as f64 / values.len() as f64;
            assert!((share - expected).abs() < 0.006, "{share} is not {expected}");
        }
        let positive = values.iter().filter(|value| **value > 0.0).count() as f64;
        assert!((positive / values.len() as f64 - 0.5).abs() < 0.008, "{positive}");
    }

    #[test]
    fn neighboring_seeds_share_nothing() {
        let (first, second) = (draw(1, 1000), draw(2, 1000));

        let equal = first.iter().zip(&second).filter(|(a, b)| a.to_bits() == b.to_bits()).count();

        assert!(equal < 5, "{equal}");
    }

    /// The first output of `SplitMix64` with seed 0 is 0xe220a8397b1dcdaf.
    #[test]
    fn generator_is_the_published_one() {
        let device = Device::flex();

        let unit = Weights::new(0, &device).unit();

        let expected = (0x00e2_20a8_u32 + 1) as f32 / 16_777_216.0;
        assert!((unit - expected).abs() < f32::EPSILON, "{unit} is not {expected}");
    }

    #[test]
    fn uniform_weights_stay_within_their_bound() {
        let device = Device::flex();

        let drawn = Weights::new(3, &device).uniform([40, 50], 0.25);

        let values: Vec<f32> = drawn.val().into_data().try_to_vec().unwrap();
        let largest = values.iter().fold(0_f32, |largest, value| largest.max(value.abs()));
        // The largest of 2000 is below 99 % of the bound once in 500 million seeds.
        assert!(largest <= 0.25 && largest > 0.2475, "{largest}");
    }
}
