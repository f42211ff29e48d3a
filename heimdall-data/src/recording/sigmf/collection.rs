//! SigMF collections: recordings that belong together, of which one receiver made each.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use heimdall_features::UtcTime;
use heimdall_geo::Position;
use sha2::{Digest, Sha512};

use super::super::file::local_object;
use super::super::json::{JSON_BYTES_MAX, Node, parse};
use super::super::sidecar::instant;
use super::super::source::Source;
use super::hexadecimal;
use super::meta::{check_extensions, check_version, file_name, number, place, text};
use crate::DataError;

/// Recordings of one emission, and what is known of it.
#[derive(Clone, Debug)]
pub struct SigmfCollection {
    source_file: Source,
    folder: PathBuf,
    /// Name of its file, without extension.
    pub stem: String,
    streams: Vec<Stream>,
    /// Name of the event.
    pub event: Option<String>,
    /// Session that the event belongs to.
    pub session: Option<String>,
    /// What emitted.
    pub source: Option<String>,
    /// Where the source was.
    pub position: Option<Position>,
    /// Frequency of the emission, in Hz.
    pub frequency_hz: Option<f64>,
    /// When the emission began.
    pub start: Option<UtcTime>,
    /// What was transmitted.
    pub waveform: Option<String>,
}

/// A recording in a collection.
#[derive(Clone, Debug, PartialEq)]
struct Stream {
    /// Name of the file of its metadata.
    meta: String,
    /// SHA-512 of that file.
    hash: Option<String>,
}

impl SigmfCollection {
    /// Reads a `.sigmf-collection` file.
    ///
    /// # Errors
    ///
    /// - [`DataError::Read`], [`DataError::Object`] if it cannot be read.
    /// - [`DataError::Malformed`], [`DataError::Unsupported`] if it breaks a rule of the standard.
    pub async fn read(path: &Path) -> Result<Self, DataError> {
        let (store, key) = local_object(path).await?;
        let source = Source::open(store, key).await?;
        let bytes = source.whole(JSON_BYTES_MAX).await?;
        Self::parse(source, path, &bytes)
    }

    /// Reads a `.sigmf-collection` file that is in memory, with nothing beside it.
    ///
    /// # Errors
    ///
    /// Those of [`SigmfCollection::read`].
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self, DataError> {
        Self::parse(Source::memory(name, Bytes::new()), Path::new(name), bytes)
    }

    /// Paths of the files of metadata, in order.
    pub fn metas(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.streams.iter().map(|stream| self.folder.join(&stream.meta))
    }

    /// Whether a file is the metadata of one of its recordings.
    pub fn lists(&self, path: &Path) -> bool {
        self.metas().any(|meta| meta == path)
    }

    /// Checks that the metadata are those that were listed.
    ///
    /// # Errors
    ///
    /// - [`DataError::Malformed`] if a file is not there.
    /// - [`DataError::HashMismatch`] if a file has changed.
    pub async fn check_hashes(&self) -> Result<(), DataError> {
        for (index, Stream { meta: name, hash }) in self.streams.iter().enumerate() {
            let Some(meta) = self.source_file.sibling(name).await? else {
                let place = format!("collection.core:streams[{index}]");
                let expected = format!("in `{name}`");
                return Err(self.source_file.malformed(&place, &expected, "not there"));
            };
            let actual = hexadecimal(&Sha512::digest(meta.whole(JSON_BYTES_MAX).await?));
            if let Some(hash) = hash.as_ref().filter(|hash| !hash.eq_ignore_ascii_case(&actual)) {
                let (file, expected) = (name.clone(), hash.clone());
                return Err(DataError::HashMismatch { file, expected, actual });
            }
        }
        Ok(())
    }

    /// Checks the types of all fields.
    fn parse(source: Source, path: &Path, bytes: &[u8]) -> Result<Self, DataError> {
        let value = parse(&source.file, bytes)?;
        let root = Node::root(&source.file, &value);
        let collection = root.required("collection")?;
        check_version(&source.file, &collection.required("core:version")?)?;
        check_extensions(&source.file, &collection)?;
        let streams = collection.required("core:streams")?;
        let streams = match streams.items()?.as_slice() {
            [] => return Err(streams.wrong("at least one recording")),
            items => items.iter().map(stream_of).collect::<Result<_, _>>()?,
        };
        let source_place = collection.optional("heimdall:source_geolocation")?;
        let start = collection.optional("heimdall:start")?;
        Ok(Self {
            folder: path.parent().unwrap_or(Path::new("")).to_owned(),
            stem: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            streams,
            event: text(&collection, "heimdall:event")?,
            session: text(&collection, "heimdall:session")?,
            source: text(&collection, "heimdall:source")?,
            position: source_place.as_ref().map(place).transpose()?.map(|place| place.position),
            frequency_hz: number(&collection, "heimdall:frequency_hz", |hz| hz > 0.0)?,
            start: start.as_ref().map(instant).transpose()?,
            waveform: text(&collection, "heimdall:waveform")?,
            source_file: source.clone(),
        })
    }
}

/// Reads `{"name": …, "hash": …}`, or `[name, hash]` as in version 1.0 of the standard.
fn stream_of(node: &Node<'_>) -> Result<Stream, DataError> {
    let (name, hash) = match node.items().as_deref() {
        Ok([name, hash]) => (file_name(name)?, Some(hash.text()?.to_owned())),
        Ok(_) => return Err(node.wrong("a name and a hash")),
        Err(_) => (file_name(&node.required("name")?)?, text(node, "hash")?),
    };
    Ok(Stream { meta: format!("{name}.sigmf-meta"), hash })
}
