//! The rules that MLflow has for names and lengths.

use crate::TrackingError;

/// Longest key of a parameter, metric or tag.
pub(crate) const KEY_LENGTH_MAX: usize = 250;
/// Longest value of a parameter.
pub(crate) const PARAM_LENGTH_MAX: usize = 8000;
/// Longest value of a tag, and longest description.
pub(crate) const TEXT_LENGTH_MAX: usize = 5000;
/// Longest name of an experiment or a registered model.
pub(crate) const NAME_LENGTH_MAX: usize = 256;

/// Checks that a text is no longer than its column.
pub(crate) fn check_length(
    kind: &'static str,
    name: &str,
    text: &str,
    length_max: usize,
) -> Result<(), TrackingError> {
    // Bytes are quick to count, and never fewer than characters.
    if text.len() <= length_max {
        return Ok(());
    }
    match text.chars().count() {
        length if length <= length_max => Ok(()),
        length => Err(TrackingError::TooLong { kind, name: name.to_owned(), length, length_max }),
    }
}

/// Checks the key of a parameter, metric or tag.
pub(crate) fn check_key(kind: &'static str, key: &str) -> Result<(), TrackingError> {
    let allowed = |c: char| c.is_alphanumeric() || "_-. :/".contains(c);
    if key.is_empty() || !key.chars().all(allowed) {
        return invalid(
            kind,
            key,
            "consist of letters, digits, `_`, `-`, `.`, `:`, `/` and spaces, at least one of them",
        );
    }
    check_unique_path(kind, key)?;
    check_length(kind, key, key, KEY_LENGTH_MAX)
}

/// Checks the name of an experiment.
pub(crate) fn check_experiment_name(name: &str) -> Result<(), TrackingError> {
    if name.trim().is_empty() {
        return invalid("experiment name", name, "not be empty");
    }
    check_length("experiment name", name, name, NAME_LENGTH_MAX)
}

/// Checks the name of a registered model.
pub(crate) fn check_model_name(name: &str) -> Result<(), TrackingError> {
    if name.trim().is_empty() || name.contains(['/', ':']) {
        return invalid("model name", name, "have at least one character, and neither `/` nor `:`");
    }
    check_unique_path("model name", name)?;
    check_length("model name", name, name, NAME_LENGTH_MAX)
}

/// Checks the alias of a model version.
pub(crate) fn check_alias(alias: &str) -> Result<(), TrackingError> {
    let allowed = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    if alias.is_empty() || !alias.chars().all(allowed) {
        return invalid("alias", alias, "consist of letters, digits, `_` and `-`");
    }
    let is_version = alias
        .strip_prefix(['v', 'V'])
        .is_some_and(|rest| !rest.is_empty() && rest.chars().all(char::is_numeric));
    if alias.eq_ignore_ascii_case("latest") || is_version {
        return invalid(
            "alias",
            alias,
            "be neither `latest` nor `v` with a number, which MLflow reserves",
        );
    }
    check_length("alias", alias, alias, NAME_LENGTH_MAX - 1)
}

/// Checks that a path cannot be written in a second way, and stays below where it starts.
fn check_unique_path(kind: &'static str, path: &str) -> Result<(), TrackingError> {
    if path.starts_with("..") || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return invalid(kind, path, "not start with `..`, and have no part `.`, `..` or empty");
    }
    Ok(())
}

/// Checks where an artifact goes within a run; an empty path is the run's own folder.
pub(crate) fn check_artifact_path(path: &str) -> Result<(), TrackingError> {
    if path.is_empty() {
        return Ok(());
    }
    // A server decodes the path from its address, and refuses what could leave the folder then.
    if path.chars().any(|c| c.is_control() || "\\#%?:".contains(c)) {
        return invalid(
            "artifact path",
            path,
            "have no `\\`, `#`, `%`, `?`, `:` or control character, which MLflow cannot serve",
        );
    }
    check_unique_path("artifact path", path)
}

fn invalid(kind: &'static str, name: &str, rule: &'static str) -> Result<(), TrackingError> {
    Err(TrackingError::InvalidName { kind, name: name.to_owned(), rule })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_follow_the_rules_of_mlflow() {
        for key in ["train/loss", "a", "error_km.p-90", "x y", "mlflow.note.content", "größe:2"] {
            check_key("metric key", key).unwrap();
        }
        for key in ["", "a//b", "/a", "a/", ".", "a/../b", "..a", "./a", "loss[km]", "a\nb", "µ%"]
        {
            let error = check_key("metric key", key).unwrap_err();
            assert!(
                matches!(&error, TrackingError::InvalidName { name, .. } if name == key),
                "{error}"
            );
        }
    }

    #[test]
    fn long_key_is_refused_with_its_length() {
        check_key("tag key", &"ä".repeat(250)).unwrap();

        let error = check_key("tag key", &"ä".repeat(251)).unwrap_err();

        assert!(error.to_string().ends_with("has 251 characters, but MLflow takes at most 250"));
    }

    #[test]
    fn reserved_aliases_are_refused() {
        for alias in ["candidate", "v1-final", "v", "version2", "Latest_good", "champion-1"] {
            check_alias(alias).unwrap();
        }
        for alias in ["latest", "LATEST", "v1", "V20", "", "a b", "a/b"] {
            check_alias(alias).unwrap_err();
        }
    }

    #[test]
    fn model_names_have_no_separators() {
        check_model_name("heimdall localization").unwrap();
        for name in ["", "  ", "a/b", "a:b", ".", ".."] {
            check_model_name(name).unwrap_err();
        }
    }

    #[test]
    fn artifact_paths_stay_below_the_run() {
        for path in ["", "model", "figures/map of errors.html", "a/.hidden"] {
            check_artifact_path(path).unwrap();
        }
        for path in
            ["..", "../x", "a/../../x", "/etc", "a//b", "a/", "a\\b", "%2e%2e", "C:/x", "a#b"]
        {
            check_artifact_path(path).unwrap_err();
        }
    }
}
