//! Objects that are kept on this machine after they were read from another.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use tracing::warn;

use crate::DataError;

/// A folder of objects under their digests, the ones used last, up to a size.
///
/// Several processes may use one folder. What cannot be kept, or is damaged, is read from its store
/// again.
#[derive(Debug)]
pub struct ObjectCache {
    folder: PathBuf,
    bytes_max: u64,
    /// Bytes of the objects, as far as this process knows.
    bytes: Mutex<u64>,
}

/// An object that is kept.
struct Kept {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

impl ObjectCache {
    /// Opens a folder, or makes it.
    ///
    /// # Errors
    ///
    /// [`DataError::Write`], [`DataError::Read`] if the folder cannot be made or listed.
    pub fn open(folder: &Path, bytes_max: u64) -> Result<Self, DataError> {
        let write = |source| DataError::Write { path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(write)?;
        let cache = Self { folder: folder.to_owned(), bytes_max, bytes: Mutex::new(0) };
        let kept = cache.list().map_err(|source| {
            let path = folder.to_owned();
            DataError::Read { path, source }
        })?;
        *cache.lock() = kept.iter().map(|object| object.bytes).sum();
        Ok(cache)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, u64> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads an object, if it is here and still what it was.
    pub(crate) fn get(&self, digest: &str) -> Option<Bytes> {
        let path = self.folder.join(digest);
        let bytes = fs::read(&path).ok()?;
        if blake3::hash(&bytes).to_hex().as_str() != digest {
            warn!(object = digest, "a kept object is damaged, and read again from its store");
            let _ = fs::remove_file(&path);
            return None;
        }
        // Who cannot write here finds the older objects gone sooner.
        let _ =
            File::options().write(true).open(&path).and_then(|f| f.set_modified(SystemTime::now()));
        Some(bytes.into())
    }

    /// Keeps an object, and lets go of those that were not used for longest.
    pub(crate) fn keep(&self, digest: &str, bytes: &Bytes) {
        let length = bytes.len() as u64;
        if length > self.bytes_max {
            return;
        }
        if let Err(error) = self.write(digest, bytes) {
            warn!(object = digest, %error, "an object cannot be kept");
            return;
        }
        let mut total = self.lock();
        *total += length;
        if *total > self.bytes_max {
            match self.make_room() {
                Ok(left) => *total = left,
                Err(error) => warn!(%error, "kept objects cannot be let go of"),
            }
        }
    }

    /// Writes a file under a name of its own, and renames it when it is complete.
    fn write(&self, digest: &str, bytes: &Bytes) -> io::Result<()> {
        static COUNT: AtomicU64 = AtomicU64::new(0);

        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let part = self.folder.join(format!("{digest}.{}-{count}.part", std::process::id()));
        let written =
            fs::write(&part, bytes).and_then(|()| fs::rename(&part, self.folder.join(digest)));
        if written.is_err() {
            let _ = fs::remove_file(&part);
        }
        written
    }

    /// Removes objects until the others have room, and returns the bytes of these.
    fn make_room(&self) -> io::Result<u64> {
        let mut kept = self.list()?;
        kept.sort_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
        let mut total = kept.iter().map(|object| object.bytes).sum::<u64>();
        for object in kept {
            if total <= self.bytes_max {
                break;
            }
            match fs::remove_file(&object.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => total -= object.bytes,
            }
        }
        Ok(total)
    }

    fn list(&self) -> io::Result<Vec<Kept>> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // Another process may have removed it.
            let Ok(metadata) = entry.metadata() else { continue };
            let (bytes, used) = (metadata.len(), metadata.modified()?);
            kept.push(Kept { path: entry.path(), bytes, used });
        }
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn digest(bytes: &Bytes) -> String {
        blake3::hash(bytes).to_hex().to_string()
    }

    fn object(index: u8) -> Bytes {
        vec![index; 100].into()
    }

    #[test]
    fn objects_used_last_stay_within_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ObjectCache::open(folder.path(), 350).unwrap();
        let old = SystemTime::now() - Duration::from_secs(1000);
        for index in 0..3 {
            cache.keep(&digest(&object(index)), &object(index));
            let file = File::options().write(true).open(folder.path().join(digest(&object(index))));
            file.unwrap().set_modified(old + Duration::from_secs(index.into())).unwrap();
        }

        assert_eq!(cache.get(&digest(&object(0))), Some(object(0)));
        cache.keep(&digest(&object(3)), &object(3));

        let there = |index| cache.get(&digest(&object(index))).is_some();
        assert_eq!([there(0), there(1), there(2), there(3)], [true, false, true, true]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
        cache.keep("too large", &vec![0; 351].into());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn limit_holds_for_what_another_process_has_left() {
        let folder = tempfile::tempdir().unwrap();
        let first = ObjectCache::open(folder.path(), 1000).unwrap();
        (0..9).for_each(|index| first.keep(&digest(&object(index)), &object(index)));

        let second = ObjectCache::open(folder.path(), 400).unwrap();
        second.keep(&digest(&object(9)), &object(9));

        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
    }

    #[test]
    fn damaged_object_is_not_returned() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ObjectCache::open(folder.path(), 1000).unwrap();
        cache.keep(&digest(&object(1)), &object(1));
        let path = folder.path().join(digest(&object(1)));
        fs::write(&path, vec![2; 100]).unwrap();

        assert_eq!(cache.get(&digest(&object(1))), None);
        assert!(!path.exists());
    }
}
