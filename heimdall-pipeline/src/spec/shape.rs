//! What a type takes where it is read, found out by reading it.
//!
//! A type that is read asks for what it wants: a number, a list, a struct with these fields. The probe
//! notes the question and gives no answer, so that nothing has to be right for everything to be found;
//! to see what lies deeper, the type is read again, and led there.

mod probe;
mod tagged;

use serde_json::{Map, Value, json};

use probe::{Asked, KINDS, Kind, Probe, Read, Step, Stop, ask};
use tagged::tagged;

/// What a type takes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    /// Anything.
    Any,
    Nothing,
    Bool,
    Integer {
        is_signed: bool,
    },
    Number,
    Text,
    Optional(Box<Self>),
    /// A list, of a certain length if there is one.
    List(Box<Self>, Option<usize>),
    /// A mapping, from these keys if they are fixed.
    Mapping(Option<&'static [&'static str]>, Box<Self>),
    Struct(Vec<Field>),
    /// One of these names, each with what follows it.
    Choice(Vec<(&'static str, Self)>),
    /// One of several.
    Union(Vec<Self>),
    /// A mapping in which the value of this key is one of these, and says what else is in it.
    Tagged(String, Vec<Case>),
}

/// A field of a struct.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) shape: Shape,
    pub(crate) is_required: bool,
}

/// A value of a key that decides, and what stands beside it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) fields: Vec<Field>,
    /// Whether other fields are refused.
    pub(crate) is_closed: bool,
}

impl Shape {
    /// Finds out what is taken by whatever `read` reads.
    pub(crate) fn of(read: &dyn Fn(Probe<'_>) -> Result<(), Stop>) -> Self {
        at(read, &[])
    }

    /// Returns a value that is read as this, if no further rules forbid it. Its numbers count up,
    /// since lower bounds mostly come before upper ones.
    pub(crate) fn sample(&self) -> Value {
        self.sample_behind(&mut 0)
    }

    fn sample_behind(&self, number: &mut u64) -> Value {
        match self {
            Self::Any | Self::Nothing | Self::Optional(_) => Value::Null,
            Self::Bool => true.into(),
            Self::Integer { .. } | Self::Number => {
                *number += 1;
                (*number).into()
            }
            Self::Text => "x".into(),
            Self::List(item, length) => {
                (0..length.unwrap_or(0)).map(|_| item.sample_behind(number)).collect()
            }
            Self::Mapping(..) => json!({}),
            Self::Struct(fields) => required(fields, number).into(),
            Self::Tagged(tag, cases) => {
                let mut sample = required(&cases[0].fields, number);
                sample.insert(tag.clone(), cases[0].name.clone().into());
                sample.into()
            }
            Self::Choice(choices) => match choices.first() {
                Some((name, Self::Nothing)) => (*name).into(),
                Some((name, inner)) => json!({ *name: inner.sample_behind(number) }),
                None => Value::Null,
            },
            Self::Union(shapes) => {
                shapes.first().map_or(Value::Null, |shape| shape.sample_behind(number))
            }
        }
    }
}

/// Returns samples of the fields that must be there.
fn required(fields: &[Field], number: &mut u64) -> Map<String, Value> {
    let required = fields.iter().filter(|field| field.is_required);
    required.map(|field| (field.name.clone(), field.shape.sample_behind(number))).collect()
}

fn at(read: &Read<'_>, path: &[Step]) -> Shape {
    let deeper = |step: Step| at(read, &[path, &[step]].concat());
    match ask(read, path, None) {
        Asked::Plain(shape) => shape,
        Asked::Anything => anything(read, path),
        Asked::Optional => Shape::Optional(Box::new(deeper(Step::Inner))),
        Asked::Wrapped => deeper(Step::Inner),
        Asked::List(length) => Shape::List(Box::new(deeper(Step::Item)), length),
        Asked::Mapping(keys) => Shape::Mapping(keys, Box::new(deeper(Step::Entry))),
        Asked::Struct(names) => {
            let fields = names.iter().map(|name| Field {
                name: (*name).to_owned(),
                shape: deeper(Step::Field(name)),
                is_required: false,
            });
            let mut fields: Vec<Field> = fields.collect();
            find_required(read, path, &mut fields);
            Shape::Struct(fields)
        }
        Asked::Choice(names) => {
            Shape::Choice(names.iter().map(|name| (*name, deeper(Step::Variant(name)))).collect())
        }
        Asked::Takes(_) | Asked::Refused(_) => Shape::Any,
    }
}

/// Finds out which kinds of values are taken by what takes anything.
fn anything(read: &Read<'_>, path: &[Step]) -> Shape {
    if let Some(tagged) = tagged(read, path) {
        return tagged;
    }
    let takes = |kind: &Kind| match ask(read, &[path, &[Step::Try(*kind)]].concat(), None) {
        Asked::Takes(takes) => takes,
        _ => true,
    };
    let taken: Vec<Kind> = KINDS.into_iter().filter(takes).collect();
    if taken == KINDS {
        return Shape::Any;
    }
    let shapes = taken.iter().map(|kind| match kind {
        Kind::Text => Shape::Text,
        Kind::Bool => Shape::Bool,
        Kind::Integer => Shape::Integer { is_signed: true },
        Kind::Number => Shape::Number,
        Kind::List => {
            Shape::List(Box::new(at(read, &[path, &[Step::Try(Kind::List)]].concat())), None)
        }
        Kind::Mapping => Shape::Mapping(None, Box::new(Shape::Any)),
    });
    Shape::Union(shapes.collect())
}

/// Gives a struct one field more each time, until it misses none.
fn find_required(read: &Read<'_>, path: &[Step], fields: &mut [Field]) {
    let mut given = Map::new();
    while let Asked::Refused(message) = ask(read, path, Some(&Value::Object(given.clone()))) {
        let missing =
            message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        let field =
            fields.iter_mut().find(|field| missing == Some(&*field.name) && !field.is_required);
        let Some(field) = field else { break };
        field.is_required = true;
        given.insert(field.name.clone(), field.shape.sample());
    }
}
