//! The database server that some tests start.

use std::path::Path;

use anyhow::Result;

use crate::command::{exists, say};
use crate::debian;

/// Installs PostgreSQL, unless its server and its client are there, or the tests are told of another
/// server.
pub(crate) fn install() -> Result<()> {
    let has_client = exists("psql");
    if has_client && std::env::var_os("HEIMDALL_TEST_DATABASE_URL").is_some() {
        say("PostgreSQL is that of HEIMDALL_TEST_DATABASE_URL");
        return Ok(());
    }
    // Where the tests look for it, too.
    let versions = Path::new("/usr/lib/postgresql").read_dir().into_iter().flatten().flatten();
    let has_server = versions.into_iter().any(|version| version.path().join("bin/initdb").exists());
    if has_client && has_server {
        say("PostgreSQL is there");
        return Ok(());
    }
    debian::install("postgresql", "the tests of the catalog need PostgreSQL")
}
