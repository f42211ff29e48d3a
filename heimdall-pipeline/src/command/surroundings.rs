//! What a command may use of the process that it runs in.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};

use crate::{PipelineError, Progress};

/// What a command may use of the process that it runs in: nothing else is read from there.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The variables of the environment, as far as they are text.
    pub environment: BTreeMap<String, String>,
    /// Where people see what happens.
    pub progress: Progress,
}

impl Surroundings {
    /// Makes surroundings of the variables of the environment; what is not text is left out.
    pub fn new(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        progress: Progress,
    ) -> Self {
        let text = |(name, value): (OsString, OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self { environment: variables.into_iter().filter_map(text).collect(), progress }
    }

    /// Writes to stdout, where data goes; a reader that has gone is no error.
    ///
    /// # Errors
    ///
    /// [`PipelineError::Io`] if stdout cannot be written to.
    pub fn print(&self, text: &str) -> Result<(), PipelineError> {
        match io::stdout().write_all(text.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(PipelineError::io("write to", "stdout")(error))
            }
            _ => Ok(()),
        }
    }
}
