//! The two readings of a definition, and what its parser's errors mean.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::de::{Deserialize, DeserializeSeed};
use serde_saphyr::granit_parser::{Parser, ScalarStyle};
use serde_saphyr::{Error, MessageFormatter, Options, UserMessageFormatter};

use super::include::{Part, gather};
use super::matrix::Axis;
use super::outline::{
    Entries, From, IncludedOutline, Outline, ProfileOutline, StageOutline, TypedStages, Word,
    place_of,
};
use super::overrides::Assignment;
use super::source::{Diagnostic, Place, Source};
use super::{LoadOptions, RESERVED_NAMES, StageSpec, TrackingSpec};
use crate::PipelineError;
use crate::stage::StageKind;

/// Nodes that a definition may have, aliases counted as often as they are used.
const NODES_MAX: usize = 20_000;

/// Keys that every stage may have, beside those of its kind.
const STAGE_KEYS: [&str; 4] = ["uses", "from", "matrix", "run"];

/// A definition before its stages are connected.
#[derive(Debug)]
pub(crate) struct Reading {
    /// All files that were read.
    pub(crate) source: Source,
    pub(crate) name: Option<String>,
    pub(crate) cache: Option<String>,
    pub(crate) tracking: TrackingSpec,
    pub(crate) stages: Vec<StageSpec>,
    /// The `from:` of each stage.
    pub(crate) wiring: Vec<From>,
    /// The `matrix:` of each stage.
    pub(crate) matrices: Vec<Vec<Axis>>,
}

/// Reads a definition.
pub(crate) fn read(source: Source, options: &LoadOptions) -> Result<Reading, PipelineError> {
    if source
        .text()
        .lines()
        .all(|line| line.trim_start().starts_with('#') || line.trim().is_empty())
    {
        return Err(source.diagnostic(None, "the definition is empty").into());
    }
    let (source, parts) = gather(source)?;
    for part in &parts {
        refuse_literal_references(&source.seen_from(part.file))?;
    }
    let properties = properties(&source, &parts, options)?;
    let outline: Outline =
        parse(&source, Some(&properties), |document| Outline::deserialize(document))?;
    let name = outline.name.map(|name| check_name(&source, name, "pipeline")).transpose()?;

    let mut reading = Reading {
        name,
        cache: None,
        tracking: TrackingSpec::default(),
        stages: Vec::new(),
        wiring: Vec::new(),
        matrices: Vec::new(),
        source,
    };
    let mut own = Some(outline.stages);
    for part in &parts {
        let source = reading.source.seen_from(part.file);
        let stages = match own.take_if(|_| part.file == 0) {
            Some(own) => own,
            None => included_stages(&source, &properties)?,
        };
        reading.add(&source, stages, &properties)?;
    }
    let source = &reading.source;
    if reading.stages.is_empty() {
        return Err(source.diagnostic(None, "the definition has no stages").into());
    }
    let (mut tracking, mut cache) = (outline.tracking, outline.cache);
    for wanted in &options.profiles {
        let named = outline.profiles.0.iter().find(|(name, _)| name.text == *wanted);
        if let Some((_, ProfileOutline { tracking: chosen, cache: address, .. })) = named {
            cache = address.clone().or(cache);
            tracking.uri = chosen.uri.clone().or(tracking.uri);
            tracking.experiment = chosen.experiment.clone().or(tracking.experiment);
            tracking.training = chosen.training.or(tracking.training);
        }
    }
    reading.tracking = tracking.checked(source)?;
    reading.cache = cache.map(|address| address.text);
    Ok(reading)
}

/// Returns the stages of a file that is included.
fn included_stages(
    source: &Source,
    properties: &HashMap<String, String>,
) -> Result<Entries<StageOutline>, PipelineError> {
    let outline: IncludedOutline =
        parse(source, Some(properties), |document| IncludedOutline::deserialize(document))?;
    let mut stages = outline.stages;
    for (name, stage) in &mut stages.0 {
        name.place.file = source.file();
        stage.move_to(source.file());
    }
    Ok(stages)
}

impl Reading {
    /// Adds the stages of a file, which are read for the second time.
    fn add(
        &mut self,
        source: &Source,
        outline: Entries<StageOutline>,
        properties: &HashMap<String, String>,
    ) -> Result<(), PipelineError> {
        let kinds = kinds(source, &outline.0)?;
        let typed =
            parse(source, Some(properties), |document| TypedStages(&kinds).deserialize(document))?;
        let known: HashMap<String, Place> =
            self.stages.iter().map(|stage| (stage.name.clone(), stage.place)).collect();
        for ((name, outline), (stage, run)) in outline.0.into_iter().zip(typed) {
            if let Some(before) = known.get(&name.text) {
                let message = format!("there are two stages `{}`", name.text);
                return Err(source
                    .diagnostic(Some(name.place), message)
                    .with_related(source, *before, "the other one is here")
                    .into());
            }
            self.matrices.push(Axis::read(source, outline.matrix)?);
            self.stages.push(StageSpec { name: name.text, place: name.place, stage, run });
            self.wiring.push(outline.from);
        }
        Ok(())
    }
}

/// Returns what `${NAME}` stands for: the environment, covered by the variables of the definition,
/// covered by those of the command line.
fn properties(
    source: &Source,
    parts: &[Part],
    options: &LoadOptions,
) -> Result<HashMap<String, String>, PipelineError> {
    let mut properties: HashMap<String, String> =
        options.environment.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let mut vars = BTreeMap::new();
    // A file comes after those that it includes, so that its own values cover theirs.
    let mut entries: Vec<(Word, Word)> =
        parts.iter().flat_map(|part| part.vars.vars.0.iter().cloned()).collect();
    let own = parts.iter().filter(|part| part.file == 0);
    let profiles: Vec<_> = own.flat_map(|part| &part.vars.profiles.0).collect();
    for wanted in &options.profiles {
        let Some((_, profile)) = profiles.iter().find(|(name, _)| name.text == *wanted) else {
            return Err(source
                .diagnostic(None, format!("the definition has no profile `{wanted}`"))
                .suggesting(wanted, profiles.iter().map(|(name, _)| name.text.as_str()))
                .into());
        };
        for (name, value) in &profile.vars.0 {
            if !entries.iter().any(|(known, _)| known.text == name.text) {
                let message =
                    format!("profile `{wanted}` sets `{}`, which `vars:` does not have", name.text);
                return Err(source
                    .diagnostic(Some(name.place), message)
                    .suggesting(&name.text, entries.iter().map(|(known, _)| known.text.as_str()))
                    .into());
            }
            entries.push((name.clone(), value.clone()));
        }
    }
    for (name, value) in entries {
        let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_';
        let name_is_sound = name.text.starts_with(is_letter)
            && name.text.chars().all(|c| is_letter(c) || c.is_ascii_digit());
        if !name_is_sound {
            let message = format!(
                "`{}` cannot be a variable, whose name has letters, digits and `_` only",
                name.text
            );
            return Err(source.diagnostic(Some(name.place), message).into());
        }
        vars.insert(name.text, interpolated(source, value, &properties)?);
    }
    for assignment in &options.set {
        let assignment = Assignment::parse(assignment)?;
        if let ["vars", name] = assignment.path.as_slice() {
            let Some(value) = vars.get_mut(*name) else {
                return Err(assignment
                    .diagnostic(format!("the definition has no variable `{name}`"))
                    .suggesting(name, vars.keys().map(String::as_str))
                    .into());
            };
            assignment.text.clone_into(value);
        }
    }
    properties.extend(vars);
    Ok(properties)
}

/// Returns the value of a variable, which itself may refer to the environment.
fn interpolated(
    source: &Source,
    value: Word,
    properties: &HashMap<String, String>,
) -> Result<String, PipelineError> {
    if !value.text.contains("${") {
        return Ok(value.text);
    }
    serde_saphyr::from_str_with_options(&value.text, options(Some(properties))).map_err(|error| {
        let inner = explain(source, error.without_snippet());
        let diagnostic = source.diagnostic(Some(value.place), inner.message());
        match inner.help() {
            Some(help) => diagnostic.with_help(help).into(),
            None => diagnostic.into(),
        }
    })
}

/// Returns the kind of each stage, and refuses names that no stage can have.
fn kinds(
    source: &Source,
    stages: &[(Word, StageOutline)],
) -> Result<Vec<StageKind>, PipelineError> {
    let mut kinds = Vec::with_capacity(stages.len());
    for (name, outline) in stages {
        let name = check_name(source, name.clone(), "stage")?;
        if RESERVED_NAMES.contains(&name.as_str()) {
            let place = stages[kinds.len()].0.place;
            let message = format!("a stage cannot be called `{name}`");
            return Err(source.diagnostic(Some(place), message).into());
        }
        let Word { text, place } = &outline.uses;
        let kind = StageKind::from_name(text).ok_or_else(|| {
            source
                .diagnostic(Some(*place), format!("there is no kind of stage `{text}`"))
                .suggesting(text, StageKind::ALL.map(StageKind::name))
        })?;
        kinds.push(kind);
    }
    Ok(kinds)
}

/// Refuses what cannot be the name of a folder.
fn check_name(source: &Source, name: Word, what: &str) -> Result<String, PipelineError> {
    let Word { text, place } = name;
    let is_sound = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if text.is_empty() || !text.chars().all(is_sound) {
        let message =
            format!("the name of a {what} has letters, digits, `-` and `_` only, unlike `{text}`");
        return Err(source.diagnostic(Some(place), message).into());
    }
    Ok(text)
}

/// Refuses `${` within quotes and blocks, where it would stay as it is without a word.
fn refuse_literal_references(source: &Source) -> Result<(), PipelineError> {
    if !source.text().contains("${") {
        return Ok(());
    }
    let mut parser = Parser::new_from_str(source.text());
    // What is no YAML at all is reported by the readings that follow.
    while let Some(Ok((event, span))) = parser.next_event() {
        if let Some((text, style)) = event.scalar()
            && style != ScalarStyle::Plain
            && text.contains("${")
        {
            let (line, column) = (span.start.line(), span.start.col() + 1);
            let place = Place { file: source.file(), line, column };
            return Err(source
                .diagnostic(Some(place), "`${` within quotes is not replaced")
                .with_help("write the value without quotes, on a line of its own")
                .into());
        }
    }
    Ok(())
}

/// Runs one reading over the text.
pub(super) fn parse<T>(
    source: &Source,
    properties: Option<&HashMap<String, String>>,
    reading: impl for<'de, 'e> FnOnce(serde_saphyr::Deserializer<'de, 'e>) -> Result<T, Error>,
) -> Result<T, PipelineError> {
    let options = options(properties);
    serde_saphyr::with_deserializer_from_str_with_options(source.text(), options, reading)
        .map_err(|error| explain(source, error.without_snippet()).into())
}

fn options(properties: Option<&HashMap<String, String>>) -> Options {
    let mut options = Options::default();
    if let Some(properties) = properties {
        options = options.with_properties(properties.clone());
    }
    options.with_snippet = false;
    options.budget = serde_saphyr::budget! { max_nodes: NODES_MAX };
    options.strict_booleans = true;
    options
}

/// Says what an error of the parser means for the one who wrote the definition.
fn explain(source: &Source, error: &Error) -> Diagnostic {
    let location = error.location().filter(|location| location.line() > 0);
    let place = location.map(|location| Place { file: source.file(), ..place_of(&location) });
    let at = |message: String| source.diagnostic(place, message);
    match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            let is_stage = !expected.contains(&"stages");
            let common = STAGE_KEYS.into_iter().filter(|_| is_stage);
            let key = place.and_then(|place| source.word_at(place)).unwrap_or(field);
            at(format!("unknown key `{key}`"))
                .suggesting(key, expected.iter().copied().chain(common))
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            let value = place.and_then(|place| source.word_at(place)).unwrap_or(variant);
            at(format!("unknown value `{value}`")).suggesting(value, expected.iter().copied())
        }
        Error::SerdeMissingField { field, .. } => at(format!("the key `{field}` is missing")),
        Error::SerdeInvalidType { unexpected, expected, .. } => {
            at(format!("expected {expected}, but found {unexpected}"))
        }
        Error::SerdeInvalidValue { unexpected, expected, .. } => {
            at(format!("expected {expected}, but found {unexpected}"))
        }
        Error::InvalidScalar { ty, .. } => at(format!("this is not {}", with_article(ty))),
        Error::DuplicateMappingKey { key, .. } => match key {
            Some(key) => at(format!("the key `{key}` is there twice")),
            None => at("a key is there twice".to_owned()),
        },
        Error::UnresolvedProperty { name, .. } => at(format!("nothing is known as `${{{name}}}`"))
            .with_help(format!("add it to `vars:`, set it with `--set vars.{name}=…`, or give a default: `${{{name}:-…}}`")),
        Error::PropertyRequiredButUnset { name, message, .. }
        | Error::PropertyRequiredButEmpty { name, message, .. } => {
            at(format!("`{name}` is needed: {message}"))
        }
        Error::InvalidPropertyName { name, .. } => at(format!("`{name}` is not a variable"))
            .with_help("the name of a variable has letters, digits and `_` only"),
        Error::Eof { .. } => at("the definition ends too early".to_owned()),
        _ => at(UserMessageFormatter.format_message(error).into_owned()),
    }
}

fn with_article(noun: &str) -> String {
    // The parser names types as Rust does.
    let noun = match noun {
        "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64" => "integer",
        "f32" | "f64" => "number",
        other => other,
    };
    match noun.chars().next() {
        Some('a' | 'e' | 'i' | 'o') => format!("an {noun}"),
        _ => format!("a {noun}"),
    }
}

/// Offers the definition that stands in the same folder under a similar name.
pub(crate) fn offering_siblings(diagnostic: Diagnostic, path: &Path) -> Diagnostic {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let Ok(entries) = std::fs::read_dir(folder.unwrap_or(Path::new("."))) else {
        return diagnostic;
    };
    let mut siblings: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".yaml") || name.ends_with(".yml"))
        .collect();
    siblings.sort();
    match path.file_name().and_then(|name| name.to_str()) {
        Some(wrong) => diagnostic.suggesting(wrong, siblings.iter().map(String::as_str)),
        None => diagnostic,
    }
}
