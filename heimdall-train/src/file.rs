//! Files that are whole or not there at all.

use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::TrainError;

/// Writes a file under a temporary name, and renames it when it is complete.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let temporary = path.with_extension("part");
    fs::write(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(|source| TrainError::Write { path: path.to_owned(), source })
}

/// Writes a value as JSON for people to read.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), TrainError> {
    let mut text = serde_json::to_vec_pretty(value).expect("plain structs become JSON");
    text.push(b'\n');
    write_whole(path, &text)
}

/// Reads JSON whose `format_version` is known, and refuses a newer one before anything else in it.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path, supported: u32) -> Result<T, TrainError> {
    read_version(path, supported)?;
    parse(path)
}

/// Reads the `format_version` of JSON, and refuses a newer one than is supported.
pub(crate) fn read_version(path: &Path, supported: u32) -> Result<u32, TrainError> {
    /// As much of a file as every version has.
    #[derive(Deserialize)]
    struct Versioned {
        format_version: u32,
    }

    let Versioned { format_version: actual } = parse(path)?;
    if actual > supported {
        return Err(TrainError::NewerFormat { path: path.to_owned(), actual, supported });
    }
    Ok(actual)
}

fn parse<T: DeserializeOwned>(path: &Path) -> Result<T, TrainError> {
    let text =
        fs::read(path).map_err(|source| TrainError::Read { path: path.to_owned(), source })?;
    serde_json::from_slice(&text)
        .map_err(|source| TrainError::Malformed { path: path.to_owned(), source })
}

/// Digest of some bytes: BLAKE3, in hexadecimal.
pub(crate) fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// Compares a file with the digest of what was written.
pub(crate) fn check_digest(path: &Path, expected: &str) -> Result<(), TrainError> {
    let bytes =
        fs::read(path).map_err(|source| TrainError::Read { path: path.to_owned(), source })?;
    let actual = digest(&bytes);
    if actual == expected {
        return Ok(());
    }
    Err(TrainError::DigestMismatch { path: path.to_owned(), expected: expected.to_owned(), actual })
}
