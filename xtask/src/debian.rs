//! Packages of Debian, where the machine has them and the user may install them.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::command::{run, say};

/// Installs a package, or fails with what is missing without it.
pub(crate) fn install(package: &str, missing: &str) -> Result<()> {
    if !Path::new("/etc/debian_version").exists() || !is_root() {
        bail!("{missing}: install it first");
    }
    say(&format!("installing Debian's {package}"));
    run(Command::new("apt-get").args(["update", "--quiet"]))?;
    let install = ["install", "--yes", "--quiet", "--no-install-recommends", package];
    run(Command::new("apt-get").args(install))
}

/// Whether this user may install packages.
fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
