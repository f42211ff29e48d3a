//! Signals with known properties, for the tests of this crate.

use num_complex::{Complex32, Complex64};

/// A carrier of amplitude 1 that makes `cycles` full turns per sample.
pub(crate) fn carrier(length: usize, cycles: f64) -> Vec<Complex32> {
    (0..length)
        .map(|n| {
            let value = Complex64::cis(std::f64::consts::TAU * (cycles * n as f64).fract());
            Complex32::new(value.re as f32, value.im as f32)
        })
        .collect()
}

/// Complex white Gaussian noise of power 1.
pub(crate) fn gaussian_noise(length: usize, seed: u64) -> Vec<Complex32> {
    let mut state = seed;
    (0..length)
        .map(|_| {
            let radius = (-uniform(&mut state).ln()).sqrt();
            let value = Complex64::from_polar(radius, std::f64::consts::TAU * uniform(&mut state));
            Complex32::new(value.re as f32, value.im as f32)
        })
        .collect()
}

/// A number in `(0, 1]` from the generator `SplitMix64`.
pub(crate) fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut x = *state;
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^= x >> 31;
    ((x >> 11) + 1) as f64 / (1_u64 << 53) as f64
}
