//! What `from:` means: which output goes to which input.

use std::collections::HashMap;

use super::Wire;
use crate::PipelineError;
use crate::artifact::ArtifactKind;
use crate::artifact::{InputPort, OutputPort};
use crate::spec::{Diagnostic, From, Source, StageSpec, Word, reference_parts};
use crate::stage::{StageKind, is_port_name};

/// The stages of a definition, and the position of each by its name.
pub(super) struct Stages<'a> {
    pub(super) all: &'a [StageSpec],
    positions: HashMap<&'a str, usize>,
}

impl<'a> Stages<'a> {
    pub(super) fn new(all: &'a [StageSpec]) -> Self {
        let positions = all.iter().enumerate().map(|(at, stage)| (stage.name.as_str(), at));
        Self { all, positions: positions.collect() }
    }
}

/// A reference of the form `stage` or `stage.port`, looked up.
struct Reference<'a> {
    producer: usize,
    stage: &'a StageSpec,
    /// The port, where it is named or the only one.
    port: Option<OutputPort>,
    word: &'a Word,
}

impl Reference<'_> {
    fn outputs(&self) -> Vec<OutputPort> {
        match &self.port {
            Some(port) => vec![port.clone()],
            None => self.stage.stage.output_ports().into_owned(),
        }
    }
}

/// Returns the wires that arrive at a stage.
pub(super) fn connect(
    source: &Source,
    stages: &Stages<'_>,
    consumer: usize,
    from: &From,
) -> Result<Vec<Wire>, PipelineError> {
    let stage = &stages.all[consumer];
    let mut wires = match from {
        From::Absent => Vec::new(),
        From::Ports(ports) => ports
            .iter()
            .map(|(port, word)| {
                let input = named_input(source, stage, port)?;
                let reference = look_up(source, stages, word)?;
                let output = matching_output(source, stage, &input, &reference)?;
                Ok(Wire { producer: reference.producer, output, consumer, input })
            })
            .collect::<Result<_, PipelineError>>()?,
        From::References(words) => by_kind(source, stages, consumer, words)?,
    };
    let is_open = |port: &&InputPort| wires.iter().all(|wire| wire.input != **port);
    if let Some(missing) = stage.stage.kind().inputs().iter().filter(|p| p.required).find(is_open) {
        let message = format!(
            "stage `{}` needs `{}: {}`, but nothing is connected to it",
            stage.name, missing.name, missing.kind
        );
        return Err(source
            .diagnostic(Some(stage.place), message)
            .with_help(offers(stages.all, consumer, missing))
            .into());
    }
    wires.sort_by(|one, other| one.input.name.cmp(&other.input.name));
    Ok(wires)
}

/// Connects every listed stage to each open input whose kind it makes.
fn by_kind(
    source: &Source,
    stages: &Stages<'_>,
    consumer: usize,
    words: &[Word],
) -> Result<Vec<Wire>, PipelineError> {
    let stage = &stages.all[consumer];
    let inputs = stage.stage.kind().inputs();
    let mut wires: Vec<Wire> = Vec::new();
    if let (StageKind::Cmd, Some(word)) = (stage.stage.kind(), words.first()) {
        let message = format!("the inputs of stage `{}` have no names", stage.name);
        let help = format!("give each a name: `from: {{ NAME: {} }}`", word.text);
        return Err(source.diagnostic(Some(word.place), message).with_help(help).into());
    }
    for word in words {
        let reference = look_up(source, stages, word)?;
        let count_before = wires.len();
        for output in reference.outputs() {
            let of_kind = |port: &&InputPort| {
                port.kind == output.kind && wires.iter().all(|w| w.input != **port)
            };
            let open: Vec<&InputPort> = inputs.iter().filter(of_kind).collect();
            // What a stage cannot do without comes before what it can.
            let needed: Vec<&InputPort> =
                open.iter().copied().filter(|input| input.required).collect();
            match (needed.as_slice(), open.as_slice()) {
                (_, []) => {}
                ([input], _) | ([], [input]) => {
                    let (producer, input) = (reference.producer, (*input).clone());
                    wires.push(Wire { producer, output, consumer, input });
                }
                (_, [first, ..]) => {
                    return Err(ambiguous(source, stage, word, first, &open).into());
                }
            }
        }
        if wires.len() == count_before {
            return Err(nothing_fits(source, stage, &reference).into());
        }
    }
    Ok(wires)
}

fn named_input(
    source: &Source,
    stage: &StageSpec,
    port: &Word,
) -> Result<InputPort, PipelineError> {
    let kind = stage.stage.kind();
    if kind == StageKind::Cmd {
        if !is_port_name(&port.text) {
            let message =
                format!("the name of an input has letters, digits and `_`, unlike `{}`", port.text);
            return Err(source.diagnostic(Some(port.place), message).into());
        }
        let name = port.text.clone().into();
        return Ok(InputPort { name, kind: ArtifactKind::Files, required: true });
    }
    kind.input(&port.text).cloned().ok_or_else(|| {
        source
            .diagnostic(Some(port.place), format!("`{kind}` has no input `{}`", port.text))
            .suggesting(&port.text, kind.inputs().iter().map(|port| &*port.name))
            .into()
    })
}

/// Looks up a reference.
fn look_up<'a>(
    source: &Source,
    stages: &Stages<'a>,
    word: &'a Word,
) -> Result<Reference<'a>, PipelineError> {
    let (name, port) = reference_parts(&word.text);
    let Some(&producer) = stages.positions.get(name) else {
        return Err(source
            .diagnostic(Some(word.place), format!("there is no stage `{name}`"))
            .suggesting(name, stages.all.iter().map(|stage| stage.name.as_str()))
            .into());
    };
    let stage = &stages.all[producer];
    let outputs = stage.stage.output_ports();
    let port = match (port, &*outputs) {
        (None, [only]) => Some(only.clone()),
        (None, _) => None,
        (Some(port), _) => {
            let found = outputs.iter().find(|output| output.name == port);
            Some(found.cloned().ok_or_else(|| {
                source
                    .diagnostic(Some(word.place), format!("stage `{name}` has no output `{port}`"))
                    .suggesting(port, outputs.iter().map(|output| &*output.name))
            })?)
        }
    };
    Ok(Reference { producer, stage, port, word })
}

/// Returns the output of a reference that fits an input.
fn matching_output(
    source: &Source,
    stage: &StageSpec,
    input: &InputPort,
    reference: &Reference<'_>,
) -> Result<OutputPort, PipelineError> {
    let outputs = reference.outputs();
    let fitting: Vec<_> = outputs.iter().filter(|output| input.kind.takes(output.kind)).collect();
    let Word { text, place } = reference.word;
    match (fitting.as_slice(), outputs.as_slice()) {
        ([output], _) => Ok((*output).clone()),
        ([], [output]) => {
            let message = format!(
                "`{text}` is `{}`, but `{}` takes `{}`",
                output.kind, input.name, input.kind
            );
            let label = format!("stage `{}` is here", reference.stage.name);
            Err(source
                .diagnostic(Some(*place), message)
                .with_related(source, reference.stage.place, label)
                .into())
        }
        ([], _) => Err(nothing_fits(source, stage, reference).into()),
        _ => Err(source
            .diagnostic(Some(*place), format!("`{text}` has more than one `{}`", input.kind))
            .with_help(format!("name one: {}", references(reference.stage, &outputs)))
            .into()),
    }
}

fn nothing_fits(source: &Source, stage: &StageSpec, reference: &Reference<'_>) -> Diagnostic {
    let makes: Vec<String> =
        reference.outputs().iter().map(|port| format!("`{}`", port.kind)).collect();
    let takes: Vec<String> = stage
        .stage
        .kind()
        .inputs()
        .iter()
        .map(|port| format!("`{}: {}`", port.name, port.kind))
        .collect();
    let makes = makes.join(", ");
    let word = reference.word;
    let message = match takes.as_slice() {
        [] => format!("stage `{}` takes no input", stage.name),
        _ => format!(
            "`{}` is {makes}, but stage `{}` still takes {}",
            word.text,
            stage.name,
            takes.join(", ")
        ),
    };
    let label = format!("stage `{}` is here", reference.stage.name);
    source.diagnostic(Some(word.place), message).with_related(source, reference.stage.place, label)
}

fn ambiguous(
    source: &Source,
    stage: &StageSpec,
    word: &Word,
    input: &InputPort,
    open: &[&InputPort],
) -> Diagnostic {
    let names: Vec<&str> = open.iter().map(|port| &*port.name).collect();
    let message = format!(
        "stage `{}` has more than one input for `{}`: `{}`",
        stage.name,
        input.kind,
        names.join("`, `")
    );
    let help = format!("say which: `from: {{ {}: {} }}`", names[0], word.text);
    source.diagnostic(Some(word.place), message).with_help(help)
}

/// Says which stages could be connected to an input.
fn offers(stages: &[StageSpec], consumer: usize, input: &InputPort) -> String {
    let fitting: Vec<String> = stages
        .iter()
        .enumerate()
        .filter(|(position, _)| *position != consumer)
        .flat_map(|(_, stage)| {
            let outputs = stage.stage.output_ports().into_owned().into_iter();
            outputs.filter(|port| input.kind.takes(port.kind)).map(move |port| (stage, port))
        })
        .map(|(stage, port)| format!("`{}.{}`", stage.name, port.name))
        .collect();
    match fitting.as_slice() {
        [] => format!("no stage makes `{}`", input.kind),
        _ => format!("connect it in `from:` to {}", fitting.join(" or ")),
    }
}

fn references(stage: &StageSpec, outputs: &[OutputPort]) -> String {
    let names: Vec<String> =
        outputs.iter().map(|port| format!("`{}.{}`", stage.name, port.name)).collect();
    names.join(", ")
}
