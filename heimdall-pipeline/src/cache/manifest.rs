//! What a stage made, and from what: the one file that makes a result valid.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use super::{Cache, Digest, FileIdentity, Key, KeyParts, create_parent, list_names};
use crate::PipelineError;
use crate::artifact::{ArtifactKind, OutputPort};
use crate::fault::FaultPoint;
use crate::replace::Replacement;
use crate::stage::StageKind;

/// Version of the manifest's own format.
const MANIFEST_VERSION: u32 = 2;

/// A file of an output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileEntry {
    /// Its path within the output.
    pub(crate) path: String,
    /// Digest of its content, by which it is kept.
    pub(crate) digest: Digest,
    /// What the kept content looked like to the file system when it was last read in full.
    pub(crate) identity: FileIdentity,
}

/// An output of a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OutputManifest {
    /// What it is.
    pub(crate) kind: ArtifactKind,
    /// Version of the files in it.
    pub(crate) format_version: u32,
    /// Digest of all of it.
    pub(crate) tree: Digest,
    /// Its files, sorted by path.
    pub(crate) files: Vec<FileEntry>,
}

/// How a result came to be, which has no bearing on what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Provenance {
    /// The run.
    pub(crate) run: String,
    /// The pipeline.
    pub(crate) pipeline: String,
    /// Name of the stage in it.
    pub(crate) stage: String,
    /// The machine.
    pub(crate) host: String,
    /// Version of this program.
    pub(crate) program: String,
    /// The file of this program, which tells builds of one version apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) binary: Option<String>,
    /// Revision of the working directory, where that is a checkout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) git: Option<String>,
    /// When the stage was started, as in RFC 3339.
    pub(crate) started: String,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ended: Option<String>,
    /// How often it was tried until it succeeded.
    pub(crate) attempts: u32,
    /// The run whose work it went on with, if that was interrupted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resumed_from: Option<String>,
    /// Most memory that the program of the stage has taken, or this program until the stage's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) memory_peak_bytes: Option<u64>,
    /// Where its inputs came from, by port.
    pub(crate) inputs: BTreeMap<String, Origin>,
}

/// Where an input came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// Name of the stage that made it.
    pub(crate) stage: String,
    /// Name of the output.
    pub(crate) output: String,
    /// What the stage's result is found by.
    pub(crate) key: Key,
}

/// What a stage made, and from what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Version of this format.
    pub(crate) version: u32,
    /// What the result is found by.
    pub(crate) key: Key,
    /// What the stage does.
    pub(crate) kind: StageKind,
    /// What the key was computed from.
    pub(crate) key_parts: KeyParts,
    /// What was made, by port.
    pub(crate) outputs: BTreeMap<String, OutputManifest>,
    /// Digest of what the stage said, by which it is kept.
    pub(crate) log: Option<Digest>,
    /// For a result that was not made to survive a loss of power, the start of the machine that it
    /// is from: after another start its files are read again before they are trusted.
    pub(crate) boot: Option<String>,
    /// Figures of the result.
    pub(crate) metrics: BTreeMap<String, f64>,
    /// The result in a few words.
    pub(crate) headline: Option<String>,
    /// How long it took.
    pub(crate) seconds: f64,
    /// How it came to be.
    pub(crate) provenance: Provenance,
}

/// Why a manifest cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    /// Its checksum is not that of its content.
    Checksum,
    /// It is that of another key, or says what no result of its key can be.
    Foreign,
    /// It names files outside of its outputs.
    Unconfined,
    /// Another version of this program wrote it.
    Outdated,
}

/// The manifest's file is `{"checksum":"…","manifest":…}` and a line's end, with these in between.
const BEFORE_CHECKSUM: &[u8] = b"{\"checksum\":\"";
const AFTER_CHECKSUM: &[u8] = b"\",\"manifest\":";
const END: &[u8] = b"}\n";

impl Manifest {
    pub(crate) fn version() -> u32 {
        MANIFEST_VERSION
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let body = serde_json::to_vec(self).expect("a manifest is plain data with string keys");
        let checksum = Digest::of(&body).to_string();
        [BEFORE_CHECKSUM, checksum.as_bytes(), AFTER_CHECKSUM, &body, END].concat()
    }

    /// Returns what it keeps in the store.
    pub(super) fn blobs(&self) -> BTreeSet<Digest> {
        let files = self.outputs.values().flat_map(|output| &output.files);
        files.map(|file| file.digest).chain(self.log).collect()
    }

    /// Whether its outputs are those of another.
    pub(crate) fn has_outputs_of(&self, other: &Self) -> bool {
        let trees = |manifest: &Self| -> Vec<(String, Digest)> {
            let outputs = manifest.outputs.iter();
            outputs.map(|(port, output)| (port.clone(), output.tree)).collect()
        };
        trees(self) == trees(other)
    }

    /// Whether its outputs are those that a stage has now.
    pub(crate) fn has_ports(&self, ports: &[OutputPort]) -> bool {
        let mut parts = KeyParts::default();
        ports.iter().for_each(|port| parts.set_output(port));
        parts.has_outputs(&self.outputs)
    }

    /// Reads a manifest that must be that of the given key.
    pub(super) fn decode(bytes: &[u8], key: &Key) -> Result<Self, Damage> {
        let body = (|| {
            let rest = bytes.strip_prefix(BEFORE_CHECKSUM)?.strip_suffix(END)?;
            let (checksum, rest) = rest.split_at_checked(64)?;
            let body = rest.strip_prefix(AFTER_CHECKSUM)?;
            (Digest::of(body).to_string().as_bytes() == checksum).then_some(body)
        })();
        let body = body.ok_or(Damage::Checksum)?;
        let manifest: Self = serde_json::from_slice(body).map_err(|_| Damage::Outdated)?;
        if manifest.version != MANIFEST_VERSION {
            return Err(Damage::Outdated);
        }
        if manifest.key != *key {
            return Err(Damage::Foreign);
        }
        if !manifest.is_confined() {
            return Err(Damage::Unconfined);
        }
        if !manifest.is_consistent() {
            return Err(Damage::Foreign);
        }
        Ok(manifest)
    }

    /// Whether its files lie within its outputs: it may come from another machine.
    fn is_confined(&self) -> bool {
        let is_inside = |path: &str| {
            !path.is_empty()
                && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
        };
        self.outputs.iter().all(|(port, output)| {
            is_inside(port) && output.files.iter().all(|file| is_inside(&file.path))
        })
    }

    /// Whether it says what a result of its key can be: it may come from another machine.
    fn is_consistent(&self) -> bool {
        self.key_parts.key() == self.key
            && self.key_parts.has_outputs(&self.outputs)
            && self.outputs.values().all(|output| {
                let files = output.files.iter().map(|file| (file.path.as_str(), &file.digest));
                Digest::of_tree(files) == output.tree
            })
    }
}

impl Cache {
    /// Makes a result valid: the rename at the end is the only point of commitment.
    pub(super) fn write_manifest(&self, manifest: &Manifest) -> Result<(), PipelineError> {
        let path = self.manifest_path(&manifest.key);
        create_parent(&path)?;
        let unwritten = || PipelineError::io("write", &path);
        let mut file = Replacement::begin(&path).map_err(unwritten())?;
        file.file().write_all(&manifest.encode()).map_err(unwritten())?;
        let is_durable = manifest.boot.is_none();
        if is_durable {
            file.sync().map_err(unwritten())?;
        }
        self.reach(FaultPoint::ManifestWritten);
        file.finish().map_err(unwritten())?;
        if is_durable {
            let folder = path.parent().expect("a manifest is in a folder");
            let file = File::open(folder).map_err(PipelineError::io("open", folder))?;
            file.sync_all().map_err(PipelineError::io("write", folder))?;
        }
        self.reach(FaultPoint::ManifestNamed);
        Ok(())
    }

    /// Reads a manifest to tell people what it says; nothing is checked but the manifest itself.
    pub(crate) fn read_manifest(&self, key: &Key) -> Option<Manifest> {
        Manifest::decode(&fs::read(self.manifest_path(key)).ok()?, key).ok()
    }

    /// Returns the keys of all results, in no particular order.
    pub(crate) fn keys(&self) -> Result<Vec<Key>, PipelineError> {
        let files = list_names(&self.root.join("ac"))?;
        let name = |path: &String| path.rsplit('/').next()?.strip_suffix(".json")?.parse().ok();
        Ok(files.iter().filter_map(name).collect())
    }
}
