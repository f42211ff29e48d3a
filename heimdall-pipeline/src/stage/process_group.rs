//! Programs that are at work, each with whatever it has started.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::Child;

/// Where in a work folder a program finds what it is to do.
pub(super) const CONTEXT_FILE: &str = "private/context.json";

/// Groups that are at work.
static AT_WORK: Mutex<Option<HashSet<Pid>>> = Mutex::new(None);

/// A program that leads a group of its own; what is left of the group ends with this.
#[derive(Debug)]
pub(super) struct ProcessGroup(Pid);

impl ProcessGroup {
    /// Takes charge of the group of a program that was just started, and leads one.
    pub(super) fn of(child: &Child) -> Option<Self> {
        let id = Pid::from_raw(child.id()?.try_into().ok()?)?;
        at_work().get_or_insert_default().insert(id);
        Some(Self(id))
    }

    /// The number of the program.
    pub(super) fn id(&self) -> i32 {
        self.0.as_raw_nonzero().get()
    }

    /// Sends a signal to all of the group; one that is no more needs none.
    pub(super) fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.0, signal);
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        // What the program left running has no business in a result that is about to be kept.
        self.signal(Signal::KILL);
        if let Some(groups) = at_work().as_mut() {
            groups.remove(&self.0);
        }
    }
}

/// Ends all programs at once, before this one ends.
pub(crate) fn kill_all() {
    for group in at_work().iter().flatten() {
        let _ = kill_process_group(*group, Signal::KILL);
    }
}

/// Ends the programs that were started for a work folder, and whatever they have started, after the
/// process that waited for them was killed. They are known by where they were told to look.
pub(crate) fn kill_left_over(work: &Path) {
    let told = format!("HEIMDALL_CONTEXT={}\0", work.join(CONTEXT_FILE).display());
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = id.and_then(Pid::from_raw) else { continue };
        let Ok(environment) = fs::read(entry.path().join("environ")) else { continue };
        if environment.windows(told.len()).any(|part| part == told.as_bytes()) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn at_work() -> MutexGuard<'static, Option<HashSet<Pid>>> {
    AT_WORK.lock().unwrap_or_else(PoisonError::into_inner)
}
