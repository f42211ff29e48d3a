//! Values that nobody is to see: passwords and tokens of the environment.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use crate::report::escape;

/// What stands where a secret would.
const MASK: &str = "***";

/// Parts of names of variables that hold secrets.
const TELLING: [&str; 8] =
    ["ACCESS_KEY", "API_KEY", "CREDENTIAL", "PASSWD", "PASSWORD", "PRIVATE_KEY", "SECRET", "TOKEN"];

/// The values that are secret; clones know of the same ones.
#[derive(Clone, Default)]
pub struct Secrets(Arc<RwLock<Vec<String>>>);

impl Secrets {
    /// A value of fewer bytes is no secret worth the name, and would turn every other word into a
    /// mask.
    const LENGTH_MIN: usize = 6;

    /// Knows as secret what variables with telling names hold, and the passwords in addresses.
    pub fn of_environment(environment: &BTreeMap<String, String>) -> Self {
        let secrets = Self::default();
        for (name, value) in environment {
            let name = name.to_ascii_uppercase();
            if TELLING.iter().any(|part| name.contains(part)) {
                secrets.hide(value);
            }
            if let Some(password) = password(value) {
                secrets.hide(password);
            }
        }
        secrets
    }

    /// Whether all of a value can be hidden: it has lines, and none of them is too short.
    pub(crate) fn can_hide(value: &str) -> bool {
        let mut lines = value.lines().filter(|line| !line.is_empty()).peekable();
        lines.peek().is_some() && lines.all(|line| line.len() >= Self::LENGTH_MIN)
    }

    /// Makes one more value secret: as it is, as it stands in JSON, in a text in JSON and on a page,
    /// and each line of it, since programs are heard line by line.
    pub fn hide(&self, value: &str) {
        let parts = [value].into_iter().chain(value.lines());
        let forms = parts.flat_map(|part| {
            let in_json = json_text(part);
            [json_text(&in_json), in_json, escape(part), part.to_owned()]
        });
        let mut secrets = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for form in forms.filter(|form| form.len() >= Self::LENGTH_MIN) {
            if !secrets.contains(&form) {
                secrets.push(form);
            }
        }
        // One secret may be the beginning of another, which must not be left over.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }

    /// Returns the text with a mask in place of every secret.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let secrets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut text = Cow::Borrowed(text);
        for secret in secrets.iter() {
            if text.contains(secret.as_str()) {
                text = Cow::Owned(text.replace(secret.as_str(), MASK));
            }
        }
        text
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// A text as it stands between the quotes of JSON.
fn json_text(text: &str) -> String {
    let quoted = serde_json::to_string(text).expect("a text can be written as JSON");
    quoted[1..quoted.len() - 1].to_owned()
}

/// The password in an address of the form `scheme://user:password@host`.
fn password(address: &str) -> Option<&str> {
    let (_, rest) = address.split_once("://")?;
    let authority = rest.split('/').next()?;
    let (user, _) = authority.rsplit_once('@')?;
    Some(user.split_once(':')?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_the_environment_are_masked() {
        let environment = [
            ("MLFLOW_TRACKING_TOKEN", "abcdef123456"),
            ("DATABASE_URL", "postgresql://ada:l0velace@host/db"),
            ("SHORT_TOKEN", "1"),
            ("HOME", "/home/ada"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let secrets = Secrets::of_environment(&environment.into());

        let text = "1 /home/ada abcdef123456 postgresql://ada:l0velace@host/db";

        assert_eq!(secrets.redact(text), "1 /home/ada *** postgresql://ada:***@host/db");
        assert_eq!(format!("{secrets:?}"), "***");
    }

    /// Whoever writes it somewhere else does not show it.
    #[test]
    fn secret_is_masked_in_every_form() {
        let secrets = Secrets::default();
        let secret = "p<4\"n\\ted\nsecond line";
        secrets.hide(secret);
        let json = serde_json::to_string(secret).unwrap();

        assert_eq!(secrets.redact(&json), "\"***\"");
        assert_eq!(secrets.redact(&serde_json::to_string(&json).unwrap()), r#""\"***\"""#);
        assert_eq!(secrets.redact(&format!("<p>{}</p>", escape(secret))), "<p>***</p>");
        assert_eq!(secrets.redact("it says: second line\n"), "it says: ***\n");
        let can_hide =
            ["123456", "123456\n\nabcdef\n", "", "12345", "123456\n789"].map(Secrets::can_hide);
        assert_eq!(can_hide, [true, true, false, false, false]);
    }

    #[test]
    fn longer_secret_is_masked_as_a_whole() {
        let secrets = Secrets::default();
        secrets.hide("abcdef");
        secrets.hide("abcdefghi");

        assert_eq!(secrets.redact("abcdefghi abcdef"), "*** ***");
    }
}
