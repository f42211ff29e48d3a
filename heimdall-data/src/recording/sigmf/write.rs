//! Writes the events of a catalog as SigMF collections.

use std::path::{Path, PathBuf};

use heimdall_features::UtcTime;
use heimdall_geo::{Position, Receiver};
use serde_json::{Value, json};
use sha2::{Digest, Sha512};
use tokio::fs;
use tokio::io::AsyncWriteExt;

use super::super::datetime::format_utc;
use super::super::file::IqFile;
use super::hexadecimal;
use crate::store::compute;
use crate::{DataError, EventEntry, RecordingEntry, Recordings};

/// Version of the standard that is written.
const VERSION: &str = "1.2.0";
/// Version of the fields in the namespace `heimdall`.
const EXTENSION_VERSION: &str = "1.0.0";

/// What an export has written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SigmfExport {
    /// Collections, one for each event.
    pub collections: usize,
    /// Recordings in them.
    pub recordings: usize,
}

/// Writes each event of the approved sessions of a catalog as a SigMF collection with one
/// recording for each receiver, and the receivers as `receivers.csv`.
///
/// Samples are written as `cf32_le`, bit for bit as they are read from the catalog. What the
/// standard has no field for stands in the namespace `heimdall`, which other programs ignore, so
/// that [`import_folder`](crate::import_folder) makes the same events of it. A collection is
/// written after its recordings: where it stands, they are complete. Memory is bounded, whatever
/// the length of the recordings.
///
/// # Errors
///
/// - [`DataError::AlreadyExists`] if the folder has such a collection or a table of receivers.
/// - [`DataError::Write`] if a file cannot be written.
/// - [`DataError::UnknownReceiver`] if the catalog does not have the receiver of a recording.
/// - [`DataError::Unsupported`] for times beyond the year 9999, which the standard cannot tell.
/// - [`DataError::DigestMismatch`] if a recording is not the one that was stored: a hash is written
///   for samples that are right.
/// - Those of [`Recordings::open_recording`] and of the catalog.
///
/// # References
///
/// The SigMF project, *Signal Metadata Format (SigMF) specification*, version 1.2.
pub async fn export_sigmf(
    recordings: &Recordings,
    folder: &Path,
) -> Result<SigmfExport, DataError> {
    let receivers = recordings.catalog().receivers().await?;
    let events = recordings.catalog().events().await?;
    fs::create_dir_all(folder).await.map_err(unwritable(folder))?;
    write_new(&folder.join("receivers.csv"), receiver_table(&receivers)?).await?;
    let mut export = SigmfExport::default();
    for event in &events {
        let mut streams = Vec::new();
        for entry in &event.recordings {
            let receiver = receivers.iter().find(|receiver| receiver.name == entry.receiver);
            let receiver = receiver.ok_or_else(|| DataError::UnknownReceiver {
                recording: format!("`{}` of the event `{}`", entry.object, event.id),
                receiver: entry.receiver.clone(),
                known: "those of the catalog".to_owned(),
            })?;
            let file = recordings.open_recording(entry).await?;
            check_digest(entry, &file).await?;
            streams.push(write_recording(folder, event, entry, receiver, &file).await?);
        }
        export.recordings += streams.len();
        export.collections += 1;
        let path = folder.join(format!("{}.sigmf-collection", stem_of(&event.id)));
        write_new(&path, text_of(&collection_of(event, streams)?)).await?;
    }
    Ok(export)
}

/// Refuses a recording whose bytes are not those that were stored.
async fn check_digest(entry: &RecordingEntry, file: &IqFile) -> Result<(), DataError> {
    let mut hasher = blake3::Hasher::new();
    let mut content = file.as_is();
    while let Some(bytes) = content.next_bytes().await? {
        hasher = compute(move || {
            hasher.update(&bytes);
            hasher
        })
        .await;
    }
    let actual = hasher.finalize().to_hex().to_string();
    if actual != entry.digest {
        let (key, expected) = (entry.object.clone(), entry.digest.clone());
        return Err(DataError::DigestMismatch { key, expected, actual });
    }
    Ok(())
}

/// Writes the two files of a recording, and returns its name and the hash of its metadata.
async fn write_recording(
    folder: &Path,
    event: &EventEntry,
    entry: &RecordingEntry,
    receiver: &Receiver,
    file: &IqFile,
) -> Result<Value, DataError> {
    let stem = format!("{}.{}", stem_of(&event.id), stem_of(&receiver.name));
    let sha512 = write_samples(&folder.join(format!("{stem}.sigmf-data")), file).await?;
    let meta = json!({
        "global": {
            "core:datatype": "cf32_le",
            "core:sample_rate": file.metadata().sample_rate_hz,
            "core:version": VERSION,
            "core:num_channels": 1,
            "core:sha512": sha512,
            "core:recorder": "heimdall",
            "core:collection": stem_of(&event.id),
            "core:extensions": extensions(),
            "heimdall:receiver": receiver.name,
            "heimdall:antenna_height_m": receiver.antenna_height_m,
        },
        "captures": [{
            "core:sample_start": 0,
            "core:frequency": entry.center_frequency_hz,
            "core:datetime": datetime(&stem, entry.start)?,
            "core:geolocation": point(&receiver.position, Some(receiver.altitude_m)),
            "heimdall:clock": entry.clock,
        }],
        "annotations": [],
    });
    let text = text_of(&meta);
    let hash = hexadecimal(&Sha512::digest(&text));
    write_new(&folder.join(format!("{stem}.sigmf-meta")), text).await?;
    Ok(json!({ "name": stem, "hash": hash }))
}

fn collection_of(event: &EventEntry, streams: Vec<Value>) -> Result<Value, DataError> {
    let mut collection = json!({
        "core:version": VERSION,
        "core:extensions": extensions(),
        "core:streams": streams,
        "heimdall:event": event.id,
        "heimdall:session": event.session,
        "heimdall:source": event.source,
        "heimdall:frequency_hz": event.frequency_hz,
        "heimdall:start": datetime(&event.id, event.start)?,
    });
    if let Some(position) = &event.position {
        collection["heimdall:source_geolocation"] = point(position, None);
    }
    if let Some(waveform) = &event.waveform {
        collection["heimdall:waveform"] = json!(waveform);
    }
    Ok(json!({ "collection": collection }))
}

fn extensions() -> Value {
    json!([{ "name": "heimdall", "version": EXTENSION_VERSION, "optional": true }])
}

/// A point of GeoJSON.
fn point(position: &Position, altitude_m: Option<f64>) -> Value {
    let mut coordinates = vec![position.longitude_deg(), position.latitude_deg()];
    coordinates.extend(altitude_m);
    json!({ "type": "Point", "coordinates": coordinates })
}

fn datetime(file: &str, time: UtcTime) -> Result<String, DataError> {
    format_utc(time).ok_or_else(|| DataError::Unsupported {
        file: file.to_owned(),
        what: "a time beyond the years of four digits".to_owned(),
    })
}

/// Writes the samples of a file as `cf32_le`, and returns their SHA-512.
async fn write_samples(path: &Path, file: &IqFile) -> Result<String, DataError> {
    refuse_existing(path).await?;
    let unfinished = unfinished(path);
    let mut writer = fs::File::create(&unfinished).await.map_err(unwritable(path))?;
    let mut hasher = Sha512::new();
    let mut content = file.as_floats();
    while let Some(bytes) = content.next_bytes().await? {
        writer.write_all(&bytes).await.map_err(unwritable(path))?;
        hasher = compute(move || hasher.chain_update(&bytes)).await;
    }
    writer.flush().await.map_err(unwritable(path))?;
    fs::rename(&unfinished, path).await.map_err(unwritable(path))?;
    Ok(hexadecimal(&hasher.finalize()))
}

/// Writes a small file at once or not at all.
async fn write_new(path: &Path, content: Vec<u8>) -> Result<(), DataError> {
    refuse_existing(path).await?;
    let unfinished = unfinished(path);
    fs::write(&unfinished, content).await.map_err(unwritable(path))?;
    fs::rename(&unfinished, path).await.map_err(unwritable(path))
}

async fn refuse_existing(path: &Path) -> Result<(), DataError> {
    match fs::try_exists(path).await {
        Ok(false) => Ok(()),
        Ok(true) => Err(DataError::AlreadyExists { path: path.to_owned() }),
        Err(source) => Err(DataError::Write { path: path.to_owned(), source }),
    }
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

fn unwritable(path: &Path) -> impl FnOnce(std::io::Error) -> DataError + use<> {
    let path = path.to_owned();
    move |source| DataError::Write { path, source }
}

fn text_of(value: &Value) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).expect("a value of JSON can be written");
    text.push(b'\n');
    text
}

/// Writes `receiver,latitude,longitude,altitude_m,antenna_height_m`.
fn receiver_table(receivers: &[Receiver]) -> Result<Vec<u8>, DataError> {
    let unwritable =
        |source| DataError::Table { path: "receivers.csv".into(), source: Box::new(source) };
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header = ["receiver", "latitude", "longitude", "altitude_m", "antenna_height_m"];
    writer.write_record(header).map_err(unwritable)?;
    for receiver in receivers {
        let position = &receiver.position;
        let numbers = [
            position.latitude_deg(),
            position.longitude_deg(),
            receiver.altitude_m,
            receiver.antenna_height_m,
        ];
        let numbers = numbers.map(|number| number.to_string());
        let cells = std::iter::once(&receiver.name).chain(&numbers);
        writer.write_record(cells).map_err(unwritable)?;
    }
    Ok(writer.into_inner().expect("bytes in memory take all that is written"))
}

/// A name for a file: letters, digits, `-` and `_` stay, and other bytes become `%` and two digits.
fn stem_of(name: &str) -> String {
    let mut stem = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => stem.push(char::from(byte)),
            _ => stem.push_str(&format!("%{byte:02X}")),
        }
    }
    stem
}

#[cfg(test)]
mod tests;
