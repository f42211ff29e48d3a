//! Files in a folder, their content, and how to tell that one has not changed.

use std::fs::{self, File, FileType, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Digest;
use crate::PipelineError;

/// What the file system says about a file that nobody has touched: a write, a rename over it, a
/// change of its mode or a backdated time changes at least one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileIdentity {
    device: u64,
    inode: u64,
    pub(crate) size: u64,
    modified_ns: i64,
    changed_ns: i64,
}

impl FileIdentity {
    /// Whether the file was last changed, as its file system has it, longer than that ago.
    pub(crate) fn is_older_than(&self, now: SystemTime, age: Duration) -> bool {
        let limit = now.checked_sub(age).and_then(|limit| limit.duration_since(UNIX_EPOCH).ok());
        let limit_ns = limit.and_then(|limit| i64::try_from(limit.as_nanos()).ok());
        limit_ns.is_some_and(|limit_ns| self.changed_ns < limit_ns)
    }

    /// Returns the identity of a file, which may not be a link.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
        }
        Ok(Self::from(&metadata))
    }
}

impl From<&Metadata> for FileIdentity {
    fn from(metadata: &Metadata) -> Self {
        // Nanoseconds since 1970 fit into 64 bits until the year 2262; later ones wrap, which is
        // no less fit to be compared.
        let ns = |seconds: i64, rest: i64| seconds.wrapping_mul(1_000_000_000).wrapping_add(rest);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Returns the digest of a file's content.
pub(crate) fn digest_of_file(path: &Path) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(Digest::from(hasher.finalize()))
}

/// Returns the paths of all files in a folder, relative to it, with `/` between their parts and
/// sorted. Folders without files are not seen.
pub(crate) fn list_files(folder: &Path) -> Result<Vec<String>, PipelineError> {
    list(folder, |path, kind| match kind.is_file() {
        true => Ok(()),
        false => Err(PipelineError::SpecialFile { path: path.to_owned() }),
    })
}

/// Returns the paths of everything in a folder of the cache that is no folder, as [`list_files`]
/// does: what somebody has put there may be no file.
pub(super) fn list_names(folder: &Path) -> Result<Vec<String>, PipelineError> {
    list(folder, |_, _| Ok(()))
}

fn list(
    folder: &Path,
    check: impl Fn(&Path, FileType) -> Result<(), PipelineError>,
) -> Result<Vec<String>, PipelineError> {
    let mut names = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(inner) = open.pop() {
        let path = folder.join(&inner);
        let entries = fs::read_dir(&path).map_err(PipelineError::io("list", &path))?;
        for entry in entries {
            let entry = entry.map_err(PipelineError::io("list", &path))?;
            let inner = inner.join(entry.file_name());
            let kind = entry.file_type().map_err(PipelineError::io("look at", entry.path()))?;
            match inner.to_str() {
                Some(_) if kind.is_dir() => open.push(inner),
                Some(name) => {
                    check(&entry.path(), kind)?;
                    names.push(name.to_owned());
                }
                None => return Err(PipelineError::SpecialFile { path: entry.path() }),
            }
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_listed_by_their_paths() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["b", "a/z", "a/c/d"] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        fs::create_dir(folder.path().join("empty")).unwrap();

        assert_eq!(list_files(folder.path()).unwrap(), ["a/c/d", "a/z", "b"]);
    }

    #[test]
    fn link_is_no_artifact() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("link")).unwrap();

        let error = list_files(folder.path()).unwrap_err();

        assert!(matches!(error, PipelineError::SpecialFile { .. }), "{error}");
    }
}
