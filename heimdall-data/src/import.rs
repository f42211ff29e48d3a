//! Imports folders of recordings that others have made.

mod admission;
mod event;
mod finding;
mod installed;
mod measured_network;
mod measurement;
mod table;

use std::collections::HashSet;
use std::path::Path;

use admission::{Import, Network};
use event::{event_of_collection, group_events};
use finding::{Found, find_files};
pub use installed::import_installation;
pub use measured_network::{MeasuredNetwork, MissingLine, TableConfig, TableReport};
pub use measurement::{MeasuredEvent, Measurement, MeasurementTables, read_measurement_tables};
use serde::{Deserialize, Serialize};
pub(crate) use table::ANTENNA_HEIGHT_M_DEFAULT;
use table::add_sources;
pub use table::{KnownSource, read_receivers, read_sources};
use tokio::fs;

use crate::recording::SigmfCollection;
use crate::{Approval, DataError, Merged, RawType, RecordingLimits, Recordings};

/// Tables in which transmitters may be listed.
const SOURCE_TABLES: [&str; 2] = ["transmitter.csv", "sources.csv"];

/// How the files of a folder of recordings are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportFormat {
    /// WAV files of KiwiSDR receivers (`*.wav`), named `YYYYMMDDThhmmssZ_FREQUENCY_STATION_iq.wav`.
    #[default]
    Kiwi,
    /// SigMF collections, recordings and archives (`*.sigmf-collection`, `*.sigmf-meta`,
    /// `*.sigmf`).
    Sigmf,
    /// WAV files with two channels (`*.wav`).
    Wav,
    /// Arrays of NumPy (`*.npy`), with a sidecar each.
    Npy,
    /// Files that have samples and nothing else, by their extension (`*.cu8`, `*.cs8`, `*.cf32`
    /// and so on), or with a sidecar that names their type.
    Raw,
}

/// How a folder is imported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImportConfig {
    /// How the files are written.
    pub format: ImportFormat,
    /// Whether one unusable recording stops the import; otherwise it is left out and listed.
    pub strict: bool,
    /// Type of the samples of all files, which are then read as raw, whatever they say.
    pub datatype: Option<RawType>,
    /// Sample rate of all files, whatever they say, in Hz.
    pub sample_rate_hz: Option<f64>,
    /// Center frequency of all files, whatever they say, in Hz.
    pub center_frequency_hz: Option<f64>,
    /// What a recording must fulfill.
    pub limits: RecordingLimits,
    /// What is decided on new sessions.
    pub approval: Approval,
}

impl Default for ImportConfig {
    fn default() -> Self {
        Self {
            format: ImportFormat::default(),
            strict: false,
            datatype: None,
            sample_rate_hz: None,
            center_frequency_hz: None,
            limits: RecordingLimits::default(),
            approval: Approval::Approved,
        }
    }
}

/// What an import has brought.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportReport {
    /// Receivers in the table of the folder.
    pub receivers: usize,
    /// Events in the folder.
    pub events: usize,
    /// Recordings in them.
    pub recordings: usize,
    /// What of it was new to the catalog.
    pub merged: Merged,
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

/// Imports the recordings in a folder, and in the folders in it.
///
/// The folder has a table `receivers.csv` (`receiver,latitude,longitude` and, if known,
/// `altitude_m`, `antenna_height_m`), and may have a table `transmitter.csv` or `sources.csv`
/// (`source,frequency_hz,latitude,longitude`; the last two may be empty). Other columns are
/// ignored. SigMF recordings that tell their receiver and its place need no table of receivers.
///
/// Who made a recording is told by the file (the station in the name of a KiwiSDR file,
/// `heimdall:receiver` of SigMF, `receiver` of a [sidecar](crate::IqFile#sidecars)), else by its name,
/// which is that of a receiver or starts with it and `_`, `-` or `.`, else by the folder in the
/// folder that it lies in.
///
/// The recordings of a SigMF collection are one event. Others become one event if they are at one
/// frequency and overlap in time; its source is the listed one whose frequency is nearest to the
/// center, within the recorded band. KiwiSDR files are stored as they are, others as `complex64`
/// arrays. Memory is bounded, whatever the length of the files.
///
/// Objects are stored before the rows that point to them are written, all of these together. So an
/// import that was broken off, or is repeated after the folder has grown, adds what is missing, and
/// two at a time add it once.
///
/// # Errors
///
/// - [`DataError::Read`], [`DataError::NothingToImport`] if the folder has no table of receivers
///   or no recording.
/// - [`DataError::MissingColumn`], [`DataError::Table`], [`DataError::Cell`] if a table is wrong.
/// - [`DataError::UnknownReceiver`], [`DataError::OverlappingRecordings`] if a file does not fit
///   the tables or the other files.
/// - [`DataError::MissingFact`], [`DataError::Contradiction`] if there is no table of receivers, and
///   a recording does not tell the place of its receiver, or two of them tell different ones.
/// - [`DataError::Unusable`] for the first file that is to be left out, if the import is strict.
/// - Those of [`Recordings::put`] and [`merge`](crate::Catalog::merge).
pub async fn import_folder(
    source: &Path,
    into: &Recordings,
    config: &ImportConfig,
) -> Result<ImportReport, DataError> {
    let (network, sources) = (Network::of(source, config).await?, find_sources(source).await?);
    let Found { collections, mut files } = find_files(source, config.format).await?;
    let mut import = Import::new(source, into, config, network);

    let (mut ids, mut events) = (HashSet::new(), Vec::new());
    for path in collections {
        let collection = match SigmfCollection::read(&path).await {
            Ok(collection) => collection,
            Err(reason) => {
                import.quarantine(&path, reason)?;
                continue;
            }
        };
        files.retain(|file| !collection.lists(file));
        if let Err(reason) = collection.check_hashes().await {
            import.quarantine(&path, reason)?;
            continue;
        }
        let mut heard = Vec::new();
        for path in collection.metas() {
            heard.extend(import.admit(&path).await?);
        }
        if !heard.is_empty() {
            events.push(event_of_collection(&collection, heard, &sources, &mut ids));
        }
    }
    let mut heard = Vec::new();
    for path in files {
        heard.extend(import.admit(&path).await?);
    }
    events.extend(group_events(heard, &sources, &mut ids)?);

    let Import { network, quarantined, remarks, .. } = import;
    let merged = into.catalog().merge(&network.receivers, &events, config.approval).await?;
    Ok(ImportReport {
        receivers: network.receivers.len(),
        events: events.len(),
        recordings: events.iter().map(|event| event.recordings.len()).sum(),
        merged,
        quarantined,
        remarks,
    })
}

async fn find_sources(folder: &Path) -> Result<Vec<KnownSource>, DataError> {
    let mut sources = Vec::new();
    for table in SOURCE_TABLES {
        let path = folder.join(table);
        if exists(&path).await? {
            add_sources(&path, &read(&path).await?, &mut sources)?;
        }
    }
    Ok(sources)
}

async fn exists(path: &Path) -> Result<bool, DataError> {
    let path = path.to_owned();
    fs::try_exists(&path).await.map_err(|source| DataError::Read { path, source })
}

async fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    fs::read(path).await.map_err(|source| DataError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
