//! How numbers become samples.

use num_complex::Complex32;

/// The largest part of a sample that a 16-bit converter tells from clipping: what is known of
/// numbers that were floating-point when they were written.
pub(super) const FULL_SCALE: f32 = 32_767.0 / 32_768.0;

/// How one part of a sample is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    F64,
    F32,
    I32,
    I24,
    I16,
    I8,
    U32,
    U16,
    U8,
    /// Of a converter whose zero lies between two codes, as in RTL-SDR receivers.
    U8Centered,
}

/// How a sample is written: its real part, then its imaginary part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SampleType {
    pub(super) number: Number,
    pub(super) big_endian: bool,
}

impl SampleType {
    pub(super) const CF32: Self = Self::little(Number::F32);

    pub(super) const fn little(number: Number) -> Self {
        Self { number, big_endian: false }
    }

    /// Finds the type by the name that the SigMF standard gives it, without the `c` or `r` of
    /// complex or real: `f32_le`, `i8`.
    pub(super) fn from_sigmf(name: &str) -> Option<Self> {
        let (number, order) = name.split_once('_').map_or((name, None), |(n, o)| (n, Some(o)));
        let number = match number {
            "f64" => Number::F64,
            "f32" => Number::F32,
            "i32" => Number::I32,
            "i16" => Number::I16,
            "i8" => Number::I8,
            "u32" => Number::U32,
            "u16" => Number::U16,
            "u8" => Number::U8,
            _ => return None,
        };
        // One byte has no order; of more bytes the standard wants it stated.
        match (order, number.bytes()) {
            (None, 1) | (Some("le"), _) => Some(Self::little(number)),
            (Some("be"), _) => Some(Self { number, big_endian: true }),
            _ => None,
        }
    }

    /// Bytes from one sample to the next of a single channel.
    pub(super) fn bytes(self) -> usize {
        2 * self.number.bytes()
    }

    /// The smallest part that is at the end of the scale.
    pub(super) fn full_scale(self) -> f32 {
        match self.number {
            Number::F64 | Number::F32 => FULL_SCALE,
            Number::I32 | Number::U32 | Number::U8Centered => 1.0,
            Number::I24 => 8_388_607.0 / 8_388_608.0,
            Number::I16 | Number::U16 => 32_767.0 / 32_768.0,
            Number::I8 | Number::U8 => 127.0 / 128.0,
        }
    }

    /// Decodes `count` samples that begin every `stride` bytes, and adds them to `samples`.
    ///
    /// Integers of n bits are scaled by 2^(n-1), those without a sign after half of their range
    /// was taken off.
    pub(super) fn decode(
        self,
        bytes: &[u8],
        stride: usize,
        count: usize,
        samples: &mut Vec<Complex32>,
    ) {
        macro_rules! extend {
            ($number:ty, $part:expr) => {{
                const BYTES: usize = size_of::<$number>();
                let part = |bytes: &[u8]| {
                    let bytes = bytes.try_into().expect("a part has the bytes of its number");
                    let number = match self.big_endian {
                        false => <$number>::from_le_bytes(bytes),
                        true => <$number>::from_be_bytes(bytes),
                    };
                    ($part)(number)
                };
                let sample = |bytes: &[u8]| {
                    Complex32::new(part(&bytes[..BYTES]), part(&bytes[BYTES..2 * BYTES]))
                };
                samples.extend(bytes.chunks(stride).take(count).map(sample));
            }};
        }
        match self.number {
            Number::F64 => extend!(f64, |x: f64| x as f32),
            Number::F32 => extend!(f32, |x: f32| x),
            Number::I32 => extend!(i32, |x: i32| (f64::from(x) / 2_147_483_648.0) as f32),
            Number::I16 => extend!(i16, |x: i16| f32::from(x) / 32_768.0),
            Number::I8 => extend!(i8, |x: i8| f32::from(x) / 128.0),
            Number::U32 => {
                extend!(u32, |x: u32| ((f64::from(x) - 2_147_483_648.0) / 2_147_483_648.0) as f32);
            }
            Number::U16 => extend!(u16, |x: u16| (f32::from(x) - 32_768.0) / 32_768.0),
            Number::U8 => extend!(u8, |x: u8| (f32::from(x) - 128.0) / 128.0),
            Number::U8Centered => extend!(u8, |x: u8| (f32::from(x) - 127.5) / 127.5),
            Number::I24 => {
                // In the upper bytes of four, so that the sign is where it belongs.
                let part = |b: &[u8]| {
                    let bytes =
                        if self.big_endian { [0, b[2], b[1], b[0]] } else { [0, b[0], b[1], b[2]] };
                    (i32::from_le_bytes(bytes) >> 8) as f32 / 8_388_608.0
                };
                let sample = |b: &[u8]| Complex32::new(part(&b[..3]), part(&b[3..6]));
                samples.extend(bytes.chunks(stride).take(count).map(sample));
            }
        }
    }
}

impl Number {
    fn bytes(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::I24 => 3,
            Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::U8Centered => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(name: &str, bytes: &[u8]) -> Vec<Complex32> {
        let sample_type = SampleType::from_sigmf(name).unwrap();
        let mut samples = Vec::new();
        sample_type.decode(bytes, sample_type.bytes(), 1, &mut samples);
        samples
    }

    #[test]
    fn ends_of_the_scale_of_every_type_are_where_they_belong() {
        let cases: [(&str, &[u8], f32, f32); 11] = [
            ("i8", &[0x80, 0x7f], -1.0, 127.0 / 128.0),
            ("u8", &[0, 255], -1.0, 127.0 / 128.0),
            ("i16_le", &[0x00, 0x80, 0xff, 0x7f], -1.0, 32_767.0 / 32_768.0),
            ("i16_be", &[0x80, 0x00, 0x7f, 0xff], -1.0, 32_767.0 / 32_768.0),
            ("u16_le", &[0, 0, 1, 0x80], -1.0, 1.0 / 32_768.0),
            ("u16_be", &[0, 0, 0x80, 1], -1.0, 1.0 / 32_768.0),
            ("i32_le", &[0, 0, 0, 0x80, 0, 0, 0, 0x40], -1.0, 0.5),
            ("u32_be", &[0, 0, 0, 0, 0xc0, 0, 0, 0], -1.0, 0.5),
            ("f32_be", &[0x3f, 0x80, 0, 0, 0xbf, 0, 0, 0], 1.0, -0.5),
            ("f64_le", &[0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0, 0, 0, 0, 0, 0, 0xe0, 0xbf], 1.0, -0.5),
            ("f64_be", &[0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 0xbf, 0xe0, 0, 0, 0, 0, 0, 0], 1.0, -0.5),
        ];
        for (name, bytes, re, im) in cases {
            assert_eq!(decode(name, bytes), [Complex32::new(re, im)], "{name}");
        }
    }

    #[test]
    fn types_of_receivers_are_scaled_as_they_measure() {
        let mut samples = Vec::new();
        SampleType::little(Number::U8Centered).decode(&[0, 255], 2, 1, &mut samples);
        let bytes = [0x00, 0x00, 0x80, 0xff, 0xff, 0xff];
        SampleType::little(Number::I24).decode(&bytes, 6, 1, &mut samples);
        SampleType { number: Number::I24, big_endian: true }.decode(
            &[0x40, 0, 0, 0, 0, 1],
            6,
            1,
            &mut samples,
        );

        let tiny = 1.0 / 8_388_608.0;
        let expected =
            [Complex32::new(-1.0, 1.0), Complex32::new(-1.0, -tiny), Complex32::new(0.5, tiny)];
        assert_eq!(samples, expected);
    }

    #[test]
    fn other_channels_are_stepped_over() {
        let mut samples = Vec::new();
        let bytes = [64, 0, 1, 1, 0, 64, 2, 2, 32, 32];

        SampleType::little(Number::I8).decode(&bytes, 4, 3, &mut samples);

        let expected =
            [(0.5, 0.0), (0.0, 0.5), (0.25, 0.25)].map(|(re, im)| Complex32::new(re, im));
        assert_eq!(samples, expected);
    }

    #[test]
    fn unknown_names_have_no_type() {
        for name in ["", "i24_le", "f32", "i16", "f32_xe", "f16_le", "u8_", "f32_le_le"] {
            assert_eq!(SampleType::from_sigmf(name), None, "{name}");
        }
        assert!(SampleType::from_sigmf("i8_le").is_some(), "the order of one byte does no harm");
    }
}
