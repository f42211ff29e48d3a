//! Files of a run, copied below `mlartifacts/`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::name::check_artifact_path;
use crate::{MlflowStore, StoredRun, TrackingError};

impl StoredRun {
    /// Copies a file into the folder `artifact_path` of the run's artifacts, under its own name.
    ///
    /// An empty `artifact_path` is the run's own folder. A file of that name is replaced; at no
    /// time is a part of a file to be seen under its final name.
    ///
    /// # Errors
    ///
    /// - [`TrackingError::InvalidName`] if the path leads out of the run's folder, or has
    ///   characters that MLflow cannot serve.
    /// - [`TrackingError::ForeignArtifacts`] if the run keeps its artifacts elsewhere.
    /// - [`TrackingError::Artifact`] if the file cannot be read or its copy not be written.
    pub async fn log_artifact(
        &self,
        file: &Path,
        artifact_path: &str,
    ) -> Result<(), TrackingError> {
        let target = child(artifact_path, file)?;
        self.copy_artifact(file, artifact_path, target).await
    }

    /// Copies a file as [`log_artifact`](Self::log_artifact) does, to a path in the run's artifacts.
    pub(crate) async fn copy_artifact(
        &self,
        file: &Path,
        artifact_path: &str,
        target: String,
    ) -> Result<(), TrackingError> {
        let copies = Copies::new(self, artifact_path)?;
        let file = file.to_owned();
        in_background(move || copies.copy(&file, &target)).await
    }

    /// Copies all files below `folder` into the folder `artifact_path` of the run's artifacts.
    ///
    /// Names are checked before the first file is copied; then each file appears as a whole. A
    /// link to a file is copied as a file, a link to a folder below `folder` is refused.
    ///
    /// # Errors
    ///
    /// As [`StoredRun::log_artifact`].
    pub async fn log_artifacts(
        &self,
        folder: &Path,
        artifact_path: &str,
    ) -> Result<(), TrackingError> {
        let copies = Copies::new(self, artifact_path)?;
        let folder = folder.to_owned();
        in_background(move || {
            let mut files = Vec::new();
            collect(&folder, &copies.artifact_path, &mut files)?;
            files.iter().try_for_each(|(file, target)| copies.copy(file, target))
        })
        .await
    }

    /// Folder on this machine in which the run's artifacts lie; it exists once there is one.
    ///
    /// # Errors
    ///
    /// [`TrackingError::ForeignArtifacts`] if the run keeps its artifacts elsewhere.
    pub fn artifact_folder(&self) -> Result<PathBuf, TrackingError> {
        let folder = self.store().artifact_folder(self.artifact_uri());
        folder.map_err(|_| TrackingError::ForeignArtifacts {
            run_id: self.run_id().to_owned(),
            artifact_uri: self.artifact_uri().to_owned(),
        })
    }
}

impl MlflowStore {
    /// Folder on this machine that an address of artifacts stands for, such as the
    /// [`storage_location`](crate::ModelVersion::storage_location) of a model.
    ///
    /// # Errors
    ///
    /// [`TrackingError::ForeignAddress`] if it does not lie in this store.
    pub fn artifact_folder(&self, uri: &str) -> Result<PathBuf, TrackingError> {
        let foreign = || TrackingError::ForeignAddress { uri: uri.to_owned() };
        let path = uri.strip_prefix("mlflow-artifacts:/").ok_or_else(foreign)?;
        // An address with a host, `mlflow-artifacts://host/…`, names another server's folder.
        if path.is_empty() || check_artifact_path(path).is_err() {
            return Err(foreign());
        }
        Ok(self.artifacts().join(path))
    }
}

/// Runs work on files where it holds up no other task.
async fn in_background(
    work: impl FnOnce() -> Result<(), TrackingError> + Send + 'static,
) -> Result<(), TrackingError> {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// From where to where files are copied for one run.
struct Copies {
    /// Folder of the run's artifacts.
    root: PathBuf,
    /// Folder within it.
    artifact_path: String,
    /// Folder of the same file system, for files that are not complete.
    incoming: PathBuf,
}

impl Copies {
    fn new(tracker: &StoredRun, artifact_path: &str) -> Result<Self, TrackingError> {
        check_artifact_path(artifact_path)?;
        Ok(Self {
            root: tracker.artifact_folder()?,
            artifact_path: artifact_path.to_owned(),
            incoming: tracker.store().artifacts().join(".incoming"),
        })
    }

    /// Copies `file` to `target`, a path relative to the run's folder.
    fn copy(&self, file: &Path, target: &str) -> Result<(), TrackingError> {
        let mut source = File::open(file).map_err(at(file))?;
        if !source.metadata().map_err(at(file))?.is_file() {
            return Err(at(file)(io::Error::new(io::ErrorKind::InvalidInput, "not a file")));
        }
        let target = self.root.join(target);
        let part = self.incoming.join(Uuid::new_v4().simple().to_string());
        let result = fs::create_dir_all(&self.incoming)
            .and_then(|()| target.parent().map_or(Ok(()), fs::create_dir_all))
            .and_then(|()| {
                let mut copy = File::create_new(&part)?;
                io::copy(&mut source, &mut copy)?;
                copy.sync_all()?;
                fs::rename(&part, &target)
            });
        if result.is_err() {
            // What the copy failed of is what the caller should hear.
            let _ = fs::remove_file(&part);
        }
        result.map_err(at(&target))
    }
}

/// Lists all files below `folder`, each with its path in the run's artifacts, ordered by name.
pub(crate) fn collect(
    folder: &Path,
    artifact_path: &str,
    files: &mut Vec<(PathBuf, String)>,
) -> Result<(), TrackingError> {
    let mut entries = fs::read_dir(folder)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .map_err(at(folder))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let target = child(artifact_path, &path)?;
        let kind = entry.file_type().map_err(at(&path))?;
        if kind.is_dir() {
            collect(&path, &target, files)?;
        } else if kind.is_symlink() && fs::metadata(&path).map_err(at(&path))?.is_dir() {
            return Err(TrackingError::InvalidName {
                kind: "artifact",
                name: path.display().to_string(),
                rule: "be a file or a folder, not a link to a folder",
            });
        } else {
            files.push((path, target));
        }
    }
    Ok(())
}

/// The path below `artifact_path` that has the last name of `path`.
pub(crate) fn child(artifact_path: &str, path: &Path) -> Result<String, TrackingError> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Err(TrackingError::InvalidName {
            kind: "artifact",
            name: path.display().to_string(),
            rule: "end in a name that is valid UTF-8",
        });
    };
    let target = match artifact_path {
        "" => name.to_owned(),
        folder => format!("{folder}/{name}"),
    };
    check_artifact_path(&target)?;
    Ok(target)
}

pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> TrackingError {
    let path = path.to_owned();
    move |source| TrackingError::Artifact { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::scratch_run;

    /// All files below a folder, with their content, ordered by path.
    fn tree(folder: &Path) -> Vec<(String, String)> {
        let mut files = Vec::new();
        collect(folder, "", &mut files).unwrap();
        let read = |(path, name): (PathBuf, String)| (name, fs::read_to_string(path).unwrap());
        files.into_iter().map(read).collect()
    }

    fn file(name: &str, content: &str) -> (String, String) {
        (name.to_owned(), content.to_owned())
    }

    #[tokio::test]
    async fn files_lie_where_a_server_looks_for_them() {
        let (folder, tracker) = scratch_run().await;
        let sources = tempfile::tempdir().unwrap();
        let report = sources.path().join("report.html");
        fs::write(&report, "<p>").unwrap();

        tracker.log_artifact(&report, "").await.unwrap();
        tracker.log_artifact(&report, "figures/all").await.unwrap();
        fs::write(&report, "<p>new").unwrap();
        tracker.log_artifact(&report, "").await.unwrap();

        let expected = folder.path().join("mlartifacts/1").join(tracker.run_id()).join("artifacts");
        assert_eq!(tracker.artifact_folder().unwrap(), expected);
        assert_eq!(
            tree(&expected),
            [file("figures/all/report.html", "<p>"), file("report.html", "<p>new")]
        );
        assert_eq!(fs::read_dir(folder.path().join("mlartifacts/.incoming")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn folder_is_copied_with_what_it_holds() {
        let (_folder, tracker) = scratch_run().await;
        let model = tempfile::tempdir().unwrap();
        fs::create_dir_all(model.path().join("data/deep")).unwrap();
        fs::write(model.path().join("MLmodel"), "flavors:").unwrap();
        fs::write(model.path().join("data/deep/model.onnx"), "onnx").unwrap();

        tracker.log_artifacts(model.path(), "model").await.unwrap();
        tracker.log_artifacts(model.path(), "model").await.unwrap();

        assert_eq!(
            tree(&tracker.artifact_folder().unwrap()),
            [file("model/MLmodel", "flavors:"), file("model/data/deep/model.onnx", "onnx")]
        );
    }

    #[tokio::test]
    async fn paths_out_of_the_run_are_refused() {
        let (folder, tracker) = scratch_run().await;
        let source = folder.path().join("secret.txt");
        fs::write(&source, "x").unwrap();

        for path in ["..", "../../other", "/tmp", "a/../..", "a\\..\\..", "%2e%2e"] {
            let error = tracker.log_artifact(&source, path).await.unwrap_err();
            assert!(matches!(error, TrackingError::InvalidName { .. }), "{path}: {error}");
        }

        assert!(!tracker.artifact_folder().unwrap().exists());
    }

    #[tokio::test]
    async fn folder_with_a_name_that_cannot_be_served_is_not_copied_at_all() {
        let (_folder, tracker) = scratch_run().await;
        let source = tempfile::tempdir().unwrap();
        fs::write(source.path().join("a.txt"), "x").unwrap();
        fs::write(source.path().join("b#1.txt"), "x").unwrap();

        let error = tracker.log_artifacts(source.path(), "").await.unwrap_err();

        assert!(error.to_string().contains("b#1.txt"), "{error}");
        assert!(!tracker.artifact_folder().unwrap().exists());
    }

    #[tokio::test]
    async fn missing_file_is_named() {
        let (_folder, tracker) = scratch_run().await;

        let error = tracker.log_artifact(Path::new("no/such.png"), "").await.unwrap_err();

        assert_eq!(error.to_string(), "cannot copy the artifact `no/such.png`");
    }

    #[tokio::test]
    async fn run_with_artifacts_elsewhere_is_refused() {
        let (folder, tracker) = scratch_run().await;
        let file = folder.path().join("a.txt");
        fs::write(&file, "x").unwrap();

        for uri in ["s3://bucket/1", "mlflow-artifacts:/../x", "mlflow-artifacts://host/1", ""] {
            sqlx::query("UPDATE runs SET artifact_uri = ?")
                .bind(uri)
                .execute(tracker.store().pool())
                .await
                .unwrap();
            let tracker = tracker.store().resume_run(tracker.run_id()).await.unwrap();

            let error = tracker.log_artifact(&file, "").await.unwrap_err();

            assert!(matches!(error, TrackingError::ForeignArtifacts { .. }), "{uri}: {error}");
        }
    }
}
