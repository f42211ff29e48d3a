//! A logarithm that compilers turn into vector instructions.

/// Nearest number below the square root of one half, as bits.
const ROOT_HALF_BITS: u32 = 0x3f35_04f3;
/// Bits of the mantissa.
const MANTISSA_BITS: u32 = 23;
/// Decibels of a factor of two, rounded to so few bits that its product with an exponent is exact.
const DB_PER_OCTAVE: f32 = 3.010_254;
/// What that rounding leaves out.
const DB_PER_OCTAVE_REST: f32 = 4.605_039e-5;
/// Decibels of a factor of e.
const DB_PER_NEPER: f32 = 4.342_944_8;

/// Converts a power to decibels, `10 log10(power)`, for normal positive numbers.
///
/// The power is split into `2^e m` with `m` between the roots of 1/2 and 2, and
/// `ln m = 2 artanh t` with `t = (m - 1) / (m + 1)`, of which five terms are exact to 1e-9. The
/// result is within one unit of its last place, and 1e-6 dB near zero.
#[inline(always)]
pub(crate) fn decibels(power: f32) -> f32 {
    let bits = power.to_bits();
    // Arithmetic shift: the exponent, counted from the root of one half.
    let exponent = bits.wrapping_sub(ROOT_HALF_BITS).cast_signed() >> MANTISSA_BITS;
    let mantissa = f32::from_bits(bits.wrapping_sub(exponent.cast_unsigned() << MANTISSA_BITS));
    let t = (mantissa - 1.0) / (mantissa + 1.0);
    let square = t * t;
    let series = 1.0 / 3.0 + square * (1.0 / 5.0 + square * (1.0 / 7.0 + square * (1.0 / 9.0)));
    let natural = 2.0 * t + 2.0 * t * square * series;
    let octaves = exponent as f32; // At most three digits.
    octaves * DB_PER_OCTAVE + (natural * DB_PER_NEPER + octaves * DB_PER_OCTAVE_REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_two_are_exact() {
        for exponent in -120..=120 {
            let expected = 10.0 * 2_f64.powi(exponent).log10();

            let difference = f64::from(decibels(2_f32.powi(exponent))) - expected;

            assert!(difference.abs() <= 0.5 * f64::from((expected as f32).abs()) * 2_f64.powi(-23));
        }
    }

    /// Some 500,000 numbers over the whole range of exponents, against double precision.
    #[test]
    fn error_is_below_one_unit_of_the_last_place() {
        let (first, last) = (f32::MIN_POSITIVE.to_bits(), f32::MAX.to_bits());
        for bits in (first..last).step_by(4_099) {
            let power = f32::from_bits(bits);
            let expected = 10.0 * f64::from(power).log10();

            let difference = (f64::from(decibels(power)) - expected).abs();

            let unit = expected.abs() * 2_f64.powi(-23);
            assert!(difference <= unit.max(1e-6), "{power:e} is off by {difference:e} dB");
        }
    }
}
