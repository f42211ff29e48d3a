//! What a stage says while it works, kept in a file of its own.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

use crate::PipelineError;
use crate::secret::Secrets;

tokio::task_local! {
    /// The log of the stage that the current task belongs to.
    static OF_TASK: StageLog;
}

thread_local! {
    /// The log of the stage that the current thread computes for.
    static OF_THREAD: RefCell<Option<StageLog>> = const { RefCell::new(None) };
}

/// The log of one stage; clones write into the same file.
#[derive(Clone, Debug)]
pub(crate) struct StageLog(Arc<Mutex<File>>);

impl StageLog {
    /// Begins a log.
    pub(crate) fn create(path: &Path) -> Result<Self, PipelineError> {
        let file = File::create(path).map_err(PipelineError::io("create", path))?;
        Ok(Self(Arc::new(Mutex::new(file))))
    }

    /// Has everything that is logged while a future runs kept in this log, too.
    pub(crate) async fn during<T>(self, work: impl Future<Output = T>) -> T {
        OF_TASK.scope(self, work).await
    }

    /// Returns the log of the stage that this code runs for.
    fn current() -> Option<Self> {
        let of_thread = OF_THREAD.with_borrow(Clone::clone);
        of_thread.or_else(|| OF_TASK.try_with(Clone::clone).ok())
    }
}

/// Runs a function where it keeps no task waiting; what it logs belongs to the stage of the caller.
pub(crate) fn spawn_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    let log = StageLog::current();
    tokio::task::spawn_blocking(move || {
        // A thread may be used for another stage afterwards, also after a panic.
        struct Restore(Option<StageLog>);
        impl Drop for Restore {
            fn drop(&mut self) {
                OF_THREAD.set(self.0.take());
            }
        }
        let _restore = Restore(OF_THREAD.replace(log));
        work()
    })
}

/// Writes events of the log into the file of the stage that they belong to, and those of no stage
/// nowhere.
#[derive(Clone, Debug)]
pub struct StageLogs(Secrets);

impl StageLogs {
    /// Makes a writer that masks secrets.
    pub fn new(secrets: Secrets) -> Self {
        Self(secrets)
    }
}

impl<'a> MakeWriter<'a> for StageLogs {
    type Writer = StageLogWriter<'a>;

    fn make_writer(&'a self) -> StageLogWriter<'a> {
        StageLogWriter { log: StageLog::current(), secrets: &self.0 }
    }
}

/// Writes one event.
#[derive(Debug)]
pub struct StageLogWriter<'a> {
    log: Option<StageLog>,
    secrets: &'a Secrets,
}

impl Write for StageLogWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(StageLog(file)) = &self.log {
            let text = String::from_utf8_lossy(bytes);
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            file.write_all(self.secrets.redact(&text).as_bytes())?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
