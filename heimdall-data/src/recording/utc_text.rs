//! Instants that stand in a configuration as text.

use heimdall_features::UtcTime;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::datetime::{format_utc, parse_utc};

/// Writes an instant with nine digits after the second.
pub(crate) fn serialize<S: Serializer>(
    time: &Option<UtcTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    time.and_then(format_utc).serialize(serializer)
}

/// Reads an instant.
pub(crate) fn deserialize<'de, D>(deserializer: D) -> Result<Option<UtcTime>, D::Error>
where
    D: Deserializer<'de>,
{
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let time = parse_utc(&text).ok_or_else(|| {
        D::Error::custom(format!(
            "expected an instant of UTC such as `2022-07-05T10:51:43Z`, but found `{text}`"
        ))
    });
    time.map(Some)
}
