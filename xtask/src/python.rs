//! The Python environment that some tests compare with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{exists, run, say, target_folder, workspace_root};

/// Where the requirements stand.
const REQUIREMENTS: &str = "tests/python/requirements.txt";

/// Makes the environment unless it is there already, and returns its interpreter.
///
/// The environment lies beside the compiled code and remembers the requirements that it was made
/// from: it is made again when they change, or when a former attempt did not end.
pub(crate) fn install() -> Result<PathBuf> {
    let requirements = fs::read_to_string(workspace_root().join(REQUIREMENTS))
        .with_context(|| format!("cannot read {REQUIREMENTS}"))?;
    let folder = target_folder().join("test-python");
    let interpreter = folder.join("bin/python");
    let stamp = folder.join("requirements.txt");
    if interpreter.exists() && fs::read_to_string(&stamp).is_ok_and(|made| made == requirements) {
        say(&format!("Python environment is there: {}", folder.display()));
        return Ok(interpreter);
    }

    install_python()?;
    say(&format!("installing {REQUIREMENTS} into {}", folder.display()));
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let pip =
        ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", REQUIREMENTS];
    run(Command::new(&interpreter).args(pip))?;
    fs::write(&stamp, requirements).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(interpreter)
}

/// Makes sure that Python can make environments, by Debian's packages where that is possible.
fn install_python() -> Result<()> {
    let can_make = "import ensurepip, venv";
    let works = || {
        exists("python3")
            && Command::new("python3").args(["-c", can_make]).status().is_ok_and(|s| s.success())
    };
    if works() {
        return Ok(());
    }
    if !Path::new("/etc/debian_version").exists() || !is_root() {
        bail!("the tests need Python 3.10 or later with its `venv` module: install it first");
    }
    say("installing Debian's python3-venv");
    run(Command::new("apt-get").args(["update", "--quiet"]))?;
    let install = ["install", "--yes", "--quiet", "--no-install-recommends", "python3-venv"];
    run(Command::new("apt-get").args(install))
}

/// Whether this user may install packages.
fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
