//! Where runs and models are entered: a folder, and nothing that only looks like one.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::outline::TrackingOutline;
use super::source::Source;
use crate::PipelineError;

/// File in the folder of a store, which addresses of the form `sqlite:///FOLDER/mlflow.db` name.
const DATABASE: &str = "mlflow.db";

/// Schemes that MLflow takes with or without the two slashes.
const SCHEMES: [&str; 8] =
    ["databricks", "file", "http", "https", "mssql", "mysql", "postgresql", "sqlite"];

/// Where runs and models are entered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrackingSpec {
    /// Folder of the MLflow store, relative to the working directory, or its database as MLflow
    /// writes it: `sqlite:///FOLDER/mlflow.db`.
    pub uri: String,
    /// Name of the experiment; that of the pipeline if absent.
    pub experiment: Option<String>,
}

impl Default for TrackingSpec {
    fn default() -> Self {
        Self { uri: "mlflow".to_owned(), experiment: None }
    }
}

/// Why an address is not taken: what is wrong with it, and what to write instead.
pub(super) struct Refusal {
    pub(super) message: String,
    pub(super) help: &'static str,
}

impl TrackingSpec {
    /// Returns the folder of the store, relative to the working directory.
    ///
    /// # Panics
    ///
    /// If `uri` is neither a folder nor a database in one, which loading a definition excludes.
    pub fn folder(&self) -> PathBuf {
        self.checked_folder().unwrap_or_else(|refusal| panic!("{}", refusal.message))
    }

    /// Returns the folder of the store, unless the address is that of something else.
    pub(super) fn checked_folder(&self) -> Result<PathBuf, Refusal> {
        let uri = self.uri.as_str();
        if let Some(path) = uri.strip_prefix("sqlite:///") {
            let path = Path::new(path);
            return match path.parent() {
                Some(folder) if path.ends_with(DATABASE) => Ok(Path::new(".").join(folder)),
                _ => Err(Refusal {
                    message: format!("the database of `tracking.uri` must be called `{DATABASE}`"),
                    help: "write `sqlite:///FOLDER/mlflow.db`, or just `FOLDER`",
                }),
            };
        }
        let before_colon = uri.split(':').next().filter(|before| before.len() < uri.len());
        let scheme = before_colon.map(|before| before.split('+').next().unwrap_or(before));
        match scheme {
            // The rest of the address may hold a password.
            Some(scheme) if uri.contains("://") || SCHEMES.contains(&scheme) => Err(Refusal {
                message: format!("`tracking.uri` cannot be a `{scheme}:` address"),
                help: "runs and models are entered into a folder: write its path, or \
                       `sqlite:///FOLDER/mlflow.db`",
            }),
            _ if uri.is_empty() => Err(Refusal {
                message: "`tracking.uri` is empty".to_owned(),
                help: "write the path of a folder",
            }),
            _ => Ok(PathBuf::from(uri)),
        }
    }
}

impl TrackingOutline {
    /// Returns what the definition says, with defaults filled in.
    pub(super) fn checked(self, source: &Source) -> Result<TrackingSpec, PipelineError> {
        let Self { uri, experiment } = self;
        let Some(uri) = uri else { return Ok(TrackingSpec { experiment, ..Default::default() }) };
        let tracking = TrackingSpec { uri: uri.text, experiment };
        if let Err(Refusal { message, help }) = tracking.checked_folder() {
            return Err(source.diagnostic(Some(uri.place), message).with_help(help).into());
        }
        Ok(tracking)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(uri: &str) -> Result<PathBuf, String> {
        let tracking = TrackingSpec { uri: uri.to_owned(), experiment: None };
        tracking.checked_folder().map_err(|refusal| refusal.message)
    }

    /// Three slashes begin a relative path and four an absolute one, as MLflow has it.
    #[test]
    fn database_stands_for_its_folder() {
        assert_eq!(folder("mlflow").unwrap(), Path::new("mlflow"));
        assert_eq!(folder("a/b c").unwrap(), Path::new("a/b c"));
        assert_eq!(folder("sqlite:///mlflow.db").unwrap(), Path::new("./"));
        assert_eq!(folder("sqlite:///runs/mlflow.db").unwrap(), Path::new("./runs"));
        assert_eq!(folder("sqlite:////srv/runs/mlflow.db").unwrap(), Path::new("/srv/runs"));
    }

    #[test]
    fn addresses_of_servers_are_no_folders() {
        let schemes = [
            ("http://localhost:5000", "http"),
            ("https://mlflow.example", "https"),
            ("postgresql://user:secret@host/db", "postgresql"),
            ("postgresql+psycopg2://user:secret@host/db", "postgresql"),
            ("file:mlruns", "file"),
            ("s3://bucket/runs", "s3"),
            ("sqlite:mlflow.db", "sqlite"),
        ];
        for (uri, scheme) in schemes {
            let message = folder(uri).unwrap_err();

            assert_eq!(message, format!("`tracking.uri` cannot be a `{scheme}:` address"));
        }
        assert!(folder("sqlite:///other.db").unwrap_err().contains("`mlflow.db`"));
        assert!(folder("").unwrap_err().contains("empty"));
    }
}
