//! Imports what the database of a Heimdall installation points to.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path as ObjectPath;

use super::admission::{chain, check_samples, check_start};
use super::{ImportConfig, ImportReport, Quarantined};
use crate::{
    DataError, EventEntry, EventFilter, Installation, InstalledEvent, InstalledRecording,
    InstalledSession, IqFile, RawType, ReadOptions, RecordingEntry, RecordingFormat, Recordings,
    StoreAddress,
};

/// Imports the wanted events of an installation, session after session.
///
/// Samples are read from where the rows say, with the variables of `environment` for buckets of S3
/// ([`StoreAddress::open`]), checked, and stored as `complex64` arrays. What cannot be read or is of
/// no use, and every row that cannot be understood, is left out and listed with the reason; what
/// receivers measured of an event stays in any case. May be repeated, like
/// [`import_folder`](super::import_folder); of the fields of `config`, `format` counts for nothing.
///
/// # Errors
///
/// - [`DataError::Unusable`] for the first recording that is to be left out, if the import is
///   strict.
/// - Those of [`Installation::read`] and [`merge`](crate::Catalog::merge).
pub async fn import_installation(
    installation: &Installation,
    environment: &BTreeMap<String, String>,
    filter: &EventFilter,
    into: &Recordings,
    config: &ImportConfig,
) -> Result<ImportReport, DataError> {
    let receivers = installation.receivers().await?;
    let mut import = Import { environment, stores: HashMap::new(), into, config };
    let mut report = ImportReport { receivers: receivers.len(), ..ImportReport::default() };
    installation
        .read(filter, async |session: InstalledSession| {
            let reject = |row: crate::LeftOut| Quarantined { file: row.row, reason: row.reason };
            report.quarantined.extend(session.left_out.into_iter().map(reject));
            let mut events = Vec::with_capacity(session.events.len());
            for event in session.events {
                events.push(import.admit(event, &mut report.quarantined).await?);
            }
            report.events += events.len();
            report.recordings += events.iter().map(|event| event.recordings.len()).sum::<usize>();
            report.merged += into.catalog().merge(&receivers, &events, config.approval).await?;
            Ok(())
        })
        .await?;
    Ok(report)
}

/// An import that goes on.
struct Import<'a> {
    environment: &'a BTreeMap<String, String>,
    /// Buckets that were opened.
    stores: HashMap<String, Arc<dyn ObjectStore>>,
    into: &'a Recordings,
    config: &'a ImportConfig,
}

impl Import<'_> {
    /// Stores the recordings of an event that can be of use.
    async fn admit(
        &mut self,
        event: InstalledEvent,
        quarantined: &mut Vec<Quarantined>,
    ) -> Result<EventEntry, DataError> {
        let mut recordings = Vec::with_capacity(event.recordings.len());
        for recording in event.recordings {
            match self.store(&recording).await {
                Ok(entry) => recordings.push(entry),
                Err(reason) if self.config.strict => {
                    let path = recording.location.into();
                    return Err(DataError::Unusable { path, source: Box::new(reason) });
                }
                Err(reason) => {
                    let (file, reason) = (recording.location, chain(&reason));
                    quarantined.push(Quarantined { file, reason });
                }
            }
        }
        Ok(EventEntry {
            id: event.id,
            session: event.session,
            source: event.source,
            position: event.position,
            frequency_hz: event.frequency_hz,
            start: event.start,
            waveform: None,
            recordings,
            levels: event.levels,
        })
    }

    async fn store(&mut self, recording: &InstalledRecording) -> Result<RecordingEntry, DataError> {
        let (store, key) = self.find(&recording.location)?;
        let file = IqFile::open_object(store, &key, &self.options(recording)).await?;
        check_start(&file, recording.start)?;
        check_samples(&file, &self.config.limits).await?;
        let (object, digest) = self.into.put_content(file.as_npy(), "npy").await?;
        let metadata = file.metadata();
        Ok(RecordingEntry {
            receiver: recording.receiver.clone(),
            object,
            format: RecordingFormat::Npy,
            sample_rate_hz: metadata.sample_rate_hz,
            center_frequency_hz: recording.center_frequency_hz,
            start: recording.start,
            clock: metadata.clock,
            sample_count: metadata.sample_count,
            digest,
        })
    }

    /// What the row says of an object that may not say it.
    fn options(&self, recording: &InstalledRecording) -> ReadOptions {
        let is_array = recording.location.ends_with(".npy");
        let named = match recording.format.as_deref() {
            Some("complex64") => RawType::from_name("cf32"),
            Some(format) => RawType::from_name(format),
            None => None,
        };
        ReadOptions {
            raw_type: self.config.datatype.or(named.filter(|_| !is_array)),
            sample_rate_hz: self.config.sample_rate_hz.or(recording.sample_rate_hz),
            center_frequency_hz: Some(recording.center_frequency_hz),
            start: Some(recording.start),
            ..ReadOptions::default()
        }
    }

    /// Opens the bucket of a location, and returns the key in it.
    fn find(&mut self, location: &str) -> Result<(Arc<dyn ObjectStore>, ObjectPath), DataError> {
        let invalid = |reason: &str| {
            let (address, reason) = (location.to_owned(), reason.to_owned());
            Err(DataError::Address { address, what: "stored recording", reason })
        };
        let Some((bucket, key)) =
            location.strip_prefix("s3://").and_then(|rest| rest.split_once('/'))
        else {
            return invalid("expected `s3://BUCKET/KEY`");
        };
        let Ok(key) = ObjectPath::parse(key) else { return invalid("its key is none") };
        if let Some(store) = self.stores.get(bucket) {
            return Ok((Arc::clone(store), key));
        }
        let address = StoreAddress::S3 { bucket: bucket.to_owned(), prefix: String::new() };
        let store = address.open(self.environment, StoreAddress::PATIENCE)?;
        self.stores.insert(bucket.to_owned(), Arc::clone(&store));
        Ok((store, key))
    }
}
