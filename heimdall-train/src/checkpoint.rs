//! What is kept of a run after each epoch, so that it can go on after anything.
//!
//! ```text
//! checkpoint.json        progress, and the digests of the files below; written last
//! network-0007.bpk       weights after the last finished epoch
//! optimizer-0007.bpk     moments of the optimizer after it
//! network-0004.bpk       weights of the best epoch, where that is another one
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::store::{ModuleRecord, RecordError};
use burn::tensor::Bytes;
use heimdall_model::LocalizationNet;
use serde::{Deserialize, Serialize};

use crate::file::{check_digest, digest, read_json, write_json, write_whole};
use crate::schedule::PlateauState;
use crate::{EpochSummary, TrainError};

/// Version of `checkpoint.json`.
const FORMAT_VERSION: u32 = 1;

/// Name of the file that is written last.
const STATE_FILE: &str = "checkpoint.json";

/// How far a run has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Progress {
    /// Finished epochs.
    pub(crate) history: Vec<EpochSummary>,
    /// What the schedule remembers.
    pub(crate) plateau: PlateauState,
    /// First epochs that only learn positions: their likelihood says nothing.
    #[serde(skip)]
    pub(crate) mean_square_epochs: usize,
}

impl Progress {
    /// Number of finished epochs.
    pub(crate) fn epochs(&self) -> usize {
        self.history.len()
    }

    /// Whether the likelihood has been learned in the last finished epoch.
    pub(crate) fn knows_likelihood(&self) -> bool {
        self.epochs() > self.mean_square_epochs
    }

    /// The first of the epochs with the lowest validation loss, of those that learned the likelihood;
    /// the last epoch, as long as none did.
    pub(crate) fn best_epoch(&self) -> usize {
        let learned = self.history.iter().skip(self.mean_square_epochs);
        let lowest = learned.min_by(|a, b| a.validation_loss.total_cmp(&b.validation_loss));
        lowest.map_or(self.epochs(), |summary| summary.epoch)
    }

    /// Whether the last so many epochs brought nothing.
    pub(crate) fn is_spent(&self, patience: Option<usize>) -> bool {
        patience.is_some_and(|patience| self.epochs() - self.best_epoch() >= patience)
    }
}

/// The file that is written last.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckpointState {
    format_version: u32,
    /// Digest of what the run was started with.
    run: String,
    progress: Progress,
    /// Digest of each file that belongs to the checkpoint.
    files: BTreeMap<String, String>,
}

/// The folder of the checkpoints of a run; only the last one is kept.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    folder: PathBuf,
    run: String,
    files: BTreeMap<String, String>,
}

impl Checkpoints {
    /// Makes the folder, if it is not there.
    pub(crate) fn open(folder: &Path, run: String) -> Result<Self, TrainError> {
        fs::create_dir_all(folder)
            .map_err(|source| TrainError::Write { path: folder.to_owned(), source })?;
        Ok(Self { folder: folder.to_owned(), run, files: BTreeMap::new() })
    }

    /// Puts a network and its optimizer where the checkpoint left them; without a checkpoint they
    /// stay as they are.
    pub(crate) fn load(
        &mut self,
        network: LocalizationNet,
        optimizer: ModuleOptimizer,
    ) -> Result<(LocalizationNet, ModuleOptimizer, Progress), TrainError> {
        let path = self.folder.join(STATE_FILE);
        if !path.exists() {
            return Ok((network, optimizer, Progress::default()));
        }
        let state: CheckpointState = read_json(&path, FORMAT_VERSION)?;
        if state.run != self.run {
            return Err(TrainError::ForeignCheckpoint { path });
        }
        for (file, expected) in &state.files {
            check_digest(&self.folder.join(file), expected)?;
        }
        self.files = state.files;

        let epoch = state.progress.epochs();
        let network = self.load_network(network, epoch)?;
        let path = self.folder.join(optimizer_file(epoch));
        let optimizer =
            optimizer.load(&path).map_err(|source| TrainError::Weights { path, source })?;
        Ok((network, optimizer, state.progress))
    }

    /// Puts a network where it was after an epoch that is still kept.
    pub(crate) fn load_network(
        &self,
        network: LocalizationNet,
        epoch: usize,
    ) -> Result<LocalizationNet, TrainError> {
        let path = self.folder.join(network_file(epoch));
        ModuleRecord::load(&path)
            .and_then(|record| network.try_load_record(record))
            .map_err(|source| TrainError::Weights { path, source })
    }

    /// Keeps the state after an epoch, and then forgets the one before.
    ///
    /// `network` is the one in inference mode, which has its running statistics settled.
    pub(crate) fn save(
        &mut self,
        network: &LocalizationNet,
        optimizer: &ModuleOptimizer,
        progress: &Progress,
    ) -> Result<(), TrainError> {
        let epoch = progress.epochs();
        let weights = network.clone().into_record().into_bytes();
        self.write(network_file(epoch), weights)?;
        self.write(optimizer_file(epoch), optimizer.into_bytes())?;

        let kept =
            [network_file(epoch), optimizer_file(epoch), network_file(progress.best_epoch())];
        self.files.retain(|file, _| kept.contains(file));
        let state = CheckpointState {
            format_version: FORMAT_VERSION,
            run: self.run.clone(),
            progress: progress.clone(),
            files: self.files.clone(),
        };
        write_json(&self.folder.join(STATE_FILE), &state)?;
        self.remove_what_is_left_over()
    }

    /// Writes a file of the checkpoint and notes its digest.
    fn write(&mut self, file: String, bytes: Result<Bytes, RecordError>) -> Result<(), TrainError> {
        let path = self.folder.join(&file);
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(source) => return Err(TrainError::Weights { path, source }),
        };
        write_whole(&path, &bytes)?;
        self.files.insert(file, digest(&bytes));
        Ok(())
    }

    /// Removes the files of earlier checkpoints, and what a killed run left half-written.
    fn remove_what_is_left_over(&self) -> Result<(), TrainError> {
        let unreadable = |source| TrainError::Read { path: self.folder.clone(), source };
        for entry in fs::read_dir(&self.folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let ours = name.starts_with("network-") || name.starts_with("optimizer-");
            if ours && !self.files.contains_key(&*name) {
                fs::remove_file(&path).map_err(|source| TrainError::Write { path, source })?;
            }
        }
        Ok(())
    }
}

fn network_file(epoch: usize) -> String {
    format!("network-{epoch:04}.bpk")
}

fn optimizer_file(epoch: usize) -> String {
    format!("optimizer-{epoch:04}.bpk")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(losses: &[f64]) -> Progress {
        let summary = |(index, &validation_loss): (usize, &f64)| EpochSummary {
            epoch: index + 1,
            learning_rate: 1e-3,
            train_loss: 1.0,
            validation_loss,
            validation_error_km_median: 1.0,
            validation_error_km_p90: 1.0,
        };
        Progress {
            history: losses.iter().enumerate().map(summary).collect(),
            plateau: PlateauState::default(),
            mean_square_epochs: 0,
        }
    }

    #[test]
    fn first_of_equal_epochs_is_the_best() {
        assert_eq!(progress(&[3.0, 2.0, 2.5, 2.0]).best_epoch(), 2);
    }

    #[test]
    fn epochs_that_learn_positions_alone_are_neither_best_nor_count_for_patience() {
        let warmed_up = |losses: &[f64]| Progress { mean_square_epochs: 2, ..progress(losses) };

        assert_eq!(warmed_up(&[1.0]).best_epoch(), 1);
        assert_eq!(warmed_up(&[1.0, 2.0]).best_epoch(), 2);
        assert!(!warmed_up(&[1.0, 2.0]).is_spent(Some(1)));
        assert_eq!(warmed_up(&[1.0, 2.0, 9.0, 8.0]).best_epoch(), 4);
        assert!(warmed_up(&[1.0, 2.0, 8.0, 9.0]).is_spent(Some(1)));
    }

    #[test]
    fn patience_counts_from_the_best_epoch() {
        let progress = progress(&[3.0, 2.0, 2.5, 2.0]);

        assert!(progress.is_spent(Some(2)));
        assert!(!progress.is_spent(Some(3)));
        assert!(!progress.is_spent(None));
        assert!(!Progress::default().is_spent(Some(1)));
    }
}
