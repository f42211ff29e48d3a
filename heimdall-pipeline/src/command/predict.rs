//! `predict`: recordings in, positions out, by an exported model.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::Surroundings;
use super::table::table;
use crate::output::OutputPlace;
use crate::prediction::{
    Fix, LocalizationModel, ModelAddress, PredictedEvent, ReadingOptions, RecordingFiles,
    feature_collection, predict,
};
use crate::{PipelineError, TrackingSpec};

/// Arguments of `predict`.
#[derive(Debug, Args)]
pub struct PredictArgs {
    /// Folders with what receivers recorded of one event or more: files with `receivers.csv`, or
    /// with the places of their receivers in them; recordings or features as stages write them; or
    /// tables, if the model learned from such
    #[arg(required = true, value_name = "RECORDINGS")]
    pub recordings: Vec<PathBuf>,

    /// Model: a file, the folder of a package, `s3://BUCKET/PATH`, `models:/NAME@ALIAS` or
    /// `models:/NAME/VERSION`
    #[arg(long, value_name = "MODEL")]
    pub model: ModelAddress,

    /// Store in which registered models are looked up: a folder or a server
    #[arg(long, value_name = "ADDRESS", env = "MLFLOW_TRACKING_URI", default_value = "mlflow")]
    pub tracking: String,

    /// File for positions and regions as GeoJSON
    #[arg(long, value_name = "FILE", default_value = "positions.geojson")]
    pub output: PathBuf,

    /// Probability that a region holds the transmitter
    #[arg(long, value_name = "P", default_value_t = 0.9)]
    pub probability: f64,

    /// How files of samples are written; without it, as the first of these kinds of which there are
    /// any
    #[arg(long, value_enum)]
    pub files: Option<RecordingFiles>,

    /// Sample rate of all files, whatever they say
    #[arg(long, value_name = "HZ")]
    pub sample_rate: Option<f64>,

    /// Center frequency of all files, whatever they say
    #[arg(long, value_name = "HZ")]
    pub center_frequency: Option<f64>,

    /// Print the positions as one JSON object
    #[arg(long)]
    pub json: bool,
}

impl PredictArgs {
    /// Writes the positions, and prints them.
    pub(crate) async fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        let reading = self.reading()?;
        let place = OutputPlace::check("--output", &self.output, &self.inputs())?;
        let tracking = TrackingSpec { uri: self.tracking.clone(), ..TrackingSpec::default() };
        let model =
            LocalizationModel::open(&self.model, &tracking, &surroundings.environment).await?;
        let events = predict(model, &self.recordings, &reading, self.probability).await?;
        let geojson = format!("{}\n", feature_collection(&events));
        place.write(geojson.as_bytes())?;
        surroundings.print(&match self.json {
            true => format!("{}\n", json!({ "events": events })),
            false => lines(&events),
        })?;
        Ok(0)
    }

    fn reading(&self) -> Result<ReadingOptions, PipelineError> {
        let invalid = |option, expected| Err(PipelineError::InvalidOption { option, expected });
        if !(self.probability > 0.0 && self.probability < 1.0) {
            return invalid("--probability", "above 0 and below 1");
        }
        let is_rate = |rate_hz: f64| rate_hz.is_finite() && rate_hz > 0.0;
        if !self.sample_rate.is_none_or(is_rate) {
            return invalid("--sample-rate", "a positive number of hertz");
        }
        if !self.center_frequency.is_none_or(is_rate) {
            return invalid("--center-frequency", "a positive number of hertz");
        }
        Ok(ReadingOptions {
            files: self.files,
            sample_rate_hz: self.sample_rate,
            center_frequency_hz: self.center_frequency,
        })
    }

    /// The files that are read, as far as they are known before.
    fn inputs(&self) -> Vec<PathBuf> {
        let in_folder = |folder: &PathBuf| {
            let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
            files.map(|file| file.path()).collect::<Vec<_>>()
        };
        let mut inputs: Vec<PathBuf> = self.recordings.iter().flat_map(in_folder).collect();
        if let ModelAddress::Path(path) = &self.model {
            inputs.push(path.clone());
            inputs.extend(in_folder(path));
        }
        inputs
    }
}

/// A line for each event.
fn lines(events: &[PredictedEvent]) -> String {
    let header =
        ["event", "heard by", "latitude", "longitude", "region", "error"].map(str::to_owned);
    let row = |event: &PredictedEvent| {
        let heard = event.hearing_receivers.to_string();
        let error = event.error_km.map_or_else(String::new, |error_km| format!("{error_km:.2} km"));
        let [latitude, longitude, region] = match &event.fix {
            None => ["no fix".to_owned(), String::new(), String::new()],
            Some(Fix { position, probability, region, .. }) => [
                format!("{:.5}", position.latitude_deg()),
                format!("{:.5}", position.longitude_deg()),
                format!(
                    "{:.0} % in {:.1} × {:.1} km at {:.0}°",
                    100.0 * probability,
                    region.semi_major_km,
                    region.semi_minor_km,
                    region.azimuth_deg
                ),
            ],
        };
        [event.event.clone(), heard, latitude, longitude, region, error]
    };
    table(&std::iter::once(header).chain(events.iter().map(row)).collect::<Vec<_>>())
}
