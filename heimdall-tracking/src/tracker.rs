//! A run that never holds up the work that it is about.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tracing::{info, warn};
use uuid::Uuid;

use crate::delivery::{Delivery, DeliveryError, PAUSES};
use crate::spool::{Entry, Point, Spool, SpoolWriter, TrackedRun};
use crate::{Credentials, DatasetInput, Metric, RunStatus, TrackingAddress, TrackingError};

/// How often what was logged is sent.
const FLUSH_INTERVAL: Duration = Duration::from_secs(2);
/// How long a run that was dropped without an end may still take to be sent.
const DROP_DEADLINE: Duration = Duration::from_secs(2);

/// Where a run is tracked.
#[derive(Clone, Debug)]
pub struct TrackerConfig {
    /// Where it is entered: a folder or a server.
    pub address: TrackingAddress,
    /// Who one is there.
    pub credentials: Credentials,
    /// Folder for what has not arrived yet.
    pub spool: PathBuf,
}

/// One run whose metrics, parameters, tags and files are sent in the background.
///
/// No method waits for the store or fails because of it: each writes a line into a spool on the disk,
/// from where a thread of its own sends it, in order, again until it arrives. A process that is killed
/// leaves its spool behind, of which [`sync`](crate::sync) sends the rest. What the store refuses for
/// good (a parameter that has another value, a name that MLflow does not take) is kept in the spool
/// with the reason, and told once as a warning.
///
/// Clones write to the same run. When the last one is dropped before [`end_run`](Self::end_run), the
/// run has failed.
///
/// # Examples
///
/// ```
/// use std::collections::BTreeMap;
/// use std::time::Duration;
///
/// use heimdall_tracking::{
///     Credentials, MlflowTracker, RunStatus, TrackedRun, TrackerConfig, TrackingAddress,
/// };
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let config = TrackerConfig {
///     address: TrackingAddress::Folder(folder.join("mlflow")),
///     credentials: Credentials::default(),
///     spool: folder.join("spool"),
/// };
/// let tracker = MlflowTracker::start(&config, TrackedRun::new("localization", "first light"))?;
/// tracker.log_hparams(&BTreeMap::from([("epochs".to_owned(), "20".to_owned())]));
/// for step in 1..=3 {
///     tracker.log_metrics(step, &[("train/loss", 1.0 / step as f64)]);
/// }
///
/// let delivery = tracker.end_run(RunStatus::Finished, Duration::from_secs(60));
/// assert!(delivery.is_complete());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct MlflowTracker {
    shared: Arc<Shared>,
}

/// What became of a run when it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryReport {
    /// Id of the run where it is entered, once it is.
    pub run_id: Option<String>,
    /// Bytes of the spool that have not arrived; [`sync`](crate::sync) sends them later.
    pub bytes_left: u64,
    /// Entries that the store refused for good; they stay in the spool.
    pub refused: usize,
    /// Entries that the disk of the spool did not take.
    pub lost: usize,
    /// The folder of the run's spool.
    pub spool: PathBuf,
}

impl DeliveryReport {
    /// Whether everything has arrived.
    pub fn is_complete(&self) -> bool {
        self.bytes_left == 0 && self.refused == 0 && self.lost == 0
    }
}

#[derive(Debug)]
struct Shared {
    writer: Mutex<Writer>,
    /// Until when the thread may go on, once the run has ended.
    deadline: watch::Sender<Option<Instant>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    report: Mutex<Receiver<DeliveryReport>>,
    spool: PathBuf,
}

#[derive(Debug)]
struct Writer {
    entries: SpoolWriter,
    lost: usize,
    has_ended: bool,
}

impl TrackedRun {
    /// A run that starts now, of the user and the git checkout around.
    pub fn new(experiment: &str, run_name: &str) -> Self {
        Self {
            experiment: experiment.to_owned(),
            run_name: run_name.to_owned(),
            user: std::env::var("USER").unwrap_or_else(|_| "unknown".to_owned()),
            source_name: source_name(),
            git_commit: None,
            git_branch: None,
            description: None,
            tags: BTreeMap::new(),
            start_time_ms: now_ms(),
        }
    }
}

/// The name of the program.
fn source_name() -> String {
    let program = std::env::current_exe().ok();
    let name = program.as_deref().and_then(Path::file_name);
    name.map_or_else(|| "unknown".to_owned(), |name| name.to_string_lossy().into_owned())
}

impl MlflowTracker {
    /// Starts a run: in the spool, so that it does not matter whether the store is there.
    ///
    /// # Errors
    ///
    /// [`TrackingError::Folder`] if the spool cannot be made.
    pub fn start(config: &TrackerConfig, run: TrackedRun) -> Result<Self, TrackingError> {
        let address = config.address.absolute()?;
        let shown = address.to_string();
        let key = format!("{}-{}", run.start_time_ms, Uuid::new_v4().simple());
        let unusable = |source| TrackingError::Folder { path: config.spool.clone(), source };
        let (spool, entries) =
            Spool::create(&config.spool, &key, &shown, &run).map_err(unusable)?;
        let folder = spool.folder().to_owned();
        let delivery =
            Delivery::new(spool, address, config.credentials.clone()).map_err(unusable)?;

        let (deadline, told) = watch::channel(None);
        let (tell, report) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("tracking".to_owned())
            .spawn(move || carry(delivery, told, &tell))
            .map_err(unusable)?;
        let writer = Writer { entries, lost: 0, has_ended: false };
        let shared = Shared {
            writer: Mutex::new(writer),
            deadline,
            thread: Mutex::new(Some(thread)),
            report: Mutex::new(report),
            spool: folder,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Logs parameters: the configuration of the run. A parameter is written once.
    pub fn log_hparams(&self, params: &BTreeMap<String, String>) {
        self.push(&Entry::Params { params: params.clone() });
    }

    /// Logs values of metrics at a step, at the time of this call.
    pub fn log_metrics(&self, step: i64, values: &[(&str, f64)]) {
        let timestamp_ms = now_ms();
        let point = |&(key, value): &(&str, f64)| {
            Point::from(&Metric { key: key.to_owned(), value, step, timestamp_ms })
        };
        self.push(&Entry::Metrics { points: values.iter().map(point).collect() });
    }

    /// Sets tags; a tag that is there gets the new value.
    pub fn set_tags(&self, tags: &BTreeMap<String, String>) {
        self.push(&Entry::Tags { tags: tags.clone() });
    }

    /// Notes that the run read a data set.
    pub fn log_dataset(&self, dataset: &DatasetInput) {
        self.push(&Entry::Dataset { dataset: dataset.clone() });
    }

    /// Copies a file into the folder `artifact_path` of the run's artifacts, under its own name.
    ///
    /// The content is that of now, also if the file is replaced before it is sent; one that is
    /// overwritten in place is sent as it is then.
    pub fn log_artifact(&self, file: &Path, artifact_path: &str) {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut writer = self.shared.lock();
        let file = writer.entries.link(file);
        writer.push(&Entry::Artifact { file, name, folder: artifact_path.to_owned() });
    }

    /// Ends the run, and waits until everything has arrived, at most so long.
    ///
    /// What has not arrived by then stays in the spool. Ending a run again changes nothing.
    pub fn end_run(&self, status: RunStatus, patience: Duration) -> DeliveryReport {
        self.shared.end(status, patience)
    }

    /// The folder of the run's spool.
    pub fn spool(&self) -> &Path {
        &self.shared.spool
    }

    fn push(&self, entry: &Entry) {
        self.shared.lock().push(entry);
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, status: RunStatus, patience: Duration) -> DeliveryReport {
        let (lost, length) = {
            let mut writer = self.lock();
            if !writer.has_ended {
                writer.push(&Entry::End { status, time_ms: now_ms() });
                writer.has_ended = true;
            }
            (writer.lost, writer.entries.length())
        };
        self.deadline.send_replace(Some(Instant::now() + patience));
        let report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        // It stops at the deadline, whatever it is doing.
        match report.recv_timeout(patience + Duration::from_millis(500)) {
            Ok(report) => {
                if let Some(thread) = self.thread.lock().ok().and_then(|mut it| it.take()) {
                    // It has said all that it had to say.
                    let _ = thread.join();
                }
                DeliveryReport { lost, ..report }
            }
            Err(_) => DeliveryReport {
                run_id: None,
                bytes_left: length,
                refused: 0,
                lost,
                spool: self.spool.clone(),
            },
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if !self.lock().has_ended {
            self.end(RunStatus::Failed, DROP_DEADLINE);
        }
    }
}

impl Writer {
    /// Adds an entry; a disk that does not take it is told of once.
    fn push(&mut self, entry: &Entry) {
        if let Err(error) = self.entries.push(entry) {
            if self.lost == 0 {
                warn!(%error, "the spool of the run takes no more: what is logged is lost");
            }
            self.lost += 1;
        }
    }
}

/// The work of the thread: sends what is in the spool, again and again, until it is told to stop.
fn carry(
    mut delivery: Delivery,
    mut told: watch::Receiver<Option<Instant>>,
    tell: &SyncSender<DeliveryReport>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return warn!(%error, "nothing is sent to the tracking store"),
    };
    runtime.block_on(async {
        let mut wait = FLUSH_INTERVAL;
        let mut is_away = false;
        loop {
            let is_last = is_told_within(&mut told, wait).await;
            let sent = tokio::select! {
                sent = send(&mut delivery) => sent,
                () = expired(&mut told) => break,
            };
            match sent {
                Ok(()) => {
                    if std::mem::take(&mut is_away) {
                        info!("the tracking store is there again");
                    }
                    wait = FLUSH_INTERVAL;
                    if is_last {
                        break;
                    }
                }
                Err(error) => {
                    if !is_away {
                        let reason = error.told();
                        warn!(reason, "the tracking store cannot be used for now");
                    }
                    wait = if is_away { (2 * wait).min(PAUSES[1]) } else { PAUSES[0] };
                    is_away = true;
                }
            }
            if is_last {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = expired(&mut told) => break,
                }
            }
        }
    });
    // Whoever ended the run may be tired of waiting.
    let _ = tell.send(conclude(delivery));
}

/// Waits for the end of the run, at most so long; returns whether it has come.
async fn is_told_within(told: &mut watch::Receiver<Option<Instant>>, wait: Duration) -> bool {
    tokio::time::timeout(wait, told.wait_for(Option::is_some)).await.is_ok()
}

/// Waits until the time after the end of the run is over.
async fn expired(told: &mut watch::Receiver<Option<Instant>>) {
    let deadline = told.wait_for(Option::is_some).await.ok().and_then(|deadline| *deadline);
    // Without anybody who could set one there is no time at all.
    if let Some(deadline) = deadline {
        tokio::time::sleep_until(deadline.into()).await;
    }
}

/// Sends what is in the spool.
async fn send(delivery: &mut Delivery) -> Result<(), DeliveryError> {
    delivery.spool().sync()?;
    delivery.send_all().await
}

/// Says what has arrived, and removes the spool if that is everything.
fn conclude(delivery: Delivery) -> DeliveryReport {
    let folder = delivery.spool().folder().to_owned();
    let length = delivery.spool().writer().map_or(0, |writer| writer.length());
    let report = DeliveryReport {
        run_id: delivery.run_id().map(str::to_owned),
        bytes_left: length.saturating_sub(delivery.delivered_bytes()),
        refused: delivery.refused(),
        lost: 0,
        spool: folder,
    };
    if report.bytes_left == 0
        && let Err(error) = delivery.into_spool().remove()
    {
        warn!(%error, "the spool of a run that has arrived cannot be removed");
    }
    report
}

fn now_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}
