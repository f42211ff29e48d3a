//! The way from the spool to the store: one request at a time, in order, again until it arrives.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tracing::{debug, warn};

use crate::spool::{Entry, Progress, Spool};
use crate::{Credentials, Metric, Run, RunStatus, TrackingAddress, TrackingError, TrackingStore};

/// Entries that are read at a time.
const ENTRIES_PER_READ: usize = 1000;
/// Most points of metrics that are sent together.
const POINTS_PER_CALL: usize = 1000;

/// The spool of a run on its way to a store.
pub(crate) struct Delivery {
    spool: Spool,
    address: TrackingAddress,
    credentials: Credentials,
    progress: Progress,
    open: Option<Run>,
    refused: usize,
}

/// Entries that are sent together, and the place in the spool where they end.
struct Parcel {
    entries: Vec<Entry>,
    end: u64,
}

impl Delivery {
    pub(crate) fn new(
        spool: Spool,
        address: TrackingAddress,
        credentials: Credentials,
    ) -> io::Result<Self> {
        let progress = spool.progress()?;
        Ok(Self { spool, address, credentials, progress, open: None, refused: 0 })
    }

    /// The spool.
    pub(crate) fn spool(&self) -> &Spool {
        &self.spool
    }

    /// Gives the spool back.
    pub(crate) fn into_spool(self) -> Spool {
        self.spool
    }

    /// Bytes of the entries that have arrived or were refused.
    pub(crate) fn delivered_bytes(&self) -> u64 {
        self.progress.bytes
    }

    /// Entries that were refused for good.
    pub(crate) fn refused(&self) -> usize {
        self.refused
    }

    /// Id of the run where it is entered, once it is.
    pub(crate) fn run_id(&self) -> Option<&str> {
        self.progress.run_id.as_deref()
    }

    /// Sends what is in the spool, up to its end or the first failure that may pass.
    pub(crate) async fn send_all(&mut self) -> Result<(), DeliveryError> {
        loop {
            let read = self.spool.read(self.progress.bytes, ENTRIES_PER_READ)?;
            if read.is_empty() {
                return Ok(());
            }
            for parcel in self.parcels(read)? {
                self.send(parcel).await?;
            }
        }
    }

    /// Puts entries together that are sent with one request. What is no entry is refused.
    fn parcels(&mut self, read: Vec<(u64, Result<Entry, String>)>) -> io::Result<Vec<Parcel>> {
        let mut parcels: Vec<Parcel> = Vec::new();
        let mut points = 0;
        for (end, entry) in read {
            let entry = match entry {
                Ok(entry) => entry,
                Err(text) => {
                    self.refuse(&json!(text), "it is no entry of this release")?;
                    parcels.push(Parcel { entries: Vec::new(), end });
                    continue;
                }
            };
            let own = if let Entry::Metrics { points } = &entry { points.len() } else { 0 };
            let last = parcels.last_mut().filter(|parcel| {
                let metrics = |entry: &Entry| matches!(entry, Entry::Metrics { .. });
                own > 0
                    && points + own <= POINTS_PER_CALL
                    && !parcel.entries.is_empty()
                    && parcel.entries.iter().all(metrics)
            });
            match last {
                Some(parcel) => {
                    parcel.entries.push(entry);
                    parcel.end = end;
                    points += own;
                }
                None => {
                    parcels.push(Parcel { entries: vec![entry], end });
                    points = own;
                }
            }
        }
        Ok(parcels)
    }

    /// Sends a parcel. If it is refused, its entries are sent one by one, so that one takes no other
    /// with it.
    async fn send(&mut self, Parcel { entries, end }: Parcel) -> Result<(), DeliveryError> {
        let run = self.run().await?;
        match log(&run, &entries).await {
            Ok(()) => {}
            Err(error) if error.concerns_entry() && entries.len() > 1 => {
                for entry in &entries {
                    self.send_alone(&run, entry).await?;
                }
            }
            Err(error) if error.concerns_entry() => self.refuse_entries(&entries, &error)?,
            Err(error) => return Err(error.into()),
        }
        self.progress.bytes = end;
        self.spool.note(&self.progress)?;
        Ok(())
    }

    async fn send_alone(&mut self, run: &Run, entry: &Entry) -> Result<(), DeliveryError> {
        let entry = std::slice::from_ref(entry);
        match log(run, entry).await {
            Err(error) if error.concerns_entry() => Ok(self.refuse_entries(entry, &error)?),
            done => Ok(done?),
        }
    }

    fn refuse_entries(&mut self, entries: &[Entry], error: &TrackingError) -> io::Result<()> {
        entries.iter().try_for_each(|entry| self.refuse(&json!(entry), &chain(error)))
    }

    fn refuse(&mut self, entry: &serde_json::Value, reason: &str) -> io::Result<()> {
        if self.refused == 0 {
            let folder = self.spool.folder().display();
            warn!(reason, %folder, "the tracking store refuses an entry, which is kept in the spool");
        } else {
            debug!(reason, "the tracking store refuses an entry");
        }
        self.refused += 1;
        self.spool.refuse(entry, reason)
    }

    /// Opens the run, and enters it if it is not there yet.
    async fn run(&mut self) -> Result<Run, DeliveryError> {
        if let Some(run) = &self.open {
            return Ok(run.clone());
        }
        let store = TrackingStore::open(&self.address, &self.credentials).await?;
        let store = match store {
            // Whoever waits here tries again by itself.
            TrackingStore::Server(server) => TrackingStore::Server(server.without_repetition()),
            folder => folder,
        };
        let run = match &self.progress.run_id {
            Some(run_id) => store.resume_run(run_id).await?,
            None => {
                let tracked = self.spool.run.clone();
                let experiment =
                    store.experiment(&tracked.experiment, tracked.start_time_ms).await?;
                let run = store.start_run(tracked.config(experiment, &self.spool.key)).await?;
                self.progress.run_id = Some(run.run_id().to_owned());
                self.spool.note(&self.progress)?;
                run
            }
        };
        self.open = Some(run.clone());
        Ok(run)
    }
}

/// Writes entries of one kind to a run.
async fn log(run: &Run, entries: &[Entry]) -> Result<(), TrackingError> {
    let metrics: Vec<Metric> = entries
        .iter()
        .filter_map(|entry| if let Entry::Metrics { points } = entry { Some(points) } else { None })
        .flatten()
        .map(Metric::from)
        .collect();
    if !metrics.is_empty() {
        run.log_metrics(&metrics).await?;
    }
    for entry in entries {
        match entry {
            Entry::Metrics { .. } => {}
            Entry::Params { params } => run.log_params(params).await?,
            Entry::Tags { tags } => run.set_tags(tags).await?,
            Entry::Dataset { dataset } => run.log_dataset(dataset).await?,
            Entry::Artifact { file, name, folder } => {
                run.log_artifact_as(file, name, folder).await?;
            }
            Entry::End { status, time_ms } => run.end_run(*status, *time_ms).await?,
        }
    }
    Ok(())
}

/// Why the entries of a run do not arrive for now.
#[derive(Debug)]
pub(crate) enum DeliveryError {
    /// The store says so.
    Store(TrackingError),
    /// The disk of the spool says so.
    Spool(io::Error),
}

impl From<TrackingError> for DeliveryError {
    fn from(error: TrackingError) -> Self {
        Self::Store(error)
    }
}

impl From<io::Error> for DeliveryError {
    fn from(error: io::Error) -> Self {
        Self::Spool(error)
    }
}

impl DeliveryError {
    /// Says what is wrong, with its causes.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::Store(error) => chain(error),
            Self::Spool(error) => format!("cannot use the spool: {error}"),
        }
    }
}

/// Joins an error and its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// What became of a spool that was left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncReport {
    /// Name of the run.
    pub run_name: String,
    /// Where it is entered.
    pub address: String,
    /// Id of the run there, once it is entered.
    pub run_id: Option<String>,
    /// How it went.
    pub outcome: SyncOutcome,
    /// Entries that were refused for good; they stay in the spool.
    pub refused: usize,
}

/// How the delivery of a spool went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncOutcome {
    /// Everything has arrived.
    Delivered,
    /// The run goes on in another process, which delivers by itself.
    UnderWay,
    /// Not everything has arrived; it stays in the spool.
    Failed {
        /// Why.
        reason: String,
    },
}

/// Sends what runs have left in a spool: of processes that were killed, and of servers that were away.
///
/// A run whose process is gone and that nobody has ended is ended as killed. Credentials are those of
/// `credentials`: a spool keeps none.
///
/// # Errors
///
/// [`TrackingError::Folder`] if the folder of spools cannot be read.
pub async fn sync(
    spool: &Path,
    credentials: &Credentials,
) -> Result<Vec<SyncReport>, TrackingError> {
    let unusable = |source| TrackingError::Folder { path: spool.to_owned(), source };
    let mut reports = Vec::new();
    for folder in Spool::all(spool).map_err(unusable)? {
        let unusable = |source| TrackingError::Folder { path: folder.clone(), source };
        let Some(spool) = Spool::take_over(&folder).map_err(unusable)? else {
            reports.push(SyncReport {
                run_name: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                address: String::new(),
                run_id: None,
                outcome: SyncOutcome::UnderWay,
                refused: 0,
            });
            continue;
        };
        end_as_killed(&spool).map_err(unusable)?;
        reports.push(deliver(spool, credentials).await);
    }
    Ok(reports)
}

async fn deliver(spool: Spool, credentials: &Credentials) -> SyncReport {
    let (run_name, address) = (spool.run.run_name.clone(), spool.address.clone());
    let report = |run_id: Option<&str>, outcome, refused| SyncReport {
        run_name: run_name.clone(),
        address: address.clone(),
        run_id: run_id.map(str::to_owned),
        outcome,
        refused,
    };
    let failed = |reason: String| SyncOutcome::Failed { reason };
    let opened = TrackingAddress::parse(&address).map_err(DeliveryError::from);
    let opened = opened.and_then(|a| Ok(Delivery::new(spool, a, credentials.clone())?));
    let mut delivery = match opened {
        Ok(delivery) => delivery,
        Err(error) => return report(None, failed(error.told()), 0),
    };
    let sent = delivery.send_all().await;
    let (run_id, refused) = (delivery.run_id().map(str::to_owned), delivery.refused());
    let outcome = match sent {
        Ok(()) => match delivery.into_spool().remove() {
            Ok(()) => SyncOutcome::Delivered,
            Err(error) => failed(DeliveryError::from(error).told()),
        },
        Err(error) => failed(error.told()),
    };
    report(run_id.as_deref(), outcome, refused)
}

/// Ends a run that nobody has ended, at the time of the last thing that is known of it.
fn end_as_killed(spool: &Spool) -> io::Result<()> {
    let (mut from, mut last_ms, mut has_ended) = (0, spool.run.start_time_ms, false);
    loop {
        let read = spool.read(from, ENTRIES_PER_READ)?;
        let Some((end, _)) = read.last() else { break };
        from = *end;
        for (_, entry) in read {
            match entry {
                Ok(Entry::Metrics { points }) => {
                    let times_ms = points.iter().map(|point| Metric::from(point).timestamp_ms);
                    last_ms = times_ms.fold(last_ms, i64::max);
                }
                Ok(Entry::End { .. }) => has_ended = true,
                _ => {}
            }
        }
    }
    if has_ended {
        return Ok(());
    }
    spool.writer()?.push(&Entry::End { status: RunStatus::Killed, time_ms: last_ms })
}

/// Pauses between failed deliveries: the first, and the longest.
pub(crate) const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(30)];
