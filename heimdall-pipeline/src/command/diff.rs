//! `diff`: compares two runs: parameters, inputs, metrics, times.

use std::collections::BTreeSet;

use clap::Args;

use super::explanation::changes;
use super::table::{figure, table};
use super::{CacheArgs, Surroundings};
use crate::cache::Cache;
use crate::history::{RunRecord, StageRecord};
use crate::{PipelineError, RunState, differences, duration};

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// Run to compare with: the beginning or end of its name, `last`, or `last~2` [default: the last
    /// but one that came to its end]
    pub before: Option<String>,

    /// Run to compare [default: the last one that came to its end]
    pub after: Option<String>,

    /// The cache
    #[command(flatten)]
    pub cache: CacheArgs,
}

impl DiffArgs {
    /// Prints what differs, stage by stage.
    pub(crate) fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        let cache = self.cache.open()?;
        let mut done = cache.runs()?.filter(|run| run.state == RunState::Done);
        let mut find = |name: &Option<String>, back: &str| match name {
            Some(name) => cache.find_run(name),
            None => done.next().map_or_else(|| cache.find_run(back), Ok),
        };
        let after = find(&self.after, "last")?;
        let before = find(&self.before, "last~1")?;
        let mut text = format!("{} → {}\n", before.run, after.run);
        let mut names: Vec<&str> = after.stages.iter().map(|stage| stage.stage.as_str()).collect();
        names.extend(
            before
                .stages
                .iter()
                .map(|s| s.stage.as_str())
                .filter(|name| after.stage(name).is_none()),
        );
        for name in names {
            text += &compared(&cache, name, &before, &after);
        }
        surroundings.print(&text)?;
        Ok(0)
    }
}

fn compared(cache: &Cache, name: &str, before: &RunRecord, after: &RunRecord) -> String {
    let (before, after) = match (before.stage(name), after.stage(name)) {
        (Some(before), Some(after)) => (before, after),
        (None, _) => return format!("{name}: only in the second run\n"),
        (_, None) => return format!("{name}: only in the first run\n"),
    };
    let manifest = |stage: &StageRecord| cache.read_manifest(&stage.key?);
    let (was, is) = (manifest(before), manifest(after));
    if before.key.is_some() && before.key == after.key {
        let told = metrics(before, after);
        return if after.report.reproduced == Some(false) || !told.is_empty() {
            format!("{name}: another result of the same\n{told}")
        } else {
            format!("{name}: the same result\n")
        };
    }
    let time = |stage: &StageRecord, made: Option<f64>| {
        format!("{} {}", stage.report.state.name(), duration(made.unwrap_or(stage.report.seconds)))
    };
    let mut text = format!(
        "{name}: {} → {}\n",
        time(before, was.as_ref().map(|m| m.seconds)),
        time(after, is.as_ref().map(|m| m.seconds))
    );
    if let (Some(was), Some(is)) = (&was, &is) {
        text += &changes(&differences(&was.key_parts, &is.key_parts), "    ");
        let outputs = is.outputs.iter().filter_map(|(port, output)| {
            let same = was.outputs.get(port).is_some_and(|before| before.tree == output.tree);
            (!same).then_some(port.as_str())
        });
        let outputs: Vec<&str> = outputs.collect();
        text += &match outputs.as_slice() {
            [] => "    outputs: the same\n".to_owned(),
            _ => format!("    outputs that differ: {}\n", outputs.join(", ")),
        };
    }
    text + &metrics(before, after)
}

fn metrics(before: &StageRecord, after: &StageRecord) -> String {
    let (before, after) = (&before.report.metrics, &after.report.metrics);
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let rows: Vec<[String; 3]> = names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| {
            let shown =
                |value: Option<&f64>| value.map_or("–".to_owned(), |value| figure(*value));
            let (old, new) = (before.get(name), after.get(name));
            let change = match (old, new) {
                (Some(old), Some(new)) => format!("({:+})", figured(new - old)),
                _ => String::new(),
            };
            [format!("    {name}:"), format!("{} → {}", shown(old), shown(new)), change]
        })
        .collect();
    table(&rows)
}

/// A difference with as many digits as are worth reading.
fn figured(difference: f64) -> f64 {
    figure(difference).parse().unwrap_or(difference)
}
