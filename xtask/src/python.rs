//! The Python environments that some tests and benchmarks compare with.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{exists, run, say, target_folder, workspace_root};
use crate::debian;

/// An environment: the file with its requirements, and the name of its folder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Environment {
    requirements: &'static str,
    folder: &'static str,
}

/// What the tests need.
pub(crate) const TESTS: Environment =
    Environment { requirements: "tests/python/requirements.txt", folder: "test-python" };

/// Other programs that run pipelines.
pub(crate) const RUNNERS: Environment =
    Environment { requirements: "tests/python/runners.txt", folder: "runner-python" };

/// Makes an environment unless it is there already, and returns its interpreter.
///
/// The environment lies beside the compiled code and remembers the requirements that it was made
/// from: it is made again when they change, or when a former attempt did not end.
pub(crate) fn install(environment: Environment) -> Result<PathBuf> {
    let Environment { requirements: file, folder } = environment;
    let requirements = fs::read_to_string(workspace_root().join(file))
        .with_context(|| format!("cannot read {file}"))?;
    let folder = target_folder().join(folder);
    let interpreter = folder.join("bin/python");
    let stamp = folder.join("requirements.txt");
    if interpreter.exists() && fs::read_to_string(&stamp).is_ok_and(|made| made == requirements) {
        say(&format!("Python environment is there: {}", folder.display()));
        return Ok(interpreter);
    }

    install_python()?;
    say(&format!("installing {file} into {}", folder.display()));
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", file];
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
    let missing = "the tests need Python 3.10 or later with its `venv` module";
    debian::install("python3-venv", missing)
}
