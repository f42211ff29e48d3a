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

    /// An artifact cannot be read or written.
    #[error("cannot copy the artifact `{}`", path.display())]
    Artifact {
        /// The file or folder that was read or written.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}
