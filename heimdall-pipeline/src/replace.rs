//! Writing a file such that whoever looks finds the old one or the new one, and nothing in between.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::PipelineError;

/// End of the name that a file has until it is whole.
pub(crate) const PART_SUFFIX: &str = "heimdall-part";

/// A file that gets its name once it is whole; until then nothing has happened to what had the name
/// before.
#[derive(Debug)]
pub(crate) struct Replacement {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
    is_done: bool,
}

impl Replacement {
    /// Begins a file that others may be writing too, in this process or another.
    pub(crate) fn begin(target: &Path) -> io::Result<Self> {
        static BEGUN: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = BEGUN.fetch_add(1, Ordering::Relaxed);
            let temporary =
                temporary(target, &format!("{}.{number}.{PART_SUFFIX}", std::process::id()));
            match File::create_new(&temporary) {
                // An earlier process of this number was killed here.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                file => return Ok(Self::of(file?, temporary, target)),
            }
        }
    }

    /// Begins a file that nobody else writes at the same time: what a process left behind that was
    /// killed is written over.
    pub(crate) fn begin_alone(target: &Path) -> io::Result<Self> {
        let temporary = temporary(target, PART_SUFFIX);
        Ok(Self::of(File::create(&temporary)?, temporary, target))
    }

    fn of(file: File, temporary: PathBuf, target: &Path) -> Self {
        Self { file, temporary, target: target.to_owned(), is_done: false }
    }

    /// Returns the file, to be written to.
    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Waits until the content would survive a loss of power.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Gives the file its name.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        fs::rename(&self.temporary, &self.target)?;
        self.is_done = true;
        Ok(())
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.is_done {
            // The error that kept it from its end is the one to tell.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

fn temporary(target: &Path, suffix: &str) -> PathBuf {
    let mut temporary = target.as_os_str().to_owned();
    temporary.push(".");
    temporary.push(suffix);
    temporary.into()
}

/// Writes a file; one that has the name keeps its content until the new one is whole.
///
/// # Errors
///
/// [`PipelineError::Io`] if it cannot be written.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), PipelineError> {
    let written = Replacement::begin(path).and_then(|mut replacement| {
        replacement.file().write_all(bytes)?;
        replacement.finish()
    });
    written.map_err(PipelineError::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_threads_may_write_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let both_have_begun = std::sync::Barrier::new(2);
        let write = |content: u8| {
            let mut file = Replacement::begin(&path).unwrap();
            both_have_begun.wait();
            file.file().write_all(&[content; 9]).unwrap();
            file.finish().unwrap();
        };

        std::thread::scope(|scope| {
            scope.spawn(|| write(1));
            scope.spawn(|| write(2));
        });

        let content = fs::read(&path).unwrap();
        assert!(content == [1; 9] || content == [2; 9], "{content:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn file_that_cannot_be_finished_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write(&path, b"old").unwrap();

        let mut given_up = Replacement::begin(&path).unwrap();
        given_up.file().write_all(b"half").unwrap();
        drop(given_up);
        fs::create_dir(folder.path().join("b")).unwrap();
        fs::write(folder.path().join("b/c"), "").unwrap();
        let refused = write(&folder.path().join("b"), b"new");

        assert!(matches!(refused, Err(PipelineError::Io { .. })), "{refused:?}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
}
