//! Assignments of the command line: `--set train.epochs=5`.

use serde_json::Value;

use super::StageSpec;
use super::reading::Reading;
use super::source::{Diagnostic, Place, Source};
use super::tracking::refusal;
use crate::PipelineError;
use crate::stage::Stage;

/// A value for a field, from a `--set` or a place in a definition.
#[derive(Debug)]
pub(crate) struct Assignment<'a> {
    source: Source,
    place: Option<Place>,
    pub(crate) path: Vec<&'a str>,
    /// The value as it was written.
    pub(crate) text: &'a str,
    /// What the value can be: what is most likely meant stands first.
    values: Vec<Value>,
}

impl<'a> Assignment<'a> {
    /// Takes a `--set` apart.
    pub(crate) fn parse(text: &'a str) -> Result<Self, PipelineError> {
        let (path, value) = text.split_once('=').unwrap_or((text, ""));
        let assignment = Self {
            source: Source::new(&format!("--set {text}"), ""),
            place: None,
            path: path.split('.').collect(),
            text: value,
            values: values(value),
        };
        if !text.contains('=') || assignment.path.len() < 2 || assignment.path.contains(&"") {
            return Err(assignment
                .diagnostic("expected `STAGE.FIELD=VALUE` or `vars.NAME=VALUE`")
                .into());
        }
        Ok(assignment)
    }

    /// Makes the assignment of a value that stands in a definition.
    pub(super) fn at(source: &Source, place: Place, path: Vec<&'a str>, value: Value) -> Self {
        Self { source: source.clone(), place: Some(place), path, text: "", values: vec![value] }
    }

    pub(crate) fn diagnostic(&self, message: impl Into<String>) -> Diagnostic {
        self.source.diagnostic(self.place, message)
    }
}

/// Returns the value as YAML reads it, and, if that is something else, as plain text.
fn values(written: &str) -> Vec<Value> {
    let text = Value::String(written.to_owned());
    match serde_saphyr::from_str::<Value>(written) {
        Ok(value) if value != text => vec![value, text],
        _ => vec![text],
    }
}

/// Carries out the assignments to stages and to the tracking; those to variables are in already.
pub(crate) fn apply(reading: &mut Reading, assignments: &[String]) -> Result<(), PipelineError> {
    for assignment in assignments {
        let assignment = Assignment::parse(assignment)?;
        match assignment.path.as_slice() {
            ["vars", _] => {}
            ["tracking", path @ ..] => {
                let current = to_json(&reading.tracking);
                reading.tracking = assigned(&assignment, &current, path, from_json)?;
                if let Err(error) = reading.tracking.address() {
                    return Err(assignment.diagnostic(refusal(&error)).into());
                }
            }
            [name, path @ ..] => {
                let mut names = reading.stages.iter().map(|stage| stage.name.as_str());
                let Some(position) = names.position(|known| known == *name) else {
                    let names = reading.stages.iter().map(|stage| stage.name.as_str());
                    return Err(assignment
                        .diagnostic(format!("the pipeline has no stage `{name}`"))
                        .suggesting(name, names.chain(["vars", "tracking"]))
                        .into());
                };
                let mut axes = reading.matrices[position].iter();
                if let Some(axis) = axes.find(|axis| axis.overlaps(&path.join("."))) {
                    let message = format!("the matrix of `{name}` sets `{}`", axis.field.text);
                    return Err(assignment
                        .diagnostic(message)
                        .with_related(&reading.source, axis.field.place, "it is here")
                        .into());
                }
                assign(&mut reading.stages[position], &assignment, path)?;
            }
            [] => unreachable!("an assignment has a path of two or more"),
        }
    }
    Ok(())
}

/// Carries out an assignment to the field of a stage that a path leads to.
pub(super) fn assign(
    stage: &mut StageSpec,
    assignment: &Assignment<'_>,
    path: &[&str],
) -> Result<(), PipelineError> {
    if let ["run", path @ ..] = path {
        stage.run = assigned(assignment, &to_json(&stage.run), path, from_json)?;
        return Ok(());
    }
    let kind = stage.stage.kind();
    let current = stage.stage.parameters();
    stage.stage = assigned(assignment, &current, path, |value| Stage::deserialize(kind, value))?;
    Ok(())
}

/// Returns the configuration with the assignment carried out.
fn assigned<T>(
    assignment: &Assignment<'_>,
    current: &Value,
    path: &[&str],
    read: impl Fn(Value) -> Result<T, serde_json::Error>,
) -> Result<T, PipelineError> {
    let mut refusal = None;
    for value in &assignment.values {
        let mut changed = current.clone();
        let slot = slot(assignment, &mut changed, path)?;
        *slot = value.clone();
        match read(changed) {
            Ok(config) => return Ok(config),
            // The first refusal is about the value as it was most likely meant.
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    let refusal = refusal.expect("there is a value to try");
    let diagnostic = assignment.diagnostic(refusal.to_string());
    let wrong = path.last().copied().unwrap_or_default();
    match siblings(current, path) {
        Some(names) if !names.contains(&wrong) => Err(assignment
            .diagnostic(format!("unknown key `{wrong}`"))
            .suggesting(wrong, names)
            .into()),
        _ => Err(diagnostic.into()),
    }
}

/// Returns the place in a configuration that a path leads to. Only the last step may be new, since
/// the configuration has its defaults filled in, but maps may grow.
fn slot<'v>(
    assignment: &Assignment<'_>,
    config: &'v mut Value,
    path: &[&str],
) -> Result<&'v mut Value, PipelineError> {
    let Some((last, parents)) = path.split_last() else {
        return Err(assignment.diagnostic("expected a field behind the point").into());
    };
    let mut at = config;
    for step in parents {
        let Value::Object(fields) = at else { return Err(no_fields(assignment, at, step).into()) };
        if !fields.contains_key(*step) {
            return Err(assignment
                .diagnostic(format!("unknown key `{step}`"))
                .suggesting(step, fields.keys().map(String::as_str))
                .into());
        }
        at = &mut fields[*step];
    }
    match at {
        Value::Object(fields) => Ok(fields.entry(*last).or_insert(Value::Null)),
        other => Err(no_fields(assignment, other, last).into()),
    }
}

fn no_fields(assignment: &Assignment<'_>, value: &Value, step: &str) -> Diagnostic {
    assignment.diagnostic(format!("there is no `{step}` within {value}"))
}

/// Returns the keys beside the one that a path leads to.
fn siblings<'v>(config: &'v Value, path: &[&str]) -> Option<Vec<&'v str>> {
    let (_, parents) = path.split_last()?;
    let parent = parents.iter().try_fold(config, |at, step| at.get(step))?;
    Some(parent.as_object()?.keys().map(String::as_str).collect())
}

fn to_json(config: &impl serde::Serialize) -> Value {
    serde_json::to_value(config).expect("a configuration is plain data with string keys")
}

fn from_json<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, serde_json::Error> {
    serde_json::from_value(value)
}
