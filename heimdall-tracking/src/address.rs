//! Where runs and models are entered.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::TrackingError;

/// Name of the database in the folder of a store.
const DATABASE: &str = "mlflow.db";

/// Where runs and models are entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrackingAddress {
    /// A folder that is MLflow's own store, relative to the working directory.
    Folder(PathBuf),
    /// A server, by an address of HTTP.
    Server(String),
}

impl TrackingAddress {
    /// Reads an address: a folder, `sqlite:///FOLDER/mlflow.db`, `http://…` or `https://…`.
    ///
    /// # Errors
    ///
    /// [`TrackingError::InvalidAddress`] for anything else.
    pub fn parse(text: &str) -> Result<Self, TrackingError> {
        // The rest of the address may hold a password.
        let invalid = |address: &str, reason: &str| TrackingError::InvalidAddress {
            address: address.to_owned(),
            reason: reason.to_owned(),
        };
        if let Some(path) = text.strip_prefix("sqlite:///") {
            let path = Path::new(path);
            return match path.parent() {
                Some(folder) if path.ends_with(DATABASE) => {
                    Ok(Self::Folder(Path::new(".").join(folder)))
                }
                _ => Err(invalid(text, "its database must be called `mlflow.db`")),
            };
        }
        let scheme = text.split(':').next().filter(|before| before.len() < text.len());
        match scheme.map(|scheme| scheme.split('+').next().unwrap_or(scheme)) {
            Some("http" | "https") if text.contains("://") => Ok(Self::Server(text.to_owned())),
            Some(scheme) if text.contains("://") || SCHEMES.contains(&scheme) => {
                Err(invalid(&format!("{scheme}:…"), EXPECTED))
            }
            _ if text.is_empty() => Err(invalid(text, EXPECTED)),
            _ => Ok(Self::Folder(PathBuf::from(text))),
        }
    }
}

impl TrackingAddress {
    /// The same address, whatever the working directory is.
    ///
    /// # Errors
    ///
    /// [`TrackingError::Folder`] if there is no working directory.
    pub fn absolute(&self) -> Result<Self, TrackingError> {
        match self {
            Self::Folder(folder) => {
                let unusable = |source| TrackingError::Folder { path: folder.clone(), source };
                Ok(Self::Folder(std::path::absolute(folder).map_err(unusable)?))
            }
            Self::Server(_) => Ok(self.clone()),
        }
    }
}

/// Writes the address as it may be shown and kept: without name and password.
impl fmt::Display for TrackingAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Server(address) => match (address.find("://"), address.rfind('@')) {
                (Some(scheme), Some(at)) if scheme < at => {
                    write!(f, "{}{}", &address[..scheme + 3], &address[at + 1..])
                }
                _ => f.write_str(address),
            },
        }
    }
}

/// Schemes that MLflow takes with or without the two slashes, and this crate does not.
const SCHEMES: [&str; 8] =
    ["databricks", "file", "http", "https", "mssql", "mysql", "postgresql", "sqlite"];

/// What an address must be.
const EXPECTED: &str =
    "expected a folder, `sqlite:///FOLDER/mlflow.db`, or the address of a server, `http://…`";

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(text: &str) -> TrackingAddress {
        TrackingAddress::Folder(text.into())
    }

    /// Three slashes begin a relative path and four an absolute one, as MLflow has it.
    #[test]
    fn addresses_are_folders_or_servers() {
        for (text, expected) in [
            ("mlflow", folder("mlflow")),
            ("a/b c", folder("a/b c")),
            ("sqlite:///mlflow.db", folder("./")),
            ("sqlite:///runs/mlflow.db", folder("./runs")),
            ("sqlite:////srv/runs/mlflow.db", folder("/srv/runs")),
            ("http://host:5000", TrackingAddress::Server("http://host:5000".to_owned())),
            ("https://a:b@host/x", TrackingAddress::Server("https://a:b@host/x".to_owned())),
        ] {
            assert_eq!(TrackingAddress::parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        for (text, shown) in [
            ("https://ada:s3cr3t@host/x", "https://host/x"),
            ("http://host:5000", "http://host:5000"),
            ("a@b", "a@b"),
        ] {
            assert_eq!(TrackingAddress::parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn other_addresses_are_refused_without_their_passwords() {
        for text in [
            "",
            "s3://b/x",
            "postgresql://u:secret@h/db",
            "file:mlruns",
            "sqlite:///x.db",
            "http:x",
        ] {
            let message = TrackingAddress::parse(text).unwrap_err().to_string();

            assert!(!message.contains("secret"), "{message}");
        }
    }
}
