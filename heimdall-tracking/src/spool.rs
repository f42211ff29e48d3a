//! What was logged and is not yet where it belongs: a folder for each run.
//!
//! ```text
//! SPOOL/KEY/run.json         the run, and where it is entered
//! SPOOL/KEY/entries.ndjson   what was logged, a line each, in order
//! SPOOL/KEY/progress.json    how many bytes of that have arrived, and the id of the run there
//! SPOOL/KEY/refused.ndjson   what was refused for good, with the reason
//! SPOOL/KEY/files/           links to files that were logged
//! SPOOL/KEY/lock             held by the process that the run belongs to
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::metric::{from_json, to_json};
use crate::{DatasetInput, ExperimentId, Metric, RunConfig, RunStatus};

/// Version of `run.json`.
const FORMAT_VERSION: u32 = 1;

const RUN: &str = "run.json";
const ENTRIES: &str = "entries.ndjson";
const PROGRESS: &str = "progress.json";
const REFUSED: &str = "refused.ndjson";
const FILES: &str = "files";
const LOCK: &str = "lock";

/// A run as it is known before anybody has entered it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrackedRun {
    /// Name of the experiment that it belongs to; it is made if there is none.
    pub experiment: String,
    /// Its name for people; need not be unique.
    pub run_name: String,
    /// Who started it.
    pub user: String,
    /// Program or script that runs.
    pub source_name: String,
    /// Git commit of the source.
    pub git_commit: Option<String>,
    /// Git branch of the source.
    pub git_branch: Option<String>,
    /// What people should read about it, in Markdown.
    pub description: Option<String>,
    /// Further tags, such as `mlflow.parentRunId`.
    pub tags: BTreeMap<String, String>,
    /// Time of the start, in ms since 1970.
    pub start_time_ms: i64,
}

impl TrackedRun {
    /// The run in an experiment, which is found again by its key.
    pub(crate) fn config(&self, experiment: ExperimentId, key: &str) -> RunConfig {
        let mut tags = self.tags.clone();
        tags.insert(crate::run::RUN_KEY.to_owned(), key.to_owned());
        RunConfig {
            experiment,
            run_name: self.run_name.clone(),
            user: self.user.clone(),
            source_name: self.source_name.clone(),
            git_commit: self.git_commit.clone(),
            git_branch: self.git_branch.clone(),
            description: self.description.clone(),
            tags,
            start_time_ms: self.start_time_ms,
        }
    }
}

/// Something that was logged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Entry {
    /// Parameters.
    Params { params: BTreeMap<String, String> },
    /// Points of metrics.
    Metrics { points: Vec<Point> },
    /// Tags.
    Tags { tags: BTreeMap<String, String> },
    /// A data set.
    Dataset { dataset: DatasetInput },
    /// A file, and the folder of the run that it goes to.
    Artifact { file: PathBuf, name: String, folder: String },
    /// The end.
    End { status: RunStatus, time_ms: i64 },
}

/// A point of a metric: its value is text where JSON has no number for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point(String, Value, i64, i64);

impl From<&Metric> for Point {
    fn from(metric: &Metric) -> Self {
        Self(metric.key.clone(), to_json(metric.value), metric.step, metric.timestamp_ms)
    }
}

impl From<&Point> for Metric {
    fn from(Point(key, value, step, timestamp_ms): &Point) -> Self {
        let (step, timestamp_ms) = (*step, *timestamp_ms);
        Self { key: key.clone(), value: from_json(value), step, timestamp_ms }
    }
}

/// How far the entries of a run have come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Progress {
    /// Id of the run where it is entered, once it is.
    pub(crate) run_id: Option<String>,
    /// Bytes of the entries that have arrived or were refused.
    pub(crate) bytes: u64,
}

/// What is in `run.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format_version: u32,
    address: String,
    run: TrackedRun,
}

/// The spool of one run, held by this process.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    pub(crate) key: String,
    /// Where the run is entered, without a password.
    pub(crate) address: String,
    pub(crate) run: TrackedRun,
    _lock: File,
}

/// The end of the entries of a run, where more are added.
#[derive(Debug)]
pub(crate) struct SpoolWriter {
    file: File,
    length: u64,
    files: PathBuf,
    linked: usize,
}

impl Spool {
    /// Makes the spool of a new run.
    pub(crate) fn create(
        root: &Path,
        key: &str,
        address: &str,
        run: &TrackedRun,
    ) -> io::Result<(Self, SpoolWriter)> {
        let folder = root.join(key);
        fs::create_dir_all(folder.join(FILES))?;
        let lock = File::create(folder.join(LOCK))?;
        lock.try_lock().map_err(io::Error::from)?;
        let header = json!({ "format_version": FORMAT_VERSION, "address": address, "run": run });
        write_whole(&folder.join(RUN), header.to_string().as_bytes())?;
        let (key, address) = (key.to_owned(), address.to_owned());
        let spool = Self { folder, key, address, run: run.clone(), _lock: lock };
        let writer = spool.writer()?;
        Ok((spool, writer))
    }

    /// Takes over the spool of a run whose process is gone; `None` while it is not.
    pub(crate) fn take_over(folder: &Path) -> io::Result<Option<Self>> {
        let path = folder.join(LOCK);
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
        let header: Header = serde_json::from_slice(&fs::read(folder.join(RUN))?)?;
        if header.format_version > FORMAT_VERSION {
            let version = header.format_version;
            return Err(io::Error::other(format!("a newer release wrote it: version {version}")));
        }
        let key = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Header { address, run, .. } = header;
        Ok(Some(Self { folder: folder.to_owned(), key, address, run, _lock: lock }))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Opens the end of the entries. A line that was not finished is taken off.
    pub(crate) fn writer(&self) -> io::Result<SpoolWriter> {
        let path = self.folder.join(ENTRIES);
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let mut length = 0;
        let mut lines = BufReader::new(File::open(&path)?);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
            length += line.len() as u64;
            line.clear();
        }
        file.set_len(length)?;
        Ok(SpoolWriter { file, length, files: self.folder.join(FILES), linked: 0 })
    }

    /// Reads how far the entries have come.
    pub(crate) fn progress(&self) -> io::Result<Progress> {
        match fs::read(self.folder.join(PROGRESS)) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Progress::default()),
            Err(error) => Err(error),
        }
    }

    /// Notes how far the entries have come.
    pub(crate) fn note(&self, progress: &Progress) -> io::Result<()> {
        write_whole(&self.folder.join(PROGRESS), json!(progress).to_string().as_bytes())
    }

    /// Reads entries from a place on, at most so many: each with the place where it ends. What is no
    /// entry comes as the text that it is.
    pub(crate) fn read(
        &self,
        from: u64,
        count: usize,
    ) -> io::Result<Vec<(u64, Result<Entry, String>)>> {
        let mut file = File::open(self.folder.join(ENTRIES))?;
        file.seek(SeekFrom::Start(from))?;
        let (mut lines, mut end) = (BufReader::new(file), from);
        let mut entries = Vec::new();
        let mut line = Vec::new();
        while entries.len() < count {
            line.clear();
            // A line without an end is still being written.
            if lines.read_until(b'\n', &mut line)? == 0 || !line.ends_with(b"\n") {
                break;
            }
            end += line.len() as u64;
            let entry = serde_json::from_slice(&line);
            entries.push((end, entry.map_err(|_| String::from_utf8_lossy(&line).into_owned())));
        }
        Ok(entries)
    }

    /// Keeps what was refused, with the reason.
    pub(crate) fn refuse(&self, entry: &Value, reason: &str) -> io::Result<()> {
        let path = self.folder.join(REFUSED);
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        let line = json!({ "reason": reason, "entry": entry });
        file.write_all(format!("{line}\n").as_bytes())
    }

    /// Puts what was logged on the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        File::open(self.folder.join(ENTRIES))?.sync_data()
    }

    /// Removes the spool; what was refused stays.
    pub(crate) fn remove(self) -> io::Result<()> {
        if !self.folder.join(REFUSED).exists() {
            return fs::remove_dir_all(&self.folder);
        }
        for name in [RUN, ENTRIES, PROGRESS, LOCK] {
            match fs::remove_file(self.folder.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::remove_dir_all(self.folder.join(FILES))
    }

    /// The folders of spools below a folder, in the order of their names.
    pub(crate) fn all(root: &Path) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut folders = Vec::new();
        for entry in entries {
            let folder = entry?.path();
            if folder.join(RUN).is_file() {
                folders.push(folder);
            }
        }
        folders.sort();
        Ok(folders)
    }
}

impl SpoolWriter {
    /// Adds an entry: with one call to the system, after which it outlives this process.
    pub(crate) fn push(&mut self, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        match self.file.write_all(&line) {
            Ok(()) => {
                self.length += line.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Half a line would take the next one with it.
                self.file.set_len(self.length)?;
                Err(error)
            }
        }
    }

    /// Bytes of all entries.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Links a file, so that it is still there when it is sent, even if it was replaced or removed by
    /// then. A file of another disk is sent from where it is.
    pub(crate) fn link(&mut self, file: &Path) -> PathBuf {
        let link = self.files.join(self.linked.to_string());
        self.linked += 1;
        let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        match fs::hard_link(&absolute, &link) {
            Ok(()) => link,
            Err(_) => absolute,
        }
    }
}

/// Writes a file such that it is there as a whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut file = File::create(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&part, path)
}

#[cfg(test)]
mod tests;
