//! `why`: says why a stage would run, or would not.

use clap::Args;

use super::explanation::{changes, made};
use super::{DefinitionArgs, SelectionArgs, Surroundings};
use crate::{Explanation, Forecast, PipelineError};

/// Arguments of `why`.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// The pipeline
    #[command(flatten)]
    pub definition: DefinitionArgs,

    /// Stage to explain
    pub stage: String,

    /// The stages
    #[command(flatten)]
    pub selection: SelectionArgs,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

impl WhyArgs {
    /// Prints what decides the result of the stage, and what of it has changed.
    pub(crate) async fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        let spec = self.definition.load(surroundings)?;
        let options = self.selection.options(&spec, surroundings);
        let explanation = crate::why(&spec, &options, &self.stage, &surroundings.screen()).await?;
        if self.json {
            let json = serde_json::to_string(&explanation).expect("an explanation is plain data");
            surroundings.print(&format!("{json}\n"))?;
        } else {
            surroundings.print(&told(&explanation))?;
        }
        Ok(0)
    }
}

fn told(explanation: &Explanation) -> String {
    let Explanation { planned, made: result, decided_by } = explanation;
    let (stage, note) =
        (&planned.stage, planned.note.as_deref().unwrap_or("because of what changed"));
    let mut text = match planned.forecast {
        Forecast::Cached => {
            format!("{stage} is cached: nothing that decides its result has changed\n")
        }
        Forecast::Restore => {
            format!("{stage} is cached, but readable copies of its files must be restored\n")
        }
        Forecast::Fetch => {
            format!("{stage} is in the shared cache: its result would be taken from there\n")
        }
        Forecast::Run => format!("{stage} would run: {note}\n"),
        Forecast::Maybe => format!("{stage} may run: it {note}\n"),
        Forecast::Fail => format!("{stage} would fail: {note}\n"),
        Forecast::Skip if planned.note.is_some() => {
            return format!("{stage} would be left out: {note}\n");
        }
        Forecast::Skip => return format!("{stage} would be left out, as it is not asked for\n"),
    };
    text += &changes(&planned.changes, "    ");
    let is_hit = matches!(planned.forecast, Forecast::Cached | Forecast::Restore | Forecast::Fetch);
    if let Some(result) = result {
        let which = if is_hit { "the result" } else { "compared with the last result" };
        text += &format!("{which}: {}\n", made(result));
    }
    text += "what decides the result:\n";
    for (what, value) in decided_by {
        text += &format!("    {what}: {value}\n");
    }
    text
}
