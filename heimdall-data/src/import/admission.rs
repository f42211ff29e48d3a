//! Decides on each file of an import, and stores those that are of use.

use std::error::Error;
use std::path::Path;

use heimdall_features::UtcTime;
use heimdall_geo::Receiver;
use jiff::Timestamp;
use tracing::{debug, warn};

use super::event::Heard;
use super::table::{ANTENNA_HEIGHT_M_DEFAULT, read_receivers};
use super::{ImportConfig, ImportFormat, Quarantined, Remark, exists, read};
use crate::recording::{check_kiwi_name, format_utc};
use crate::store::compute;
use crate::{
    DataError, FileFormat, IqFile, ReadOptions, RecordingEntry, RecordingFormat, RecordingLimits,
    RecordingMetadata, Recordings,
};

/// A file whose name and time stamps are further apart is worth a remark, in seconds.
const NAMED_START_TOLERANCE_S: f64 = 600.0;
/// A recording that begins later than this machine's clock says is believed up to this, in seconds.
const CLOCKS_APART_S_MAX: i64 = 3600;
/// Samples that are checked together.
const CHUNK_SAMPLES: u64 = 1 << 20;

/// The receivers that may have made a recording.
#[derive(Clone, Debug)]
pub(super) struct Network {
    pub(super) receivers: Vec<Receiver>,
    /// Whether the receivers are those of a table, to which none is added.
    is_listed: bool,
}

impl Network {
    /// Reads the table of a folder; only SigMF can do without.
    pub(super) async fn of(folder: &Path, config: &ImportConfig) -> Result<Self, DataError> {
        let path = folder.join("receivers.csv");
        if config.format == ImportFormat::Sigmf && !exists(&path).await? {
            return Ok(Self { receivers: Vec::new(), is_listed: false });
        }
        let receivers = read_receivers(&path, &read(&path).await?)?;
        Ok(Self { receivers, is_listed: true })
    }

    fn find(&self, name: &str) -> Option<&Receiver> {
        self.receivers.iter().find(|receiver| receiver.name == name)
    }
}

/// An import that goes on.
pub(super) struct Import<'a> {
    folder: &'a Path,
    into: &'a Recordings,
    config: &'a ImportConfig,
    pub(super) network: Network,
    pub(super) quarantined: Vec<Quarantined>,
    pub(super) remarks: Vec<Remark>,
}

impl<'a> Import<'a> {
    pub(super) fn new(
        folder: &'a Path,
        into: &'a Recordings,
        config: &'a ImportConfig,
        network: Network,
    ) -> Self {
        let (quarantined, remarks) = (Vec::new(), Vec::new());
        Self { folder, into, config, network, quarantined, remarks }
    }

    /// Leaves a file out, or ends a strict import.
    pub(super) fn quarantine(&mut self, path: &Path, reason: DataError) -> Result<(), DataError> {
        if self.config.strict {
            return Err(DataError::Unusable { path: path.to_owned(), source: Box::new(reason) });
        }
        let (file, reason) = (self.name_of(path), chain(&reason));
        warn!(file, reason, "recording left out");
        self.quarantined.push(Quarantined { file, reason });
        Ok(())
    }

    /// Checks and stores the recordings of a file: one, or one for each of its channels.
    pub(super) async fn admit(&mut self, path: &Path) -> Result<Vec<Heard>, DataError> {
        let options = ReadOptions {
            raw_type: self.config.datatype,
            sample_rate_hz: self.config.sample_rate_hz,
            center_frequency_hz: self.config.center_frequency_hz,
            ..ReadOptions::default()
        };
        // Which channels there are is known before the samples are hashed.
        let first_look = ReadOptions { check_hash: false, ..options.clone() };
        let channels = match IqFile::open(path, &first_look).await {
            Err(DataError::ChannelNotChosen { channel_count, .. }) => {
                (0..channel_count as usize).map(Some).collect()
            }
            _ => vec![None],
        };
        let mut heard = Vec::new();
        for channel in channels {
            let options = ReadOptions { channel, ..options.clone() };
            match self.check(path, &options).await {
                Ok(checked) => heard.push(self.store(path, checked).await?),
                Err(reason) => self.quarantine(path, reason)?,
            }
        }
        Ok(heard)
    }

    /// Opens a file, and checks that it can be of use.
    async fn check(&self, path: &Path, options: &ReadOptions) -> Result<Checked, DataError> {
        let file = IqFile::open(path, options).await?;
        let metadata = file.metadata();
        let missing = |fact| DataError::MissingFact { file: file.name().to_owned(), fact };
        if self.config.format == ImportFormat::Kiwi && metadata.format != FileFormat::KiwiWav {
            return Err(DataError::NoStamps { file: file.name().to_owned() });
        }
        let no_start = || match (metadata.format, check_kiwi_name(file.name())) {
            // Of files of other names nobody knows in which week they were made.
            (FileFormat::KiwiWav, Err(name)) => name,
            _ => missing("start"),
        };
        let start = metadata.start.ok_or_else(no_start)?;
        check_start(&file, start)?;
        let center_frequency_hz =
            metadata.center_frequency_hz.ok_or_else(|| missing("center frequency"))?;
        let receiver = self.receiver_of(path, metadata).ok_or_else(|| missing("receiver"))?;

        check_samples(&file, &self.config.limits).await?;
        Ok(Checked { start, center_frequency_hz, receiver, file })
    }

    /// Stores a recording that can be of use, of a receiver that is known.
    async fn store(&mut self, path: &Path, checked: Checked) -> Result<Heard, DataError> {
        let Checked { start, center_frequency_hz, receiver, file } = checked;
        let metadata = file.metadata();
        self.know(path, &receiver, metadata)?;
        let name = self.name_of(path);
        debug!(file = name, samples = metadata.sample_count, "recording read");
        if let Some(missing_s) = metadata.missing_s() {
            warn!(file = name, missing_s, "the file was cut off: its header promises more");
        }
        self.remarks.extend(remarks_on(metadata).map(|text| Remark { file: name.clone(), text }));
        let (format, content, extension) = match metadata.format {
            FileFormat::KiwiWav => (RecordingFormat::KiwiWav, file.as_is(), "wav"),
            _ => (RecordingFormat::Npy, file.as_npy(), "npy"),
        };
        let (object, digest) = self.into.put_content(content, extension).await?;
        let entry = RecordingEntry {
            receiver,
            object,
            format,
            sample_rate_hz: metadata.sample_rate_hz,
            center_frequency_hz,
            start,
            clock: metadata.clock,
            sample_count: metadata.sample_count,
            digest,
        };
        Ok(Heard { path: path.to_owned(), entry })
    }

    /// Makes sure that the receiver of a recording is in the network.
    fn know(
        &mut self,
        path: &Path,
        name: &str,
        metadata: &RecordingMetadata,
    ) -> Result<(), DataError> {
        let known = self.network.find(name);
        if self.network.is_listed && known.is_none() {
            let names: Vec<&str> =
                self.network.receivers.iter().map(|receiver| receiver.name.as_str()).collect();
            return Err(DataError::UnknownReceiver {
                recording: format!("`{}`", path.display()),
                receiver: name.to_owned(),
                known: if names.is_empty() { "none".to_owned() } else { names.join(", ") },
            });
        }
        if self.network.is_listed {
            return Ok(());
        }
        let file = self.name_of(path);
        let place = metadata.place.ok_or(DataError::MissingFact { file, fact: "position" })?;
        let receiver = Receiver {
            name: name.to_owned(),
            position: place.position,
            altitude_m: place.altitude_m.unwrap_or(0.0),
            antenna_height_m: metadata.antenna_height_m.unwrap_or(ANTENNA_HEIGHT_M_DEFAULT),
        };
        match known {
            Some(known) if *known != receiver => Err(DataError::Contradiction {
                kind: "receiver",
                name: name.to_owned(),
                field: "position or height",
            }),
            Some(_) => Ok(()),
            None => {
                self.network.receivers.push(receiver);
                Ok(())
            }
        }
    }

    /// Finds out who made a recording: by what it says, by its name, or by its folder.
    fn receiver_of(&self, path: &Path, metadata: &RecordingMetadata) -> Option<String> {
        let stem = path.file_stem()?.to_string_lossy();
        let is_named = |name: &&str| {
            stem.strip_prefix(*name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['_', '-', '.']))
        };
        let names = self.network.receivers.iter().map(|receiver| receiver.name.as_str());
        let by_name = names.filter(is_named).max_by_key(|name| name.len());
        let folder = path.parent().filter(|folder| *folder != self.folder);
        let by_folder = folder.and_then(Path::file_name).and_then(|name| name.to_str());
        metadata.receiver.clone().or_else(|| by_name.or(by_folder).map(str::to_owned))
    }

    fn name_of(&self, path: &Path) -> String {
        path.strip_prefix(self.folder).unwrap_or(path).to_string_lossy().into_owned()
    }
}

/// A recording that can be of use.
struct Checked {
    file: IqFile,
    start: UtcTime,
    center_frequency_hz: f64,
    receiver: String,
}

/// Checks that a recording was not begun later than clocks that differ can make it seem.
pub(super) fn check_start(file: &IqFile, start: UtcTime) -> Result<(), DataError> {
    let now = Timestamp::now();
    if start.seconds <= now.as_second() + CLOCKS_APART_S_MAX {
        return Ok(());
    }
    Err(DataError::Malformed {
        file: file.name().to_owned(),
        place: "its start".to_owned(),
        expected: format!("no more than an hour after now, which is {now:.0}"),
        actual: format_utc(start).unwrap_or_else(|| format!("second {}", start.seconds)),
    })
}

/// Checks all samples of a file, in bounded memory.
pub(super) async fn check_samples(
    file: &IqFile,
    limits: &RecordingLimits,
) -> Result<(), DataError> {
    let mut check = file.sample_check();
    let mut chunks = file.chunks(CHUNK_SAMPLES);
    while let Some(samples) = chunks.next_chunk().await? {
        check = compute(move || {
            check.push(&samples);
            check
        })
        .await;
    }
    check.finish(file.metadata().sample_rate_hz, limits)
}

fn remarks_on(metadata: &RecordingMetadata) -> impl Iterator<Item = String> {
    let off_s =
        metadata.start.zip(metadata.named_start).map(|(start, named)| start.seconds_since(&named));
    let counted = [
        (
            metadata.dropped_sample_count,
            "samples outside of the longest run without a gap, or without a steady time stamp, were dropped",
        ),
        (metadata.gap_count as u64, "gaps in time or changes of frequency"),
        (
            metadata.stale_stamp_count as u64,
            "time stamps are stale, as there was no recent satellite fix",
        ),
        (metadata.cut_byte_count, "bytes of an incomplete block at the end were cut off"),
    ];
    let counted = counted
        .into_iter()
        .filter(|&(count, _)| count > 0)
        .map(|(count, what)| format!("{count} {what}"));
    let missing = metadata.missing_s().map(|missing_s| {
        format!("the file was cut off: its header promises {missing_s:.3} s more")
    });
    counted.chain(missing).chain(
        off_s
            .filter(|off_s| off_s.abs() > NAMED_START_TOLERANCE_S)
            .map(|off_s| format!("the time stamps are {off_s:.0} s after the time in the name")),
    )
}

/// Joins an error and its causes.
pub(super) fn chain(error: &DataError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
