//! Files of a run on a server.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use reqwest::Method;

use super::{MlflowServer, PAUSE_FIRST, PAUSE_MAX, ServerRun, TIMEOUT, jittered};
use crate::TrackingError;
use crate::artifact::{at, child, collect};
use crate::name::check_artifact_path;

/// Interface of the artifacts.
const PREFIX: &str = "/api/2.0/mlflow-artifacts/artifacts/";
/// Scheme of artifacts that go through the tracking server.
const SCHEME: &str = "mlflow-artifacts:/";
/// Bytes that are read of a file at a time.
const CHUNK_BYTES: usize = 1 << 18;
/// The slowest line on which a file still arrives, in bytes per second.
const BYTES_PER_SECOND_MIN: u64 = 100_000;

impl ServerRun {
    /// Copies a file into the folder `artifact_path` of the run's artifacts, under its own name.
    ///
    /// An empty `artifact_path` is the run's own folder. A file of that name is replaced. Memory is
    /// bounded, whatever the length of the file.
    ///
    /// # Errors
    ///
    /// - [`TrackingError::InvalidName`] if the path leads out of the run's folder, or has
    ///   characters that MLflow cannot serve.
    /// - [`TrackingError::ForeignArtifacts`] if the run keeps its artifacts elsewhere than behind
    ///   the server.
    /// - [`TrackingError::Artifact`] if the file cannot be read.
    /// - Those of a call to a server.
    pub async fn log_artifact(
        &self,
        file: &Path,
        artifact_path: &str,
    ) -> Result<(), TrackingError> {
        check_artifact_path(artifact_path)?;
        self.put(file, &child(artifact_path, file)?).await
    }

    /// Copies all files below `folder` into the folder `artifact_path` of the run's artifacts, as
    /// [`log_artifact`](Self::log_artifact) does. A link to a folder below `folder` is refused.
    ///
    /// # Errors
    ///
    /// As [`ServerRun::log_artifact`].
    pub async fn log_artifacts(
        &self,
        folder: &Path,
        artifact_path: &str,
    ) -> Result<(), TrackingError> {
        check_artifact_path(artifact_path)?;
        let mut files = Vec::new();
        collect(folder, artifact_path, &mut files)?;
        for (file, target) in files {
            self.put(&file, &target).await?;
        }
        Ok(())
    }

    /// Sends a file to a path in the run's artifacts.
    pub(crate) async fn put(&self, file: &Path, target: &str) -> Result<(), TrackingError> {
        let Some(root) = behind_server(self.artifact_uri()) else {
            return Err(TrackingError::ForeignArtifacts {
                run_id: self.run_id().to_owned(),
                artifact_uri: self.artifact_uri().to_owned(),
            });
        };
        self.server.put_file(file, &format!("{root}/{target}")).await
    }
}

/// The path of artifacts that go through the tracking server.
fn behind_server(uri: &str) -> Option<&str> {
    let path = uri.strip_prefix(SCHEME)?;
    // An address with a host, `mlflow-artifacts://host/…`, names another server's folder.
    (!path.is_empty() && check_artifact_path(path).is_ok()).then_some(path)
}

impl MlflowServer {
    async fn put_file(&self, file: &Path, path: &str) -> Result<(), TrackingError> {
        let mut pause = PAUSE_FIRST;
        for attempt in 1.. {
            match self.attempt_put(file, path).await {
                Err(error) if error.is_temporary() && attempt < self.attempts => {
                    tokio::time::sleep(jittered(pause)).await;
                    pause = (2 * pause).min(PAUSE_MAX);
                }
                done => return done,
            }
        }
        unreachable!("the last attempt returns")
    }

    async fn attempt_put(&self, file: &Path, path: &str) -> Result<(), TrackingError> {
        let action = "send a file";
        let content = FileBody::open(file).map_err(at(file))?;
        let patience = Duration::from_secs(content.left / BYTES_PER_SECOND_MIN);
        let url = self.url(&format!("{PREFIX}{}", encoded(path)), &[])?;
        let builder = self.client.request(Method::PUT, url).timeout(TIMEOUT + patience);
        let builder = self.identified(builder).body(reqwest::Body::wrap(content));
        let answer = builder.send().await.map_err(|source| self.unreachable(action, source))?;
        let (status, text) = self.text(action, answer).await?;
        // A file that has arrived is answered with nothing at all.
        if status.is_success() && text.trim().is_empty() {
            return Ok(());
        }
        self.parse(action, status, &text).map(drop)
    }

    /// Copies a file from behind the server: of a model, the file of this name in the folder that its
    /// [`storage_location`](crate::ModelVersion::storage_location) names.
    ///
    /// # Errors
    ///
    /// - [`TrackingError::ForeignAddress`] if the address is not one behind the server.
    /// - [`TrackingError::Artifact`] if the copy cannot be written.
    /// - Those of a call to a server.
    pub async fn fetch_artifact(
        &self,
        folder_uri: &str,
        name: &str,
        copy: &Path,
    ) -> Result<(), TrackingError> {
        let action = "fetch a file";
        let root = behind_server(folder_uri)
            .ok_or_else(|| TrackingError::ForeignAddress { uri: folder_uri.to_owned() })?;
        let url = self.url(&format!("{PREFIX}{}", encoded(&format!("{root}/{name}"))), &[])?;
        let builder = self.identified(self.client.get(url)).timeout(60 * TIMEOUT);
        let mut answer = builder.send().await.map_err(|source| self.unreachable(action, source))?;
        if !answer.status().is_success() {
            let (status, text) = self.text(action, answer).await?;
            return match self.parse(action, status, &text) {
                Err(error) => Err(error),
                Ok(_) => Err(self.senseless("an error")),
            };
        }
        let mut file = File::create(copy).map_err(at(copy))?;
        while let Some(chunk) =
            answer.chunk().await.map_err(|source| self.unreachable(action, source))?
        {
            file.write_all(&chunk).map_err(at(copy))?;
        }
        file.sync_all().map_err(at(copy))
    }
}

/// A path with what an address cannot have in it written as `%` and two digits.
fn encoded(path: &str) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~/".contains(byte);
    path.bytes()
        .map(|byte| match is_plain(&byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

/// The content of a file, read as it is sent.
struct FileBody {
    file: File,
    path: PathBuf,
    left: u64,
}

impl FileBody {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
        }
        Ok(Self { file, path: path.to_owned(), left: found.len() })
    }

    fn chunk(&mut self) -> io::Result<Bytes> {
        let length = self.left.min(CHUNK_BYTES as u64);
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let read = (&mut self.file).take(length).read_to_end(&mut chunk)? as u64;
        if read < length {
            let path = self.path.display();
            return Err(io::Error::other(format!("{path} became shorter while it was sent")));
        }
        self.left -= read;
        Ok(chunk.into())
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(self.chunk().map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_encoded_part_by_part() {
        assert_eq!(
            encoded("1/ab/artifacts/größe 1.html"),
            "1/ab/artifacts/gr%C3%B6%C3%9Fe%201.html"
        );
    }

    #[test]
    fn only_what_goes_through_the_server_is_behind_it() {
        assert_eq!(behind_server("mlflow-artifacts:/1/ab/artifacts"), Some("1/ab/artifacts"));
        for uri in ["s3://bucket/1", "mlflow-artifacts://host/1", "mlflow-artifacts:/", "/srv/a"] {
            assert_eq!(behind_server(uri), None, "{uri}");
        }
    }
}
