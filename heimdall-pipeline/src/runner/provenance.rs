//! How a result came to be: what is worth knowing of a machine and a run, and has no part in a key.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::OnceLock;

use jiff::Timestamp;

use super::Run;
use crate::PipelineError;
use crate::cache::{Key, Origin, Provenance};

/// What does not change while a program runs.
#[derive(Clone, Debug)]
struct Machine {
    host: String,
    binary: Option<String>,
    git: Option<String>,
}

impl Machine {
    /// Finds it out when it is first asked for: a run that finds everything needs none of it.
    fn get() -> &'static Self {
        static MACHINE: OnceLock<Machine> = OnceLock::new();
        MACHINE.get_or_init(|| Self { host: host_name(), binary: binary(), git: revision() })
    }
}

/// An attempt at a stage that came to its end.
pub(super) struct Attempt {
    pub(super) started: Timestamp,
    /// How many there were, this one included.
    pub(super) number: u32,
    pub(super) resumed_from: Option<String>,
    /// Most memory that the stage's program took, where it is another one.
    pub(super) memory_peak_bytes: Option<u64>,
}

impl Run<'_> {
    /// Returns how the result of a stage came to be whose attempt has ended just now.
    pub(super) fn provenance(&self, position: usize, attempt: Attempt) -> Provenance {
        let Machine { host, binary, git } = Machine::get().clone();
        Provenance {
            run: self.id.clone(),
            pipeline: self.spec.name.clone(),
            stage: self.name(position).to_owned(),
            host,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            binary,
            git,
            started: attempt.started.to_string(),
            ended: Some(Timestamp::now().to_string()),
            attempts: attempt.number,
            resumed_from: attempt.resumed_from,
            memory_peak_bytes: attempt.memory_peak_bytes.or_else(|| memory_peak_bytes("self")),
            inputs: self.origins(position),
        }
    }

    /// Returns where each input of a stage comes from.
    fn origins(&self, position: usize) -> BTreeMap<String, Origin> {
        let wires = self.spec.graph().inputs(position).into_iter();
        wires
            .filter_map(|wire| {
                let key = self.result(wire.producer)?.key;
                let stage = self.name(wire.producer).to_owned();
                let output = wire.output.name.clone().into_owned();
                Some((wire.input.name.into_owned(), Origin { stage, output, key }))
            })
            .collect()
    }

    /// Says that this run works in the scratch folder of a key, and returns the run that left
    /// something there, if one did.
    pub(super) fn take_scratch(&self, key: &Key) -> Result<Option<String>, PipelineError> {
        let scratch = self.cache.scratch(key);
        fs::create_dir_all(&scratch).map_err(PipelineError::io("create", &scratch))?;
        let mut left = fs::read_dir(&scratch).map_err(PipelineError::io("list", &scratch))?;
        let owner = scratch.with_extension("run");
        let before = match left.next() {
            Some(_) => fs::read_to_string(&owner).ok(),
            None => None,
        };
        fs::write(&owner, &self.id).map_err(PipelineError::io("write", &owner))?;
        Ok(before)
    }
}

/// Returns the most memory that a process has taken so far.
pub(crate) fn memory_peak_bytes(process: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = peak.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// The file that this program was started from, as far as two builds of one version are told apart.
fn binary() -> Option<String> {
    let path = std::env::current_exe().ok()?;
    let file = fs::metadata(&path).ok()?;
    let built = Timestamp::try_from(file.modified().ok()?).ok()?;
    Some(format!("{}, {} bytes, of {built:.0}", path.display(), file.len()))
}

/// The revision of the working directory, if it is a checkout.
fn revision() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "HEAD"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
