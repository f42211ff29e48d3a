//! Fuzzing of everything that reads files of others, with a stable compiler and libFuzzer.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{run, say, target_folder, workspace_root};

/// Inputs are not longer than this many bytes.
const INPUT_BYTES_MAX: usize = 16 * 1024;
/// An input that takes more memory than this, in MB, is a finding.
const MEMORY_MB_MAX: usize = 1024;
/// An input that takes longer than this, in seconds, is a finding.
const INPUT_SECONDS_MAX: usize = 10;

/// Runs each target for some time, and fails at the first that finds something.
pub(crate) fn fuzz(seconds: u64, only: &[String]) -> Result<()> {
    let targets = targets()?;
    if let Some(unknown) = only.iter().find(|name| !targets.contains(name)) {
        bail!("there is no fuzz target `{unknown}`, only {}", targets.join(", "));
    }
    let root = workspace_root();
    // The same versions as in the workspace, so that they are compiled once.
    fs::copy(root.join("Cargo.lock"), root.join("fuzz/Cargo.lock"))
        .context("cannot write fuzz/Cargo.lock")?;
    let mut build = Command::new("cargo");
    build
        .args(["build", "--manifest-path", "fuzz/Cargo.toml", "--target-dir"])
        .arg(target_folder())
        .env("RUSTC_WRAPPER", root.join("fuzz/rustc-wrapper"));
    run(&mut build)?;

    for target in targets.iter().filter(|target| only.is_empty() || only.contains(target)) {
        fuzz_target(target, seconds)?;
    }
    Ok(())
}

/// Runs one target; what it learns stays in its corpus, and the next run goes on from there.
fn fuzz_target(target: &str, seconds: u64) -> Result<()> {
    let folder = target_folder().join("fuzz");
    let (corpus, findings) = (folder.join("corpus").join(target), folder.join("findings"));
    for folder in [&corpus, &findings] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    say(&format!("fuzzing {target} for {seconds} s; findings go to {}", findings.display()));
    let mut program = Command::new(target_folder().join("debug").join(target));
    program
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .arg(format!("-rss_limit_mb={MEMORY_MB_MAX}"))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg("-print_final_stats=1")
        .arg("-verbosity=0")
        .arg(format!("-artifact_prefix={}/{target}-", findings.display()))
        .arg(&corpus);
    run(&mut program)
}

/// The names of the targets.
fn targets() -> Result<Vec<String>> {
    let folder = workspace_root().join("fuzz/fuzz_targets");
    let entries =
        fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path: PathBuf = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}
