//! The folder that a stage works in, which is never the one that its result is read from.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::{Cache, Key, OutputManifest, create_parent};
use crate::PipelineError;

/// The folder of one stage at work; removed when it is dropped.
#[derive(Debug)]
pub(crate) struct WorkFolder {
    path: PathBuf,
}

impl Cache {
    /// Makes the folder for a stage, whose lock the caller holds.
    pub(crate) fn create_work(&self, key: &Key, run: &str) -> Result<WorkFolder, PipelineError> {
        let path = self.root.join("work").join(format!("{key}.{run}"));
        fs::create_dir_all(&path).map_err(PipelineError::io("create", &path))?;
        Ok(WorkFolder { path })
    }

    /// Removes what a stage kept for the case that it was interrupted.
    pub(super) fn remove_scratch(&self, key: &Key) -> Result<(), PipelineError> {
        let scratch = self.scratch(key);
        let owner = scratch.with_extension("run");
        let removed = [fs::remove_dir_all(&scratch), fs::remove_file(owner)];
        for result in removed {
            match result {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(PipelineError::io("remove", scratch)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Keeps the log of a stage that came to no result in a run.
    pub(crate) fn keep_log(
        &self,
        work: &WorkFolder,
        run: &str,
        stage: &str,
    ) -> Result<(), PipelineError> {
        let path = self.log_path(run, stage);
        create_parent(&path)?;
        match fs::rename(work.log(), &path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(PipelineError::io("keep", path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Reads what a stage is about to read. Its files were trusted for what they look like, which a
    /// disk that forgets does not change; one that is another is moved away, to be made again.
    ///
    /// # Errors
    ///
    /// [`PipelineError::DamagedInput`] for the first file that is not what it was.
    pub(crate) fn check_input(
        &self,
        port: &str,
        output: &OutputManifest,
    ) -> Result<(), PipelineError> {
        let Some(file) = output.files.par_iter().find_first(|file| !self.is_whole(&file.digest))
        else {
            return Ok(());
        };
        self.quarantine(&self.blob(&file.digest))?;
        Err(PipelineError::DamagedInput { path: format!("{port}/{}", file.path) })
    }

    /// Lets a stage see an output of another as a folder of links, so that what anybody does to a
    /// readable copy has no effect.
    pub(crate) fn link_input(
        &self,
        work: &WorkFolder,
        port: &str,
        output: &OutputManifest,
    ) -> Result<PathBuf, PipelineError> {
        let folder = work.path.join("in").join(port);
        fs::create_dir_all(&folder).map_err(PipelineError::io("create", &folder))?;
        let mut parent_done = PathBuf::new();
        for file in &output.files {
            let link = folder.join(&file.path);
            let parent = link.parent().expect("a file of an output is in a folder");
            if parent != parent_done {
                fs::create_dir_all(parent).map_err(PipelineError::io("create", parent))?;
                parent.clone_into(&mut parent_done);
            }
            symlink(self.blob(&file.digest), &link).map_err(PipelineError::io("create", &link))?;
        }
        Ok(folder)
    }
}

impl WorkFolder {
    /// Makes the empty folder that a stage writes an output into.
    pub(crate) fn create_output(&self, port: &str) -> Result<PathBuf, PipelineError> {
        let folder = self.output(port);
        fs::create_dir_all(&folder).map_err(PipelineError::io("create", &folder))?;
        Ok(folder)
    }

    /// Returns where the stage's log is written.
    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Makes the folder for files that are no part of the result.
    pub(crate) fn private(&self) -> Result<PathBuf, PipelineError> {
        let folder = self.path.join("private");
        fs::create_dir_all(&folder).map_err(PipelineError::io("create", &folder))?;
        Ok(folder)
    }

    pub(super) fn output(&self, port: &str) -> PathBuf {
        self.path.join("out").join(port)
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn remove(path: &Path) {
    // What stays behind is removed at the start of the next run.
    if let Err(error) = fs::remove_dir_all(path) {
        tracing::debug!(path = %path.display(), %error, "work folder stays");
    }
}
