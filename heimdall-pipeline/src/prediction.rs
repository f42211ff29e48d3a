//! Where the transmitters of recordings are, by an exported model.

mod event;
mod geojson;
mod model;

use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use heimdall_data::{EventLabel, ImportConfig, ImportFormat, RecordingLimits};
use heimdall_export::Prediction;
use heimdall_features::FeatureMap;
use heimdall_geo::{Covariance, Ellipse, LocalFrame, Position};
use jiff::Timestamp;
use rayon::prelude::*;
use serde::Serialize;
use tokio::task::spawn_blocking;

use self::event::InputEvent;
pub(crate) use self::geojson::feature_collection;
pub use self::model::{LocalizationModel, ModelAddress};
use crate::PipelineError;

/// How the files of a folder of recordings are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RecordingFiles {
    /// SigMF collections, recordings and archives
    Sigmf,
    /// WAV files with two channels, of KiwiSDR receivers too
    Wav,
    /// Arrays of NumPy, with a sidecar each
    Npy,
    /// Files that have samples and nothing else
    Raw,
}

impl RecordingFiles {
    fn import(self) -> ImportFormat {
        match self {
            Self::Sigmf => ImportFormat::Sigmf,
            Self::Wav => ImportFormat::Wav,
            Self::Npy => ImportFormat::Npy,
            Self::Raw => ImportFormat::Raw,
        }
    }
}

/// How the recordings are read.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadingOptions {
    /// How the files are written; without it, as the first kind of which there are any.
    pub(crate) files: Option<RecordingFiles>,
    /// Sample rate of all files, whatever they say, in Hz.
    pub(crate) sample_rate_hz: Option<f64>,
    /// Center frequency of all files, whatever they say, in Hz.
    pub(crate) center_frequency_hz: Option<f64>,
}

impl ReadingOptions {
    fn import(&self, files: RecordingFiles) -> ImportConfig {
        ImportConfig {
            format: files.import(),
            strict: true,
            sample_rate_hz: self.sample_rate_hz,
            center_frequency_hz: self.center_frequency_hz,
            // What features can be made of is for the model to say; those of its training may have
            // been clipped, too.
            limits: RecordingLimits { duration_s_min: 0.0, clipping_share_max: 1.0 },
            ..ImportConfig::default()
        }
    }
}

/// Where the transmitter of an event is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PredictedEvent {
    /// Name of the event.
    pub event: String,
    /// When it was, if that is known, as in RFC 3339.
    pub time: Option<String>,
    /// Receivers that detected it.
    pub hearing_receivers: usize,
    /// The position, unless nobody hears the event or the estimate lies over no point of the Earth.
    pub fix: Option<Fix>,
    /// Where the transmitter was, if that is known.
    pub truth: Option<Position>,
    /// Length of the geodesic from there to the position, in km.
    pub error_km: Option<f64>,
}

/// A position, and how uncertain it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Fix {
    /// The position.
    pub position: Position,
    /// One standard deviation along latitude and longitude, in degrees.
    pub uncertainty_deg: [f64; 2],
    /// Covariance in the plane that touches the Earth at the position.
    pub covariance: Covariance,
    /// Probability that the region holds the transmitter.
    pub probability: f64,
    /// The region, around the position.
    pub region: Ellipse,
}

/// Reads events, and says where their transmitters are, in the order of the folders and of the names
/// in them.
///
/// # Errors
///
/// - [`PipelineError::DoesNotFit`] if what a folder holds is not what the model takes.
/// - Those of reading the folders and of making features.
pub(crate) async fn predict(
    model: LocalizationModel,
    folders: &[PathBuf],
    reading: &ReadingOptions,
    probability: f64,
) -> Result<Vec<PredictedEvent>, PipelineError> {
    let model = Arc::new(model);
    let mut predicted = Vec::new();
    for folder in folders {
        let events = event::read(folder, &model, reading).await?;
        let model = Arc::clone(&model);
        let predicting = spawn_blocking(move || {
            let predict = |event: InputEvent| model.predict(&event, probability);
            events.into_par_iter().map(predict).collect::<Result<Vec<_>, PipelineError>>()
        });
        predicted.extend(predicting.await.expect("predicting does not panic")?);
    }
    Ok(predicted)
}

impl PredictedEvent {
    fn new(
        label: &EventLabel,
        features: &FeatureMap,
        fix: Option<Fix>,
        frame: &LocalFrame,
    ) -> Result<Self, PipelineError> {
        let truth = label.position_km.map(|truth| frame.to_position(&truth)).transpose()?;
        Ok(Self {
            event: label.event.clone(),
            time: time_of(label),
            hearing_receivers: features.hearing_receivers(),
            fix,
            truth,
            error_km: fix.zip(truth).map(|(fix, truth)| fix.position.distance_km(&truth)),
        })
    }
}

impl Fix {
    fn of(
        prediction: &Prediction,
        features: &FeatureMap,
        frame: &LocalFrame,
        probability: f64,
    ) -> Result<Option<Self>, PipelineError> {
        let Some(position) = prediction.position() else { return Ok(None) };
        if features.hearing_receivers() == 0 {
            return Ok(None);
        }
        let local = frame.to_local(&position);
        let (_, covariance) = frame.carry(&local, &prediction.covariance())?;
        let region = Ellipse::of(&covariance, probability)?;
        let uncertainty_deg = prediction.uncertainty_deg;
        Ok(Some(Self { position, uncertainty_deg, covariance, probability, region }))
    }
}

fn time_of(label: &EventLabel) -> Option<String> {
    let time = label.time?;
    let nanoseconds = i32::try_from(time.nanoseconds).ok()?;
    Timestamp::new(time.seconds, nanoseconds).ok().map(|time| time.to_string())
}
