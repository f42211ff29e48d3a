//! A trained network, and everything that must be known to use it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::store::burn_pack::{Tensor as PackedTensor, Writer};
use burn::store::{ModuleRecord, RecordError};
use burn::tensor::{Bool, Bytes, Device, Int, Tensor, TensorData};
use heimdall_data::FeatureHeader;
use heimdall_model::{Ensemble, LocalizationNetConfig};
use serde::{Deserialize, Serialize};

use crate::file::{check_digest, digest, read_json, read_version, write_json, write_whole};
use crate::{EpochSummary, TrainConfig, TrainError};

/// Version of the manifest that is written, and the only one that is read: the weights of older ones
/// mean something else.
pub const MODEL_FORMAT_VERSION: u32 = 4;

/// Name of the file of weights.
const NETWORK_FILE: &str = "network.bpk";
/// Name of the file that holds the manifest of a network.
pub const MANIFEST_FILE: &str = "manifest.json";

/// A trained network with its manifest.
#[derive(Clone, Debug)]
pub struct TrainedModel {
    /// The network, in inference mode: one, or several that speak as one.
    pub network: Ensemble,
    /// How it came to be, and how it is used.
    pub manifest: ModelManifest,
}

/// How a network came to be, and how it is used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelManifest {
    /// Version of the manifest, [`MODEL_FORMAT_VERSION`] when written by this release.
    pub format_version: u32,
    /// What the network looks like, with the standardization of its training split.
    pub network: LocalizationNetConfig,
    /// How it was trained; from which file of weights, only the digest says.
    pub train: TrainConfig,
    /// BLAKE3 digest of the weights from which a residual network started, in hexadecimal.
    pub pretrained_digest: Option<String>,
    /// The features that it takes.
    pub features: FeatureHeader,
    /// Factor of the standard deviations that the network states: 1 until it is recalibrated.
    pub sigma_scale: f64,
    /// Seed of the run.
    pub seed: u64,
    /// Events that the network learned from.
    pub training_events: usize,
    /// Events that told when to stop.
    pub validation_events: usize,
    /// How each member of the ensemble was trained; there is at least one.
    pub members: Vec<MemberRun>,
    /// BLAKE3 digest of the file of weights, in hexadecimal.
    pub network_digest: String,
    /// Figures of the evaluation, under flat names; empty before it.
    pub metrics: BTreeMap<String, f64>,
}

impl ModelManifest {
    /// Reads the manifest of a network that [`TrainedModel::save`] wrote into a folder.
    ///
    /// # Errors
    ///
    /// - [`TrainError::Read`] if there is none.
    /// - [`TrainError::NewerFormat`] or [`TrainError::OlderFormat`] if another release wrote it.
    /// - [`TrainError::Malformed`] if it is not one.
    pub fn load(folder: &Path) -> Result<Self, TrainError> {
        let path = folder.join(MANIFEST_FILE);
        match read_version(&path, MODEL_FORMAT_VERSION)? {
            MODEL_FORMAT_VERSION => read_json(&path, MODEL_FORMAT_VERSION),
            actual => {
                Err(TrainError::OlderFormat { path, actual, supported: MODEL_FORMAT_VERSION })
            }
        }
    }
}

/// How a network of an ensemble was trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberRun {
    /// Seed of its first weights and of the order of events.
    pub seed: u64,
    /// The epoch whose weights were kept, from 1 on.
    pub best_epoch: usize,
    /// How each epoch went.
    pub history: Vec<EpochSummary>,
}

impl MemberRun {
    /// How the epoch went whose weights were kept, if any epoch did.
    pub fn best(&self) -> Option<&EpochSummary> {
        self.history.iter().find(|summary| summary.epoch == self.best_epoch)
    }
}

impl TrainedModel {
    /// Writes `network.bpk` and then `manifest.json` into a folder, making it if need be.
    ///
    /// Equal weights give equal bytes.
    ///
    /// # Errors
    ///
    /// - [`TrainError::Write`] if the folder or a file cannot be written.
    /// - [`TrainError::Weights`] if the weights cannot be packed.
    pub fn save(&self, folder: &Path) -> Result<(), TrainError> {
        fs::create_dir_all(folder)
            .map_err(|source| TrainError::Write { path: folder.to_owned(), source })?;
        let path = folder.join(NETWORK_FILE);
        let bytes = match weights_to_bytes(&self.network) {
            Ok(bytes) => bytes,
            Err(source) => return Err(TrainError::Weights { path, source }),
        };
        write_whole(&path, &bytes)?;
        let manifest = ModelManifest {
            format_version: MODEL_FORMAT_VERSION,
            network_digest: digest(&bytes),
            ..self.manifest.clone()
        };
        write_json(&folder.join(MANIFEST_FILE), &manifest)
    }

    /// Reads a folder that [`save`](Self::save) wrote.
    ///
    /// # Errors
    ///
    /// - [`TrainError::Read`] if a file cannot be read.
    /// - [`TrainError::NewerFormat`] or [`TrainError::OlderFormat`] if another release wrote it.
    /// - [`TrainError::Malformed`] if the manifest is not one.
    /// - [`TrainError::DigestMismatch`] if the weights have changed.
    /// - [`TrainError::Model`] if the network in the manifest cannot be made, and
    ///   [`TrainError::NoMembers`] if there is none.
    /// - [`TrainError::Weights`] if the weights are those of another network.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, TrainError> {
        let manifest = ModelManifest::load(folder)?;
        manifest.network.validate()?;
        let path = folder.join(NETWORK_FILE);
        check_digest(&path, &manifest.network_digest)?;
        let seeds: Vec<u64> = manifest.members.iter().map(|member| member.seed).collect();
        if seeds.is_empty() {
            return Err(TrainError::NoMembers { path: folder.join(MANIFEST_FILE) });
        }
        let blank = Ensemble::init(&manifest.network, &seeds, device);
        let network = ModuleRecord::load(&path)
            .and_then(|record| blank.try_load_record(record))
            .map_err(|source| TrainError::Weights { path, source })?;
        Ok(Self { network, manifest })
    }
}

/// Packs the weights and running statistics of a network.
///
/// Burn's own record carries the parameters' identifiers, which are drawn anew in each process; here
/// they are left out, so that equal weights give equal bytes.
pub(crate) fn weights_to_bytes(network: &Ensemble) -> Result<Bytes, RecordError> {
    let mut packer = Packer::default();
    network.visit(&mut packer);
    Ok(Writer::new(packer.tensors).into_bytes()?)
}

/// Collects the parameters of a module under their paths.
#[derive(Default)]
struct Packer {
    path: Vec<String>,
    tensors: Vec<PackedTensor>,
}

impl Packer {
    fn pack(&mut self, data: TensorData) {
        let (bytes, shape, dtype) = data.into_parts();
        self.tensors.push(PackedTensor::new(self.path.join("."), dtype, shape, None, bytes));
    }
}

impl ModuleVisitor for Packer {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.pack(param.transform_for_save().val().into_data());
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.pack(param.transform_for_save().val().into_data());
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        self.pack(param.transform_for_save().val().into_data());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{synthetic, untrained};

    #[test]
    fn model_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = synthetic(&folder.path().join("features"), 4, 1);
        let mut model = untrained(&dataset);
        model.manifest.sigma_scale = 1.0 / 3.0;
        let saved = folder.path().join("model");

        model.save(&saved).unwrap();
        let loaded = TrainedModel::load(&saved, &Device::flex()).unwrap();
        let again = folder.path().join("again");
        loaded.save(&again).unwrap();

        let network_digest = loaded.manifest.network_digest.clone();
        assert_eq!(loaded.manifest, ModelManifest { network_digest, ..model.manifest.clone() });
        for file in [NETWORK_FILE, MANIFEST_FILE] {
            let read = |folder: &Path| fs::read(folder.join(file)).unwrap();
            assert_eq!(read(&saved), read(&again), "{file}");
        }
        let forward = |network: &Ensemble| {
            let cancel = std::sync::atomic::AtomicBool::new(false);
            crate::predict::predict(network, &dataset, 4, &cancel).unwrap().unwrap()
        };
        assert_eq!(forward(&loaded.network), forward(&model.network));
    }

    #[test]
    fn manifest_of_another_version_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(MANIFEST_FILE);
        fs::write(&path, r#"{"format_version": 7, "anything": []}"#).unwrap();

        let error = TrainedModel::load(folder.path(), &Device::flex()).unwrap_err();

        assert!(matches!(error, TrainError::NewerFormat { actual: 7, .. }), "{error}");

        for older in 1..MODEL_FORMAT_VERSION {
            fs::write(&path, format!(r#"{{"format_version": {older}, "anything": []}}"#)).unwrap();
            let error = TrainedModel::load(folder.path(), &Device::flex()).unwrap_err();
            let TrainError::OlderFormat { actual, .. } = error else { panic!("{error}") };
            assert_eq!(actual, older);
        }
        assert!(error.to_string().contains(MANIFEST_FILE), "{error}");
    }

    #[test]
    fn model_without_members_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = synthetic(&folder.path().join("features"), 4, 1);
        let mut model = untrained(&dataset);
        model.manifest.members.clear();
        let saved = folder.path().join("model");
        model.save(&saved).unwrap();

        let error = TrainedModel::load(&saved, &Device::flex()).unwrap_err();

        assert!(matches!(error, TrainError::NoMembers { .. }), "{error}");
    }

    #[test]
    fn changed_weights_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = synthetic(&folder.path().join("features"), 4, 1);
        let saved = folder.path().join("model");
        untrained(&dataset).save(&saved).unwrap();
        let path = saved.join(NETWORK_FILE);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();

        let error = TrainedModel::load(&saved, &Device::flex()).unwrap_err();

        assert!(matches!(error, TrainError::DigestMismatch { .. }), "{error}");
        assert!(error.to_string().contains(NETWORK_FILE), "{error}");
    }
}
