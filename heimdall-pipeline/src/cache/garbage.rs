//! Removing what no result needs, and results that are too old or too much.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::upkeep::{Entry, USE_LOCK};
use super::{Cache, Digest, Key, LockAttempt, list_names};
use crate::PipelineError;
use crate::history::RunRecord;
use crate::replace::PART_SUFFIX;

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

impl Cache {
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
        let report = Removed { results: removed, ..Removed::default() };
        let mut bin = Bin { root: self.root.clone(), carry_out, report };
        if carry_out {
            // Manifests go first: one without its files would be taken for damage.
            for key in &bin.report.results {
                let path = self.manifest_path(key);
                fs::remove_file(&path).map_err(PipelineError::io("remove", &path))?;
            }
        }
        let needed: HashSet<Digest> =
            kept.iter().flat_map(|entry| entry.manifest.blobs()).collect();
        // Those that go are counted as results, not as files.
        let results: HashSet<Key> =
            kept.iter().map(|entry| entry.key).chain(bin.report.results.iter().copied()).collect();
        let forgotten = self.forgotten_runs(limits, now)?;
        let name_of = |inner: &str| inner.rsplit('/').next().unwrap_or(inner).to_owned();
        let is_needed = |folder: &str, inner: &str| match folder {
            "cas" => name_of(inner).parse().is_ok_and(|digest| needed.contains(&digest)),
            // What another version of the program made, whose files nobody keeps here, goes too.
            "ac" => {
                let key = name_of(inner).strip_suffix(".json").and_then(|key| key.parse().ok());
                key.is_some_and(|key| results.contains(&key))
            }
            "quarantine" => false,
            // All of them are free while this goes on, but the one that it holds itself.
            "locks" => inner == USE_LOCK,
            "runs" => {
                !inner.ends_with(PART_SUFFIX)
                    && !inner.strip_suffix(".json").is_some_and(|run| forgotten.contains(run))
            }
            "logs" => {
                let run = inner.split('/').next().unwrap_or(inner);
                !forgotten.contains(run) && self.run_path(run).exists()
            }
            // Elsewhere only those that a killed process has not finished go.
            _ => !inner.ends_with(PART_SUFFIX),
        };
        for name in ["cas", "quarantine", "ac", "copies", "logs", "runs", "stat", "locks"] {
            let folder = self.root.join(name);
            for inner in list_names(&folder)?.iter().filter(|inner| !is_needed(name, inner)) {
                bin.take(&folder.join(inner))?;
            }
        }
        self.collect_scratch(limits, now, &mut bin)?;
        Ok(bin.report)
    }

    /// Removes what interrupted stages kept, each as a whole once nothing of it is young any more: one
    /// file of it is worth nothing without the others.
    fn collect_scratch(
        &self,
        limits: Limits,
        now: Timestamp,
        bin: &mut Bin,
    ) -> Result<(), PipelineError> {
        let Some(age_max) = limits.age_max else { return Ok(()) };
        let root = self.root.join("scratch");
        let mut kept: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for name in list_names(&root)? {
            // A folder of a key, and the file beside it that says whose it was.
            let key = name.split(['/', '.']).next().unwrap_or_default().to_owned();
            kept.entry(key).or_default().push(root.join(name));
        }
        for (key, files) in kept {
            let young = files.iter().any(|file| {
                let modified = fs::symlink_metadata(file).and_then(|metadata| metadata.modified());
                let modified = modified.ok().and_then(|time| Timestamp::try_from(time).ok());
                modified.is_none_or(|modified| age_since(modified, now) <= age_max)
            });
            if young {
                continue;
            }
            files.iter().try_for_each(|file| bin.take(file))?;
            if bin.carry_out {
                let _ = fs::remove_dir_all(root.join(key));
            }
        }
        Ok(())
    }

    /// Lists the runs that are older than the limit, but for those whose results are kept.
    fn forgotten_runs(
        &self,
        limits: Limits,
        now: Timestamp,
    ) -> Result<HashSet<String>, PipelineError> {
        let Some(age_max) = limits.age_max else { return Ok(HashSet::new()) };
        let mut seen = HashSet::new();
        let is_forgotten = |run: &RunRecord| {
            let is_latest = seen.insert(run.pipeline.clone());
            let age = run.started.parse().map(|started| age_since(started, now));
            !is_latest && !self.pin_path(&run.run).exists() && age.is_ok_and(|age| age > age_max)
        };
        Ok(self.runs()?.filter(is_forgotten).map(|run| run.run).collect())
    }
}

/// Removes files, or counts them only.
struct Bin {
    root: PathBuf,
    carry_out: bool,
    report: Removed,
}

impl Bin {
    fn take(&mut self, path: &Path) -> Result<(), PipelineError> {
        let metadata = fs::symlink_metadata(path).map_err(PipelineError::io("look at", path))?;
        if self.carry_out {
            fs::remove_file(path).map_err(PipelineError::io("remove", path))?;
            // The last file of a folder takes it along, but for those that every cache has.
            if let Some(folder) = path.parent().filter(|folder| folder.parent() != Some(&self.root))
            {
                let _ = fs::remove_dir(folder);
            }
        }
        self.report.files += 1;
        self.report.bytes += metadata.len();
        Ok(())
    }
}

/// Parts results, the one used last first, into those that stay and the keys of those that go.
fn beyond(entries: Vec<Entry>, limits: Limits, now: Timestamp) -> (Vec<Entry>, Vec<Key>) {
    let pinned_bytes: u64 =
        entries.iter().filter(|entry| entry.is_pinned).map(|entry| entry.size_bytes).sum();
    let mut total_bytes = pinned_bytes;
    let (mut kept, mut removed) = (Vec::new(), Vec::new());
    for entry in entries {
        let is_old = limits.age_max.is_some_and(|age_max| age_since(entry.used, now) > age_max);
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

/// How long ago something was. What was in the future, by a clock that was put back since, has no
/// age.
fn age_since(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}
