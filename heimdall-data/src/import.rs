//! Imports folders of recordings that others have made.

mod event;
mod table;

use std::error::Error;
use std::path::{Path, PathBuf};

use event::{Heard, group_events};
use heimdall_features::UtcTime;
use serde::{Deserialize, Serialize};
use table::{KnownSource, read_receivers, read_sources};
use tokio::fs;
use tracing::{debug, warn};

use crate::store::compute;
use crate::{
    DataError, KiwiRecording, RecordingEntry, RecordingFormat, RecordingLimits, Recordings,
    check_recording, read_kiwi_wav,
};

/// Tables in which transmitters may be listed.
const SOURCE_TABLES: [&str; 2] = ["transmitter.csv", "sources.csv"];
/// A file whose name and time stamps are further apart is worth a remark, in seconds.
const NAMED_START_TOLERANCE_S: f64 = 600.0;

/// How a folder is imported.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImportConfig {
    /// Whether one unusable recording stops the import; otherwise it is left out and listed.
    pub strict: bool,
    /// What a recording must fulfill.
    pub limits: RecordingLimits,
}

/// What an import has brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportReport {
    /// Receivers in the table of the folder.
    pub receivers: usize,
    /// Events that were made.
    pub events: usize,
    /// Recordings in them.
    pub recordings: usize,
    /// Files that were left out.
    pub quarantined: Vec<Quarantined>,
    /// What was noticed in files that were imported.
    pub remarks: Vec<Remark>,
}

/// A file that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quarantined {
    /// Name of the file in its folder.
    pub file: String,
    /// Why it cannot be used.
    pub reason: String,
}

/// Something that a person may want to know about an imported file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remark {
    /// Name of the file in its folder.
    pub file: String,
    /// What was noticed.
    pub text: String,
}

/// Imports the recordings of `KiwiSDR` receivers in a folder.
///
/// The folder has files `YYYYMMDDThhmmssZ_FREQUENCY_STATION_iq.wav`, a table `receivers.csv`
/// (`receiver,latitude,longitude` and, if known, `altitude_m`, `antenna_height_m`), where
/// `receiver` is the station of the file names, and may have a table `transmitter.csv` or
/// `sources.csv` (`source,frequency_hz,latitude,longitude`; the last two may be empty). Other
/// columns are ignored. Recordings at one frequency that overlap in time become one event; its
/// source is the listed one whose frequency is nearest to the center, within the recorded band.
/// The files are stored as they are.
///
/// # Errors
///
/// - [`DataError::Read`], [`DataError::NothingToImport`] if the folder has no table of receivers
///   or no recording.
/// - [`DataError::MissingColumn`], [`DataError::Table`], [`DataError::Cell`] if a table is wrong.
/// - [`DataError::UnknownReceiver`], [`DataError::OverlappingRecordings`] if a file does not fit
///   the tables or the other files.
/// - [`DataError::Unusable`] for the first file that is to be left out, if the import is strict.
/// - Those of [`Recordings::put`], [`add_receivers`](crate::Catalog::add_receivers) and
///   [`add_events`](crate::Catalog::add_events).
pub async fn import_kiwi_folder(
    source: &Path,
    into: &Recordings,
    config: &ImportConfig,
) -> Result<ImportReport, DataError> {
    let receiver_table = source.join("receivers.csv");
    let receivers = read_receivers(&receiver_table, &read(&receiver_table).await?)?;
    let sources = find_sources(source).await?;
    let files = find_recordings(source).await?;

    let (mut quarantined, mut remarks, mut heard) = (Vec::new(), Vec::new(), Vec::new());
    for path in files {
        let file = file_name(&path);
        let bytes = bytes::Bytes::from(read(&path).await?);
        let limits = config.limits.clone();
        let decoding = compute({
            let (bytes, file) = (bytes.clone(), file.clone());
            move || {
                let kiwi = read_kiwi_wav(&bytes, &file)?;
                check_recording(&kiwi.recording, &limits)?;
                Ok(kiwi)
            }
        });
        let kiwi = match decoding.await {
            Ok(kiwi) => kiwi,
            Err(reason) if config.strict => {
                return Err(DataError::Unusable { path, source: Box::new(reason) });
            }
            Err(reason) => {
                let reason = chain(&reason);
                warn!(file, reason, "recording left out");
                quarantined.push(Quarantined { file, reason });
                continue;
            }
        };
        if !receivers.iter().any(|receiver| receiver.name == kiwi.station) {
            let known: Vec<&str> =
                receivers.iter().map(|receiver| receiver.name.as_str()).collect();
            return Err(DataError::UnknownReceiver {
                recording: format!("`{}`", path.display()),
                receiver: kiwi.station,
                known: if known.is_empty() { "none".to_owned() } else { known.join(", ") },
            });
        }
        debug!(file, samples = kiwi.recording.samples.len(), "recording read");
        remarks.extend(remarks_on(&kiwi).map(|text| Remark { file: file.clone(), text }));
        let (object, digest) = into.put_content(bytes, "wav").await?;
        heard.push(Heard { path, entry: recording_entry(&kiwi, object, digest) });
    }

    let events = group_events(heard, &sources)?;
    into.catalog().add_receivers(&receivers).await?;
    into.catalog().add_events(&events).await?;
    Ok(ImportReport {
        receivers: receivers.len(),
        events: events.len(),
        recordings: events.iter().map(|event| event.recordings.len()).sum(),
        quarantined,
        remarks,
    })
}

async fn find_sources(folder: &Path) -> Result<Vec<KnownSource>, DataError> {
    let mut sources = Vec::new();
    for table in SOURCE_TABLES {
        let path = folder.join(table);
        if fs::try_exists(&path)
            .await
            .map_err(|source| DataError::Read { path: path.clone(), source })?
        {
            read_sources(&path, &read(&path).await?, &mut sources)?;
        }
    }
    Ok(sources)
}

/// Lists the `*.wav` files of a folder in the order of their names.
async fn find_recordings(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let unreadable = |source| DataError::Read { path: folder.to_owned(), source };
    let mut entries = fs::read_dir(folder).await.map_err(unreadable)?;
    let mut files = Vec::new();
    while let Some(entry) = entries.next_entry().await.map_err(unreadable)? {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("wav")) {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(DataError::NothingToImport { folder: folder.to_owned() });
    }
    files.sort();
    Ok(files)
}

async fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    fs::read(path).await.map_err(|source| DataError::Read { path: path.to_owned(), source })
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn recording_entry(kiwi: &KiwiRecording, object: String, digest: String) -> RecordingEntry {
    RecordingEntry {
        receiver: kiwi.station.clone(),
        object,
        format: RecordingFormat::KiwiWav,
        sample_rate_hz: kiwi.recording.sample_rate_hz,
        center_frequency_hz: kiwi.recording.center_frequency_hz,
        start: kiwi.recording.start,
        clock: kiwi.recording.clock,
        sample_count: kiwi.recording.samples.len() as u64,
        digest,
    }
}

fn remarks_on(kiwi: &KiwiRecording) -> impl Iterator<Item = String> {
    let UtcTime { seconds, .. } = kiwi.named_start;
    let off_s = kiwi.recording.start.seconds_since(&UtcTime { seconds, nanoseconds: 0 });
    let counted = [
        (kiwi.dropped_block_count, "blocks without a steady time stamp were dropped"),
        (kiwi.gap_count, "gaps in time; only the longest run was kept"),
        (kiwi.cut_byte_count, "bytes of an incomplete block at the end were cut off"),
    ];
    counted
        .into_iter()
        .filter(|&(count, _)| count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .chain(
            (off_s.abs() > NAMED_START_TOLERANCE_S)
                .then(|| format!("the time stamps are {off_s:.0} s after the time in the name")),
        )
}

/// Joins an error and its causes.
fn chain(error: &DataError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
