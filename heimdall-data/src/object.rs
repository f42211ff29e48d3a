//! Stores of objects: which there are, and how the one at an address is opened.

mod cache;
mod read_only;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use cache::ObjectCache;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig};
use read_only::ReadOnly;

use crate::DataError;
use crate::catalog::without_password;

/// What messages call a store of objects.
const WHAT: &str = "store of objects";

/// Variable that names a file with certificates of authorities, as other programs for S3 know it.
const CERTIFICATES: &str = "AWS_CA_BUNDLE";

/// The longest time between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(3);
/// More attempts than there are in any time that a server is waited for.
const RETRIES: usize = 1000;
/// How long a server may say nothing while it answers; a slow one that goes on is waited for.
const SILENCE: Duration = Duration::from_secs(30);

/// Where objects are stored.
///
/// ```
/// use heimdall_data::StoreAddress;
///
/// let address: StoreAddress = "s3://heimdall-raw-iq/sessions".parse()?;
///
/// let (bucket, prefix) = ("heimdall-raw-iq".to_owned(), "sessions".to_owned());
/// assert_eq!(address, StoreAddress::S3 { bucket, prefix });
/// # Ok::<(), heimdall_data::DataError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreAddress {
    /// A folder: its path, alone or after `file://`.
    Folder(PathBuf),
    /// `memory:`, a store that is gone when it is dropped.
    Memory,
    /// `s3://BUCKET/PATH`: part of a bucket of S3, or of another server that speaks like it.
    S3 {
        /// Name of the bucket.
        bucket: String,
        /// What all keys begin with; may be empty.
        prefix: String,
    },
    /// `http://…` or `https://…`: a server that hands out files, and takes none.
    Http(String),
}

impl std::str::FromStr for StoreAddress {
    type Err = DataError;

    fn from_str(address: &str) -> Result<Self, DataError> {
        let invalid = |reason: &str| {
            let (address, reason) = (without_password(address), reason.to_owned());
            Err(DataError::Address { address, what: WHAT, reason })
        };
        match address.split_once("://") {
            None if address == "memory:" => Ok(Self::Memory),
            None if !address.is_empty() => Ok(Self::Folder(address.into())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::Folder(path.into())),
            Some(("s3", rest)) => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.is_empty() {
                    return invalid("the name of the bucket is missing, as in `s3://BUCKET/PATH`");
                }
                let prefix = prefix.trim_end_matches('/').to_owned();
                Ok(Self::S3 { bucket: bucket.to_owned(), prefix })
            }
            Some(("http" | "https", rest)) if !rest.is_empty() => {
                Ok(Self::Http(address.trim_end_matches('/').to_owned()))
            }
            _ => invalid("expected a folder, `file://PATH`, `s3://BUCKET/PATH` or `https://…`"),
        }
    }
}

impl fmt::Display for StoreAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(formatter),
            Self::Memory => formatter.write_str("memory:"),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(formatter, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(formatter, "s3://{bucket}/{prefix}"),
            Self::Http(url) => formatter.write_str(&without_password(url)),
        }
    }
}

impl StoreAddress {
    /// How long a server is waited for without which there is nothing to be done.
    pub const PATIENCE: Duration = Duration::from_secs(30);

    /// Opens the store; a folder must be there.
    ///
    /// Who may use a bucket, and where it is, is told by the variables that other programs for S3
    /// know: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`,
    /// `AWS_ENDPOINT_URL`, `AWS_ALLOW_HTTP`, `AWS_VIRTUAL_HOSTED_STYLE_REQUEST` and `AWS_CA_BUNDLE`,
    /// a file with the certificates of further authorities. Requests that fail are repeated as long
    /// as `patience` says, with growing pauses; an object whose transfer breaks off is read on from
    /// where it broke off, as long as it is the same one.
    ///
    /// # Errors
    ///
    /// - [`DataError::Address`] if the variables and the address do not make a store.
    /// - [`DataError::Read`] if there is no such folder, or no such file of certificates.
    pub fn open(
        &self,
        environment: &BTreeMap<String, String>,
        patience: Duration,
    ) -> Result<Arc<dyn ObjectStore>, DataError> {
        let invalid = |error: object_store::Error| DataError::Address {
            address: self.to_string(),
            what: WHAT,
            reason: error.to_string(),
        };
        match self {
            Self::Memory => Ok(Arc::new(InMemory::new())),
            Self::Folder(path) => {
                let read = |source| DataError::Read { path: path.clone(), source };
                std::fs::metadata(path).map_err(read)?;
                let store = LocalFileSystem::new_with_prefix(path).map_err(invalid)?;
                // A row that points to an object may not outlive it when the power fails.
                Ok(Arc::new(store.with_fsync(true)))
            }
            Self::S3 { bucket, prefix } => {
                let builder = builder(environment, patience)?.with_bucket_name(bucket);
                let store = builder.build().map_err(invalid)?;
                if prefix.is_empty() {
                    return Ok(Arc::new(store));
                }
                let prefix = ObjectPath::parse(prefix).map_err(|error| invalid(error.into()))?;
                Ok(Arc::new(PrefixStore::new(store, prefix)))
            }
            Self::Http(url) => {
                // Without signatures, and with all keys below one address, that is what S3 speaks.
                let builder = builder(environment, patience)?
                    .with_bucket_name("files")
                    .with_endpoint(url)
                    .with_allow_http(url.starts_with("http://"))
                    .with_virtual_hosted_style_request(true)
                    .with_skip_signature(true);
                Ok(Arc::new(ReadOnly::new(builder.build().map_err(invalid)?)))
            }
        }
    }
}

/// Begins a client as the variables of the environment say.
fn builder(
    environment: &BTreeMap<String, String>,
    patience: Duration,
) -> Result<AmazonS3Builder, DataError> {
    // There may be one already: what this program uses is built with no other.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut options = ClientOptions::new().with_timeout_disabled().with_read_timeout(SILENCE);
    if let Some(path) = environment.get(CERTIFICATES).filter(|path| !path.is_empty()) {
        for certificate in certificates(path.into())? {
            options = options.with_root_certificate(certificate);
        }
    }
    let retry = RetryConfig {
        backoff: BackoffConfig { max_backoff: PAUSE_MAX, ..BackoffConfig::default() },
        max_retries: RETRIES,
        retry_timeout: patience,
    };
    let mut builder = AmazonS3Builder::new().with_client_options(options).with_retry(retry);
    for (name, value) in environment.iter().filter(|(name, _)| name.starts_with("AWS_")) {
        // What the library does not know says nothing about stores.
        if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    Ok(builder)
}

fn certificates(path: PathBuf) -> Result<Vec<Certificate>, DataError> {
    let pem = match std::fs::read(&path) {
        Ok(pem) => pem,
        Err(source) => return Err(DataError::Read { path, source }),
    };
    let file = || path.display().to_string();
    let malformed = |actual: String| DataError::Malformed {
        file: file(),
        place: "its content".to_owned(),
        expected: "certificates in PEM".to_owned(),
        actual,
    };
    let found = Certificate::from_pem_bundle(&pem).map_err(|error| malformed(error.to_string()))?;
    if found.is_empty() {
        return Err(malformed("without any".to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod contract;
#[cfg(test)]
mod tests;
