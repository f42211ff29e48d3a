//! A cache in an object store, from which machines take each other's results.
//!
//! It is laid out as a local one: `cas/ab/<digest>` and `ac-2/ab/<key>.json`, in which 2 is the
//! version of manifests, so that programs of several versions leave each other's alone. Files come
//! first and the manifest last, so that whatever has a manifest is whole.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::buffered::BufWriter;
use object_store::path::Path as ObjectPath;
use object_store::{Error, ObjectStoreExt, PutPayload};
use tokio::io::AsyncWriteExt;

use super::file::digest_of_file;
use super::manifest::Damage;
use super::{Cache, Digest, Key, KeyLock, Manifest, WorkFolder, blocking};
use crate::PipelineError;
use crate::object_place::ObjectPlace;

/// Files that travel at a time.
const FILES_IN_FLIGHT: usize = 8;

/// A cache that several machines share.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    place: ObjectPlace,
}

/// What became of a result that was pushed.
#[derive(Debug)]
pub(crate) enum Pushed {
    /// It is there, now or since before.
    Kept(Traffic),
    /// Somebody else's is there, which was made from the same and is another.
    Differs(Box<Manifest>),
}

/// What travelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) files: usize,
    pub(crate) bytes: u64,
}

impl Traffic {
    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// What the shared cache has for a key.
#[derive(Debug)]
pub(crate) enum Pulled {
    /// A result, which the local cache has now.
    Result(Box<Manifest>, Traffic),
    /// Nothing.
    Miss,
    /// Something that is not what it should be, and was removed; the text says what.
    Damaged(String),
}

impl Remote {
    /// Makes a cache of a place.
    pub(crate) fn new(place: ObjectPlace) -> Self {
        Self { place }
    }

    /// Opens the cache at an address of [`ObjectPlace::open`].
    ///
    /// # Errors
    ///
    /// [`PipelineError::InvalidRemote`] if there cannot be a cache at the address.
    pub(crate) fn open(
        address: &str,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, PipelineError> {
        let invalid = |reason| PipelineError::InvalidRemote { address: address.to_owned(), reason };
        ObjectPlace::open(address, environment).map(Self::new).map_err(invalid)
    }

    fn path(&self, kind: &str, digest: &Digest, suffix: &str) -> ObjectPath {
        let name = digest.to_string();
        self.place.prefix().join(kind).join(&name[..2]).join(format!("{name}{suffix}"))
    }

    fn blob(&self, digest: &Digest) -> ObjectPath {
        self.path("cas", digest, "")
    }

    fn manifest(&self, key: &Key) -> ObjectPath {
        self.path(&format!("ac-{}", Manifest::version()), key, ".json")
    }

    fn failed(&self) -> impl Fn(Error) -> PipelineError + '_ {
        |source| PipelineError::Remote {
            address: self.place.address().to_owned(),
            source: Box::new(source),
        }
    }

    /// Puts a manifest where none is; returns whether there was none.
    async fn put_new(&self, path: &ObjectPath, bytes: &[u8]) -> Result<bool, PipelineError> {
        let payload = PutPayload::from(bytes.to_vec());
        self.place.put_new(path, &payload).await.map_err(self.failed())
    }

    /// Returns the length of an object, if it is there.
    async fn size(&self, path: &ObjectPath) -> Result<Option<u64>, PipelineError> {
        self.place.size(path).await.map_err(self.failed())
    }

    async fn read_manifest(&self, key: &Key) -> Result<Option<Vec<u8>>, PipelineError> {
        self.place.read(&self.manifest(key)).await.map_err(self.failed())
    }

    /// Returns what is said of a result, if it is there and can be trusted.
    pub(crate) async fn find(&self, key: &Key) -> Result<Option<Manifest>, PipelineError> {
        let bytes = self.read_manifest(key).await?;
        Ok(bytes.and_then(|bytes| Manifest::decode(&bytes, key).ok()))
    }

    async fn remove(&self, path: &ObjectPath) -> Result<(), PipelineError> {
        self.place.remove(path).await.map_err(self.failed())
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.place.address())
    }
}

impl Cache {
    /// Gives a result of this cache to a shared one.
    pub(crate) async fn push(
        &self,
        remote: &Remote,
        manifest: &Manifest,
    ) -> Result<Pushed, PipelineError> {
        let mut pushes = stream::iter(manifest.blobs())
            .map(|digest| self.push_blob(remote, digest))
            .buffer_unordered(FILES_IN_FLIGHT);
        let mut traffic = Traffic::default();
        while let Some(sent) = pushes.try_next().await? {
            sent.into_iter().for_each(|bytes| traffic.add(bytes));
        }
        let path = remote.manifest(&manifest.key);
        if remote.put_new(&path, &manifest.encode()).await? {
            return Ok(Pushed::Kept(traffic));
        }
        let theirs = remote.read_manifest(&manifest.key).await?;
        match theirs.map(|bytes| Manifest::decode(&bytes, &manifest.key)) {
            Some(Ok(theirs)) if theirs.has_outputs_of(manifest) => Ok(Pushed::Kept(traffic)),
            Some(Ok(theirs)) => Ok(Pushed::Differs(Box::new(theirs))),
            // That of another program stays, which would write over ours in turn.
            Some(Err(Damage::Outdated)) => Ok(Pushed::Kept(traffic)),
            // What cannot be trusted, or is gone again, is written over.
            Some(Err(_)) | None => {
                let payload = PutPayload::from(manifest.encode());
                remote.place.store().put(&path, payload).await.map_err(remote.failed())?;
                Ok(Pushed::Kept(traffic))
            }
        }
    }

    /// Sends a file that is not there yet, and returns its length if it was sent.
    async fn push_blob(
        &self,
        remote: &Remote,
        digest: Digest,
    ) -> Result<Option<u64>, PipelineError> {
        let (path, target) = (self.blob(&digest), remote.blob(&digest));
        let mut file =
            tokio::fs::File::open(&path).await.map_err(PipelineError::io("open", &path))?;
        let length = file.metadata().await.map_err(PipelineError::io("look at", &path))?.len();
        if remote.size(&target).await? == Some(length) {
            return Ok(None);
        }
        let mut writer = BufWriter::new(Arc::clone(remote.place.store()), target);
        let sent = match tokio::io::copy(&mut file, &mut writer).await {
            Ok(_) => writer.shutdown().await,
            Err(error) => Err(error),
        };
        sent.map_err(PipelineError::io("send", &path))?;
        Ok(Some(length))
    }

    /// Takes a result from a shared cache. Each file is read before it counts; one that is not what
    /// it should be is removed there, so that the next machine that makes it can put it right.
    pub(crate) async fn pull(
        &self,
        remote: &Remote,
        key: &Key,
        lock: &KeyLock,
        run: &str,
    ) -> Result<Pulled, PipelineError> {
        let Some(bytes) = remote.read_manifest(key).await? else { return Ok(Pulled::Miss) };
        match Manifest::decode(&bytes, key) {
            Ok(manifest) => self.take_over(remote, manifest, lock, run).await,
            Err(Damage::Outdated) => Ok(Pulled::Miss),
            Err(_) => {
                remote.remove(&remote.manifest(key)).await?;
                let what = format!("the shared manifest {} cannot be trusted", key.short());
                Ok(Pulled::Damaged(what))
            }
        }
    }

    /// Takes the files of a shared result, and makes it one of this cache.
    pub(crate) async fn take_over(
        &self,
        remote: &Remote,
        mut manifest: Manifest,
        _lock: &KeyLock,
        run: &str,
    ) -> Result<Pulled, PipelineError> {
        let key = manifest.key;
        let work = self.create_work(&key, run)?;
        let mut pulls = stream::iter(manifest.blobs())
            .map(|digest| self.pull_blob(remote, digest, &work))
            .buffer_unordered(FILES_IN_FLIGHT);
        let mut traffic = Traffic::default();
        while let Some(pulled) = pulls.try_next().await? {
            match pulled {
                Ok(None) => {}
                Ok(Some(bytes)) => traffic.add(bytes),
                Err(what) => {
                    remote.remove(&remote.manifest(&key)).await?;
                    return Ok(Pulled::Damaged(what));
                }
            }
        }
        drop(pulls);
        let cache = self.clone();
        let manifest = blocking(move || {
            cache.identify(&mut manifest)?;
            cache.commit(&mut manifest)?;
            Ok(manifest)
        });
        Ok(Pulled::Result(Box::new(manifest.await?), traffic))
    }

    /// Fetches a file that is not there yet and whole, and returns its length if it was fetched, or
    /// what is wrong with it.
    async fn pull_blob(
        &self,
        remote: &Remote,
        digest: Digest,
        work: &WorkFolder,
    ) -> Result<Result<Option<u64>, String>, PipelineError> {
        let cache = self.clone();
        if blocking(move || Ok(cache.read_kept(&digest))).await?.is_some() {
            return Ok(Ok(None));
        }
        let source = remote.blob(&digest);
        let found = match remote.place.store().get(&source).await {
            Ok(found) => found,
            Err(Error::NotFound { .. }) => {
                return Ok(Err(format!("the shared file {} is gone", digest.short())));
            }
            Err(error) => return Err(remote.failed()(error)),
        };
        let path = work.private()?.join(digest.to_string());
        let unwritten = || PipelineError::io("write", &path);
        let mut file = tokio::fs::File::create(&path).await.map_err(unwritten())?;
        let mut chunks = found.into_stream();
        let mut length = 0;
        while let Some(chunk) = chunks.try_next().await.map_err(remote.failed())? {
            length += chunk.len() as u64;
            file.write_all(&chunk).await.map_err(unwritten())?;
        }
        file.flush().await.map_err(unwritten())?;
        drop(file);
        let cache = self.clone();
        let is_sound = blocking(move || {
            let found = digest_of_file(&path).map_err(PipelineError::io("read", &path))?;
            if found == digest {
                cache.keep_file(&path)?;
            }
            Ok(found == digest)
        });
        if is_sound.await? {
            return Ok(Ok(Some(length)));
        }
        remote.remove(&source).await?;
        Ok(Err(format!("the shared file {} is not what it was", digest.short())))
    }
}

#[cfg(test)]
mod tests;
