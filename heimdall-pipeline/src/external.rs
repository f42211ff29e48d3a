//! What a folder outside of the cache holds, as a token that changes when its content does.

use std::fs::File;
use std::path::Path;

use rayon::prelude::*;

use crate::PipelineError;
use crate::cache::{Digest, list_files};

/// Returns a digest of the names and contents of all files in a folder; its own name and the times
/// of its files have no part in it.
pub(crate) fn folder_token(folder: &Path) -> Result<Digest, PipelineError> {
    let paths = list_files(folder)?;
    let digests = paths
        .par_iter()
        .map(|path| {
            let path = folder.join(path);
            let mut hasher = blake3::Hasher::new();
            File::open(&path)
                .and_then(|file| hasher.update_reader(file).map(|_| ()))
                .map_err(PipelineError::io("read", &path))?;
            Ok(Digest::from(hasher.finalize()))
        })
        .collect::<Result<Vec<_>, PipelineError>>()?;
    Ok(Digest::of_tree(paths.iter().map(String::as_str).zip(&digests)))
}
