//! Results kept by what they were made from, and readable copies of them.
//!
//! ```text
//! .heimdall/cas/ab/<digest>       content of files, by their own digest
//!           ac/ab/<key>.json      what a stage made, by the key of what it was made from
//!           work/<key>.<run>/     a stage at work: in/<port> (links), out/<port>
//!           scratch/<key>/        what an interrupted stage goes on from
//!           scratch/<key>.run     the run that worked there last
//!           locks/<key>           held while a stage works
//!           copies/<digest>.json  what was copied to a readable folder
//!           runs/<run>.json       what a run did
//!           tracking/<run>/       what has not arrived in the tracking store
//!           pins/<run>            whose results are kept whatever their age
//!           logs/<run>/<stage>    what a stage said that came to no result
//!           stat/<digest>.json    what files outside of the cache looked like when they were read
//!           quarantine/           what was found to be damaged
//! ```

mod copy;
mod file;
mod garbage;
mod key;
mod lock;
mod lookup;
mod manifest;
mod publish;
mod remote;
mod upkeep;
mod work;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::PipelineError;
use crate::fault::FaultPoint;

pub(crate) use file::FileIdentity;
use file::list_names;
pub(crate) use file::{digest_of_file, list_files};
pub(crate) use garbage::Limits;
pub(crate) use key::{Digest, Key, KeyParts, canonical_json};
pub(crate) use lock::{KeyLock, LockAttempt};
pub(crate) use lookup::{Lookup, PARALLEL_FILES_MIN};
use manifest::FileEntry;
pub(crate) use manifest::{Manifest, Origin, OutputManifest, Provenance};
pub(crate) use remote::{Pulled, Pushed, Remote, Traffic};
pub(crate) use work::WorkFolder;

/// Returns the folder of a cache for what has not arrived in the tracking store.
pub(crate) fn spool_of(cache: &Path) -> PathBuf {
    cache.join("tracking")
}

/// Folders that are made when a cache is opened.
const FOLDERS: [&str; 11] = [
    "cas",
    "ac",
    "work",
    "scratch",
    "locks",
    "copies",
    "quarantine",
    "runs",
    "logs",
    "stat",
    "pins",
];

/// Where the system says which start of the machine this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The folder that results are kept in.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    root: PathBuf,
    /// What tells this start of the machine from all others.
    boot: Arc<str>,
    fault: Option<FaultPoint>,
}

impl Cache {
    /// Opens the cache in a folder, which is made if it is not there.
    pub(crate) fn open(root: &Path, fault: Option<FaultPoint>) -> Result<Self, PipelineError> {
        for folder in FOLDERS {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(PipelineError::io("create", &path))?;
        }
        // Links from work folders must not depend on the working directory.
        let root = fs::canonicalize(root).map_err(PipelineError::io("open", root))?;
        let boot = fs::read_to_string(BOOT_ID).unwrap_or_default();
        Ok(Self { root, boot: boot.trim().into(), fault })
    }

    /// Dies if this is where the run is to die.
    pub(crate) fn reach(&self, point: FaultPoint) {
        if self.fault == Some(point) {
            point.die();
        }
    }

    pub(crate) fn runs_folder(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// Returns where the log of a stage stands that came to no result in a run.
    pub(crate) fn log_path(&self, run: &str, stage: &str) -> PathBuf {
        self.root.join("logs").join(run).join(stage)
    }

    /// Returns where it is kept what a folder outside of the cache looked like.
    pub(crate) fn stat_path(&self, folder: &Path) -> PathBuf {
        let name = Digest::of(folder.as_os_str().as_encoded_bytes());
        self.root.join("stat").join(format!("{name}.json"))
    }

    /// Returns where the content of that digest is, if it is there.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.root.join("cas").join(&name[..2]).join(name)
    }

    fn manifest_path(&self, key: &Key) -> PathBuf {
        let name = key.to_string();
        self.root.join("ac").join(&name[..2]).join(format!("{name}.json"))
    }

    /// Returns the folder that a stage with this key finds again after an interruption.
    pub(crate) fn scratch(&self, key: &Key) -> PathBuf {
        self.root.join("scratch").join(key.to_string())
    }

    fn lock_path(&self, name: &str) -> PathBuf {
        self.root.join("locks").join(name)
    }

    /// Moves something damaged out of the way, for a person to look at.
    fn quarantine(&self, path: &Path) -> Result<(), PipelineError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let folder = self.root.join("quarantine");
        let target = (0_u32..)
            .map(|number| folder.join(format!("{name}.{number}")))
            .find(|target| !target.exists())
            .expect("there are more numbers than files");
        match fs::rename(path, &target) {
            // Somebody else has found it out.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            moved => moved.map_err(PipelineError::io("move away", path)),
        }
    }
}

/// Runs what waits for disks where it keeps nobody else waiting.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PipelineError> + Send + 'static,
) -> Result<T, PipelineError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Makes the folder that a file is to stand in.
fn create_parent(path: &Path) -> Result<(), PipelineError> {
    let parent = path.parent().expect("a file of the cache is in a folder");
    fs::create_dir_all(parent).map_err(PipelineError::io("create", parent))
}

#[cfg(test)]
mod tests;
