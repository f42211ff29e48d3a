//! Programs that are at work, each with whatever it has started.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Child;

use crate::PipelineError;

/// Name of the private file of a stage that says which program is at work.
pub(crate) const GROUP_FILE: &str = "group";

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

    /// Writes down which program it is, for whoever comes after this process was killed.
    pub(super) fn record(&self, path: &Path) -> Result<(), PipelineError> {
        let text = identity(self.id()).unwrap_or_default();
        fs::write(path, format!("{} {text}", self.id())).map_err(PipelineError::io("write", path))
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

/// Ends a program that was written down, with all that it has started, if it is still at work: its
/// number may be that of another one by now.
pub(crate) fn kill_recorded(path: &Path) {
    let Ok(text) = fs::read_to_string(path) else { return };
    if let Some((id, recorded)) = text.split_once(' ')
        && let Some(pid) = id.parse().ok().and_then(Pid::from_raw)
        && identity(pid.as_raw_nonzero().get()).is_some_and(|now| now == recorded)
    {
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

/// What no other program has: when it started, since which start of the machine.
fn identity(id: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name in parentheses may have anything in it; the 20th field behind it is the start.
    let (_, fields) = stat.rsplit_once(')')?;
    let start = fields.split_whitespace().nth(19)?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(format!("{start} {}", boot.trim()))
}

fn at_work() -> MutexGuard<'static, Option<HashSet<Pid>>> {
    AT_WORK.lock().unwrap_or_else(PoisonError::into_inner)
}
