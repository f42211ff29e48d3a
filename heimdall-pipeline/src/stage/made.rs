//! What a program of others has made, read as those who come after it will.

use std::path::Path;

use heimdall_data::{HeimdallDataset, Recordings};
use heimdall_train::{EVALUATION_FILE, HOLD_OUT_FILE, TrainedModel};
use serde::de::IgnoredAny;

use super::REGISTRATION_FILE;
use crate::PipelineError;
use crate::artifact::ArtifactKind;
use crate::cache::blocking;
use crate::stage::StageContext;

/// Checks that a folder holds an artifact of a kind.
///
/// # Errors
///
/// What its readers would come up with, later on.
pub(super) async fn check(
    kind: ArtifactKind,
    folder: &Path,
    context: &StageContext,
) -> Result<(), PipelineError> {
    match kind {
        ArtifactKind::Files => Ok(()),
        ArtifactKind::Features => {
            let folder = folder.to_owned();
            blocking(move || Ok(HeimdallDataset::open(&folder).map(drop)?)).await
        }
        ArtifactKind::Recordings => Ok(Recordings::open(folder).await.map(drop)?),
        ArtifactKind::Model => {
            let (folder, device) = (folder.to_owned(), context.device());
            blocking(move || Ok(TrainedModel::load(&folder, &device).map(drop)?)).await
        }
        ArtifactKind::Evaluation => check_json(folder, EVALUATION_FILE).await,
        ArtifactKind::HoldOut => check_json(folder, HOLD_OUT_FILE).await,
        ArtifactKind::Fix => check_json(folder, "fix.json").await,
        ArtifactKind::Registration => check_json(folder, REGISTRATION_FILE).await,
        ArtifactKind::Onnx => {
            let path = folder.join("model.onnx");
            tokio::fs::metadata(&path).await.map(drop).map_err(PipelineError::io("find", path))
        }
    }
}

async fn check_json(folder: &Path, name: &str) -> Result<(), PipelineError> {
    let path = folder.join(name);
    let bytes = tokio::fs::read(&path).await.map_err(PipelineError::io("read", &path))?;
    serde_json::from_slice::<IgnoredAny>(&bytes)
        .map(drop)
        .map_err(|source| PipelineError::Malformed { path, source })
}
