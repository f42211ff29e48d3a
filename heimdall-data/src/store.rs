//! A recordings folder: a catalog, and the objects that its rows point to.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use heimdall_features::IqRecording;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::fs;
use tokio::task::spawn_blocking;

use crate::recording::decode_kiwi_wav;
use crate::{Catalog, DataError, RecordingEntry, RecordingFormat, read_npy};

/// Recordings with their catalog: in a folder, `catalog.db` and `objects/`.
#[derive(Debug)]
pub struct Recordings {
    catalog: Catalog,
    store: Arc<dyn ObjectStore>,
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
        Ok(Self { catalog, store: local_store(&objects)? })
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
        Ok(Self { catalog, store: local_store(&objects)? })
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
        Self { catalog, store }
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

    /// Stores bytes under their digest, so that the same bytes are stored once, and returns key
    /// and digest.
    pub(crate) async fn put_content(
        &self,
        bytes: Bytes,
        extension: &str,
    ) -> Result<(String, String), DataError> {
        let digest = digest_of(bytes.clone()).await;
        let key = format!("{digest}.{extension}");
        self.write(&key, bytes).await?;
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
        let object = self
            .store
            .get(&ObjectPath::from(key.as_str()))
            .await
            .map_err(object_error(key, "read"))?;
        let bytes = object.bytes().await.map_err(object_error(key, "read"))?;
        let entry = entry.clone();
        compute(move || decode(&bytes, &entry)).await
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

fn decode(bytes: &[u8], entry: &RecordingEntry) -> Result<IqRecording, DataError> {
    let key = entry.object.clone();
    let actual = blake3::hash(bytes).to_hex().to_string();
    if actual != entry.digest {
        return Err(DataError::DigestMismatch { key, expected: entry.digest.clone(), actual });
    }
    let decoded = match entry.format {
        RecordingFormat::Npy => read_npy(bytes).map(|samples| IqRecording {
            samples,
            sample_rate_hz: entry.sample_rate_hz,
            center_frequency_hz: entry.center_frequency_hz,
            start: entry.start,
            clock: entry.clock,
        }),
        RecordingFormat::KiwiWav => {
            decode_kiwi_wav(bytes, &key, entry.start, entry.center_frequency_hz)
                .map(|decoded| decoded.recording)
        }
    };
    let recording = decoded
        .map_err(|source| DataError::Undecodable { key: key.clone(), source: Box::new(source) })?;
    let (expected, actual) = (entry.sample_count, recording.samples.len() as u64);
    if actual != expected {
        return Err(DataError::SampleCountMismatch { key, expected, actual });
    }
    Ok(recording)
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

fn object_error(
    key: &str,
    action: &'static str,
) -> impl FnOnce(object_store::Error) -> DataError + use<> {
    let key = key.to_owned();
    move |source| DataError::Object { key, action, source: Box::new(source) }
}

#[cfg(test)]
mod tests;
