//! Digests, and the key that a result is found by.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use super::OutputManifest;
use crate::artifact::{ArtifactKind, OutputPort};

/// Sets keys apart from all other digests, and old ways to compute them from new ones.
const KEY_DOMAIN: &[u8] = b"heimdall stage key 1";

/// Sets digests of folders apart from those of files.
const TREE_DOMAIN: &[u8] = b"heimdall tree 1";

/// A BLAKE3 digest, written as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self::from(blake3::hash(bytes))
    }

    /// Returns the digest of a folder: of the paths in it and what is in each.
    pub(crate) fn of_tree<'a>(files: impl IntoIterator<Item = (&'a str, &'a Self)>) -> Self {
        let mut hasher = blake3::Hasher::new();
        update(&mut hasher, TREE_DOMAIN);
        for (path, digest) in files {
            update(&mut hasher, path.as_bytes());
            update(&mut hasher, &digest.0);
        }
        Self::from(hasher.finalize())
    }

    /// Returns the first digits, which tell digests apart for people.
    pub(crate) fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

/// Adds a field with its length, so that no two lists of fields look the same.
fn update(hasher: &mut blake3::Hasher, field: &[u8]) {
    let length = u64::try_from(field.len()).expect("a length fits into 64 bits");
    hasher.update(&length.to_le_bytes());
    hasher.update(field);
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl std::str::FromStr for Digest {
    type Err = blake3::HexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        blake3::Hash::from_hex(text).map(Self::from)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DigestVisitor;

        impl de::Visitor<'_> for DigestVisitor {
            type Value = Digest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("64 hexadecimal digits")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Digest, E> {
                let hash = blake3::Hash::from_hex(text)
                    .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))?;
                Ok(Digest::from(hash))
            }
        }

        deserializer.deserialize_str(DigestVisitor)
    }
}

/// What a result is found by.
pub(crate) type Key = Digest;

/// Everything that decides what a stage makes, by name. Names, paths, host and time are not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct KeyParts(BTreeMap<String, String>);

/// Beginning of the names of the parts that are about outputs.
const OUTPUT: &str = "output ";

fn port_value(kind: ArtifactKind, format_version: u32) -> String {
    format!("{kind} {format_version}")
}

impl KeyParts {
    pub(crate) fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// Adds an output of the stage.
    pub(crate) fn set_output(&mut self, port: &OutputPort) {
        self.set(
            format!("{OUTPUT}{}", port.name),
            port_value(port.kind, port.kind.format_version()),
        );
    }

    /// Whether the outputs of the stage are those of a result.
    pub(super) fn has_outputs(&self, outputs: &BTreeMap<String, OutputManifest>) -> bool {
        let own = self.iter().filter_map(|(name, value)| Some((name.strip_prefix(OUTPUT)?, value)));
        own.map(|(port, value)| (port.to_owned(), value.to_owned())).eq(outputs
            .iter()
            .map(|(port, output)| (port.clone(), port_value(output.kind, output.format_version))))
    }

    /// Returns the parts in the order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns the parameters of the stage, as text.
    pub(crate) fn parameters(&self) -> &str {
        self.0.get("parameters").map_or("", String::as_str)
    }

    pub(crate) fn key(&self) -> Key {
        let mut hasher = blake3::Hasher::new();
        update(&mut hasher, KEY_DOMAIN);
        for (name, value) in &self.0 {
            update(&mut hasher, name.as_bytes());
            update(&mut hasher, value.as_bytes());
        }
        Digest::from(hasher.finalize())
    }
}

/// Returns JSON whose text depends on nothing but its meaning: keys are sorted.
pub(crate) fn canonical_json(value: &Value) -> String {
    // A map of this library may keep the order of insertion, so it is sorted here.
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
            let fields: Vec<String> = sorted
                .into_iter()
                .map(|(name, value)| {
                    format!("{}:{}", Value::String(name.clone()), canonical_json(value))
                })
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(canonical_json).collect();
            format!("[{}]", items.join(","))
        }
        scalar => scalar.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn canonical_text_does_not_know_the_order_of_keys() {
        let one = json!({ "b": [1, { "y": 1.5, "x": null }], "a": "\"" });

        assert_eq!(canonical_json(&one), r#"{"a":"\"","b":[1,{"x":null,"y":1.5}]}"#);
        assert_eq!(serde_json::from_str::<Value>(&canonical_json(&one)).unwrap(), one);
    }

    #[test]
    fn tree_digest_knows_paths_and_contents() {
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let tree = |files: &[(&'static str, Digest)]| {
            Digest::of_tree(files.iter().map(|(path, digest)| (*path, digest)))
        };

        assert_eq!(tree(&[("a", one)]), tree(&[("a", one)]));
        assert_ne!(tree(&[("a", one)]), tree(&[("b", one)]));
        assert_ne!(tree(&[("a", one)]), tree(&[("a", two)]));
        assert_ne!(tree(&[("a", one)]), tree(&[("a", one), ("b", two)]));
    }

    #[test]
    fn digest_is_read_as_it_is_written() {
        let digest = Digest::of(b"abc");

        let text = serde_json::to_string(&digest).unwrap();

        assert_eq!(serde_json::from_str::<Digest>(&text).unwrap(), digest);
        assert!(serde_json::from_str::<Digest>("\"abc\"").is_err());
    }

    proptest! {
        /// Moving a letter from one field to the next gives another key.
        #[test]
        fn fields_do_not_run_into_each_other(name in "[a-z]{1,8}", value in "[a-z]{1,8}") {
            let mut parts = KeyParts::default();
            parts.set(name.clone(), value.clone());
            let mut shifted = KeyParts::default();
            shifted.set(format!("{name}{}", &value[..1]), &value[1..]);

            prop_assert_ne!(parts.key(), shifted.key());
        }
    }
}
