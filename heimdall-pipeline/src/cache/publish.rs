//! From a work folder to a valid result, in steps of which only the last one counts.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rayon::prelude::*;

use super::file::digest_of_file;
use super::{
    Cache, Digest, FileEntry, FileIdentity, KeyLock, Manifest, OutputManifest, WorkFolder,
    create_parent, list_files,
};
use crate::PipelineError;
use crate::artifact::OutputPort;
use crate::fault::FaultPoint;

/// A result that took longer to make is written to the disk before it counts.
const DURABLE_SECONDS: f64 = 1.0;

impl Cache {
    /// Makes what stands in a work folder the result of the manifest's key.
    ///
    /// Until the manifest is in its place nothing has happened but that files were added to the
    /// store; an older result stays valid until then.
    pub(crate) fn publish(
        &self,
        _lock: &KeyLock,
        work: WorkFolder,
        ports: &[OutputPort],
        mut manifest: Manifest,
    ) -> Result<Manifest, PipelineError> {
        manifest.outputs = self.keep_outputs(&work, ports, &manifest.provenance.stage)?;
        if fs::metadata(work.log()).is_ok_and(|log| log.len() > 0) {
            manifest.log = Some(self.keep_file(&work.log())?.0);
        }
        self.reach(FaultPoint::OutputsKept);
        self.commit(&mut manifest)?;
        drop(work);
        self.reach(FaultPoint::WorkRemoved);
        self.remove_scratch(&manifest.key)?;
        self.reach(FaultPoint::ScratchRemoved);
        Ok(manifest)
    }

    /// Makes a result valid whose files are in the store.
    pub(super) fn commit(&self, manifest: &mut Manifest) -> Result<(), PipelineError> {
        // Waiting for the disk takes longer than making a result such as this a second time.
        let is_cheap = manifest.seconds < DURABLE_SECONDS && !self.boot.is_empty();
        manifest.boot = is_cheap.then(|| self.boot.to_string());
        if !is_cheap {
            self.sync()?;
        }
        self.reach(FaultPoint::Synced);
        self.write_manifest(manifest)
    }

    /// Writes down what the files of a result look like here.
    pub(super) fn identify(&self, manifest: &mut Manifest) -> Result<(), PipelineError> {
        for entry in manifest.outputs.values_mut().flat_map(|output| &mut output.files) {
            let blob = self.blob(&entry.digest);
            entry.identity =
                FileIdentity::of(&blob).map_err(PipelineError::io("look at", &blob))?;
        }
        Ok(())
    }

    /// Moves the files of all outputs into the store.
    pub(super) fn keep_outputs(
        &self,
        work: &WorkFolder,
        ports: &[OutputPort],
        stage: &str,
    ) -> Result<BTreeMap<String, OutputManifest>, PipelineError> {
        let mut listed = Vec::with_capacity(ports.len());
        for port in ports {
            let folder = work.output(&port.name);
            let paths = list_files(&folder)?;
            if paths.is_empty() {
                let (stage, port) = (stage.to_owned(), port.name.to_string());
                return Err(PipelineError::EmptyOutput { stage, port });
            }
            listed.push((port, folder, paths));
        }
        let mut outputs = BTreeMap::new();
        for (port, folder, paths) in listed {
            let files = paths
                .into_par_iter()
                .map(|path| {
                    let (digest, identity) = self.keep_file(&folder.join(&path))?;
                    Ok(FileEntry { path, digest, identity })
                })
                .collect::<Result<Vec<_>, PipelineError>>()?;
            let tree = Digest::of_tree(files.iter().map(|file| (file.path.as_str(), &file.digest)));
            let (kind, format_version) = (port.kind, port.kind.format_version());
            outputs.insert(
                port.name.to_string(),
                OutputManifest { kind, format_version, tree, files },
            );
        }
        Ok(outputs)
    }

    /// Moves a file into the store, unless the store has that content already and whole.
    pub(super) fn keep_file(&self, path: &Path) -> Result<(Digest, FileIdentity), PipelineError> {
        let digest = digest_of_file(path).map_err(PipelineError::io("read", path))?;
        if let Some(identity) = self.read_kept(&digest) {
            return Ok((digest, identity));
        }
        let blob = self.blob(&digest);
        create_parent(&blob)?;
        if blob.is_dir() {
            // Whatever else may be there is replaced.
            self.quarantine(&blob)?;
        }
        fs::set_permissions(path, Permissions::from_mode(0o444))
            .map_err(PipelineError::io("protect", path))?;
        fs::rename(path, &blob).map_err(PipelineError::io("move", path))?;
        self.reach(FaultPoint::FileKept);
        let identity = FileIdentity::of(&blob).map_err(PipelineError::io("look at", &blob))?;
        Ok((digest, identity))
    }

    /// Reads the kept content of a digest, and returns what it looks like if it is there and whole.
    pub(super) fn read_kept(&self, digest: &Digest) -> Option<FileIdentity> {
        FileIdentity::of(&self.blob(digest)).ok().filter(|_| self.is_whole(digest))
    }

    /// Reads the kept content of a digest, and tells whether it is there and is that. What cannot be
    /// read is no better than what is not there.
    pub(super) fn is_whole(&self, digest: &Digest) -> bool {
        digest_of_file(&self.blob(digest)).is_ok_and(|found| found == *digest)
    }

    /// Waits until everything in the store would survive a loss of power.
    fn sync(&self) -> Result<(), PipelineError> {
        let folder = File::open(&self.root).map_err(PipelineError::io("open", &self.root))?;
        rustix::fs::syncfs(&folder)
            .map_err(|error| PipelineError::io("write", &self.root)(error.into()))
    }
}
