//! Running a command, and saying so.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The folder of the workspace's manifest.
///
/// It is that of the checkout in which cargo runs this, which need not be the one that it was compiled
/// in: checkouts may share a target folder.
pub(crate) fn workspace_root() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this");
    let manifest = PathBuf::from(manifest);
    manifest.parent().expect("this crate lies in the workspace").to_owned()
}

/// The folder that cargo compiles into.
pub(crate) fn target_folder() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace_root().join("target"), PathBuf::from)
}

/// Tells the person at the terminal what happens.
#[expect(clippy::print_stderr, reason = "the output of this program is for people")]
pub(crate) fn say(what: &str) {
    eprintln!("xtask: {what}");
}

/// Runs cargo in the workspace, and fails with the command if it fails.
pub(crate) fn cargo(arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    let mut command = Command::new(env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    command.args(arguments).envs(environment.iter().copied());
    run(&mut command)
}

/// Runs a command in the workspace, and fails with it if it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    say(&shown);
    let status = command
        .current_dir(workspace_root())
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start: {shown}"))?;
    if !status.success() {
        bail!("failed with {status}: {shown}");
    }
    Ok(())
}

/// Whether a program of this name answers when asked for its version.
pub(crate) fn exists(program: &str) -> bool {
    let quiet =
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

/// The command as a person would type it.
fn shown(command: &Command) -> String {
    let environment = command
        .get_envs()
        .filter_map(|(name, value)| value.map(|value| format!("{}={value:?}", name.display())));
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    environment.chain(words.map(|word| word.display().to_string())).collect::<Vec<_>>().join(" ")
}
