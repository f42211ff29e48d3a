//! `reference`: writes the reference of the program from its own definitions.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Command, CommandFactory};

use super::Surroundings;
use super::schema::schema_text;
use crate::{Cli, PipelineError, replace};

/// Name of the page about the command line, and of the schema of pipelines.
const PAGE: &str = "cli.md";
const SCHEMA: &str = "pipeline.schema.json";

/// Arguments of `reference`.
#[derive(Debug, Args)]
pub struct ReferenceArgs {
    /// Folder for `cli.md` and `pipeline.schema.json`
    #[arg(long, value_name = "DIR", default_value = "docs/reference")]
    pub output: PathBuf,

    /// Folder for manual pages; none are written if absent
    #[arg(long, value_name = "DIR")]
    pub man: Option<PathBuf>,
}

impl ReferenceArgs {
    /// Writes the files.
    pub(crate) fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        let create = |folder: &PathBuf| {
            fs::create_dir_all(folder).map_err(PipelineError::io("create", folder))
        };
        create(&self.output)?;
        for (name, text) in [(PAGE, command_line()), (SCHEMA, schema_text())] {
            let path = self.output.join(name);
            replace::write(&path, text.as_bytes())?;
            surroundings.print(&format!("wrote {}\n", path.display()))?;
        }
        if let Some(folder) = &self.man {
            create(folder)?;
            clap_mangen::generate_to(Cli::command(), folder)
                .map_err(PipelineError::io("write", folder))?;
        }
        Ok(0)
    }
}

/// Returns the page about the command line.
pub(crate) fn command_line() -> String {
    let mut text =
        "# The command line\n\nWritten by `heimdall-pipeline reference`; do not edit.\n".to_owned();
    describe(&Cli::command(), "", &mut text);
    text
}

fn describe(command: &Command, parents: &str, text: &mut String) {
    let name = format!("{parents}{}", command.get_name());
    let mut shown = command.clone().bin_name(&name).disable_help_subcommand(true);
    let help = shown.render_long_help().to_string();
    *text += &format!("\n## `{name}`\n\n```text\n");
    for line in help.lines() {
        *text += &format!("{}\n", line.trim_end());
    }
    *text += "```\n";
    for subcommand in command.get_subcommands() {
        describe(subcommand, &format!("{name} "), text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `cargo run -p heimdall-pipeline -- reference` writes them anew.
    #[test]
    fn committed_reference_is_that_of_this_program() {
        let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap() + "/../docs/reference";
        for (name, text) in [(PAGE, command_line()), (SCHEMA, schema_text())] {
            let committed = fs::read_to_string(format!("{folder}/{name}")).unwrap_or_default();

            assert!(committed == text, "docs/reference/{name} is stale: `reference` writes it");
        }
    }

    #[test]
    fn every_command_has_a_manual_page() {
        let folder = tempfile::tempdir().unwrap();

        clap_mangen::generate_to(Cli::command(), folder.path()).unwrap();

        for command in Cli::command().get_subcommands() {
            let name = format!("heimdall-pipeline-{}.1", command.get_name());
            let page = fs::read_to_string(folder.path().join(name)).unwrap();
            assert!(page.contains(".SH SYNOPSIS"), "{page}");
        }
    }
}
