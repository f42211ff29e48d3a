//! Looking after a cache: what is in it, whether it is sound, and what of it can go.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use rayon::prelude::*;

use super::manifest::Damage;
use super::{Cache, Digest, Key, KeyLock, Manifest, list_names};
use crate::PipelineError;

/// Name of the lock that every run shares, and that nothing is removed without.
pub(super) const USE_LOCK: &str = "use";

/// A result in the cache.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) manifest: Manifest,
    /// When a run last made or took it.
    pub(crate) used: Timestamp,
    /// Length of its files, those that it shares with others included.
    pub(crate) size_bytes: u64,
    /// Whether it is kept whatever its age: its run is pinned, or is the latest of its pipeline.
    pub(crate) is_pinned: bool,
}

/// What was found in a cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verified {
    /// Results that were looked at.
    pub(crate) results: usize,
    /// Files that were read.
    pub(crate) files: usize,
    /// What is wrong; damaged files have been moved away.
    pub(crate) faults: Vec<String>,
}

impl Cache {
    /// Says that a run uses the cache, until the lock is dropped.
    pub(crate) fn share(&self) -> Result<KeyLock, PipelineError> {
        self.lock_shared(USE_LOCK)
    }

    /// Returns all results, the one that was used last first.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>, PipelineError> {
        let mut used: HashMap<Key, Timestamp> = HashMap::new();
        let mut pinned: HashSet<Key> = HashSet::new();
        let mut seen = BTreeSet::new();
        for run in self.runs()? {
            let is_kept = seen.insert(run.pipeline.clone()) || self.pin_path(&run.run).exists();
            for key in run.stages.iter().filter_map(|stage| stage.key) {
                if let Ok(time) = run.started.parse() {
                    used.entry(key).or_insert(time);
                }
                if is_kept {
                    pinned.insert(key);
                }
            }
        }
        let entry = |key: Key| {
            let manifest = self.read_manifest(&key)?;
            let made = manifest.provenance.started.parse().unwrap_or(Timestamp::UNIX_EPOCH);
            let files = manifest.outputs.values().flat_map(|output| &output.files);
            let size_bytes = files.map(|file| file.identity.size).sum();
            let used = used.get(&key).copied().unwrap_or(made);
            Some(Entry { key, used, size_bytes, is_pinned: pinned.contains(&key), manifest })
        };
        let mut entries: Vec<Entry> = self.keys()?.into_iter().filter_map(entry).collect();
        entries.sort_by(|one, other| other.used.cmp(&one.used).then(one.key.cmp(&other.key)));
        Ok(entries)
    }

    /// Keeps the results of a run until it is unpinned.
    pub(crate) fn pin(&self, run: &str) -> Result<(), PipelineError> {
        let path = self.pin_path(run);
        fs::write(&path, "").map_err(PipelineError::io("write", path))
    }

    /// Lets go of the results of a run.
    pub(crate) fn unpin(&self, run: &str) -> Result<(), PipelineError> {
        let path = self.pin_path(run);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(PipelineError::io("remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn pin_path(&self, run: &str) -> PathBuf {
        self.root.join("pins").join(run)
    }

    /// Reads everything in the cache, and moves away what is damaged.
    pub(crate) fn verify(&self) -> Result<Verified, PipelineError> {
        let _lock = self.share()?;
        let mut report = Verified::default();
        let mut users: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
        for key in self.keys()? {
            report.results += 1;
            let path = self.manifest_path(&key);
            let bytes = fs::read(&path).map_err(|_| Damage::Checksum);
            let manifest = match bytes.and_then(|bytes| Manifest::decode(&bytes, &key)) {
                Ok(manifest) => manifest,
                // Another program's: it is for that one to trust it or not.
                Err(Damage::Outdated) => continue,
                Err(_) => {
                    report.faults.push(format!("the manifest {} cannot be trusted", key.short()));
                    self.quarantine(&path)?;
                    continue;
                }
            };
            let stage = &manifest.provenance.stage;
            for digest in manifest.blobs() {
                users.entry(digest).or_default().push(format!("{stage} {}", key.short()));
            }
        }
        let kept = list_names(&self.root.join("cas"))?;
        let kept: BTreeSet<Digest> =
            kept.iter().filter_map(|path| path.rsplit('/').next()?.parse().ok()).collect();
        report.files = kept.len();
        let damaged: Vec<Digest> =
            kept.par_iter().filter(|digest| !self.is_whole(digest)).copied().collect();
        for digest in &damaged {
            self.quarantine(&self.blob(digest))?;
            let users = users.get(digest).map(|users| users.join(", ")).unwrap_or_default();
            report.faults.push(format!("the file {} of {users} has been changed", digest.short()));
        }
        for (digest, users) in users.iter().filter(|(digest, _)| !kept.contains(digest)) {
            let users = users.join(", ");
            report.faults.push(format!("the file {} of {users} is gone", digest.short()));
        }
        Ok(report)
    }
}
