//! Finding a result, and trusting it only as far as it can be checked.

use std::fs::File;
use std::io::{self, Read};

use rayon::prelude::*;
use rustix::io::Errno;

use super::file::digest_of_file;
use super::manifest::Damage;
use super::{Cache, FileEntry, FileIdentity, Key, Manifest};
use crate::PipelineError;

/// Fewer files are looked at faster one after the other.
pub(crate) const PARALLEL_FILES_MIN: usize = 64;

/// Longest manifest that a glance takes in: that of some thirty files.
const GLANCE_BYTES_MAX: u64 = 16 << 10;

/// What the cache has for a key.
#[derive(Debug)]
pub(crate) enum Lookup {
    /// A result, whole and unchanged.
    Hit(Box<Manifest>),
    /// Nothing.
    Miss,
    /// Something that cannot be trusted, and has been moved out of the way; the text says what.
    Damaged(String),
}

/// What was found out about a kept file.
enum Check {
    /// It is what it was.
    Same,
    /// It looks different, but its content is the same.
    Touched(FileIdentity),
    /// It is not there.
    Missing,
    /// Its content is another.
    Changed,
}

impl Cache {
    /// Returns a result of few files, if every one of them looks as it did when it was last read.
    /// Nothing is the answer wherever there is more to be done than to look.
    pub(crate) fn glance(&self, key: &Key) -> Option<Manifest> {
        let mut file = File::open(self.manifest_path(key)).ok()?;
        let length = file.metadata().ok()?.len();
        if length > GLANCE_BYTES_MAX {
            return None;
        }
        let mut bytes = Vec::with_capacity(usize::try_from(length).ok()? + 1);
        file.read_to_end(&mut bytes).ok()?;
        let manifest = Manifest::decode(&bytes, key).ok()?;
        let mut files = manifest.outputs.values().flat_map(|output| &output.files);
        let is_sound = self.is_trusted(&manifest)
            && files.all(|entry| {
                FileIdentity::of(&self.blob(&entry.digest)).is_ok_and(|now| now == entry.identity)
            });
        is_sound.then_some(manifest)
    }

    /// Whether what the files of a result look like says anything: without a synchronized disk it
    /// does not after a loss of power.
    fn is_trusted(&self, manifest: &Manifest) -> bool {
        manifest.boot.as_deref().is_none_or(|boot| *boot == *self.boot)
    }

    /// Looks up a result and checks it. A kept file is read again if anything about it has changed
    /// since it was last read; that it cannot be written to proves nothing.
    pub(crate) fn lookup(&self, key: &Key) -> Result<Lookup, PipelineError> {
        let path = self.manifest_path(key);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lookup::Miss),
            Err(error) if !is_damage(&error) => {
                return Err(PipelineError::io("read", &path)(error));
            }
            Err(error) => {
                self.quarantine(&path)?;
                let what = format!("the manifest {} cannot be read: {error}", key.short());
                return Ok(Lookup::Damaged(what));
            }
        };
        let mut manifest = match Manifest::decode(&bytes, key) {
            Ok(manifest) => manifest,
            Err(Damage::Outdated) => return Ok(Lookup::Miss),
            Err(damage) => {
                self.quarantine(&path)?;
                let what = match damage {
                    Damage::Checksum => "does not have its checksum",
                    Damage::Unconfined => "names files outside of its outputs",
                    Damage::Foreign | Damage::Outdated => "is not of this key",
                };
                return Ok(Lookup::Damaged(format!("the manifest {} {what}", key.short())));
            }
        };

        let is_trusted = self.is_trusted(&manifest);
        let mut touched = !is_trusted;
        if !is_trusted {
            manifest.boot = None;
        }
        for (port, output) in &mut manifest.outputs {
            let checks = self.checks(&output.files, is_trusted);
            for (entry, check) in output.files.iter_mut().zip(checks) {
                let blob = self.blob(&entry.digest);
                match check.map_err(PipelineError::io("read", &blob))? {
                    Check::Same => {}
                    Check::Touched(identity) => {
                        entry.identity = identity;
                        touched = true;
                    }
                    Check::Missing => {
                        let what = format!("the kept `{port}/{}` is gone", entry.path);
                        return Ok(Lookup::Damaged(what));
                    }
                    Check::Changed => {
                        self.quarantine(&blob)?;
                        let what = format!("the kept `{port}/{}` has been changed", entry.path);
                        return Ok(Lookup::Damaged(what));
                    }
                }
            }
        }
        if touched {
            self.write_manifest(&manifest)?;
        }
        Ok(Lookup::Hit(Box::new(manifest)))
    }

    /// Checks files, side by side where that is worth the effort.
    fn checks(&self, files: &[FileEntry], is_trusted: bool) -> Vec<io::Result<Check>> {
        if files.len() < PARALLEL_FILES_MIN && is_trusted {
            return files.iter().map(|entry| self.check(entry, is_trusted)).collect();
        }
        files.par_iter().map(|entry| self.check(entry, is_trusted)).collect()
    }

    /// Checks a file; one that is no file any more, or that nobody may read, is not what it was.
    fn check(&self, entry: &FileEntry, is_trusted: bool) -> io::Result<Check> {
        let blob = self.blob(&entry.digest);
        let content = || digest_of_file(&blob).map(|found| found == entry.digest);
        let checked = match FileIdentity::of(&blob) {
            Ok(identity) if is_trusted && identity == entry.identity => Ok(Check::Same),
            Ok(identity) => content().map(|is_same| match is_same {
                true => Check::Touched(identity),
                false => Check::Changed,
            }),
            Err(error) => Err(error),
        };
        match checked {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Check::Missing),
            Err(error) if is_damage(&error) => Ok(Check::Changed),
            checked => checked,
        }
    }
}

/// Whether something about the file itself keeps it from being read, and not about this process or
/// the way to the disk.
fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, IsADirectory, NotADirectory, PermissionDenied};
    matches!(error.kind(), InvalidInput | IsADirectory | NotADirectory | PermissionDenied)
        || matches!(Errno::from_io_error(error), Some(Errno::LOOP | Errno::IO))
}
