//! Locks that a dead process cannot leave behind.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry::Vacant;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{Cache, Key};
use crate::PipelineError;
use crate::stage::kill_left_over;

/// The right to make the result of one key; given back when it is dropped, or the process ends.
#[derive(Debug)]
pub(crate) struct KeyLock {
    _file: File,
}

/// What comes of asking for a lock.
#[derive(Debug)]
pub(crate) enum LockAttempt {
    /// It is ours.
    Held(KeyLock),
    /// Somebody has it; the text says who.
    Busy(String),
}

impl Cache {
    /// Asks for the right to make the result of a key, saying who asks.
    pub(crate) fn try_lock(&self, key: &Key, holder: &str) -> Result<LockAttempt, PipelineError> {
        self.try_lock_name(&key.to_string(), holder)
    }

    /// Asks for a lock by its name.
    pub(super) fn try_lock_name(
        &self,
        name: &str,
        holder: &str,
    ) -> Result<LockAttempt, PipelineError> {
        let path = self.lock_path(name);
        let mut file = open_lock(&path).map_err(PipelineError::io("open", &path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                let written = file.set_len(0).and_then(|()| file.write_all(holder.as_bytes()));
                written.map_err(PipelineError::io("write", &path))?;
                Ok(LockAttempt::Held(KeyLock { _file: file }))
            }
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                let read = file.rewind().and_then(|()| file.read_to_string(&mut holder));
                read.map_err(PipelineError::io("read", &path))?;
                Ok(LockAttempt::Busy(holder))
            }
            Err(error) => Err(PipelineError::io("lock", &path)(error.into())),
        }
    }

    /// Takes a lock that many may hold at a time, which keeps everybody from holding it alone.
    pub(super) fn lock_shared(&self, name: &str) -> Result<KeyLock, PipelineError> {
        let path = self.lock_path(name);
        let file = open_lock(&path).map_err(PipelineError::io("open", &path))?;
        flock(&file, FlockOperation::LockShared)
            .map_err(|error| PipelineError::io("lock", &path)(error.into()))?;
        Ok(KeyLock { _file: file })
    }

    /// Waits for a lock that is held for moments only.
    pub(super) fn lock_briefly(&self, name: &str) -> Result<KeyLock, PipelineError> {
        let path = self.lock_path(name);
        let file = open_lock(&path).map_err(PipelineError::io("open", &path))?;
        flock(&file, FlockOperation::LockExclusive)
            .map_err(|error| PipelineError::io("lock", &path)(error.into()))?;
        Ok(KeyLock { _file: file })
    }

    /// Removes the work folders of processes that are no more, which is what nobody's lock says.
    pub(crate) fn remove_stale_work(&self) -> Result<usize, PipelineError> {
        let folder = self.root.join("work");
        // With their locks, so that nobody begins to work there.
        let (mut stale, mut locks) = (Vec::new(), BTreeMap::new());
        for entry in fs::read_dir(&folder).map_err(PipelineError::io("list", &folder))? {
            let entry = entry.map_err(PipelineError::io("list", &folder))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let lock = self.lock_path(name.split('.').next().unwrap_or_default());
            if let Vacant(place) = locks.entry(lock) {
                let lock = place.key();
                let file = open_lock(lock).map_err(PipelineError::io("open", lock))?;
                if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                    continue;
                }
                place.insert(file);
            }
            stale.push(entry.path());
        }
        // Whoever worked there was killed, but not what it had started.
        stale.iter().for_each(|path| kill_left_over(path));
        let removed = stale.iter().map(|path| {
            fs::remove_dir_all(path).map_err(PipelineError::io("remove", path)).map(|()| 1)
        });
        let removed: Vec<Result<usize, PipelineError>> = removed.collect();
        removed.into_iter().sum()
    }
}

fn open_lock(path: &std::path::Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}
