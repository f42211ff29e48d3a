//! `completions`: prints what a shell needs to complete commands and options.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Surroundings;
use crate::{Cli, PipelineError};

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Shell to write for
    pub shell: Shell,
}

impl CompletionsArgs {
    /// Prints the script.
    pub(crate) fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        let mut command = Cli::command();
        let name = command.get_name().to_owned();
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, name, &mut script);
        surroundings.print(&String::from_utf8_lossy(&script))?;
        Ok(0)
    }
}
