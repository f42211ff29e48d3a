//! Files that a command writes where it is told to.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::PipelineError;
use crate::replace::Replacement;

/// A place for a file: free, or taken by a file that may be replaced.
#[derive(Clone, Debug)]
pub(crate) struct OutputPlace {
    /// The place as it was given, for messages.
    path: PathBuf,
    /// The same without links.
    target: PathBuf,
}

impl OutputPlace {
    /// Checks that a file can be written at the place that an option gives, before anything is
    /// computed: it must not be a folder or a device, nor one of the files that are read.
    ///
    /// # Errors
    ///
    /// - [`PipelineError::InvalidOption`] if something is there that is not to be replaced.
    /// - [`PipelineError::Io`] if the folder is not there or cannot be written to.
    pub(crate) fn check(
        option: &'static str,
        path: &Path,
        inputs: &[PathBuf],
    ) -> Result<Self, PipelineError> {
        let invalid = |expected| Err(PipelineError::InvalidOption { option, expected });
        let target = if fs::symlink_metadata(path).is_ok() {
            // A link is followed, so that it is its target that is replaced.
            let target = fs::canonicalize(path).map_err(PipelineError::io("write", path))?;
            if !target.is_file() {
                return invalid("a file: a folder or a device is not replaced");
            }
            target
        } else {
            path.to_owned()
        };
        let Some(_) = target.file_name() else { return invalid("the name of a file") };
        if inputs.iter().any(|input| fs::canonicalize(input).is_ok_and(|input| input == target)) {
            return invalid("another file than those that are read");
        }
        let folder = folder_of(&target);
        let writable = match fs::metadata(folder) {
            Ok(found) if !found.is_dir() => Err(io::ErrorKind::NotADirectory.into()),
            Ok(_) => access(folder, Access::WRITE_OK).map_err(io::Error::from),
            Err(error) => Err(error),
        };
        writable.map_err(PipelineError::io("write into", folder))?;
        Ok(Self { path: path.to_owned(), target })
    }

    /// Begins a file at the place.
    pub(crate) fn begin(&self) -> Result<Replacement, PipelineError> {
        Replacement::begin(&self.target).map_err(|error| self.failed(error))
    }

    /// Makes an error of one in writing at the place.
    pub(crate) fn failed(&self, error: io::Error) -> PipelineError {
        PipelineError::io("write", &self.path)(error)
    }

    /// Writes a whole file.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), PipelineError> {
        let mut file = self.begin()?;
        file.file().write_all(bytes).and_then(|()| file.finish()).map_err(|e| self.failed(e))
    }
}

fn folder_of(target: &Path) -> &Path {
    target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn refusal(path: &Path, inputs: &[PathBuf]) -> String {
        OutputPlace::check("--output", path, inputs).unwrap_err().with_causes()
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (input, link) = (folder.path().join("input"), folder.path().join("link"));
        fs::write(&input, "x").unwrap();
        symlink("/dev/null", &link).unwrap();
        symlink("nowhere", folder.path().join("dangling")).unwrap();
        let inputs = [input.clone()];

        for path in [folder.path(), Path::new("/dev/null"), &link, Path::new("/")] {
            assert!(refusal(path, &inputs).contains("a device is not replaced"), "{path:?}");
        }
        for path in [&input, &folder.path().join("./input")] {
            assert!(refusal(path, &inputs).contains("another file than those"), "{path:?}");
        }
        for name in ["dangling", "nowhere/x", "input/x"] {
            let told = refusal(&folder.path().join(name), &inputs);
            assert!(told.starts_with("cannot write ") && !told.contains("part"), "{told}");
        }
        assert!(refusal(Path::new(""), &inputs).contains("the name of a file"));
    }

    #[test]
    fn file_is_replaced_when_the_new_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("x"), folder.path().join("link"));
        fs::write(&path, "old").unwrap();
        symlink("x", &link).unwrap();
        let place = OutputPlace::check("--output", &link, &[]).unwrap();
        let names = || {
            let entries = fs::read_dir(folder.path()).unwrap();
            entries
                .map(|entry| entry.unwrap().file_name())
                .collect::<std::collections::BTreeSet<_>>()
        };

        drop(place.begin().unwrap());
        assert_eq!((fs::read(&path).unwrap(), names().len()), (b"old".to_vec(), 2));

        place.write(b"new").unwrap();
        assert_eq!((fs::read(&path).unwrap(), names().len()), (b"new".to_vec(), 2));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }
}
