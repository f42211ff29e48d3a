//! What can go wrong between a run and MLflow's store.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// An error of this crate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrackingError {
    /// The folder of the store, or a file in it, cannot be made or read.
    #[error("cannot open the tracking store at `{}`", path.display())]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },

    /// The file in the place of the database is something else; it was not touched.
    #[error("`{}` is not an SQLite database; it was left as it is", path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },

    /// The database belongs to another program; it was not touched.
    #[error(
        "`{}` is a database, but not one of MLflow's: it has a table `{table}` and no table \
         `alembic_version`", path.display()
    )]
    ForeignDatabase {
        /// The database.
        path: PathBuf,
        /// One of its tables.
        table: String,
    },

    /// The database has a schema of MLflow in which columns are missing that are written.
    #[error(
        "`{}` has MLflow's schema {revision}, which lacks {}", path.display(), columns.join(", ")
    )]
    MissingColumns {
        /// The database.
        path: PathBuf,
        /// The alembic revision that the database says it has.
        revision: String,
        /// What is missing, each as `table.column`.
        columns: Vec<String>,
    },

    /// The database refuses a statement, or stays locked for too long.
    #[error("cannot {action} in `{}`", path.display())]
    Database {
        /// What was attempted, as a verb with its object.
        action: &'static str,
        /// The database.
        path: PathBuf,
        /// What the database says.
        source: Box<sqlx::Error>,
    },

    /// The experiment of this name lies in MLflow's trash.
    #[error(
        "experiment `{name}` is deleted: restore it with `mlflow experiments restore \
         --experiment-id {id}`, or take another name"
    )]
    ExperimentDeleted {
        /// Name of the experiment.
        name: String,
        /// Its number.
        id: i64,
    },

    /// No experiment has this number.
    #[error("there is no experiment {id}")]
    UnknownExperiment {
        /// The number.
        id: i64,
    },

    /// No run has this id.
    #[error("there is no run `{run_id}`")]
    UnknownRun {
        /// The id.
        run_id: String,
    },

    /// The registered model has no such version.
    #[error("model `{name}` has no version {version}")]
    UnknownModelVersion {
        /// Name of the registered model.
        name: String,
        /// The version.
        version: u32,
    },

    /// A name breaks one of MLflow's rules.
    #[error("{kind} `{name}` must {rule}")]
    InvalidName {
        /// What the name is for: `metric key`, `alias`.
        kind: &'static str,
        /// The name.
        name: String,
        /// The rule, as a phrase that follows "must".
        rule: &'static str,
    },

    /// A text is longer than MLflow's column for it.
    #[error("{kind} `{name}` has {length} characters, but MLflow takes at most {length_max}")]
    TooLong {
        /// What the text is: `value of parameter`, `experiment name`.
        kind: &'static str,
        /// The name of its owner, or the text itself where it is a name.
        name: String,
        /// Its length, in characters.
        length: usize,
        /// The longest that is taken, in characters.
        length_max: usize,
    },

    /// A parameter of the run has another value already; nothing was written.
    #[error("parameter `{key}` of run `{run_id}` is `{old}` already, and cannot become `{new}`")]
    ParamChanged {
        /// The run.
        run_id: String,
        /// The parameter.
        key: String,
        /// The value that the run has.
        old: String,
        /// The value that was to be written.
        new: String,
    },

    /// The artifacts of the run are kept elsewhere than in this store.
    #[error("run `{run_id}` keeps its artifacts at `{artifact_uri}`, not in this store's folder")]
    ForeignArtifacts {
        /// The run.
        run_id: String,
        /// Where its artifacts are.
        artifact_uri: String,
    },

    /// An address is not one of this store's artifacts.
    #[error("`{uri}` does not lie in this store's folder")]
    ForeignAddress {
        /// The address.
        uri: String,
    },

    /// Nothing can be tracked at an address.
    #[error("`{address}` is no tracking store: {reason}")]
    InvalidAddress {
        /// The address, without its password.
        address: String,
        /// What is wrong with it.
        reason: String,
    },

    /// The certificates that are to be trusted cannot be read.
    #[error("cannot read certificates from `{}`: {reason}", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },

    /// A server cannot be reached, or does not answer in time.
    #[error("cannot {action}: {address} does not answer")]
    Unreachable {
        /// What was attempted, as a verb with its object.
        action: &'static str,
        /// Address of the server.
        address: String,
        /// What the network says.
        source: Box<reqwest::Error>,
    },

    /// A server does not know who asks, or does not let them.
    #[error(
        "cannot {action}: {address} answers with status {status}; name and password are those of \
         `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`, or `MLFLOW_TRACKING_TOKEN`"
    )]
    NotAllowed {
        /// What was attempted, as a verb with its object.
        action: &'static str,
        /// Address of the server.
        address: String,
        /// Status of the answer: 401 or 403.
        status: u16,
    },

    /// A server refuses a request.
    #[error("cannot {action}: the server answers with status {status}, {code}: {message}")]
    Refused {
        /// What was attempted, as a verb with its object.
        action: &'static str,
        /// Status of the answer.
        status: u16,
        /// MLflow's name of the error.
        code: String,
        /// What the server says.
        message: String,
    },

    /// A server answers with what no MLflow does: a page of a proxy, for instance.
    #[error("{address} does not answer as MLflow does, but with status {status} and `{answer}`")]
    NotMlflow {
        /// Address of the server.
        address: String,
        /// Status of the answer.
        status: u16,
        /// How the answer begins.
        answer: String,
    },

    /// An artifact cannot be read or written.
    #[error("cannot copy the artifact `{}`", path.display())]
    Artifact {
        /// The file or folder that was read or written.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Statuses of a server that cannot answer at the moment.
const TEMPORARY: [u16; 6] = [408, 429, 500, 502, 503, 504];

impl TrackingError {
    /// Whether a server may answer another time.
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } | Self::NotMlflow { status, .. } => {
                TEMPORARY.contains(status)
            }
            _ => false,
        }
    }

    /// Whether what was to be written is wrong, and not where it was to be written.
    pub(crate) fn concerns_entry(&self) -> bool {
        match self {
            Self::Refused { .. } => !self.is_temporary(),
            Self::InvalidName { .. }
            | Self::TooLong { .. }
            | Self::ParamChanged { .. }
            | Self::ForeignArtifacts { .. }
            | Self::Artifact { .. } => true,
            _ => false,
        }
    }
}
