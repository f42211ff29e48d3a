//! `init`: writes a small pipeline to begin with.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use clap::Args;

use super::Surroundings;
use crate::PipelineError;

/// A pipeline of a few seconds that goes from recordings to an evaluated network.
const STARTER: &str = include_str!("init/starter.yaml");

/// Arguments of `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// File to write; one that exists is left alone
    #[arg(default_value = "pipeline.yaml")]
    pub pipeline: PathBuf,
}

impl InitArgs {
    /// Writes the file, and says what to do next.
    pub(crate) fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        let path = &self.pipeline;
        let mut file = File::create_new(path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => PipelineError::Exists { path: path.clone() },
            _ => PipelineError::io("create", path)(error),
        })?;
        // Copies of results are found by the name: two pipelines of one folder need two.
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let is_name =
            |stem: &&str| stem.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
        let name = stem.filter(is_name).filter(|stem| *stem != "pipeline").unwrap_or("starter");
        let text = STARTER.replacen("name: starter", &format!("name: {name}"), 1);
        file.write_all(text.as_bytes()).map_err(PipelineError::io("write", path))?;
        let path = path.display();
        surroundings
            .print(&format!("wrote {path}; run it with: heimdall-pipeline run {path}\n"))?;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LoadOptions, PipelineSpec};

    #[test]
    fn starter_is_sound() {
        let spec = PipelineSpec::parse("starter.yaml", "starter", STARTER, &LoadOptions::default());

        assert_eq!(spec.unwrap().stages.len(), 5);
    }
}
