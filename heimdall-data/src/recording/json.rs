//! JSON whose errors name the file and the place.

use serde_json::{Map, Value};

use crate::DataError;

/// A file of JSON is refused beyond this many bytes.
pub(super) const JSON_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A value within a file of JSON.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    file: &'a str,
    path: String,
    value: &'a Value,
}

/// Reads a file as one value.
pub(super) fn parse(file: &str, bytes: &[u8]) -> Result<Value, DataError> {
    serde_json::from_slice(bytes).map_err(|error| DataError::Malformed {
        file: file.to_owned(),
        place: format!("line {}, column {}", error.line(), error.column()),
        expected: "JSON".to_owned(),
        actual: error.to_string(),
    })
}

impl<'a> Node<'a> {
    pub(super) fn root(file: &'a str, value: &'a Value) -> Self {
        Self { file, path: String::new(), value }
    }

    /// The value of a key; `None` where an object has no such key.
    pub(super) fn optional(&self, key: &str) -> Result<Option<Self>, DataError> {
        Ok(self.object()?.get(key).map(|value| self.child(key, value)))
    }

    /// The value of a key that an object must have.
    pub(super) fn required(&self, key: &str) -> Result<Self, DataError> {
        let value = self.object()?.get(key);
        value.map(|value| self.child(key, value)).ok_or_else(|| DataError::Malformed {
            file: self.file.to_owned(),
            place: self.path_of(key),
            expected: "there".to_owned(),
            actual: "missing".to_owned(),
        })
    }

    /// Refuses keys that are not among the known ones.
    pub(super) fn refuse_other_keys(&self, known: &[&str]) -> Result<(), DataError> {
        match self.object()?.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => Err(DataError::Malformed {
                file: self.file.to_owned(),
                place: self.path_of(key),
                expected: format!("one of {}", known.join(", ")),
                actual: "no known field".to_owned(),
            }),
        }
    }

    /// The elements of an array.
    pub(super) fn items(&self) -> Result<Vec<Self>, DataError> {
        let Value::Array(values) = self.value else { return Err(self.wrong("an array")) };
        let item = |(index, value)| Self {
            file: self.file,
            path: format!("{}[{index}]", self.path),
            value,
        };
        Ok(values.iter().enumerate().map(item).collect())
    }

    pub(super) fn text(&self) -> Result<&'a str, DataError> {
        self.value.as_str().ok_or_else(|| self.wrong("a string"))
    }

    pub(super) fn boolean(&self) -> Result<bool, DataError> {
        self.value.as_bool().ok_or_else(|| self.wrong("true or false"))
    }

    /// A whole number without a sign.
    pub(super) fn count(&self) -> Result<u64, DataError> {
        self.value.as_u64().ok_or_else(|| self.wrong("a whole number of at least 0"))
    }

    /// A number that follows a rule.
    pub(super) fn number(
        &self,
        rule: impl Fn(f64) -> bool,
        expected: &str,
    ) -> Result<f64, DataError> {
        let number = self.value.as_f64().filter(|number| number.is_finite() && rule(*number));
        number.ok_or_else(|| self.wrong(expected))
    }

    /// An error about this value.
    pub(super) fn wrong(&self, expected: &str) -> DataError {
        let mut actual = self.value.to_string();
        if let Some((end, _)) = actual.char_indices().nth(60) {
            actual.truncate(end);
            actual.push('…');
        }
        DataError::Malformed {
            file: self.file.to_owned(),
            place: if self.path.is_empty() { "as a whole".to_owned() } else { self.path.clone() },
            expected: expected.to_owned(),
            actual,
        }
    }

    fn object(&self) -> Result<&'a Map<String, Value>, DataError> {
        self.value.as_object().ok_or_else(|| self.wrong("an object"))
    }

    fn child(&self, key: &str, value: &'a Value) -> Self {
        Self { file: self.file, path: self.path_of(key), value }
    }

    fn path_of(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }
}
