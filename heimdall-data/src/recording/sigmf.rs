//! SigMF recordings: a file of metadata and a file of samples, or an archive of both.

mod archive;
mod capture;
mod collection;
mod meta;
mod write;

use std::ops::Range;

pub use collection::SigmfCollection;
use meta::Meta;
use sha2::{Digest, Sha512};
pub use write::{SigmfExport, export_sigmf};

use super::file::{Opened, has_extension};
use super::json::{JSON_BYTES_MAX, parse};
use super::options::ReadOptions;
use super::source::Source;
use crate::DataError;
use crate::store::compute;

/// Bytes that are hashed at once.
const HASH_BYTES: u64 = 4 * 1024 * 1024;

/// Whether a name is that of a recording, or of an archive with one.
pub(super) fn is_sigmf(file_name: &str) -> bool {
    ["sigmf-meta", "sigmf-data", "sigmf"].iter().any(|known| has_extension(file_name, known))
}

/// The bytes of samples: a file, or a part of an archive.
struct Dataset {
    source: Source,
    bytes: Range<u64>,
}

/// Opens a recording by the name of either of its files, or an archive with one recording.
///
/// Metadata of any version 0 or 1 of the standard are read. Unknown fields are ignored, as the
/// standard has it; an extension that is not optional is refused by name.
pub(super) async fn open(
    source: Source,
    options: &ReadOptions,
) -> Result<(Source, Opened), DataError> {
    let (meta, dataset) = if has_extension(source.file_name(), "sigmf") {
        archive::open(source).await?
    } else {
        open_pair(&source).await?
    };
    if let Some(expected) = meta.sha512.as_ref().filter(|_| options.check_hash) {
        let actual = hash(&dataset).await?;
        if !actual.eq_ignore_ascii_case(expected) {
            let (file, expected) = (dataset.source.file, expected.clone());
            return Err(DataError::HashMismatch { file, expected, actual });
        }
    }
    let opened = capture::arrange(meta, dataset.bytes, options)?;
    Ok((dataset.source, opened))
}

/// Reads the metadata of a recording, and finds its samples.
async fn open_pair(source: &Source) -> Result<(Meta, Dataset), DataError> {
    let name = source.file_name();
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let meta_source = if has_extension(name, "sigmf-meta") {
        source.clone()
    } else {
        let meta_name = format!("{stem}.sigmf-meta");
        source.sibling(&meta_name).await?.ok_or_else(|| {
            source.malformed("its metadata", &format!("in `{meta_name}`"), "not there")
        })?
    };
    let bytes = meta_source.whole(JSON_BYTES_MAX).await?;
    let meta = Meta::parse(&meta_source.file, &parse(&meta_source.file, &bytes)?)?;
    let dataset = meta.dataset.clone().unwrap_or_else(|| format!("{stem}.sigmf-data"));
    let Some(source) = meta_source.sibling(&dataset).await? else {
        let expected = format!("in `{dataset}` beside it");
        return Err(meta_source.malformed("its samples", &expected, "not there"));
    };
    let bytes = 0..source.size;
    Ok((meta, Dataset { source, bytes }))
}

/// Computes the SHA-512 of a dataset, as hexadecimal digits.
async fn hash(dataset: &Dataset) -> Result<String, DataError> {
    let mut hasher = Sha512::new();
    let mut start = dataset.bytes.start;
    while start < dataset.bytes.end {
        let end = dataset.bytes.end.min(start + HASH_BYTES);
        let bytes = dataset.source.range(start..end).await?;
        hasher = compute(move || hasher.chain_update(&bytes)).await;
        start = end;
    }
    Ok(hexadecimal(&hasher.finalize()))
}

/// Writes bytes as hexadecimal digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
