//! One interface to a folder and to a server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::artifact::child;
use crate::{
    Credentials, DatasetInput, ExperimentId, Metric, MlflowServer, MlflowStore, Registry,
    RunConfig, RunStatus, ServerRun, StoredRun, TrackingAddress, TrackingError,
};

/// Where runs and models are entered, open for both: a folder or a server.
#[derive(Clone, Debug)]
pub enum TrackingStore {
    /// A folder.
    Folder(MlflowStore),
    /// A server.
    Server(MlflowServer),
}

impl TrackingStore {
    /// Opens a folder, which is made if there is none, or makes the client of a server, to which
    /// nothing is sent yet.
    ///
    /// # Errors
    ///
    /// Those of [`MlflowStore::open`] and [`MlflowServer::new`].
    pub async fn open(
        address: &TrackingAddress,
        credentials: &Credentials,
    ) -> Result<Self, TrackingError> {
        Ok(match address {
            TrackingAddress::Folder(folder) => Self::Folder(MlflowStore::open(folder).await?),
            TrackingAddress::Server(address) => {
                Self::Server(MlflowServer::new(address, credentials)?)
            }
        })
    }

    /// Finds the experiment of this name, and makes it, at the time `now_ms`, if there is none.
    ///
    /// # Errors
    ///
    /// Those of [`MlflowStore::experiment`] and [`MlflowServer::experiment`].
    pub async fn experiment(&self, name: &str, now_ms: i64) -> Result<ExperimentId, TrackingError> {
        match self {
            Self::Folder(store) => store.experiment(name, now_ms).await,
            Self::Server(server) => server.experiment(name).await,
        }
    }

    /// Starts a run; its status is `RUNNING` until [`Run::end_run`].
    ///
    /// # Errors
    ///
    /// Those of [`MlflowStore::start_run`] and [`MlflowServer::start_run`].
    pub async fn start_run(&self, config: RunConfig) -> Result<Run, TrackingError> {
        Ok(match self {
            Self::Folder(store) => Run::Stored(store.start_run(config).await?),
            Self::Server(server) => Run::Server(server.start_run(config).await?),
        })
    }

    /// Takes up a run that exists, to add to it; its status stays what it is.
    ///
    /// # Errors
    ///
    /// [`TrackingError::UnknownRun`] if there is no such run, and those of reading it.
    pub async fn resume_run(&self, run_id: &str) -> Result<Run, TrackingError> {
        Ok(match self {
            Self::Folder(store) => Run::Stored(store.resume_run(run_id).await?),
            Self::Server(server) => Run::Server(server.resume_run(run_id).await?),
        })
    }

    /// The registered models.
    pub fn registry(&self) -> Registry {
        Registry::new(self.clone())
    }

    /// Copies a file of a registered model, or finds it where it lies on this machine: the one of
    /// this name in the folder that [`storage_location`](crate::ModelVersion::storage_location)
    /// names. `scratch` is where a copy goes.
    ///
    /// # Errors
    ///
    /// Those of [`MlflowStore::artifact_folder`] and [`MlflowServer::fetch_artifact`].
    pub async fn artifact(
        &self,
        folder_uri: &str,
        name: &str,
        scratch: &Path,
    ) -> Result<PathBuf, TrackingError> {
        match self {
            Self::Folder(store) => Ok(store.artifact_folder(folder_uri)?.join(name)),
            Self::Server(server) => {
                let copy = scratch.join(name);
                server.fetch_artifact(folder_uri, name, &copy).await?;
                Ok(copy)
            }
        }
    }
}

/// One run, open for writing: whoever writes hears what goes wrong.
///
/// [`MlflowTracker`](crate::MlflowTracker) is for work that a tracking store must not hold up.
#[derive(Clone, Debug)]
pub enum Run {
    /// A run in a folder.
    Stored(StoredRun),
    /// A run on a server.
    Server(ServerRun),
}

/// Calls the method of the run inside.
macro_rules! of_run {
    ($run:expr, $inner:ident => $body:expr) => {
        match $run {
            Run::Stored($inner) => $body,
            Run::Server($inner) => $body,
        }
    };
}

impl Run {
    /// Id of the run: 32 hexadecimal digits.
    pub fn run_id(&self) -> &str {
        of_run!(self, run => run.run_id())
    }

    /// The experiment that the run belongs to.
    pub fn experiment(&self) -> ExperimentId {
        of_run!(self, run => run.experiment())
    }

    /// Writes parameters. A parameter is written once: the same value again changes nothing.
    ///
    /// # Errors
    ///
    /// Those of [`StoredRun::log_params`] and [`ServerRun::log_params`].
    pub async fn log_params(&self, params: &BTreeMap<String, String>) -> Result<(), TrackingError> {
        of_run!(self, run => run.log_params(params).await)
    }

    /// Writes points of metrics. A point that is there already changes nothing.
    ///
    /// # Errors
    ///
    /// Those of [`StoredRun::log_metrics`] and [`ServerRun::log_metrics`].
    pub async fn log_metrics(&self, metrics: &[Metric]) -> Result<(), TrackingError> {
        of_run!(self, run => run.log_metrics(metrics).await)
    }

    /// Sets tags; a tag that is there gets the new value.
    ///
    /// # Errors
    ///
    /// Those of [`StoredRun::set_tags`] and [`ServerRun::set_tags`].
    pub async fn set_tags(&self, tags: &BTreeMap<String, String>) -> Result<(), TrackingError> {
        of_run!(self, run => run.set_tags(tags).await)
    }

    /// Notes that the run read a data set.
    ///
    /// # Errors
    ///
    /// Those of [`StoredRun::log_dataset`] and [`ServerRun::log_dataset`].
    pub async fn log_dataset(&self, dataset: &DatasetInput) -> Result<(), TrackingError> {
        of_run!(self, run => run.log_dataset(dataset).await)
    }

    /// Copies a file into the folder `artifact_path` of the run's artifacts, under its own name.
    ///
    /// # Errors
    ///
    /// Those of [`StoredRun::log_artifact`] and [`ServerRun::log_artifact`].
    pub async fn log_artifact(
        &self,
        file: &Path,
        artifact_path: &str,
    ) -> Result<(), TrackingError> {
        of_run!(self, run => run.log_artifact(file, artifact_path).await)
    }

    /// Copies a file as [`log_artifact`](Self::log_artifact) does, under another name.
    pub(crate) async fn log_artifact_as(
        &self,
        file: &Path,
        name: &str,
        artifact_path: &str,
    ) -> Result<(), TrackingError> {
        let target = child(artifact_path, Path::new(name))?;
        match self {
            Self::Stored(run) => run.copy_artifact(file, artifact_path, target).await,
            Self::Server(run) => run.put(file, &target).await,
        }
    }

    /// Copies all files below `folder` into the folder `artifact_path` of the run's artifacts.
    ///
    /// # Errors
    ///
    /// Those of [`StoredRun::log_artifacts`] and [`ServerRun::log_artifacts`].
    pub async fn log_artifacts(
        &self,
        folder: &Path,
        artifact_path: &str,
    ) -> Result<(), TrackingError> {
        of_run!(self, run => run.log_artifacts(folder, artifact_path).await)
    }

    /// Ends the run. More can still be written to it.
    ///
    /// # Errors
    ///
    /// Those of [`StoredRun::end_run`] and [`ServerRun::end_run`].
    pub async fn end_run(&self, status: RunStatus, end_time_ms: i64) -> Result<(), TrackingError> {
        of_run!(self, run => run.end_run(status, end_time_ms).await)
    }
}
