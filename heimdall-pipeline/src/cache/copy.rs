//! Readable copies of results, under names that people know.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Cache, Digest, FileEntry, FileIdentity, OutputManifest, create_parent};
use crate::PipelineError;
use crate::fault::FaultPoint;
use crate::replace::{self, Replacement};

/// Version of the record's format.
const RECORD_VERSION: u32 = 1;

/// What was done to a readable copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CopyReport {
    /// Files that were written because the result is another one.
    pub(crate) written: usize,
    /// Files that somebody had changed or removed, and that were restored.
    pub(crate) restored: Vec<String>,
    /// Files of an older result that were removed.
    pub(crate) removed: usize,
}

/// What is known about a readable copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct CopyRecord {
    version: u32,
    /// Digest of what was copied; absent while copying.
    tree: Option<Digest>,
    files: BTreeMap<String, CopiedFile>,
}

/// A file of a readable copy; what it looked like is absent until it is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct CopiedFile {
    digest: Digest,
    identity: Option<FileIdentity>,
}

impl Cache {
    /// Brings a folder to the state of an output. Files that are what they should be are left
    /// alone, and so are files that no result ever had.
    pub(crate) fn copy_output(
        &self,
        output: &OutputManifest,
        folder: &Path,
    ) -> Result<CopyReport, PipelineError> {
        fs::create_dir_all(folder).map_err(PipelineError::io("create", folder))?;
        let folder = fs::canonicalize(folder).map_err(PipelineError::io("open", folder))?;
        let _lock = self.lock_briefly(&format!("copy-{}", name_of(&folder)))?;
        let record_path = self.record_path(&folder);
        let record = read_record(&record_path);

        let known = record.as_ref().map(|record| &record.files);
        let stale: Vec<&FileEntry> = output
            .files
            .par_iter()
            .filter(|entry| {
                let before = known.and_then(|files| files.get(&entry.path));
                !before.is_some_and(|before| is_unchanged(&folder.join(&entry.path), entry, before))
            })
            .collect();
        let is_current = record.as_ref().is_some_and(|record| record.tree == Some(output.tree));
        if stale.is_empty() && is_current {
            return Ok(CopyReport::default());
        }

        let mut next = CopyRecord {
            version: RECORD_VERSION,
            tree: None,
            files: record.map(|record| record.files).unwrap_or_default(),
        };
        let mut report = CopyReport::default();
        for entry in &stale {
            let before = next.files.get(&entry.path);
            if before.is_some_and(|b| b.digest == entry.digest && b.identity.is_some()) {
                report.restored.push(entry.path.clone());
            } else {
                report.written += 1;
            }
        }
        for entry in &stale {
            let unfinished = CopiedFile { digest: entry.digest, identity: None };
            next.files.insert(entry.path.clone(), unfinished);
        }
        // Should this process end half-way, the next one knows which files are of its making.
        write_record(&record_path, &next)?;
        self.reach(FaultPoint::CopiesBegun);
        let copied = stale
            .par_iter()
            .map(|entry| Ok((entry.path.clone(), self.copy_file(entry, &folder)?)))
            .collect::<Result<Vec<_>, PipelineError>>()?;
        next.files.extend(copied);

        let wanted: std::collections::BTreeSet<&str> =
            output.files.iter().map(|entry| entry.path.as_str()).collect();
        let strays: Vec<String> =
            next.files.keys().filter(|path| !wanted.contains(path.as_str())).cloned().collect();
        for stray in &strays {
            remove_with_empty_parents(&folder, stray)?;
            next.files.remove(stray);
        }
        report.removed = strays.len();
        next.tree = Some(output.tree);
        write_record(&record_path, &next)?;
        self.reach(FaultPoint::CopiesEnded);
        Ok(report)
    }

    /// Whether a folder is in the state of an output, as far as anybody can tell without reading it.
    pub(crate) fn is_copied(&self, output: &OutputManifest, folder: &Path) -> bool {
        // Mostly the path leads through no links, and is what the folder goes by as it stands. Where
        // it does, there may be a record of the time before the link.
        self.is_recorded(output, folder)
            || fs::canonicalize(folder)
                .is_ok_and(|real| real != folder && self.is_recorded(output, &real))
    }

    /// Whether a folder of that very path is in the state of an output.
    fn is_recorded(&self, output: &OutputManifest, folder: &Path) -> bool {
        let Some(record) = read_record(&self.record_path(folder)) else { return false };
        record.tree == Some(output.tree)
            && output.files.iter().all(|entry| {
                let before = record.files.get(&entry.path);
                before.is_some_and(|b| is_unchanged(&folder.join(&entry.path), entry, b))
            })
    }

    fn record_path(&self, folder: &Path) -> PathBuf {
        self.root.join("copies").join(format!("{}.json", name_of(folder)))
    }

    fn copy_file(&self, entry: &FileEntry, folder: &Path) -> Result<CopiedFile, PipelineError> {
        let target = folder.join(&entry.path);
        create_parent(&target)?;
        let unwritten = || PipelineError::io("write", &target);
        // The lock of the folder is held.
        let mut copy = Replacement::begin_alone(&target).map_err(unwritten())?;
        copy_content(&self.blob(&entry.digest), copy.file()).map_err(unwritten())?;
        self.reach(FaultPoint::FileCopied);
        copy.finish().map_err(unwritten())?;
        self.reach(FaultPoint::CopyNamed);
        let identity = FileIdentity::of(&target).map_err(PipelineError::io("look at", &target))?;
        Ok(CopiedFile { digest: entry.digest, identity: Some(identity) })
    }
}

/// Returns what a folder goes by in the cache.
fn name_of(folder: &Path) -> Digest {
    Digest::of(folder.as_os_str().as_encoded_bytes())
}

fn is_unchanged(path: &Path, entry: &FileEntry, before: &CopiedFile) -> bool {
    before.digest == entry.digest
        && before.identity.is_some()
        && FileIdentity::of(path).ok() == before.identity
}

/// Copies a file, where the file system can by letting both share their blocks until one changes.
fn copy_content(source: &Path, to: &mut File) -> io::Result<()> {
    let mut from = File::open(source)?;
    if rustix::fs::ioctl_ficlone(&*to, &from).is_err() {
        io::copy(&mut from, to)?;
    }
    to.set_permissions(fs::Permissions::from_mode(0o644))
}

fn remove_with_empty_parents(folder: &Path, path: &str) -> Result<(), PipelineError> {
    let target = folder.join(path);
    match fs::remove_file(&target) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(PipelineError::io("remove", &target)(error)),
    }
    let parents = target.ancestors().skip(1).take_while(|parent| *parent != folder);
    for parent in parents {
        // A folder that is not empty stays, and so do those around it.
        if fs::remove_dir(parent).is_err() {
            break;
        }
    }
    Ok(())
}

/// Reads a record; one that cannot be read is as good as none, since all it saves is work.
fn read_record(path: &Path) -> Option<CopyRecord> {
    let record: CopyRecord = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    (record.version == RECORD_VERSION).then_some(record)
}

fn write_record(path: &Path, record: &CopyRecord) -> Result<(), PipelineError> {
    let json = serde_json::to_vec(record).expect("a record is plain data with string keys");
    replace::write(path, &json)
}
