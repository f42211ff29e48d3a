//! Random numbers of an event in an epoch: the same ones whenever somebody asks.

use blake3::{Hasher, OutputReader};

/// A stream of random numbers for one purpose.
pub(super) struct EventRandom(OutputReader);

impl EventRandom {
    pub(super) fn new(purpose: &str, seed: u64, epoch: usize, event: &str) -> Self {
        let mut hasher = Hasher::new_derive_key(purpose);
        hasher.update(&seed.to_le_bytes()).update(&(epoch as u64).to_le_bytes());
        Self(hasher.update(event.as_bytes()).finalize_xof())
    }

    /// A number at least 0 and below 1.
    pub(super) fn unit(&mut self) -> f64 {
        let mut word = [0; 8];
        self.0.fill(&mut word);
        // The upper 53 bits are what a double holds exactly.
        (u64::from_le_bytes(word) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number of the standard normal distribution, by the method of Box and Muller.
    pub(super) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}
