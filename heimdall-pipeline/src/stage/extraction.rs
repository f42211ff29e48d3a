//! From the recordings of an event to its features: the same for training and for use.

use std::collections::HashMap;

use futures::{StreamExt, TryStreamExt, stream};
use heimdall_data::{EventEntry, EventLabel, FeatureHeader, Recordings};
use heimdall_features::{
    FeatureConfig, FeatureExtractor, FeatureMap, FeatureShape, IqRecording, ReceiverFeatures,
};
use heimdall_geo::{LocalFrame, Receiver};
use rayon::prelude::*;

use crate::PipelineError;
use crate::stage::fix::{FixConfig, FixSolver};

/// Recordings that are read at a time.
const READS_IN_FLIGHT: usize = 16;

/// Relative difference of two sample rates up to which one filter bank serves both: rates that are
/// fitted to time stamps differ by some millionths.
pub(crate) const RATE_TOLERANCE: f64 = 1e-3;

/// What is known of an event beside its features.
pub(crate) fn label(event: &EventEntry, frame: &LocalFrame) -> EventLabel {
    EventLabel {
        event: event.id.clone(),
        session: event.session.clone(),
        source: event.source.clone(),
        position_km: event.position.map(|position| frame.to_local(&position)),
        time: Some(event.start),
        waveform: event.waveform.clone(),
    }
}

/// An event with its samples.
#[derive(Clone, Debug)]
pub(crate) struct LoadedEvent {
    /// Name of the event.
    id: String,
    /// Receiver and samples.
    recordings: Vec<(String, IqRecording)>,
}

impl LoadedEvent {
    /// Takes what receivers recorded of an event.
    pub(crate) fn new(id: &str, recordings: Vec<(String, IqRecording)>) -> Self {
        Self { id: id.to_owned(), recordings }
    }

    /// Reads the recordings of events.
    pub(crate) async fn load(
        events: &[EventEntry],
        recordings: &Recordings,
    ) -> Result<Vec<Self>, PipelineError> {
        let entries: Vec<_> = events.iter().flat_map(|event| &event.recordings).collect();
        let reads: Vec<_> = entries.iter().map(|entry| recordings.load(entry)).collect();
        let samples: Vec<IqRecording> =
            stream::iter(reads).buffered(READS_IN_FLIGHT).try_collect().await?;
        let mut heard = entries.iter().map(|entry| entry.receiver.clone()).zip(samples);
        let take = |event: &EventEntry| Self {
            id: event.id.clone(),
            recordings: heard.by_ref().take(event.recordings.len()).collect(),
        };
        Ok(events.iter().map(take).collect())
    }
}

/// Makes features of events, planned once for one network of receivers and one sample rate.
#[derive(Clone, Debug)]
pub(crate) struct EventExtractor {
    receivers: Vec<Receiver>,
    shape: FeatureShape,
    sample_rate_hz: f64,
    extractor: FeatureExtractor,
    solver: Option<FixSolver>,
}

impl EventExtractor {
    /// Plans features with the receivers and the plane of a header.
    pub(crate) fn new(
        config: &FeatureConfig,
        sample_rate_hz: f64,
        fix: Option<&FixConfig>,
        header: &FeatureHeader,
    ) -> Result<Self, PipelineError> {
        let solver = fix.map(|fix| fix.solver(&header.receivers, header.frame)).transpose()?;
        Ok(Self {
            receivers: header.receivers.clone(),
            shape: header.shape,
            sample_rate_hz,
            extractor: FeatureExtractor::new(config, sample_rate_hz)?,
            solver,
        })
    }

    /// Makes the features of an event; recordings of receivers that are not in the network are left
    /// out.
    ///
    /// # Errors
    ///
    /// [`PipelineError::MixedRates`] or [`PipelineError::Extraction`] for a recording of which no
    /// features can be made.
    pub(crate) fn extract(&self, event: LoadedEvent) -> Result<FeatureMap, PipelineError> {
        let LoadedEvent { id, recordings } = event;
        for (receiver, recording) in &recordings {
            let difference = recording.sample_rate_hz / self.sample_rate_hz - 1.0;
            if difference.abs() > RATE_TOLERANCE {
                return Err(PipelineError::MixedRates {
                    event: id,
                    receiver: receiver.clone(),
                    expected_hz: self.sample_rate_hz,
                    actual_hz: recording.sample_rate_hz,
                });
            }
        }
        let by_name: HashMap<&str, &IqRecording> =
            recordings.iter().map(|(receiver, recording)| (receiver.as_str(), recording)).collect();
        let heard: Vec<Option<&IqRecording>> =
            self.receivers.iter().map(|r| by_name.get(r.name.as_str()).copied()).collect();
        let features = heard.par_iter().zip(&self.receivers).map(|(recording, receiver)| {
            let Some(recording) = recording else { return Ok(None) };
            let features = self.extractor.extract(&recording.samples);
            features.map(Some).map_err(|source| PipelineError::Extraction {
                event: id.clone(),
                receiver: receiver.name.clone(),
                source,
            })
        });
        let features: Vec<Option<ReceiverFeatures>> = features.collect::<Result<_, _>>()?;
        let map = FeatureMap::assemble(self.shape, features);
        let solver = self.solver.as_ref();
        let fix = solver.and_then(|solver| solver.fix(&heard, &map.scalars));
        Ok(FeatureMap { fix, ..map })
    }
}
