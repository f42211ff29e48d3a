//! Random numbers that are functions of a key, so that no draw depends on another one's turn.

use std::f64::consts::TAU;

use num_complex::Complex32;

/// What a stream of random numbers decides: streams of two purposes share no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Purpose {
    /// Wave vectors and phases of the fields of a world.
    Field,
    /// Gain and oscillator of a receiver.
    ReceiverChain,
    /// Place of a session.
    Place,
    /// Class, power and oscillator of a session's transmitter.
    Transmitter,
    /// The part of the shadowing that changes from session to session.
    SessionShadowing,
    /// Echo delays and Rice factor of a link.
    Multipath,
    /// Phases and amplitudes of the paths during one event.
    Fading,
    /// What is transmitted.
    Waveform,
    /// Error of a receiver's clock during one event.
    Clock,
    /// Whether a receiver is out of order.
    Outage,
    /// Noise of a receiver.
    Noise,
    /// Kind of the transmission.
    WaveformKind,
    /// Quality of a receiver's clock.
    ReceiverClock,
    /// Errors of the estimates that a receiver makes of its recording.
    Measurement,
}

/// Names a stream of random numbers within a world.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamKey {
    purpose: Purpose,
    lane: u32,
    index: u64,
}

impl StreamKey {
    /// Names the stream of something that belongs to the whole world.
    pub(crate) fn world(purpose: Purpose, lane: usize) -> Self {
        Self::link(purpose, 0, lane)
    }

    /// Names the stream of something that belongs to a session or an event.
    pub(crate) fn at(purpose: Purpose, index: usize) -> Self {
        Self::link(purpose, index, 0)
    }

    /// Names the stream of something between a session's or an event's transmitter and a receiver.
    pub(crate) fn link(purpose: Purpose, index: usize, receiver: usize) -> Self {
        // Networks have far fewer than 2²⁴ receivers, and `usize` has at most 64 bits.
        debug_assert!(receiver < 1 << 24);
        Self { purpose, lane: receiver as u32, index: index as u64 }
    }
}

/// A stream of random numbers: the Philox 4×32-10 counter-based generator.
///
/// The world's seed is the key of the generator, and the stream's name is the upper part of its
/// counter. Any stream can therefore be drawn from at any time, on any thread.
///
/// # References
///
/// J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2,
/// 3", *SC11*, 2011, [doi:10.1145/2063384.2063405](https://doi.org/10.1145/2063384.2063405).
#[derive(Clone, Debug)]
pub(crate) struct RandomStream {
    seed: [u32; 2],
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

impl RandomStream {
    pub(crate) fn new(seed: u64, key: StreamKey) -> Self {
        let lane = (key.purpose as u32) << 24 | key.lane;
        let [index_low, index_high] = halves(key.index);
        Self {
            seed: halves(seed),
            counter: [0, lane, index_low, index_high],
            block: [0; 4],
            used: 4,
        }
    }

    fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox(self.counter, self.seed);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// Draws a number of the half-open interval from 0 to 1.
    pub(crate) fn uniform(&mut self) -> f64 {
        let bits = u64::from(self.next_u32()) << 32 | u64::from(self.next_u32());
        // The upper 53 bits, which an `f64` holds exactly.
        (bits >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// Draws a number between two others.
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Draws an angle of the full circle, in radians.
    pub(crate) fn angle(&mut self) -> f64 {
        TAU * self.uniform()
    }

    /// Draws from the exponential distribution of mean 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        -(1.0 - self.uniform()).ln()
    }

    /// Draws from the normal distribution of mean 0 and variance 1.
    pub(crate) fn normal(&mut self) -> f64 {
        (2.0 * self.exponential()).sqrt() * self.angle().cos()
    }

    /// Draws from the circular complex normal distribution of mean power 1.
    pub(crate) fn complex_normal(&mut self) -> Complex32 {
        const UNIT: f32 = 1.0 / (1_u64 << 32) as f32;
        // The first factor is never zero; both round to the nearest `f32`.
        let power = -((self.next_u32() as f32 + 0.5) * UNIT).ln();
        let angle = self.next_u32() as f32 * UNIT * std::f32::consts::TAU;
        // Rounding can lift the argument of the logarithm to just above one.
        Complex32::from_polar(power.max(0.0).sqrt(), angle)
    }
}

/// Splits a number into its lower and its upper half.
fn halves(number: u64) -> [u32; 2] {
    // Truncation to the lower half is meant.
    [number as u32, (number >> 32) as u32]
}

/// Encrypts a counter with a key in ten rounds.
fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut c0, mut c1, mut c2, mut c3] = counter;
    let [mut k0, mut k1] = key;
    for _ in 0..10 {
        let [low0, high0] = halves(u64::from(c0) * 0xD251_1F53);
        let [low1, high1] = halves(u64::from(c2) * 0xCD9E_8D57);
        [c0, c1, c2, c3] = [high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0];
        k0 = k0.wrapping_add(0x9E37_79B9);
        k1 = k1.wrapping_add(0xBB67_AE85);
    }
    [c0, c1, c2, c3]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that the authors of the generator publish (Random123, `kat_vectors`).
    #[test]
    fn philox_gives_its_known_answers() {
        let ones = u32::MAX;
        let zeros = philox([0; 4], [0; 2]);
        let full = philox([ones; 4], [ones; 2]);
        let pi = philox(
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
        );

        assert_eq!(zeros, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(full, [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(pi, [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn streams_of_different_names_differ() {
        let draw = |seed, key| RandomStream::new(seed, key).uniform().to_bits();
        let draws = [
            draw(1, StreamKey::link(Purpose::Noise, 3, 4)),
            draw(2, StreamKey::link(Purpose::Noise, 3, 4)),
            draw(1, StreamKey::link(Purpose::Clock, 3, 4)),
            draw(1, StreamKey::link(Purpose::Noise, 4, 4)),
            draw(1, StreamKey::link(Purpose::Noise, 3, 5)),
        ];

        for (place, one) in draws.iter().enumerate() {
            assert!(!draws[place + 1..].contains(one), "{draws:?}");
        }
    }

    /// Means of `n` draws lie within five standard errors of the moments of the distributions.
    #[test]
    fn moments_are_those_of_the_distributions() {
        let n = 40_000;
        let mut random = RandomStream::new(7, StreamKey::world(Purpose::Noise, 0));
        let mean =
            |draw: &mut dyn FnMut() -> f64| (0..n).map(|_| draw()).sum::<f64>() / f64::from(n);
        let five_errors = |variance: f64| 5.0 * (variance / f64::from(n)).sqrt();

        let uniform = mean(&mut || random.uniform());
        let normal = mean(&mut || random.normal());
        let normal_square = mean(&mut || random.normal().powi(2));
        let normal_fourth = mean(&mut || random.normal().powi(4));
        let exponential = mean(&mut || random.exponential());
        let power = mean(&mut || f64::from(random.complex_normal().norm_sqr()));
        let squared_power = mean(&mut || f64::from(random.complex_normal().norm_sqr().powi(2)));

        assert!((uniform - 0.5).abs() < five_errors(1.0 / 12.0), "{uniform}");
        assert!(normal.abs() < five_errors(1.0), "{normal}");
        assert!((normal_square - 1.0).abs() < five_errors(2.0), "{normal_square}");
        assert!((normal_fourth - 3.0).abs() < five_errors(96.0), "{normal_fourth}");
        assert!((exponential - 1.0).abs() < five_errors(1.0), "{exponential}");
        assert!((power - 1.0).abs() < five_errors(1.0), "{power}");
        assert!((squared_power - 2.0).abs() < five_errors(20.0), "{squared_power}");
    }
}
