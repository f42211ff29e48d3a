//! Where runs and models are entered: a folder or a server, and nothing that only looks like one.

use heimdall_tracking::{TrackingAddress, TrackingError};
use serde::{Deserialize, Serialize};

use super::outline::TrackingOutline;
use super::source::Source;
use crate::PipelineError;

/// Where runs and models are entered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrackingSpec {
    /// Folder of the MLflow store, relative to the working directory, or its database as MLflow
    /// writes it: `sqlite:///FOLDER/mlflow.db`; or the address of a server, `http://…`.
    pub uri: String,
    /// Name of the experiment; that of the pipeline if absent.
    pub experiment: Option<String>,
    /// Whether trainings are tracked while they go on, each as a run of its own.
    pub training: bool,
}

impl Default for TrackingSpec {
    fn default() -> Self {
        Self { uri: "mlflow".to_owned(), experiment: None, training: false }
    }
}

impl TrackingSpec {
    /// Returns where that is.
    ///
    /// # Errors
    ///
    /// [`TrackingError::InvalidAddress`] if `uri` is none, which loading a definition excludes.
    pub fn address(&self) -> Result<TrackingAddress, TrackingError> {
        TrackingAddress::parse(&self.uri)
    }
}

impl TrackingOutline {
    /// Returns what the definition says, with defaults filled in.
    pub(super) fn checked(self, source: &Source) -> Result<TrackingSpec, PipelineError> {
        let Self { uri, experiment, training } = self;
        let training = training.unwrap_or_default();
        let Some(uri) = uri else {
            return Ok(TrackingSpec { experiment, training, ..Default::default() });
        };
        let tracking = TrackingSpec { uri: uri.text, experiment, training };
        if let Err(error) = tracking.address() {
            return Err(source.diagnostic(Some(uri.place), refusal(&error)).into());
        }
        Ok(tracking)
    }
}

/// What is wrong with an address in a definition.
pub(super) fn refusal(error: &TrackingError) -> String {
    format!("`tracking.uri`: {error}")
}
