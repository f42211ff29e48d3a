//! The JSON schema of definitions, by which editors complete and check them.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::RunSpec;
use super::outline::TrackingOutline;
use super::shape::{Case, Field, Shape};
use crate::stage::{Stage, StageKind};

/// A text with a variable in it, which can stand for a value of any type.
const VARIABLE: &str = r"\$\{.*\}";

/// Returns the schema.
///
/// What a stage takes is found out from the types that definitions are read with; what stands around
/// stages is written down here.
pub fn schema() -> Value {
    let mut definitions = Map::new();
    for kind in StageKind::ALL {
        definitions.insert(kind.name().to_owned(), stage(kind));
    }
    let run = Shape::of(&|probe| RunSpec::deserialize(probe).map(drop));
    definitions.insert("run".to_owned(), described(&run, &defaults_of(&RunSpec::default())));
    let from = json!({
        "description": "What the stage reads: `stage`, `stage.port`, a list of them, or a mapping from \
                        its own ports to them",
        "anyOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": "string" } },
            { "type": "object", "additionalProperties": { "type": "string" } },
        ],
    });
    let matrix = json!({
        "description": "Fields of the stage, and the values that each takes in turn",
        "type": "object",
        "additionalProperties": { "type": "array", "minItems": 1 },
    });
    definitions.insert("from".to_owned(), from);
    definitions.insert("matrix".to_owned(), matrix);
    let cache =
        json!({ "description": "Address of a cache that machines share", "type": "string" });
    definitions.insert("cache".to_owned(), cache);
    definitions.insert("tracking".to_owned(), tracking());
    definitions.insert("vars".to_owned(), vars());
    definitions.insert("stage".to_owned(), any_stage());
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A pipeline of Heimdall",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "name": { "type": "string", "pattern": "^[A-Za-z0-9_-]+$" },
            "include": {
                "description": "Files with further stages and variables, relative to this one",
                "anyOf": [
                    { "type": "string" },
                    { "type": "array", "items": { "type": "string" } },
                ],
            },
            "vars": { "$ref": "#/definitions/vars" },
            "profiles": {
                "description": "Other values for other occasions: `--profile NAME`",
                "type": ["object", "null"],
                "additionalProperties": {
                    "type": ["object", "null"],
                    "additionalProperties": false,
                    "properties": {
                        "vars": { "$ref": "#/definitions/vars" },
                        "cache": { "$ref": "#/definitions/cache" },
                        "tracking": { "$ref": "#/definitions/tracking" },
                    },
                },
            },
            "cache": { "$ref": "#/definitions/cache" },
            "tracking": { "$ref": "#/definitions/tracking" },
            "stages": {
                "type": "object",
                "propertyNames": { "pattern": "^[A-Za-z0-9_-]+$" },
                "additionalProperties": { "$ref": "#/definitions/stage" },
            },
        },
        "anyOf": [{ "required": ["stages"] }, { "required": ["include"] }],
        "definitions": definitions,
    })
}

fn tracking() -> Value {
    let tracking = Shape::of(&|probe| TrackingOutline::deserialize(probe).map(drop));
    let Shape::Struct(fields) = tracking else { unreachable!("it is a struct") };
    let property = |field: &Field| {
        let kind = if field.name == "training" { "boolean" } else { "string" };
        (field.name.clone(), json!({ "type": kind }))
    };
    let properties: Map<String, Value> = fields.iter().map(property).collect();
    json!({
        "description": "Where runs and models are entered",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    })
}

fn vars() -> Value {
    json!({
        "description": "What `${NAME}` stands for: `--set vars.NAME=VALUE`",
        "type": ["object", "null"],
        "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" },
        "additionalProperties": { "type": ["string", "number", "boolean"] },
    })
}

/// A stage, by what its `uses:` says.
fn any_stage() -> Value {
    let names = StageKind::ALL.map(StageKind::name);
    let cases = names.map(|name| {
        json!({
            "if": { "properties": { "uses": { "const": name } }, "required": ["uses"] },
            "then": { "$ref": format!("#/definitions/{name}") },
        })
    });
    json!({
        "type": "object",
        "required": ["uses"],
        "properties": { "uses": { "enum": names } },
        "allOf": cases,
    })
}

/// A stage of one kind: its own fields, and those of every stage.
fn stage(kind: StageKind) -> Value {
    let shape = Shape::of(&|probe| Stage::deserialize(kind, probe).map(drop));
    // Those that must be there get something, so that the others show what they are without.
    let smallest = Stage::deserialize::<Value>(kind, shape.sample());
    let defaults = smallest.map_or(Value::Null, |stage| stage.parameters());
    let mut schema = described(&shape, &defaults);
    let properties = schema["properties"].as_object_mut().expect("a stage is a struct");
    properties.insert("uses".to_owned(), json!({ "const": kind.name() }));
    for name in ["from", "matrix", "run"] {
        let reference = json!({ "$ref": format!("#/definitions/{name}") });
        properties.insert(name.to_owned(), reference);
    }
    schema
}

fn defaults_of(config: &impl serde::Serialize) -> Value {
    serde_json::to_value(config).expect("a configuration is plain data with string keys")
}

/// Returns the schema of a shape, with the values that its fields have where they are not given.
fn described(shape: &Shape, defaults: &Value) -> Value {
    let variable = |mut schema: Value, kinds: &[&str]| {
        schema["type"] = json!([kinds, &["string"]].concat());
        schema["pattern"] = VARIABLE.into();
        schema
    };
    match shape {
        Shape::Any => json!({}),
        Shape::Nothing => json!({ "type": "null" }),
        Shape::Bool => variable(json!({}), &["boolean"]),
        Shape::Integer { is_signed: true } => variable(json!({}), &["integer"]),
        Shape::Integer { is_signed: false } => variable(json!({ "minimum": 0 }), &["integer"]),
        Shape::Number => variable(json!({}), &["number"]),
        // What YAML takes for a number is read as text where text is asked for.
        Shape::Text => json!({ "type": ["string", "number", "boolean"] }),
        Shape::Optional(inner) => {
            json!({ "anyOf": [described(inner, defaults), { "type": "null" }] })
        }
        Shape::List(item, None) => {
            json!({ "type": "array", "items": described(item, &Value::Null) })
        }
        Shape::List(item, Some(length)) => json!({
            "type": "array",
            "items": described(item, &Value::Null),
            "minItems": length,
            "maxItems": length,
        }),
        Shape::Mapping(keys, value) => {
            let value = described(value, &Value::Null);
            let mut schema = json!({ "type": "object", "additionalProperties": value });
            if let Some(keys) = keys {
                schema["propertyNames"] = json!({ "enum": keys });
            }
            schema
        }
        Shape::Struct(fields) => structure(fields, defaults),
        Shape::Choice(choices) => choice(choices),
        Shape::Tagged(tag, cases) => tagged(tag, cases, defaults),
        Shape::Union(shapes) => {
            let shapes: Vec<Value> =
                shapes.iter().map(|shape| described(shape, &Value::Null)).collect();
            json!({ "anyOf": shapes })
        }
    }
}

fn structure(fields: &[Field], defaults: &Value) -> Value {
    let property = |field: &Field| {
        let default = defaults.get(&field.name).unwrap_or(&Value::Null);
        let mut schema = described(&field.shape, default);
        if !field.is_required && !default.is_null() && !default.is_object() {
            schema["default"] = default.clone();
        }
        (field.name.clone(), schema)
    };
    let properties: Map<String, Value> = fields.iter().map(property).collect();
    let mut schema =
        json!({ "type": "object", "additionalProperties": false, "properties": properties });
    let required = fields.iter().filter(|field| field.is_required);
    let required: Vec<&str> = required.map(|field| field.name.as_str()).collect();
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn choice(choices: &[(&'static str, Shape)]) -> Value {
    let plain = choices.iter().filter(|(_, inner)| *inner == Shape::Nothing);
    let plain: Vec<&str> = plain.map(|(name, _)| *name).collect();
    let mut cases = Vec::new();
    if !plain.is_empty() {
        cases.push(json!({ "enum": plain }));
        cases.push(json!({ "type": "string", "pattern": VARIABLE }));
    }
    for (name, inner) in choices.iter().filter(|(_, inner)| *inner != Shape::Nothing) {
        cases.push(json!({
            "type": "object",
            "additionalProperties": false,
            "required": [name],
            "properties": { *name: described(inner, &Value::Null) },
        }));
    }
    json!({ "anyOf": cases })
}

fn tagged(tag: &str, cases: &[Case], defaults: &Value) -> Value {
    let of_case = |case: &Case| {
        let is_default = defaults[tag] == case.name.as_str();
        let mut schema = structure(&case.fields, if is_default { defaults } else { &Value::Null });
        schema["additionalProperties"] = (!case.is_closed).into();
        schema["properties"][tag] = json!({ "const": case.name });
        let required = case.fields.iter().filter(|field| field.is_required);
        let required: Vec<&str> = required.map(|field| field.name.as_str()).collect();
        schema["required"] = json!([&[tag], required.as_slice()].concat());
        schema
    };
    let mut schemas: Vec<Value> = cases.iter().map(of_case).collect();
    let variable = json!({ "type": "string", "pattern": VARIABLE });
    schemas.push(json!({ "type": "object", "required": [tag], "properties": { tag: variable } }));
    json!({ "anyOf": schemas })
}

#[cfg(test)]
mod tests {
    use super::super::outline::{Outline, ProfileOutline};
    use super::*;

    fn names(shape: Shape) -> Vec<String> {
        let Shape::Struct(fields) = shape else { panic!("{shape:?}") };
        let mut names: Vec<String> = fields.into_iter().map(|field| field.name).collect();
        names.sort_unstable();
        names
    }

    fn properties(schema: &Value) -> Vec<&str> {
        let mut names: Vec<&str> =
            schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// What is written down by hand has the keys that the reader has.
    #[test]
    fn keys_around_stages_are_those_of_the_reader() {
        let schema = schema();
        let outline = Shape::of(&|probe| Outline::deserialize(probe).map(drop));
        let profile = Shape::of(&|probe| ProfileOutline::deserialize(probe).map(drop));

        assert_eq!(properties(&schema), names(outline));
        let profiles = &schema["properties"]["profiles"]["additionalProperties"];
        assert_eq!(properties(profiles), names(profile));
    }

    #[test]
    fn stages_have_their_fields_with_types_and_defaults() {
        let schema = schema();
        let stages = &schema["definitions"];

        let train = &stages["train"]["properties"];
        assert_eq!(train["epochs"]["type"], json!(["integer", "string"]));
        assert_eq!(train["epochs"]["minimum"], 0);
        assert_eq!(train["learning_rate"]["type"], json!(["number", "string"]));
        assert_eq!(train["batch_size"]["default"], 32);
        let backbones = &train["model"]["properties"]["backbone"]["anyOf"][0]["enum"];
        assert!(backbones.as_array().unwrap().contains(&"resnet18".into()), "{backbones}");
        assert_eq!(stages["import"]["required"], json!(["path"]));
        assert_eq!(stages["import"]["properties"]["strict"]["default"], true);
        assert_eq!(stages["cmd"]["required"], json!(["command", "outputs"]));
        let command = &stages["cmd"]["properties"]["command"]["anyOf"];
        assert_eq!(command[0]["type"][0], "string");
        assert_eq!(command[1]["type"], "array");
        let outputs = &stages["cmd"]["properties"]["outputs"]["additionalProperties"];
        assert!(outputs["anyOf"][0]["enum"].as_array().unwrap().contains(&"files".into()));
        assert_eq!(stages["register"]["required"], json!(["model"]));
        let gate = &stages["register"]["properties"]["gate"]["additionalProperties"];
        assert_eq!((&gate["minItems"], &gate["maxItems"]), (&2.into(), &2.into()));
        assert_eq!(stages["run"]["properties"]["retries"]["default"], 0);
    }

    /// Where one key decides about the others, each of its values has its own.
    #[test]
    fn tagged_fields_have_their_cases() {
        let schema = schema();
        let stages = &schema["definitions"];

        let cases = stages["train"]["properties"]["schedule"]["anyOf"].as_array().unwrap();
        let kinds: Vec<&Value> =
            cases.iter().filter_map(|case| case["properties"]["kind"].get("const")).collect();
        assert_eq!(kinds, ["one_cycle", "cosine", "plateau", "constant"]);
        let cycle = &cases[0];
        assert_eq!(cycle["required"], json!(["kind"]));
        assert_eq!(cycle["additionalProperties"], false);
        assert_eq!(cycle["properties"]["warm_up_share"]["type"], json!(["number", "string"]));
        assert_eq!(cycle["properties"]["warm_up_share"]["default"], 0.3);
        let world = &stages["simulate"]["properties"]["world"]["properties"];
        let distance = world["path_loss"]["anyOf"].as_array().unwrap();
        let distance =
            distance.iter().find(|case| case["properties"]["kind"]["const"] == "log_distance");
        assert_eq!(distance.unwrap()["required"], json!(["kind", "exponent"]));
    }

    /// Every field of every kind's resolved configuration is in its schema.
    #[test]
    fn nothing_that_a_stage_takes_is_missing() {
        for kind in StageKind::ALL {
            let shape = Shape::of(&|probe| Stage::deserialize(kind, probe).map(drop));
            let smallest = Stage::deserialize::<Value>(kind, shape.sample()).unwrap();
            let schema = stage(kind);
            for field in smallest.parameters().as_object().unwrap().keys() {
                assert!(properties(&schema).contains(&field.as_str()), "{kind}: {field}");
            }
        }
    }
}
