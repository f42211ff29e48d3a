//! What is said about why a stage runs or does not.

use crate::{Change, duration};

/// Returns what a value was and what it is, one line for each change.
pub(super) fn changes(changes: &[Change], indent: &str) -> String {
    let or_absent = |value: &Option<String>| value.clone().unwrap_or_else(|| "(absent)".to_owned());
    let line = |change: &Change| {
        let (before, now) = (or_absent(&change.before), or_absent(&change.now));
        format!("{indent}{}: {before} → {now}\n", change.what)
    };
    changes.iter().map(line).collect()
}

/// Returns how and when a result was made.
pub(super) fn made(made: &crate::Made) -> String {
    let crate::Made { key, run, started, seconds, host } = made;
    format!("{key}, made by run {run} on {host}, {started}, in {}", duration(*seconds))
}
