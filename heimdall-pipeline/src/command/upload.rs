//! `upload`: gives an exported model to a folder or a bucket, under a version that is never replaced.

use std::path::PathBuf;

use clap::Args;
use heimdall_export::{MANIFEST_FILE, MODEL_FILE, PackageManifest, read_model};
use object_store::PutPayload;
use tracing::warn;

use super::Surroundings;
use crate::PipelineError;
use crate::object_place::ObjectPlace;

/// Arguments of `upload`.
#[derive(Debug, Args)]
pub struct UploadArgs {
    /// Folder of the package, such as the stage `export` writes
    pub package: PathBuf,

    /// Where it goes: a folder, `file://PATH` or `s3://BUCKET/PATH`
    #[arg(long, value_name = "ADDRESS", default_value = "heimdall-models")]
    pub to: String,

    /// Name of the model there
    #[arg(long, value_name = "NAME", default_value = "localization")]
    pub name: String,

    /// Its version, which must be a new one
    #[arg(long, value_name = "VERSION", default_value = "0.1.0")]
    pub version: String,
}

impl UploadArgs {
    /// Sends `NAME-vVERSION.onnx`, reads it back, and then sends its manifest `NAME-vVERSION.json`: a
    /// model with a manifest is whole.
    pub(crate) async fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        let is_plain = |text: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        for (option, value) in [("--name", &self.name), ("--version", &self.version)] {
            if !is_plain(value) {
                let expected = "of letters, digits, `.`, `_` and `-`";
                return Err(PipelineError::InvalidOption { option, expected });
            }
        }
        let place = ObjectPlace::open(&self.to, &surroundings.environment)
            .map_err(|reason| PipelineError::InvalidPlace { address: self.to.clone(), reason })?;
        let failed = |source| PipelineError::Place {
            address: place.address().to_owned(),
            source: Box::new(source),
        };
        let model = read_model(&self.package.join(MODEL_FILE))?;
        let manifest = self.manifest()?;
        if !place.is_conditional().await.map_err(failed)? {
            warn!(
                address = place.address(),
                "the server cannot refuse what is there already: nobody else may upload meanwhile"
            );
        }
        let stem = format!("{}-v{}", self.name, self.version);
        let [model_path, manifest_path] =
            ["onnx", "json"].map(|extension| place.prefix().join(format!("{stem}.{extension}")));
        let taken = || PipelineError::VersionTaken {
            address: place.address().to_owned(),
            name: stem.clone(),
        };
        if place.size(&manifest_path).await.map_err(failed)?.is_some() {
            return Err(taken());
        }
        let digest = blake3::hash(&model);
        let payload = PutPayload::from(model);
        if !place.put_new(&model_path, &payload).await.map_err(failed)? {
            // What an upload has left that was interrupted before its manifest, if it is the same.
            let there = place.read(&model_path).await.map_err(failed)?;
            if there.is_none_or(|there| blake3::hash(&there) != digest) {
                return Err(taken());
            }
        }
        let there = place.read(&model_path).await.map_err(failed)?;
        if there.is_none_or(|there| blake3::hash(&there) != digest) {
            place.remove(&model_path).await.map_err(failed)?;
            return Err(PipelineError::DamagedUpload { name: format!("{stem}.onnx") });
        }
        let manifest = PackageManifest { model: format!("{stem}.onnx"), ..manifest };
        let json = serde_json::to_vec_pretty(&manifest).expect("a manifest is plain data");
        if !place.put_new(&manifest_path, &PutPayload::from(json)).await.map_err(failed)? {
            return Err(taken());
        }
        surroundings.print(&format!("{}/{stem}.onnx\n", place.address().trim_end_matches('/')))?;
        Ok(0)
    }

    fn manifest(&self) -> Result<PackageManifest, PipelineError> {
        let path = self.package.join(MANIFEST_FILE);
        let json = std::fs::read(&path).map_err(PipelineError::io("read", &path))?;
        serde_json::from_slice(&json).map_err(|source| PipelineError::Malformed { path, source })
    }
}
