//! Files that have samples and nothing else.

use serde::{Deserialize, Serialize};

use super::file::Opened;
use super::layout::Layout;
use super::metadata::{FileFormat, RecordingMetadata};
use super::sample_type::{Number, SampleType};
use super::source::Source;

/// How samples are written in a file that has nothing but samples.
///
/// In configuration it is its [name](RawType::from_name).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RawType(SampleType);

impl TryFrom<String> for RawType {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let unknown = || format!("`{name}` is no type of samples, such as cu8, cs8, ci16 or cf32");
        Self::from_name(&name).ok_or_else(unknown)
    }
}

impl From<RawType> for String {
    fn from(raw_type: RawType) -> Self {
        raw_type.name()
    }
}

impl RawType {
    /// Finds a type by its name.
    ///
    /// - `cu8`: unsigned bytes around 127.5, as `rtl_sdr` writes them
    /// - `cs8` or `ci8`: signed bytes, as `hackrf_transfer` writes them
    /// - `cs16` or `ci16`: 16-bit integers
    /// - `cf32`: single-precision floating point, as GNU Radio writes it
    /// - every complex type of the SigMF standard, such as `ci16_be` or `cu16_le`
    ///
    /// Numbers without `_be` are little-endian.
    pub fn from_name(name: &str) -> Option<Self> {
        let sample_type = match name {
            "cu8" | "cu8_le" | "cu8_be" => SampleType::little(Number::U8Centered),
            "cs8" => SampleType::little(Number::I8),
            "cs16" => SampleType::little(Number::I16),
            "cf64" | "cf32" | "ci32" | "ci16" | "cu32" | "cu16" => {
                SampleType::from_sigmf(&format!("{}_le", &name[1..]))?
            }
            _ => SampleType::from_sigmf(name.strip_prefix('c')?)?,
        };
        Some(Self(sample_type))
    }

    /// The name of the type.
    pub fn name(self) -> String {
        let number = match self.0.number {
            Number::F64 => "cf64",
            Number::F32 => "cf32",
            Number::I32 => "ci32",
            Number::I24 => "ci24",
            Number::I16 => "ci16",
            Number::I8 => "ci8",
            Number::U32 => "cu32",
            Number::U16 => "cu16",
            Number::U8 | Number::U8Centered => "cu8",
        };
        if self.0.big_endian { format!("{number}_be") } else { number.to_owned() }
    }

    /// Finds a type by the extension of a file.
    pub(crate) fn from_file_name(file_name: &str) -> Option<Self> {
        let (_, extension) = file_name.rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "cfile" | "fc32" => Self::from_name("cf32"),
            "cu8" => Self::from_name("cu8"),
            "cs8" | "ci8" => Self::from_name("ci8"),
            "cs16" | "ci16" => Self::from_name("ci16"),
            "cf32" => Self::from_name("cf32"),
            _ => None,
        }
    }
}

/// Makes all bytes of a file samples; an incomplete one at the end is cut off.
pub(super) fn open(source: &Source, RawType(sample_type): RawType) -> Opened {
    let sample_bytes = sample_type.bytes() as u64;
    let count = source.size / sample_bytes;
    let metadata = RecordingMetadata {
        cut_byte_count: source.size % sample_bytes,
        ..RecordingMetadata::of_samples(FileFormat::Raw, count)
    };
    Opened { layout: Layout::plain(sample_type, 0, count), metadata }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_extensions_tell_the_type() {
        let number =
            |name: &str| RawType::from_name(name).map(|raw| (raw.0.number, raw.0.big_endian));
        assert_eq!(number("cu8"), Some((Number::U8Centered, false)));
        assert_eq!(number("cs8"), number("ci8"));
        assert_eq!(number("cs16"), number("ci16_le"));
        assert_eq!(number("ci16_be"), Some((Number::I16, true)));
        assert_eq!(number("cf32"), Some((Number::F32, false)));
        assert_eq!(number("cf64"), Some((Number::F64, false)));
        for name in ["", "c", "rf32_le", "f32_le", "ri8", "cf16", "ü"] {
            assert_eq!(number(name), None, "{name}");
        }
        for name in ["cu8", "ci8", "ci16", "ci16_be", "cf32", "cf64_be", "cu16", "cu32", "ci32"] {
            assert_eq!(RawType::from_name(name).unwrap().name(), name);
        }
        let from_file = |name: &str| RawType::from_file_name(name);
        assert_eq!(from_file("a.b.CU8"), RawType::from_name("cu8"));
        assert_eq!(from_file("x.cfile"), RawType::from_name("cf32"));
        assert_eq!(from_file("cu8"), None);
        assert_eq!(from_file("x.bin"), None);
    }
}
