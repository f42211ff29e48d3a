//! Random numbers for tests: few, and the same on every machine.

/// A linear congruential generator.
///
/// # References
///
/// D. E. Knuth, *The Art of Computer Programming* 2, section 3.3.4, the constants of MMIX.
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Self { state: seed };
        // Seeds that differ by little start with numbers that do.
        for _ in 0..8 {
            random.uniform();
        }
        random
    }

    /// A number at least 0 and below 1.
    pub(crate) fn uniform(&mut self) -> f64 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // The upper 53 bits are exactly a mantissa.
        (self.state >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number of the standard normal distribution, by the method of Box and Muller.
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mean and the variance of 10,000 numbers, within five standard deviations of each.
    #[test]
    fn normal_numbers_are_normal() {
        let mut random = Random::new(7);

        let numbers: Vec<f64> = (0..10_000).map(|_| random.normal()).collect();

        let mean = numbers.iter().sum::<f64>() / 1e4;
        let variance = numbers.iter().map(|number| number * number).sum::<f64>() / 1e4;
        assert!(mean.abs() < 0.05, "{mean}");
        assert!((variance - 1.0).abs() < 5.0 * (2.0_f64 / 1e4).sqrt(), "{variance}");
    }
}
