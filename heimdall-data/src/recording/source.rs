//! Bytes of a file or an object, read in ranges.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path as ObjectPath;
use object_store::{GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::DataError;
use crate::store::object_error;

/// Bytes that are read at once where headers are looked for.
const WINDOW_BYTES: u64 = 256 * 1024;

/// Bytes that can be read in ranges, whose number is known.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// Name of the file or key of the object.
    pub(super) file: String,
    /// How many bytes there are, whatever a header says.
    pub(super) size: u64,
    stored: Stored,
}

#[derive(Clone, Debug)]
enum Stored {
    Memory(Bytes),
    Object { store: Arc<dyn ObjectStore>, path: ObjectPath, version: Option<String> },
}

impl Source {
    /// Wraps bytes that are in memory.
    pub(super) fn memory(file: &str, bytes: Bytes) -> Self {
        Self { file: file.to_owned(), size: bytes.len() as u64, stored: Stored::Memory(bytes) }
    }

    /// Finds an object, and asks for its size.
    pub(super) async fn open(
        store: Arc<dyn ObjectStore>,
        path: ObjectPath,
    ) -> Result<Self, DataError> {
        let file = path.as_ref().to_owned();
        let meta = store.head(&path).await.map_err(object_error(&file, "read"))?;
        let version = version_of(&meta);
        Ok(Self { file, size: meta.size, stored: Stored::Object { store, path, version } })
    }

    /// Finds another object in the same folder; `None` if there is none of that name.
    pub(super) async fn sibling(&self, name: &str) -> Result<Option<Self>, DataError> {
        let Stored::Object { store, path, .. } = &self.stored else { return Ok(None) };
        let folder = path.as_ref().rsplit_once('/').map_or("", |(folder, _)| folder);
        let Ok(path) = ObjectPath::parse(format!("{folder}/{name}")) else { return Ok(None) };
        let file = path.as_ref().to_owned();
        match store.head(&path).await {
            Ok(meta) => {
                let version = version_of(&meta);
                let stored = Stored::Object { store: Arc::clone(store), path, version };
                Ok(Some(Self { file, size: meta.size, stored }))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(object_error(&file, "read")(error)),
        }
    }

    /// The last part of the name.
    pub(super) fn file_name(&self) -> &str {
        self.file.rsplit('/').next().unwrap_or(&self.file)
    }

    /// Reads a range that lies within the bytes.
    pub(super) async fn range(&self, range: Range<u64>) -> Result<Bytes, DataError> {
        assert!(range.start <= range.end && range.end <= self.size, "{range:?} of {}", self.size);
        match &self.stored {
            // Both ends fit, since the bytes are in memory.
            Stored::Memory(bytes) => Ok(bytes.slice(range.start as usize..range.end as usize)),
            Stored::Object { .. } if range.is_empty() => Ok(Bytes::new()),
            Stored::Object { store, path, version } => {
                let length = range.end - range.start;
                let options = GetOptions {
                    range: Some(range.into()),
                    if_match: version.clone(),
                    ..GetOptions::default()
                };
                let failed = || object_error(&self.file, "read");
                let found = store.get_opts(path, options).await.map_err(failed())?;
                let bytes = found.bytes().await.map_err(failed())?;
                if bytes.len() as u64 != length {
                    let expected = format!("{} bytes long, as it was a moment ago", self.size);
                    return Err(self.malformed("its end", &expected, "shorter"));
                }
                Ok(bytes)
            }
        }
    }

    /// Reads all bytes of what must not be large.
    pub(super) async fn whole(&self, size_max: u64) -> Result<Bytes, DataError> {
        if self.size > size_max {
            let expected = format!("at most {size_max} bytes long");
            return Err(self.malformed("its end", &expected, &format!("at byte {}", self.size)));
        }
        self.range(0..self.size).await
    }

    /// An error about one place of the file.
    pub(super) fn malformed(&self, place: &str, expected: &str, actual: &str) -> DataError {
        DataError::Malformed {
            file: self.file.clone(),
            place: place.to_owned(),
            expected: expected.to_owned(),
            actual: actual.to_owned(),
        }
    }
}

/// What tells an object from another one that takes its place later, if the store has such a thing.
fn version_of(meta: &ObjectMeta) -> Option<String> {
    // A weak one is the same for contents that are much the same, and compares equal to none.
    meta.e_tag.clone().filter(|tag| !tag.starts_with("W/"))
}

/// Reads small pieces of a source one after the other, with few requests.
pub(super) struct Window<'a> {
    source: &'a Source,
    start: u64,
    bytes: Bytes,
}

impl<'a> Window<'a> {
    pub(super) fn new(source: &'a Source) -> Self {
        Self { source, start: 0, bytes: Bytes::new() }
    }

    /// Reads `length` bytes from `start` on; `None` if the source ends before.
    pub(super) async fn read(
        &mut self,
        start: u64,
        length: usize,
    ) -> Result<Option<&[u8]>, DataError> {
        let Some(end) = start.checked_add(length as u64).filter(|end| *end <= self.source.size)
        else {
            return Ok(None);
        };
        let held = self.start..self.start + self.bytes.len() as u64;
        if start < held.start || held.end < end {
            let window_end = end.max(start.saturating_add(WINDOW_BYTES)).min(self.source.size);
            self.bytes = self.source.range(start..window_end).await?;
            self.start = start;
        }
        let from = (start - self.start) as usize;
        Ok(Some(&self.bytes[from..from + length]))
    }
}
