//! The model that says where transmitters are: a file, or a version of a registry.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use half::f16;
use heimdall_data::{EventLabel, Precision};
use heimdall_export::{MODEL_FILE, Predictor, read_model};
use heimdall_features::{FeatureMap, IqRecording};
use heimdall_tracking::{Credentials, ModelVersion, TrackingAddress, TrackingStore};
use tokio::task::spawn_blocking;

use super::{Fix, InputEvent, PredictedEvent};
use crate::model_input::{ModelInput, unfit};
use crate::object_place::ObjectPlace;
use crate::stage::{EventExtractor, LoadedEvent};
use crate::{PipelineError, TrackingSpec};

/// Where a model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelAddress {
    /// A file, or the folder that it lies in.
    Path(PathBuf),
    /// A file in a bucket: `s3://BUCKET/PATH`.
    Object(String),
    /// A version of a registered model that an alias points to.
    Alias {
        /// Name of the registered model.
        name: String,
        /// The alias.
        alias: String,
    },
    /// A version of a registered model.
    Version {
        /// Name of the registered model.
        name: String,
        /// Number of the version.
        version: u32,
    },
}

impl FromStr for ModelAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(rest) = text.strip_prefix("models:/") else {
            return match text.split_once("://") {
                Some(("s3", _)) => Ok(Self::Object(text.to_owned())),
                Some((scheme, _)) => Err(format!(
                    "`{scheme}:` is not known: expected a file, a folder, `s3://BUCKET/PATH` or `models:/NAME@ALIAS`"
                )),
                None => Ok(Self::Path(text.into())),
            };
        };
        let is_told = |part: &str| !part.is_empty();
        if let Some((name, alias)) = rest.split_once('@')
            && is_told(name)
            && is_told(alias)
        {
            return Ok(Self::Alias { name: name.to_owned(), alias: alias.to_owned() });
        }
        match rest.rsplit_once('/').map(|(name, version)| (name, version.parse())) {
            Some((name, Ok(version))) if is_told(name) => {
                Ok(Self::Version { name: name.to_owned(), version })
            }
            _ => Err("expected `models:/NAME@ALIAS` or `models:/NAME/VERSION`".to_owned()),
        }
    }
}

/// An exported model, ready for events.
///
/// It can be shared by any number of threads.
#[derive(Debug)]
pub struct LocalizationModel {
    predictor: Predictor,
    input: ModelInput,
    extractor: Option<EventExtractor>,
}

impl LocalizationModel {
    /// Reads a model; a registered one from a tracking store. Who one is there, and who may use a
    /// bucket, is in the variables `MLFLOW_TRACKING_…` and `AWS_…` of the environment.
    ///
    /// # Errors
    ///
    /// - [`PipelineError::Export`] if the file cannot be read or is none.
    /// - [`PipelineError::NoSuchModel`] if the registry has no such version.
    /// - [`PipelineError::Tracking`] if the registry cannot be read.
    pub async fn open(
        address: &ModelAddress,
        tracking: &TrackingSpec,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, PipelineError> {
        let scratch =
            tempfile::tempdir().map_err(PipelineError::io("create", "a scratch folder"))?;
        let path = match address {
            ModelAddress::Path(path) if path.is_dir() => path.join(MODEL_FILE),
            ModelAddress::Path(path) => path.clone(),
            ModelAddress::Object(address) => fetch(address, environment, scratch.path()).await?,
            registered => {
                let credentials = Credentials::of_environment(environment);
                registered_file(registered, tracking, &credentials, scratch.path()).await?
            }
        };
        Self::read(path).await
    }

    async fn read(path: PathBuf) -> Result<Self, PipelineError> {
        let reading = spawn_blocking(move || {
            let predictor = Predictor::new(&read_model(&path)?)?;
            let input = ModelInput::read(&predictor)?;
            let extractor = input.extractor()?;
            Ok(Self { predictor, input, extractor })
        });
        reading.await.expect("a model is read without a panic")
    }

    /// Says where the transmitter of an event is: what receivers recorded of it, each under the name
    /// of the receiver.
    ///
    /// # Errors
    ///
    /// - [`PipelineError::DoesNotFit`] if the model does not take recordings, or not those of a
    ///   receiver or of a sample rate.
    /// - [`PipelineError::Extraction`] if no features can be made of a recording.
    pub fn locate(
        &self,
        event: &str,
        recordings: Vec<(String, IqRecording)>,
        probability: f64,
    ) -> Result<PredictedEvent, PipelineError> {
        let input = format!("event `{event}`");
        for (receiver, recording) in &recordings {
            self.input.check_recording(&input, event, receiver, recording.sample_rate_hz)?;
        }
        let label = EventLabel {
            event: event.to_owned(),
            session: String::new(),
            source: String::new(),
            position_km: None,
            time: recordings.iter().map(|(_, recording)| recording.start).min(),
            waveform: None,
        };
        let features = self.features(&input, LoadedEvent::new(event, recordings))?;
        self.predict(&InputEvent { label, features }, probability)
    }

    /// What the events must be.
    pub(super) fn input(&self) -> &ModelInput {
        &self.input
    }

    /// Makes of recordings what the model sees of them; messages say where they are from.
    pub(super) fn features(
        &self,
        input: &str,
        event: LoadedEvent,
    ) -> Result<FeatureMap, PipelineError> {
        let features = self.planned(input)?.extract(event)?;
        // Levels were rounded so that the model learned from.
        let round = |level_db: f32| match self.input.precision {
            Precision::F16 => f16::from_f32(level_db).to_f32(),
            Precision::F32 => level_db,
        };
        let levels_db = features.levels_db.iter().copied().map(round).collect();
        Ok(FeatureMap { levels_db, ..features })
    }

    /// Returns how recordings become features, if they do.
    pub(super) fn planned(&self, input: &str) -> Result<&EventExtractor, PipelineError> {
        self.extractor.as_ref().ok_or_else(|| {
            let expected = match self.input.header.features {
                None => "tables of measurements, from which it learned",
                Some(_) if self.input.header.shape.is_empty() => {
                    "features without levels, from which it learned"
                }
                Some(_) => "features as a stage writes them: it does not say how they are made",
            };
            unfit(input, "what there is", "recordings", expected)
        })
    }

    /// Says where the transmitter of an event is.
    pub(super) fn predict(
        &self,
        event: &InputEvent,
        probability: f64,
    ) -> Result<PredictedEvent, PipelineError> {
        let InputEvent { label, features } = event;
        let frame = self.predictor.frame();
        let prediction = self.predictor.predict(features)?;
        let fix = Fix::of(&prediction, features, frame, probability)?;
        PredictedEvent::new(label, features, fix, frame)
    }
}

/// Fetches a file from a bucket.
async fn fetch(
    address: &str,
    environment: &BTreeMap<String, String>,
    scratch: &Path,
) -> Result<PathBuf, PipelineError> {
    let invalid = |reason| PipelineError::InvalidPlace { address: address.to_owned(), reason };
    let (folder, name) = address.rsplit_once('/').unwrap_or((address, ""));
    if name.is_empty() || folder.ends_with('/') {
        return Err(invalid("expected `s3://BUCKET/PATH` with the name of a file".to_owned()));
    }
    let place = ObjectPlace::open(folder, environment).map_err(invalid)?;
    let failed =
        |source| PipelineError::Place { address: address.to_owned(), source: Box::new(source) };
    let found = place.read(&place.prefix().join(name)).await.map_err(failed)?;
    let bytes = found.ok_or_else(|| PipelineError::NoSuchObject { address: address.to_owned() })?;
    let copy = scratch.join(name);
    tokio::fs::write(&copy, bytes).await.map_err(PipelineError::io("write", &copy))?;
    Ok(copy)
}

/// Finds or fetches the file of a registered model.
async fn registered_file(
    address: &ModelAddress,
    tracking: &TrackingSpec,
    credentials: &Credentials,
    scratch: &Path,
) -> Result<PathBuf, PipelineError> {
    let (ModelAddress::Alias { name, .. } | ModelAddress::Version { name, .. }) = address else {
        unreachable!("neither a path nor an object is an address of a registry");
    };
    let registry = tracking.address()?;
    let none = |known: &[ModelVersion]| {
        let known = known.iter().map(|version| {
            let aliases = version.aliases.iter().map(|alias| format!(" @{alias}"));
            format!("{}{}", version.version, aliases.collect::<String>())
        });
        PipelineError::NoSuchModel {
            name: name.clone(),
            registry: registry.to_string(),
            known: known.collect(),
        }
    };
    if let TrackingAddress::Folder(folder) = &registry
        && !folder.join("mlflow.db").is_file()
    {
        // Opening a store makes it where there is none.
        return Err(none(&[]));
    }
    let store = TrackingStore::open(&registry, credentials).await?;
    let versions = store.registry().model_versions(name).await?;
    let is_meant = |found: &&ModelVersion| match address {
        ModelAddress::Alias { alias, .. } => found.aliases.contains(alias),
        ModelAddress::Version { version, .. } => found.version == *version,
        ModelAddress::Path(_) | ModelAddress::Object(_) => false,
    };
    let version = versions.iter().find(is_meant).ok_or_else(|| none(&versions))?;
    Ok(store.artifact(&version.storage_location, MODEL_FILE, scratch).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_files_or_versions() {
        let path = |text: &str| ModelAddress::Path(text.into());
        let alias = ModelAddress::Alias { name: "a b".to_owned(), alias: "best".to_owned() };
        let version = ModelAddress::Version { name: "net".to_owned(), version: 12 };
        for (text, expected) in [
            ("model.onnx", path("model.onnx")),
            ("/srv/models@home/x", path("/srv/models@home/x")),
            ("models:/a b@best", alias),
            ("models:/net/12", version),
            ("s3://b/models/x.onnx", ModelAddress::Object("s3://b/models/x.onnx".to_owned())),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in ["models:/net", "models:/net@", "models:/@best", "models:/net/x", "gs://a/b"] {
            assert!(text.parse::<ModelAddress>().is_err(), "{text}");
        }
    }
}
