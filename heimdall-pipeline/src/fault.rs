//! Places at which a run can be made to die, so that tests can see what the next one finds.

use clap::ValueEnum;
use rustix::process::{Signal, getpid, kill_process};

/// A step on the way from a finished stage to a remembered run; the program dies behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
#[non_exhaustive]
pub enum FaultPoint {
    /// The stage has written its outputs.
    StageDone,
    /// The first file is in the store.
    FileKept,
    /// All files are in the store.
    OutputsKept,
    /// The store would survive a loss of power.
    Synced,
    /// The manifest is written under a temporary name.
    ManifestWritten,
    /// The manifest has its name: the result is valid from here on.
    ManifestNamed,
    /// The work folder is removed.
    WorkRemoved,
    /// The scratch folder is removed.
    ScratchRemoved,
    /// It is written down which readable copies are about to be made.
    CopiesBegun,
    /// The first file is copied under a temporary name.
    FileCopied,
    /// The first copied file has its name.
    CopyNamed,
    /// It is written down that the copies are made.
    CopiesEnded,
    /// The run is remembered.
    RunRemembered,
}

impl FaultPoint {
    /// Returns all points, in the order in which a run comes to them.
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// Returns the point of that name, as the command line would write it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::from_str(name, false).ok()
    }

    /// Dies here, as if killed from outside.
    pub(crate) fn die(self) -> ! {
        let killed = kill_process(getpid(), Signal::KILL);
        unreachable!("a process can kill itself, but at {self:?}: {killed:?}");
    }
}
