//! `plan`: says what a run would do.

use clap::Args;

use super::{DefinitionArgs, SelectionArgs, Surroundings};
use crate::{Forecast, PipelineError};

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The pipeline
    #[command(flatten)]
    pub definition: DefinitionArgs,

    /// The stages
    #[command(flatten)]
    pub selection: SelectionArgs,
}

impl PlanArgs {
    /// Prints one line for each stage.
    pub(crate) fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        let spec = self.definition.load(surroundings)?;
        let planned = crate::plan(&spec, &self.selection.options())?;
        let lines = planned.into_iter().map(|(stage, forecast)| {
            let outcome = match forecast {
                Forecast::Run => "run",
                Forecast::Cached => "cached",
                Forecast::Maybe => "maybe: depends on what comes before",
                Forecast::Skip => "skip",
            };
            format!("{stage:12} {outcome}\n")
        });
        surroundings.print(&lines.collect::<String>())?;
        Ok(0)
    }
}
