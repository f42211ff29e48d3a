//! `schema`: prints the JSON schema of pipelines.

use clap::Args;

use super::Surroundings;
use crate::{PipelineError, schema};

/// Arguments of `schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {}

impl SchemaArgs {
    /// Prints the schema.
    pub(crate) fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        surroundings.print(&schema_text())?;
        Ok(0)
    }
}

/// Returns the schema as it is printed.
pub(super) fn schema_text() -> String {
    serde_json::to_string_pretty(&schema()).expect("a schema is plain data") + "\n"
}
