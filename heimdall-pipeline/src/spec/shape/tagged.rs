//! Types of which one key says what the others are.
//!
//! Such a type asks for anything, and looks at it by itself; what it takes shows in what it refuses.

use serde_json::{Value, json};

use super::probe::{Asked, Read, Step, ask};
use super::{Case, Field, Shape};

/// A name that nothing has.
const NOBODY: &str = "?";

/// What a type says to a value.
type Refusal<'a> = dyn Fn(Value) -> String + 'a;

/// Returns what is taken at the end of a path, if a key of its own decides about that.
pub(super) fn tagged(read: &Read<'_>, path: &[Step]) -> Option<Shape> {
    let refusal = |value: Value| match ask(read, path, Some(&value)) {
        Asked::Refused(message) => message,
        _ => String::new(),
    };
    let tag = missing(&refusal(json!({})))?.to_owned();
    let names = expected(&refusal(json!({ &tag: NOBODY })), "unknown variant")?;
    let cases = names.into_iter().map(|name| case(&refusal, &tag, name)).collect();
    Some(Shape::Tagged(tag, cases))
}

fn case(refusal: &Refusal<'_>, tag: &str, name: String) -> Case {
    let with = |field: &str, value: Value| refusal(json!({ tag: &name, field: value }));
    let names = expected(&with(NOBODY, Value::Null), "unknown field");
    let is_closed = names.is_some();
    let field = |name: String| Field {
        shape: field_shape(&|value| with(&name, value)),
        is_required: false,
        name,
    };
    let mut fields: Vec<Field> = names.into_iter().flatten().map(field).collect();
    let mut given = json!({ tag: &name });
    while let Some(name) = missing(&refusal(given.clone())) {
        let field = fields.iter_mut().find(|field| field.name == name && !field.is_required);
        let Some(field) = field else { break };
        field.is_required = true;
        given[name] = field.shape.sample();
    }
    Case { name, fields, is_closed }
}

/// Finds out which kinds of values a field takes.
fn field_shape(refusal: &Refusal<'_>) -> Shape {
    let takes = |value: Value| !refusal(value).starts_with("invalid type");
    if expected(&refusal(NOBODY.into()), "unknown variant").is_some() {
        return Shape::Any;
    }
    let mut shapes = Vec::new();
    if takes(true.into()) {
        shapes.push(Shape::Bool);
    }
    if takes(0.5.into()) {
        shapes.push(Shape::Number);
    } else if takes(1.into()) {
        let is_signed = !refusal((-1).into()).starts_with("invalid value");
        shapes.push(Shape::Integer { is_signed });
    }
    if takes("x".into()) {
        shapes.push(Shape::Text);
    }
    // A struct would be read from a list too.
    if takes(json!({})) {
        shapes.push(Shape::Mapping(None, Box::new(Shape::Any)));
    } else if takes(json!([])) {
        shapes.push(Shape::List(Box::new(Shape::Any), None));
    }
    let shape = match shapes.len() {
        1 => shapes.remove(0),
        0 => return Shape::Any,
        _ => Shape::Union(shapes),
    };
    if takes(Value::Null) { Shape::Optional(Box::new(shape)) } else { shape }
}

/// Returns the field that a refusal says is missing.
fn missing(refusal: &str) -> Option<&str> {
    refusal.strip_prefix("missing field `")?.split('`').next()
}

/// Returns the names that a refusal of [`NOBODY`] offers.
fn expected(refusal: &str, what: &str) -> Option<Vec<String>> {
    let offered = refusal.strip_prefix(what)?.strip_prefix(" `?`, ")?;
    Some(offered.split('`').skip(1).step_by(2).map(str::to_owned).collect())
}
