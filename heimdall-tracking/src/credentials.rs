//! Who one is to a server, and how it is reached.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Who one is to an MLflow server, and how it is reached: what `MLFLOW_…` variables say.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Name and password; they win over the token.
    pub login: Option<(String, String)>,
    /// A token.
    pub token: Option<String>,
    /// File with certificates to trust beside those of the system, in PEM.
    pub certificates: Option<PathBuf>,
    /// Whether to trust any certificate.
    pub trusts_anybody: bool,
    /// Workspace of the server.
    pub workspace: Option<String>,
}

impl Credentials {
    /// Reads the variables of an environment: `MLFLOW_TRACKING_USERNAME` and
    /// `MLFLOW_TRACKING_PASSWORD`, `MLFLOW_TRACKING_TOKEN`, `MLFLOW_TRACKING_SERVER_CERT_PATH`,
    /// `MLFLOW_TRACKING_INSECURE_TLS`, `MLFLOW_WORKSPACE`.
    pub fn of_environment(environment: &BTreeMap<String, String>) -> Self {
        let value = |name: &str| environment.get(name).filter(|value| !value.is_empty()).cloned();
        let name = value("MLFLOW_TRACKING_USERNAME");
        let password = value("MLFLOW_TRACKING_PASSWORD").unwrap_or_default();
        Self {
            login: name.map(|name| (name, password)),
            token: value("MLFLOW_TRACKING_TOKEN"),
            certificates: value("MLFLOW_TRACKING_SERVER_CERT_PATH").map(PathBuf::from),
            trusts_anybody: value("MLFLOW_TRACKING_INSECURE_TLS")
                .is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1"),
            workspace: value("MLFLOW_WORKSPACE"),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("login", &self.login.as_ref().map(|(name, _)| (name, "***")))
            .field("token", &self.token.as_ref().map(|_| "***"))
            .field("certificates", &self.certificates)
            .field("trusts_anybody", &self.trusts_anybody)
            .field("workspace", &self.workspace)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_become_credentials_that_nobody_sees() {
        let environment = [
            ("MLFLOW_TRACKING_USERNAME", "ada"),
            ("MLFLOW_TRACKING_PASSWORD", "hunter2hunter2"),
            ("MLFLOW_TRACKING_TOKEN", "t0k3n"),
            ("MLFLOW_TRACKING_INSECURE_TLS", "true"),
            ("MLFLOW_WORKSPACE", ""),
        ];
        let environment =
            environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();

        let credentials = Credentials::of_environment(&environment);

        assert_eq!(credentials.login, Some(("ada".to_owned(), "hunter2hunter2".to_owned())));
        assert!(credentials.trusts_anybody && credentials.workspace.is_none());
        let shown = format!("{credentials:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("t0k3n"), "{shown}");
        assert_eq!(Credentials::of_environment(&BTreeMap::new()), Credentials::default());
    }
}
