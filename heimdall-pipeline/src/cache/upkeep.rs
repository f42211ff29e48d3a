//! Looking after a cache: what is in it, whether it is sound, and what of it can go.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use rayon::prelude::*;

use super::{Cache, Digest, Key, KeyLock, LockAttempt, Manifest, digest_of_file, list_files};
use crate::PipelineError;
use crate::replace::PART_SUFFIX;

/// Name of the lock that every run shares, and that nothing is removed without.
const USE_LOCK: &str = "use";

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

/// What is removed from a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Results that were not used for longer go.
    pub(crate) age_max: Option<Duration>,
    /// The results that were not used for longest go until the others take no more than this.
    pub(crate) size_bytes_max: Option<u64>,
}

/// What was removed, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    /// Results.
    pub(crate) results: Vec<Key>,
    /// Files of the store that no result needs any more.
    pub(crate) files: usize,
    /// Length of everything that was removed.
    pub(crate) bytes: u64,
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

    fn pin_path(&self, run: &str) -> PathBuf {
        self.root.join("pins").join(run)
    }

    /// Removes results beyond the limits, and whatever no result needs. Without `carry_out` it only
    /// says what would be removed.
    ///
    /// # Errors
    ///
    /// [`PipelineError::CacheInUse`] if a run is under way.
    pub(crate) fn collect_garbage(
        &self,
        limits: Limits,
        now: Timestamp,
        carry_out: bool,
    ) -> Result<Removed, PipelineError> {
        let _lock = match self.try_lock_name(USE_LOCK, "garbage collection")? {
            LockAttempt::Held(lock) => lock,
            LockAttempt::Busy(_) => return Err(PipelineError::CacheInUse),
        };
        let (kept, removed) = beyond(self.entries()?, limits, now);
        let mut report = Removed { results: removed.clone(), ..Removed::default() };
        if carry_out {
            // Manifests go first: one without its files would be taken for damage.
            for key in &removed {
                let path = self.manifest_path(key);
                fs::remove_file(&path).map_err(PipelineError::io("remove", &path))?;
            }
        }
        let needed: HashSet<Digest> =
            kept.iter().flat_map(|entry| entry.manifest.blobs()).collect();
        let is_kept = |folder: &str, inner: &str| match folder {
            "cas" => {
                let digest = inner.rsplit('/').next().and_then(|name| name.parse().ok());
                digest.is_some_and(|digest| needed.contains(&digest))
            }
            "quarantine" => false,
            // Elsewhere only those that a killed process has not finished go.
            _ => !inner.ends_with(PART_SUFFIX),
        };
        for name in ["cas", "quarantine", "ac", "copies", "runs", "stat"] {
            let folder = self.root.join(name);
            for inner in list_files(&folder)? {
                if is_kept(name, &inner) {
                    continue;
                }
                let path = folder.join(inner);
                let length =
                    fs::metadata(&path).map_err(PipelineError::io("look at", &path))?.len();
                if carry_out {
                    fs::remove_file(&path).map_err(PipelineError::io("remove", &path))?;
                }
                report.files += 1;
                report.bytes += length;
            }
        }
        Ok(report)
    }

    /// Reads everything in the cache, and moves away what is damaged.
    pub(crate) fn verify(&self) -> Result<Verified, PipelineError> {
        let _lock = self.share()?;
        let mut report = Verified::default();
        let mut users: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
        for key in self.keys()? {
            report.results += 1;
            let path = self.manifest_path(&key);
            let Some(manifest) = self.read_manifest(&key) else {
                report.faults.push(format!("the manifest {} cannot be trusted", key.short()));
                self.quarantine(&path)?;
                continue;
            };
            let stage = &manifest.provenance.stage;
            for digest in manifest.blobs() {
                users.entry(digest).or_default().push(format!("{stage} {}", key.short()));
            }
        }
        let kept = list_files(&self.root.join("cas"))?;
        let kept: BTreeSet<Digest> =
            kept.iter().filter_map(|path| path.rsplit('/').next()?.parse().ok()).collect();
        report.files = kept.len();
        let damaged: Vec<Digest> = kept
            .par_iter()
            .map(|digest| {
                let path = self.blob(digest);
                let found = digest_of_file(&path).map_err(PipelineError::io("read", &path))?;
                Ok((found != *digest).then_some(*digest))
            })
            .collect::<Result<Vec<_>, PipelineError>>()?
            .into_iter()
            .flatten()
            .collect();
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

/// Parts results, the one used last first, into those that stay and the keys of those that go.
fn beyond(entries: Vec<Entry>, limits: Limits, now: Timestamp) -> (Vec<Entry>, Vec<Key>) {
    let age = |entry: &Entry| {
        // What was used in the future, by a clock that was put back since, has no age.
        Duration::try_from(now.duration_since(entry.used)).unwrap_or_default()
    };
    let pinned_bytes: u64 =
        entries.iter().filter(|entry| entry.is_pinned).map(|entry| entry.size_bytes).sum();
    let mut total_bytes = pinned_bytes;
    let (mut kept, mut removed) = (Vec::new(), Vec::new());
    for entry in entries {
        let is_old = limits.age_max.is_some_and(|age_max| age(&entry) > age_max);
        let is_too_much = limits
            .size_bytes_max
            .is_some_and(|size_bytes_max| total_bytes + entry.size_bytes > size_bytes_max);
        if !entry.is_pinned && (is_old || is_too_much) {
            removed.push(entry.key);
            continue;
        }
        if !entry.is_pinned {
            total_bytes += entry.size_bytes;
        }
        kept.push(entry);
    }
    (kept, removed)
}
