//! `graph`: says how the stages of a pipeline are connected, and how each of them stands.

use std::collections::HashMap;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{DefinitionArgs, SelectionArgs, Surroundings};
use crate::report::pipeline_page;
use crate::{Forecast, PipelineError, PipelineSpec, PlannedStage};

/// Arguments of `graph`.
#[derive(Debug, Args)]
pub struct GraphArgs {
    /// The pipeline
    #[command(flatten)]
    pub definition: DefinitionArgs,

    /// The stages
    #[command(flatten)]
    pub selection: SelectionArgs,

    /// How the graph is written
    #[arg(long, value_enum, default_value_t = GraphFormat::Ascii)]
    pub format: GraphFormat,
}

/// How a graph is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// One stage a line, with what it reads
    Ascii,
    /// Mermaid, as Markdown viewers draw it
    Mermaid,
    /// Graphviz
    Dot,
    /// One object with stages and wires
    Json,
    /// A page without links
    Html,
}

/// A graph as JSON has it.
#[derive(Serialize)]
struct JsonGraph<'a> {
    pipeline: &'a str,
    stages: Vec<JsonStage<'a>>,
    wires: Vec<JsonWire>,
}

#[derive(Serialize)]
struct JsonStage<'a> {
    stage: &'a str,
    uses: &'a str,
    forecast: Forecast,
}

#[derive(Serialize)]
struct JsonWire {
    from: String,
    output: String,
    to: String,
    input: String,
}

impl GraphArgs {
    /// Prints the graph; what a run would do with each stage gives it its color.
    pub(crate) async fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        let spec = self.definition.load(surroundings)?;
        let options = self.selection.options(&spec, surroundings);
        let planned = match self.format {
            // Nothing is looked up for a format that does not show it.
            GraphFormat::Ascii => Vec::new(),
            _ => crate::plan(&spec, &options, &surroundings.screen()).await?,
        };
        surroundings.print(&graph(&spec, &planned, self.format))?;
        Ok(0)
    }
}

/// How the stages are connected, as text.
fn graph(spec: &PipelineSpec, planned: &[PlannedStage], format: GraphFormat) -> String {
    match format {
        GraphFormat::Ascii => ascii(spec),
        GraphFormat::Mermaid => mermaid(spec, planned),
        GraphFormat::Dot => dot(spec, planned),
        GraphFormat::Json => json(spec, planned),
        GraphFormat::Html => pipeline_page(spec, planned),
    }
}

fn ascii(spec: &PipelineSpec) -> String {
    let width = spec.stages.iter().map(|stage| stage.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for &position in spec.graph().order() {
        let name = |position: usize| spec.stages[position].name.as_str();
        let wires = spec.graph().inputs(position).into_iter();
        let from: Vec<String> = wires
            .map(|wire| {
                format!("{} ← {}.{}", wire.input.name, name(wire.producer), wire.output.name)
            })
            .collect();
        text += format!("{:width$}  {}", name(position), from.join(", ")).trim_end();
        text.push('\n');
    }
    text
}

/// The wires in running order, with the names of both stages and the port.
fn wires(spec: &PipelineSpec) -> Vec<JsonWire> {
    let order = spec.graph().order().iter();
    order
        .flat_map(|&position| spec.graph().inputs(position))
        .map(|wire| JsonWire {
            from: spec.stages[wire.producer].name.clone(),
            output: wire.output.name.into_owned(),
            to: spec.stages[wire.consumer].name.clone(),
            input: wire.input.name.into_owned(),
        })
        .collect()
}

fn mermaid(spec: &PipelineSpec, planned: &[PlannedStage]) -> String {
    // The names of variants have signs that Mermaid takes for its own.
    let ids: HashMap<&str, usize> =
        planned.iter().enumerate().map(|(id, stage)| (stage.stage.as_str(), id)).collect();
    let mut text = "graph LR\n".to_owned();
    for (id, stage) in planned.iter().enumerate() {
        text += &format!("  s{id}[\"{}\"]:::{}\n", stage.stage, stage.forecast.name());
    }
    for JsonWire { from, output, to, .. } in wires(spec) {
        text += &format!("  s{} -- {output} --> s{}\n", ids[from.as_str()], ids[to.as_str()]);
    }
    for forecast in Forecast::ALL {
        text += &format!("  classDef {} fill:{}\n", forecast.name(), forecast.color());
    }
    text
}

fn dot(spec: &PipelineSpec, planned: &[PlannedStage]) -> String {
    let mut text =
        format!("digraph {:?} {{\n  rankdir=LR\n  node [shape=box, style=filled]\n", spec.name);
    for stage in planned {
        text += &format!("  {:?} [fillcolor={:?}]\n", stage.stage, stage.forecast.color());
    }
    for JsonWire { from, output, to, .. } in wires(spec) {
        text += &format!("  {from:?} -> {to:?} [label={output:?}]\n");
    }
    text + "}\n"
}

fn json(spec: &PipelineSpec, planned: &[PlannedStage]) -> String {
    let stages = planned.iter().map(|planned| JsonStage {
        stage: &planned.stage,
        uses: spec
            .position(&planned.stage)
            .map_or("", |position| spec.stages[position].stage.kind().name()),
        forecast: planned.forecast,
    });
    let graph = JsonGraph { pipeline: &spec.name, stages: stages.collect(), wires: wires(spec) };
    serde_json::to_string_pretty(&graph).expect("a graph is plain data") + "\n"
}
