//! A recordings folder: a catalog, and the objects that its rows point to.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use heimdall_features::IqRecording;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt, WriteMultipart};
use tokio::fs;
use tokio::task::spawn_blocking;

use crate::recording::{Encoded, FileFormat};
use crate::{
    Catalog, DataError, IqFile, ObjectCache, ReadOptions, RecordingEntry, RecordingFormat,
};

/// Parts of a large object that are on their way at a time.
const PARTS_IN_FLIGHT: usize = 4;

/// Recordings with their catalog: in a folder, `catalog.db` and `objects/`.
#[derive(Debug)]
pub struct Recordings {
    catalog: Catalog,
    store: Arc<dyn ObjectStore>,
    kept: Option<Arc<ObjectCache>>,
}

impl Recordings {
    /// Makes an empty recordings folder; the folder itself may exist.
    ///
    /// # Errors
    ///
    /// - [`DataError::Write`] if the folder cannot be made.
    /// - [`DataError::AlreadyExists`] if it holds a catalog.
    pub async fn create(folder: &Path) -> Result<Self, DataError> {
        let objects = folder.join("objects");
        fs::create_dir_all(&objects)
            .await
            .map_err(|source| DataError::Write { path: objects.clone(), source })?;
        let catalog = Catalog::create(&folder.join("catalog.db")).await?;
        Ok(Self::new(catalog, local_store(&objects)?))
    }

    /// Opens a recordings folder for reading.
    ///
    /// # Errors
    ///
    /// Those of [`Catalog::open`], and [`DataError::Read`] if there is no folder of objects.
    pub async fn open(folder: &Path) -> Result<Self, DataError> {
        let catalog = Catalog::open(&folder.join("catalog.db")).await?;
        let objects = folder.join("objects");
        fs::metadata(&objects)
            .await
            .map_err(|source| DataError::Read { path: objects.clone(), source })?;
        Ok(Self::new(catalog, local_store(&objects)?))
    }

    /// Makes empty recordings that are gone when they are dropped.
    ///
    /// # Errors
    ///
    /// Those of [`Catalog::in_memory`].
    pub async fn in_memory() -> Result<Self, DataError> {
        Ok(Self::new(Catalog::in_memory().await?, Arc::new(InMemory::new())))
    }

    /// Brings a catalog and the store of its objects together.
    pub fn new(catalog: Catalog, store: Arc<dyn ObjectStore>) -> Self {
        Self { catalog, store, kept: None }
    }

    /// Keeps what is read of a store that is far away.
    #[must_use]
    pub fn with_cache(self, cache: ObjectCache) -> Self {
        Self { kept: Some(Arc::new(cache)), ..self }
    }

    /// The catalog.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Stores bytes under a key, at once or not at all, and returns their digest for the catalog.
    ///
    /// Any text is a key; characters that a file name could not have are escaped. As in all
    /// folders, `a` and `a/b` cannot both be there.
    ///
    /// # Errors
    ///
    /// [`DataError::Object`] if the store does not take them.
    pub async fn put(&self, key: &str, bytes: impl Into<Bytes>) -> Result<String, DataError> {
        let bytes = bytes.into();
        let digest = digest_of(bytes.clone()).await;
        self.write(key, bytes).await?;
        Ok(digest)
    }

    /// Stores a file under its digest, so that the same bytes are stored once, and returns key and
    /// digest. Memory is bounded, whatever the length of the file, and what is there already is not
    /// sent again.
    pub(crate) async fn put_content(
        &self,
        mut content: Encoded<'_>,
        extension: &str,
    ) -> Result<(String, String), DataError> {
        let mut hasher = blake3::Hasher::new();
        let mut length = 0;
        while let Some(bytes) = content.next_bytes().await? {
            length += bytes.len() as u64;
            hasher = compute(move || {
                hasher.update(&bytes);
                hasher
            })
            .await;
        }
        let digest = hasher.finalize().to_hex().to_string();
        let key = format!("{digest}.{extension}");

        let path = ObjectPath::from(key.as_str());
        match self.store.head(&path).await {
            Ok(there) if there.size == length => return Ok((key, digest)),
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(object_error(&key, "found")(error)),
        }
        let upload =
            self.store.put_multipart(&path).await.map_err(object_error(&key, "written"))?;
        let mut upload = WriteMultipart::new(upload);
        content.rewind();
        while let Some(bytes) = content.next_bytes().await? {
            upload
                .wait_for_capacity(PARTS_IN_FLIGHT)
                .await
                .map_err(object_error(&key, "written"))?;
            upload.put(bytes);
        }
        upload.finish().await.map_err(object_error(&key, "written"))?;
        Ok((key, digest))
    }

    async fn write(&self, key: &str, bytes: Bytes) -> Result<(), DataError> {
        let path = ObjectPath::from(key);
        self.store.put(&path, bytes.into()).await.map_err(object_error(key, "written"))?;
        Ok(())
    }

    /// Reads a recording, and checks it against its row.
    ///
    /// # Errors
    ///
    /// - [`DataError::Object`] if the object is not there or not readable.
    /// - [`DataError::DigestMismatch`], [`DataError::SampleCountMismatch`] if it is not the one
    ///   that was stored.
    /// - [`DataError::Undecodable`] if it is not a recording.
    pub async fn load(&self, entry: &RecordingEntry) -> Result<IqRecording, DataError> {
        let key = &entry.object;
        let bytes = match self.find_kept(&entry.digest).await {
            Some(bytes) => bytes,
            None => self.fetch(entry).await?,
        };
        let undecodable =
            |source| DataError::Undecodable { key: key.clone(), source: Box::new(source) };
        let file = IqFile::from_bytes(key, bytes, &facts_of(entry)).await.map_err(undecodable)?;
        check_format(&file, entry)?;
        let metadata = file.metadata();
        Ok(IqRecording {
            samples: file.samples(0..metadata.sample_count).await?,
            sample_rate_hz: metadata.sample_rate_hz,
            center_frequency_hz: entry.center_frequency_hz,
            start: metadata.start.unwrap_or(entry.start),
            clock: metadata.clock,
        })
    }

    /// Reads an object that was kept.
    async fn find_kept(&self, digest: &str) -> Option<Bytes> {
        let (kept, digest) = (Arc::clone(self.kept.as_ref()?), digest.to_owned());
        compute(move || kept.get(&digest)).await
    }

    /// Reads an object from the store, checks it, and keeps it.
    async fn fetch(&self, entry: &RecordingEntry) -> Result<Bytes, DataError> {
        let key = &entry.object;
        let object = self
            .store
            .get(&ObjectPath::from(key.as_str()))
            .await
            .map_err(object_error(key, "read"))?;
        let bytes = object.bytes().await.map_err(object_error(key, "read"))?;
        let actual = digest_of(bytes.clone()).await;
        if actual != entry.digest {
            let (key, expected) = (key.clone(), entry.digest.clone());
            return Err(DataError::DigestMismatch { key, expected, actual });
        }
        if let Some(kept) = &self.kept {
            let (kept, bytes) = (Arc::clone(kept), bytes.clone());
            compute(move || kept.keep(&actual, &bytes)).await;
        }
        Ok(bytes)
    }

    /// Opens a recording whose samples are to be read in parts; its digest is not checked.
    ///
    /// # Errors
    ///
    /// - [`DataError::Object`] if the object is not there or not readable.
    /// - [`DataError::SampleCountMismatch`] if it is not the one that was stored.
    /// - [`DataError::Undecodable`] if it is not a recording.
    pub async fn open_recording(&self, entry: &RecordingEntry) -> Result<IqFile, DataError> {
        let facts = facts_of(entry);
        let file = match self.find_kept(&entry.digest).await {
            Some(bytes) => IqFile::from_bytes(&entry.object, bytes, &facts).await,
            None => {
                let key = ObjectPath::from(entry.object.as_str());
                IqFile::open_object(Arc::clone(&self.store), &key, &facts).await
            }
        };
        let file = file.map_err(|error| match error {
            DataError::Object { .. } => error,
            error => DataError::Undecodable { key: entry.object.clone(), source: Box::new(error) },
        })?;
        check_format(&file, entry)?;
        Ok(file)
    }

    /// Finishes the catalog, so that the folder can be read.
    ///
    /// # Errors
    ///
    /// Those of [`Catalog::close`].
    pub async fn close(self) -> Result<(), DataError> {
        self.catalog.close().await
    }
}

/// What a row says about its object, which may be without name and without header.
fn facts_of(entry: &RecordingEntry) -> ReadOptions {
    let facts = ReadOptions {
        center_frequency_hz: Some(entry.center_frequency_hz),
        start: Some(entry.start),
        ..ReadOptions::default()
    };
    match entry.format {
        RecordingFormat::Npy => ReadOptions {
            sample_rate_hz: Some(entry.sample_rate_hz),
            clock: Some(entry.clock),
            ..facts
        },
        // Its own time stamps tell rate and clock.
        RecordingFormat::KiwiWav => facts,
    }
}

/// Checks that an object is what its row says.
fn check_format(file: &IqFile, entry: &RecordingEntry) -> Result<(), DataError> {
    let key = entry.object.clone();
    let expected = match entry.format {
        RecordingFormat::Npy => FileFormat::Npy,
        RecordingFormat::KiwiWav => FileFormat::KiwiWav,
    };
    let metadata = file.metadata();
    if metadata.format != expected {
        let source = DataError::Malformed {
            file: key.clone(),
            place: "its format".to_owned(),
            expected: format!("{expected:?}, as the catalog has it"),
            actual: format!("{:?}", metadata.format),
        };
        return Err(DataError::Undecodable { key, source: Box::new(source) });
    }
    let (expected, actual) = (entry.sample_count, metadata.sample_count);
    if actual != expected {
        return Err(DataError::SampleCountMismatch { key, expected, actual });
    }
    Ok(())
}

async fn digest_of(bytes: Bytes) -> String {
    compute(move || blake3::hash(&bytes)).await.to_hex().to_string()
}

/// Does arithmetic where it holds up no thread that serves I/O.
pub(crate) async fn compute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    spawn_blocking(work).await.expect("decoding and hashing do not panic")
}

fn local_store(objects: &Path) -> Result<Arc<dyn ObjectStore>, DataError> {
    let store = LocalFileSystem::new_with_prefix(objects)
        .map_err(object_error(&objects.to_string_lossy(), "reached"))?;
    Ok(Arc::new(store))
}

/// Says what was to be done with which object when a store fails.
pub(crate) fn object_error(
    key: &str,
    action: &'static str,
) -> impl FnOnce(object_store::Error) -> DataError + use<> {
    let key = key.to_owned();
    move |source| DataError::Object { key, action, source: Box::new(source) }
}

#[cfg(test)]
mod tests;
