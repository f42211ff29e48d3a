//! SigMF archives: one recording in a tar file.

use std::ops::Range;

use super::super::file::has_extension;
use super::super::json::{JSON_BYTES_MAX, parse};
use super::super::source::{Source, Window};
use super::Dataset;
use super::meta::Meta;
use crate::DataError;

/// Headers and contents take multiples of this many bytes.
const BLOCK_BYTES: u64 = 512;
/// Longest extended header that is read.
const EXTENSION_BYTES_MAX: u64 = 1024 * 1024;

/// A file in an archive.
#[derive(Clone, Debug)]
struct Entry {
    path: String,
    bytes: Range<u64>,
}

/// What an extended header says of the entry after it.
#[derive(Clone, Debug, Default)]
struct Extension {
    path: Option<String>,
    size: Option<u64>,
}

/// Opens the only recording of an archive.
///
/// # References
///
/// IEEE Std 1003.1-2017 (POSIX), `pax`, "ustar Interchange Format" and "pax Extended Header".
pub(super) async fn open(source: Source) -> Result<(Meta, Dataset), DataError> {
    let entries = entries(&source).await?;
    let metas: Vec<&Entry> =
        entries.iter().filter(|entry| has_extension(&entry.path, "sigmf-meta")).collect();
    let [entry] = metas[..] else {
        let actual = format!("{} of them", metas.len());
        return Err(source.malformed("its `.sigmf-meta` files", "exactly one", &actual));
    };
    if entry.bytes.end - entry.bytes.start > JSON_BYTES_MAX {
        let expected = format!("at most {JSON_BYTES_MAX} bytes long");
        return Err(source.malformed(&format!("`{}`", entry.path), &expected, "longer"));
    }
    let file = format!("{}/{}", source.file, entry.path);
    let meta = Meta::parse(&file, &parse(&file, &source.range(entry.bytes.clone()).await?)?)?;
    let stem = entry.path.strip_suffix("sigmf-meta").unwrap_or(&entry.path);
    let path = match &meta.dataset {
        Some(name) => match entry.path.rsplit_once('/') {
            Some((folder, _)) => format!("{folder}/{name}"),
            None => name.clone(),
        },
        None => format!("{stem}sigmf-data"),
    };
    let Some(data) = entries.iter().find(|entry| entry.path == path) else {
        return Err(source.malformed("its samples", &format!("in `{path}`"), "not there"));
    };
    let bytes = data.bytes.clone();
    Ok((meta, Dataset { source, bytes }))
}

/// Lists the ordinary files.
async fn entries(source: &Source) -> Result<Vec<Entry>, DataError> {
    let mut window = Window::new(source);
    let (mut entries, mut extension) = (Vec::new(), Extension::default());
    let mut start = 0;
    while let Some(header) = window.read(start, BLOCK_BYTES as usize).await? {
        // Zeros end the archive.
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        let place = format!("byte {start}");
        check_sum(header)
            .ok_or_else(|| source.malformed(&place, "the header of a tar entry", "none"))?;
        let kind = header[156];
        let path = extension.path.take().unwrap_or_else(|| path_of(header));
        let size = extension.size.take().or_else(|| number(&header[124..136]));
        let body_start = start + BLOCK_BYTES;
        let end = size.and_then(|size| body_start.checked_add(size));
        let Some(end) = end.filter(|end| *end <= source.size) else {
            let expected = "followed by as many bytes as it says";
            return Err(source.malformed(&format!("`{path}`"), expected, "not"));
        };
        let bytes = body_start..end;
        match kind {
            b'0' | 0 => entries.push(Entry { path, bytes }),
            b'x' | b'L' if end - body_start > EXTENSION_BYTES_MAX => {
                let expected = format!("at most {EXTENSION_BYTES_MAX} bytes long");
                return Err(source.malformed(&place, &expected, "longer"));
            }
            b'x' => extension = extended(&source.range(bytes).await?),
            b'L' => {
                let name = source.range(bytes).await?;
                extension.path = Some(text_of(&name));
            }
            // Folders, links and the like have no samples.
            _ => {}
        }
        start = end.next_multiple_of(BLOCK_BYTES);
    }
    Ok(entries)
}

/// Checks the sum over a header, in which the sum itself counts as blanks.
fn check_sum(header: &[u8]) -> Option<()> {
    let sum: u64 = header
        .iter()
        .enumerate()
        .map(|(index, byte)| if (148..156).contains(&index) { 32 } else { u64::from(*byte) })
        .sum();
    (number(&header[148..156]) == Some(sum)).then_some(())
}

/// Reads a number in octal digits, or in binary where the first bit is set.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        return field[1..].iter().try_fold(u64::from(field[0] & 0x7f), |sum, byte| {
            sum.checked_mul(256)?.checked_add(u64::from(*byte))
        });
    }
    let text = str::from_utf8(field).ok()?;
    let digits = text.trim_matches([' ', '\0']);
    if digits.is_empty() { Some(0) } else { u64::from_str_radix(digits, 8).ok() }
}

/// The path of a header: a name, and possibly folders that are told apart from it.
fn path_of(header: &[u8]) -> String {
    let (name, prefix) = (text_of(&header[..100]), text_of(&header[345..500]));
    let is_ustar = &header[257..262] == b"ustar" && header[262] == 0;
    if is_ustar && !prefix.is_empty() { format!("{prefix}/{name}") } else { name }
}

fn text_of(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

/// Reads records of the form `LENGTH KEY=VALUE`, each with a line feed.
fn extended(mut records: &[u8]) -> Extension {
    let mut extension = Extension::default();
    while let Some(blank) = records.iter().position(|byte| *byte == b' ') {
        let length = str::from_utf8(&records[..blank]).ok().and_then(|text| text.parse().ok());
        let Some(length) = length.filter(|length| (blank + 2..=records.len()).contains(length))
        else {
            break;
        };
        let (record, rest) = records.split_at(length);
        let record = String::from_utf8_lossy(&record[blank + 1..length - 1]);
        match record.split_once('=') {
            Some(("path", value)) => extension.path = Some(value.to_owned()),
            Some(("size", value)) => extension.size = value.parse().ok(),
            _ => {}
        }
        records = rest;
    }
    extension
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_digits_or_binary() {
        let cases: [(&[u8], Option<u64>); 8] = [
            (b"00000000017\0", Some(15)),
            (b" 17 \0\0\0\0\0\0\0\0", Some(15)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"00000008", None),
            (b"\x80\0\0\0\0\0\0\x02\0\0\0\x01", Some((2 << 32) + 1)),
            (b"\x80\0\0\0\0\0\0\x09", Some(9)),
            (b"\x80\x01\0\0\0\0\0\0\0\0\0\0", None),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ];
        for (field, expected) in cases {
            assert_eq!(number(field), expected, "{field:?}");
        }
    }
}
