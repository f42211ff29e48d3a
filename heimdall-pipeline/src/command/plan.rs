//! `plan`: says what a run would do, and why.

use clap::Args;

use super::explanation::changes;
use super::{DefinitionArgs, SelectionArgs, Surroundings};
use crate::PipelineError;

/// What the words of a plan mean.
const WORDS: &str = "cached: its result is there
restore: its result is there, but not all readable copies of it
fetch: its result is in the shared cache
run: it would run
maybe: it would run, unless what it reads comes out as it was
fail: something that it needs is not there
skip: it is left out";

/// Arguments of `plan`.
#[derive(Debug, Args)]
#[command(after_help = WORDS)]
pub struct PlanArgs {
    /// The pipeline
    #[command(flatten)]
    pub definition: DefinitionArgs,

    /// The stages
    #[command(flatten)]
    pub selection: SelectionArgs,

    /// Print one JSON object for each stage
    #[arg(long)]
    pub json: bool,
}

impl PlanArgs {
    /// Prints a line for each stage, and what has changed below it.
    pub(crate) async fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        let spec = self.definition.load(surroundings)?;
        let options = self.selection.options(&spec, surroundings);
        let planned = crate::plan(&spec, &options, &surroundings.screen()).await?;
        let mut text = String::new();
        for stage in planned {
            if self.json {
                let json = serde_json::to_string(&stage).expect("a plan is plain data");
                text += &format!("{json}\n");
                continue;
            }
            let note = stage.note.as_ref().map(|note| format!("  {note}")).unwrap_or_default();
            text += format!("{:12} {:7}{note}", stage.stage, stage.forecast.name()).trim_end();
            text.push('\n');
            text += &changes(&stage.changes, "    ");
        }
        surroundings.print(&text)?;
        Ok(0)
    }
}
