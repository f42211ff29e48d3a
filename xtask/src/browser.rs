//! The browser that some tests look at pages with.

use anyhow::Result;

use crate::command::exists;
use crate::debian;

/// Makes sure that Chromium can be started.
pub(crate) fn install() -> Result<()> {
    if exists("chromium") {
        return Ok(());
    }
    debian::install("chromium", "the tests of pages need `chromium`")
}
