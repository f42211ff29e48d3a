//! `graph`: says how the stages of a pipeline are connected.

use clap::{Args, ValueEnum};

use super::{DefinitionArgs, Surroundings};
use crate::{PipelineError, PipelineSpec};

/// Arguments of `graph`.
#[derive(Debug, Args)]
pub struct GraphArgs {
    /// The pipeline
    #[command(flatten)]
    pub definition: DefinitionArgs,

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
}

impl GraphArgs {
    /// Prints the graph.
    pub(crate) fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        let spec = self.definition.load(surroundings)?;
        surroundings.print(&graph(&spec, self.format))?;
        Ok(0)
    }
}

/// How the stages are connected, as text.
fn graph(spec: &PipelineSpec, format: GraphFormat) -> String {
    let name = |position: usize| spec.stages[position].name.as_str();
    let mut lines = Vec::new();
    for &position in spec.graph().order() {
        let wires = spec.graph().inputs(position);
        if format == GraphFormat::Ascii {
            let from: Vec<String> = wires
                .iter()
                .map(|wire| {
                    format!("{} ← {}.{}", wire.input.name, name(wire.producer), wire.output.name)
                })
                .collect();
            lines.push(format!("{:12} {}", name(position), from.join(", ")).trim_end().to_owned());
        }
        for wire in wires {
            let (from, to, port) = (name(wire.producer), name(position), wire.output.name);
            match format {
                GraphFormat::Ascii => {}
                GraphFormat::Mermaid => lines.push(format!("  {from} -- {port} --> {to}")),
                GraphFormat::Dot => lines.push(format!("  {from:?} -> {to:?} [label={port:?}]")),
            }
        }
    }
    match format {
        GraphFormat::Ascii => format!("{}\n", lines.join("\n")),
        GraphFormat::Mermaid => format!("graph LR\n{}\n", lines.join("\n")),
        GraphFormat::Dot => format!("digraph {:?} {{\n{}\n}}\n", spec.name, lines.join("\n")),
    }
}
