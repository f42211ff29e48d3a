//! `validate`: reads a pipeline and checks it.

use clap::Args;

use super::{DefinitionArgs, Surroundings};
use crate::PipelineError;

/// Arguments of `validate`.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// The pipeline
    #[command(flatten)]
    pub definition: DefinitionArgs,
}

impl ValidateArgs {
    /// Says that the pipeline is sound, or fails with what is wrong.
    pub(crate) fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        let spec = self.definition.load(surroundings)?;
        surroundings.print(&format!("{}: {} stages, all sound\n", spec.name, spec.stages.len()))?;
        Ok(0)
    }
}
