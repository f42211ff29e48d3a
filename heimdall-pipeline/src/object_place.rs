//! A place for objects that machines share: a folder or a bucket.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use heimdall_data::{DataError, StoreAddress};
use object_store::path::Path as ObjectPath;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use tokio::sync::OnceCell;

/// How often something is put that a server cannot take at the moment.
const ATTEMPTS: u32 = 4;

/// How long to wait before the second attempt; twice as long before each further one.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a server that does not answer is asked again: a run can do without.
const PATIENCE: Duration = Duration::from_secs(3);

/// Object by which it is found out whether the server can refuse what is there already.
pub(crate) const PROBE: &str = "conditional-puts";

/// A place for objects: a folder, or a bucket and a path in it.
#[derive(Clone)]
pub(crate) struct ObjectPlace {
    address: Arc<str>,
    store: Arc<dyn ObjectStore>,
    /// What comes before every path in it.
    prefix: ObjectPath,
    /// Whether the server refuses to put what is there, if that is asked for; found out once.
    is_conditional: Arc<OnceCell<bool>>,
}

impl ObjectPlace {
    /// Makes a place in a store; messages call it by its address.
    pub(crate) fn new(address: &str, store: Arc<dyn ObjectStore>, prefix: ObjectPath) -> Self {
        Self { address: address.into(), store, prefix, is_conditional: Arc::default() }
    }

    /// Opens the place at an address: a folder, `file://` and its path, or `s3://` with a bucket and
    /// a path in it. Who may use the bucket, and where it is, is in the variables `AWS_…`.
    ///
    /// # Errors
    ///
    /// Why there cannot be one at the address.
    pub(crate) fn open(
        address: &str,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, String> {
        let reason = |error: DataError| match error {
            DataError::Address { reason, .. } => reason,
            error => error.to_string(),
        };
        let place: StoreAddress = address.parse().map_err(reason)?;
        match &place {
            StoreAddress::Folder(path) => {
                std::fs::create_dir_all(path).map_err(|error| error.to_string())?;
            }
            StoreAddress::S3 { .. } => {}
            StoreAddress::Memory | StoreAddress::Http(_) => {
                return Err("expected a folder, `file://PATH` or `s3://BUCKET/PATH`".to_owned());
            }
        }
        let store = place.open(environment, PATIENCE).map_err(reason)?;
        Ok(Self::new(address, store, ObjectPath::default()))
    }

    /// The address, for messages.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The store.
    pub(crate) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// A path in the place.
    pub(crate) fn prefix(&self) -> ObjectPath {
        self.prefix.clone()
    }

    /// Puts an object where none is; returns whether there was none.
    ///
    /// Where the server cannot refuse what is there already, it is looked up before, which is not the
    /// same: of two that come at the same moment, the second wins.
    pub(crate) async fn put_new(
        &self,
        path: &ObjectPath,
        payload: &PutPayload,
    ) -> Result<bool, Error> {
        let is_conditional = self.is_conditional().await?;
        let mode = if is_conditional { PutMode::Create } else { PutMode::Overwrite };
        if !is_conditional && self.size(path).await?.is_some() {
            return Ok(false);
        }
        let mut pause = PAUSE;
        for attempt in 1.. {
            let options = PutOptions { mode: mode.clone(), ..PutOptions::default() };
            match self.store.put_opts(path, payload.clone(), options).await {
                Ok(_) => return Ok(true),
                Err(Error::AlreadyExists { .. }) => return Ok(false),
                Err(error) if attempt == ATTEMPTS => return Err(error),
                // Servers refuse one of two that come at the same moment, to be tried again.
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause *= 2;
        }
        unreachable!("the last attempt returns")
    }

    /// Whether the server refuses what is there already.
    pub(crate) async fn is_conditional(&self) -> Result<bool, Error> {
        Ok(*self.is_conditional.get_or_try_init(|| self.probe()).await?)
    }

    /// Finds out whether the server refuses what is there already: some do not know the question,
    /// and some do not answer it.
    async fn probe(&self) -> Result<bool, Error> {
        let path = self.prefix().join(PROBE);
        for _ in 0..2 {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            match self.store.put_opts(&path, PutPayload::from_static(b"x"), options).await {
                Ok(_) => {}
                Err(Error::AlreadyExists { .. }) => return Ok(true),
                Err(Error::NotImplemented { .. }) => return Ok(false),
                Err(error) if error.to_string().contains("NotImplemented") => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Returns the length of an object, if it is there.
    pub(crate) async fn size(&self, path: &ObjectPath) -> Result<Option<u64>, Error> {
        match self.store.head(path).await {
            Ok(object) => Ok(Some(object.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the content of an object, if it is there.
    pub(crate) async fn read(&self, path: &ObjectPath) -> Result<Option<Vec<u8>>, Error> {
        match self.store.get(path).await {
            Ok(found) => Ok(Some(found.bytes().await?.to_vec())),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes an object, if it is there.
    pub(crate) async fn remove(&self, path: &ObjectPath) -> Result<(), Error> {
        match self.store.delete(path).await {
            Err(error) if !matches!(error, Error::NotFound { .. }) => Err(error),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for ObjectPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ObjectPlace").field(&self.address).finish()
    }
}
