//! Finds the files of a folder that are recordings of a format.

use std::path::{Path, PathBuf};

use tokio::fs;

use super::{ImportFormat, exists};
use crate::{DataError, RawType};

/// Files of a folder, in the order of their names.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Found {
    /// SigMF collections.
    pub(super) collections: Vec<PathBuf>,
    /// Recordings; those of collections are among them.
    pub(super) files: Vec<PathBuf>,
}

/// Lists the files in a folder and in the folders in it.
///
/// # Errors
///
/// - [`DataError::Read`] if a folder cannot be read.
/// - [`DataError::NothingToImport`] if no file is of the format.
pub(super) async fn find_files(folder: &Path, format: ImportFormat) -> Result<Found, DataError> {
    let (files, folders) = list(folder).await?;
    let mut all = files;
    for folder in folders {
        all.extend(list(&folder).await?.0);
    }
    all.sort();
    let mut found = Found::default();
    for path in all {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let is_recording = match format {
            ImportFormat::Kiwi | ImportFormat::Wav => extension == "wav",
            ImportFormat::Npy => extension == "npy",
            ImportFormat::Sigmf => matches!(extension.as_str(), "sigmf-meta" | "sigmf"),
            ImportFormat::Raw => {
                RawType::from_file_name(&path.to_string_lossy()).is_some()
                    || has_sidecar(&path).await?
            }
        };
        if format == ImportFormat::Sigmf && extension == "sigmf-collection" {
            found.collections.push(path);
        } else if is_recording {
            found.files.push(path);
        }
    }
    if found == Found::default() {
        return Err(DataError::NothingToImport {
            folder: folder.to_owned(),
            files: names_of(format),
        });
    }
    Ok(found)
}

fn names_of(format: ImportFormat) -> &'static str {
    match format {
        ImportFormat::Kiwi | ImportFormat::Wav => "`*.wav`",
        ImportFormat::Npy => "`*.npy`",
        ImportFormat::Sigmf => "`*.sigmf-collection`, `*.sigmf-meta` or `*.sigmf`",
        ImportFormat::Raw => "`*.cu8`, `*.cs8`, `*.cf32` or any with a sidecar `*.json`",
    }
}

async fn has_sidecar(path: &Path) -> Result<bool, DataError> {
    let mut sidecar = path.as_os_str().to_owned();
    sidecar.push(".json");
    exists(Path::new(&sidecar)).await
}

/// Lists the files and the folders in a folder; links are followed.
async fn list(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), DataError> {
    let unreadable = |source| DataError::Read { path: folder.to_owned(), source };
    let mut entries = fs::read_dir(folder).await.map_err(unreadable)?;
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    while let Some(entry) = entries.next_entry().await.map_err(unreadable)? {
        let path = entry.path();
        // A link that leads nowhere is told when the file is opened.
        if fs::metadata(&path).await.is_ok_and(|metadata| metadata.is_dir()) {
            folders.push(path);
        } else {
            files.push(path);
        }
    }
    Ok((files, folders))
}
