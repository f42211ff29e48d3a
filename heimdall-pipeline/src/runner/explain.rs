//! Why a stage runs, or does not: what decides its result, compared with what decided it before.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::cache::KeyParts;

/// Digits of a digest that people are shown.
const SHORT: usize = 8;

/// Something that decides the result of a stage and is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What it is: the path of a parameter, `input train`, `code`.
    pub what: String,
    /// What it was; nothing if it was not there.
    pub before: Option<String>,
    /// What it is now; nothing if it is not there any more.
    pub now: Option<String>,
}

/// Returns what differs, parameters leaf by leaf, in the order of their names.
pub(crate) fn differences(before: &KeyParts, now: &KeyParts) -> Vec<Change> {
    let (before, now) = (leaves(before), leaves(now));
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    names
        .into_iter()
        .filter(|name| before.get(*name) != now.get(*name))
        .map(|name| Change {
            what: name.clone(),
            before: before.get(name).map(|value| shown(value)),
            now: now.get(name).map(|value| shown(value)),
        })
        .collect()
}

/// Returns everything that decides a result, with parameters as one entry for each leaf.
pub(super) fn leaves(parts: &KeyParts) -> BTreeMap<String, String> {
    let mut leaves = BTreeMap::new();
    for (name, value) in parts.iter() {
        match (name, serde_json::from_str(value)) {
            ("parameters", Ok(parameters)) => flatten("", &parameters, &mut leaves),
            ("kind", _) => {
                leaves.insert("code".to_owned(), value.to_owned());
            }
            _ => {
                leaves.insert(name.to_owned(), value.to_owned());
            }
        }
    }
    leaves
}

fn flatten(path: &str, value: &Value, leaves: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, field) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&path, field, leaves);
            }
        }
        other => {
            leaves.insert(path.to_owned(), other.to_string());
        }
    }
}

/// A value as people want to see it: of a digest the first digits do.
fn shown(value: &str) -> String {
    let is_digest = value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_digest { value[..SHORT].to_owned() } else { value.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(fields: &[(&str, &str)]) -> KeyParts {
        let mut parts = KeyParts::default();
        for (name, value) in fields {
            parts.set(*name, *value);
        }
        parts
    }

    #[test]
    fn differences_have_old_and_new_values() {
        let (one, two) = ("1".repeat(64), "2".repeat(64));
        let before = parts(&[
            ("kind", "train 1"),
            ("parameters", r#"{"a":1,"b":{"c":[1,2],"d":null},"gone":"x"}"#),
            ("input train", &one),
            ("input validation", &one),
        ]);
        let now = parts(&[
            ("kind", "train 2"),
            ("parameters", r#"{"a":1,"b":{"c":[1,3],"d":null},"new":"y"}"#),
            ("input train", &two),
            ("input validation", &one),
        ]);

        let told: Vec<String> = differences(&before, &now)
            .iter()
            .map(|change| {
                let or_dash = |value: &Option<String>| value.clone().unwrap_or("–".to_owned());
                format!("{}: {} → {}", change.what, or_dash(&change.before), or_dash(&change.now))
            })
            .collect();

        let expected = [
            "b.c: [1,2] → [1,3]",
            "code: train 1 → train 2",
            "gone: \"x\" → –",
            "input train: 11111111 → 22222222",
            "new: – → \"y\"",
        ];
        assert_eq!(told, expected);
        assert_eq!(differences(&now, &now), []);
    }
}
