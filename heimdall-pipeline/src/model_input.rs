//! What the events must be that a model takes: `export` writes it into the file, `predict` reads it.

use std::collections::BTreeMap;

use heimdall_data::{
    DataError, EventLabel, FEATURE_FORMAT_VERSION, FeatureHeader, HeimdallDataset, MeasuredEvent,
    MeasuredNetwork, Measurement, MeasurementTables, Precision, TableConfig,
};
use heimdall_export::{ExportError, Predictor};
use heimdall_features::{FeatureMap, ReceiverScalars};
use heimdall_geo::Receiver;
use serde::{Deserialize, Serialize};

use crate::PipelineError;
use crate::stage::{EventExtractor, FixConfig, RATE_TOLERANCE, Stage};

/// Tables of two years may tell the place of a receiver with other digits; further apart, in km, it
/// is another place.
const SAME_PLACE_KM_MAX: f64 = 0.1;

/// Entries of the metadata of a file.
const FEATURES: &str = "heimdall.features";
const SAMPLE_RATE: &str = "heimdall.sample_rate_hz";
const RECEIVERS: &str = "heimdall.receivers";
const PRECISION: &str = "heimdall.precision";
const FIX: &str = "heimdall.fix";
const TABLES: &str = "heimdall.tables";

/// What the events must be that a model takes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ModelInput {
    /// Receivers, plane, and how samples become features.
    pub(crate) header: FeatureHeader,
    /// How exact the levels were that the model learned from.
    pub(crate) precision: Precision,
    /// How the delays between recordings become the classical fix, if there is one. `None` where
    /// that is not known.
    pub(crate) fix: Option<Option<FixConfig>>,
    /// How tables of measurements become features; `None` where the model learned from others.
    pub(crate) tables: Option<TableInput>,
}

/// How tables of measurements become features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TableInput {
    /// What it means that a receiver has no line for an event.
    config: TableConfig,
    /// Whether levels are relative to noise.
    above_noise: bool,
    /// What each receiver counts as that hears nothing, in their order.
    silence: Vec<Silence>,
}

/// What a receiver counts as that hears nothing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Silence {
    /// One that hears this level, the lowest that it ever reports, in dB.
    Level(f32),
    /// One that is not there: it never reports a level.
    Absent,
    /// It heard every event that the model was exported with, so that nobody knows.
    Unknown,
}

impl ModelInput {
    /// Finds out what a model takes: from the features it learned from and the stages that made them.
    pub(crate) fn of(
        header: &FeatureHeader,
        samples: &HeimdallDataset,
        preparation: &[Stage],
    ) -> Result<Self, PipelineError> {
        let fixes = preparation.iter().filter_map(|stage| match stage {
            Stage::Extract(extract) => Some(extract.fix.clone()),
            Stage::SimulateFeatures(_) => Some(None),
            _ => None,
        });
        let tables = preparation.iter().filter_map(|stage| match stage {
            Stage::ImportTables(import) => Some(import.config()),
            _ => None,
        });
        let tables = match (the_only(tables), &header.features) {
            (Some(config), None) => Some(TableInput::of(config, samples)?),
            _ => None,
        };
        Ok(Self {
            header: header.clone(),
            precision: samples.precision(),
            fix: the_only(fixes),
            tables,
        })
    }

    /// Lays this out as entries of the metadata of a file.
    pub(crate) fn to_metadata(&self) -> BTreeMap<String, String> {
        let json = |value: serde_json::Result<String>| value.expect("it is plain data");
        let header = &self.header;
        let mut entries = BTreeMap::from([
            (FEATURES.to_owned(), json(serde_json::to_string(&header.features))),
            (SAMPLE_RATE.to_owned(), json(serde_json::to_string(&header.sample_rate_hz))),
            (RECEIVERS.to_owned(), json(serde_json::to_string(&header.receivers))),
            (PRECISION.to_owned(), json(serde_json::to_string(&self.precision))),
        ]);
        if let Some(fix) = &self.fix {
            entries.insert(FIX.to_owned(), json(serde_json::to_string(fix)));
        }
        if let Some(tables) = &self.tables {
            entries.insert(TABLES.to_owned(), json(serde_json::to_string(tables)));
        }
        entries
    }

    /// Reads the entries of a file.
    ///
    /// # Errors
    ///
    /// [`ExportError::ForeignModel`] if one is missing or something else.
    pub(crate) fn read(predictor: &Predictor) -> Result<Self, ExportError> {
        let told = |key| predictor.metadata().contains_key(key);
        Ok(Self {
            header: FeatureHeader {
                format_version: FEATURE_FORMAT_VERSION,
                shape: predictor.shape(),
                receivers: predictor.entry(RECEIVERS)?,
                frame: *predictor.frame(),
                features: predictor.entry(FEATURES)?,
                sample_rate_hz: predictor.entry(SAMPLE_RATE)?,
            },
            precision: predictor.entry(PRECISION)?,
            fix: if told(FIX) { Some(predictor.entry(FIX)?) } else { None },
            tables: if told(TABLES) { Some(predictor.entry(TABLES)?) } else { None },
        })
    }
}

impl ModelInput {
    /// Plans how recordings become features; `None` where the model does not take recordings, or does
    /// not say how.
    pub(crate) fn extractor(&self) -> Result<Option<EventExtractor>, PipelineError> {
        let FeatureHeader { features, sample_rate_hz, shape, .. } = &self.header;
        match (features, sample_rate_hz, &self.fix) {
            (Some(config), Some(rate_hz), Some(fix)) if !shape.is_empty() => {
                let planned = EventExtractor::new(config, *rate_hz, fix.as_ref(), &self.header)?;
                Ok(Some(planned))
            }
            _ => Ok(None),
        }
    }

    /// Checks that a recording is of a receiver that the model knows, and at its rate.
    pub(crate) fn check_recording(
        &self,
        input: &str,
        event: &str,
        receiver: &str,
        sample_rate_hz: f64,
    ) -> Result<(), PipelineError> {
        if self.receiver(receiver).is_none() {
            let what = format!("a receiver of event `{event}`");
            return Err(unfit(input, &what, &format!("`{receiver}`"), &self.only_these()));
        }
        if let Some(expected_hz) = self.header.sample_rate_hz
            && (sample_rate_hz / expected_hz - 1.0).abs() > RATE_TOLERANCE
        {
            let what = format!("the sample rate of `{receiver}` in event `{event}`");
            let [actual, expected] = [sample_rate_hz, expected_hz].map(|hz| format!("{hz} Hz"));
            return Err(unfit(input, &what, &actual, &expected));
        }
        Ok(())
    }

    /// Checks that a receiver, if the model knows it, stands where the model does.
    pub(crate) fn check_place(&self, input: &str, here: &Receiver) -> Result<(), PipelineError> {
        let Some(known) = self.receiver(&here.name) else { return Ok(()) };
        if here.position.distance_km(&known.position) <= SAME_PLACE_KM_MAX {
            return Ok(());
        }
        let place = |receiver: &Receiver| {
            let position = &receiver.position;
            format!("at {:.5}, {:.5}", position.latitude_deg(), position.longitude_deg())
        };
        let what = format!("receiver `{}`", here.name);
        Err(unfit(input, &what, &place(here), &format!("it {}", place(known))))
    }

    /// Checks that features are those that the model takes, and names the first field that differs.
    pub(crate) fn check_header(
        &self,
        input: &str,
        actual: &FeatureHeader,
    ) -> Result<(), PipelineError> {
        let json = |value: serde_json::Result<String>| value.expect("a header is plain data");
        let fields = |header: &FeatureHeader| {
            [
                ("`shape`", json(serde_json::to_string(&header.shape))),
                ("`receivers`", json(serde_json::to_string(&header.receivers))),
                ("`frame`", json(serde_json::to_string(&header.frame))),
                ("`sample_rate_hz`", json(serde_json::to_string(&header.sample_rate_hz))),
                ("`features`", json(serde_json::to_string(&header.features))),
            ]
        };
        for ((field, actual), (_, expected)) in fields(actual).into_iter().zip(fields(&self.header))
        {
            if actual != expected {
                return Err(unfit(input, field, &actual, &expected));
            }
        }
        Ok(())
    }

    fn receiver(&self, name: &str) -> Option<&Receiver> {
        self.header.receivers.iter().find(|receiver| receiver.name == name)
    }

    /// The receivers, as the end of a message.
    pub(crate) fn only_these(&self) -> String {
        let names: Vec<&str> = self.header.receivers.iter().map(|r| r.name.as_str()).collect();
        format!("only {}", names.join(", "))
    }
}

/// Makes the error of events that a model does not take.
pub(crate) fn unfit(input: &str, what: &str, actual: &str, expected: &str) -> PipelineError {
    PipelineError::DoesNotFit {
        input: input.to_owned(),
        what: what.to_owned(),
        actual: actual.to_owned(),
        expected: expected.to_owned(),
    }
}

/// What all of them are, if they are all the same.
fn the_only<T: PartialEq>(mut all: impl Iterator<Item = T>) -> Option<T> {
    let first = all.next()?;
    all.all(|other| other == first).then_some(first)
}

impl TableInput {
    /// Finds out what silence counted as in the events of a data set.
    fn of(config: TableConfig, samples: &HeimdallDataset) -> Result<Self, PipelineError> {
        let mut heard: Vec<Vec<ReceiverScalars>> =
            vec![Vec::new(); samples.header().receivers.len()];
        for index in 0..samples.len() {
            let (_, features): (EventLabel, FeatureMap) = samples.get(index)?;
            for (receiver, scalars) in heard.iter_mut().zip(features.scalars) {
                receiver.extend(scalars);
            }
        }
        let above_noise = heard.iter().flatten().any(|scalars| !scalars.snr_db.is_nan());
        let level_db = |s: &ReceiverScalars| if above_noise { s.snr_db } else { s.power_db };
        let silence =
            |scalars: &Vec<ReceiverScalars>| match scalars.iter().find(|scalars| !scalars.detected)
            {
                Some(silent) => Silence::Level(level_db(silent)),
                None if scalars.iter().all(|s| level_db(s).is_nan()) => Silence::Absent,
                None => Silence::Unknown,
            };
        Ok(Self { config, above_noise, silence: heard.iter().map(silence).collect() })
    }

    /// The network with which tables become what the model learned from. A receiver of which nobody
    /// knows what its silence counts as has an infinite level when it is silent.
    pub(crate) fn network(&self, header: &FeatureHeader) -> Result<MeasuredNetwork, DataError> {
        let lowest = self.silence.iter().enumerate().filter_map(|(receiver, silence)| {
            let level_db = match silence {
                Silence::Level(level_db) => f64::from(*level_db),
                Silence::Absent => return None,
                Silence::Unknown => f64::INFINITY,
            };
            let (rss_db, snr_db) =
                if self.above_noise { (None, Some(level_db)) } else { (Some(level_db), None) };
            Some(Measurement { receiver, rss_db, snr_db, ..Measurement::default() })
        });
        // An event in which each receiver reports the lowest level that it ever does.
        let event = MeasuredEvent { measurements: lowest.collect(), ..MeasuredEvent::default() };
        let tables = MeasurementTables { receivers: header.receivers.clone(), events: vec![event] };
        MeasuredNetwork::of(&tables, &self.config)
    }
}

/// Whether a receiver is silent of which nobody knows what that counts as.
pub(crate) fn is_of_unknown_silence(scalars: &ReceiverScalars) -> bool {
    !scalars.detected && (scalars.power_db.is_infinite() || scalars.snr_db.is_infinite())
}
