//! Stage `extract`: recordings in, feature shards out.

use std::collections::HashMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use heimdall_data::{
    EventEntry, EventLabel, FEATURE_FORMAT_VERSION, FeatureHeader, Precision, Recordings,
    ShardWriter,
};
use heimdall_features::{
    FeatureConfig, FeatureExtractor, FeatureMap, FeatureShape, IqRecording, ReceiverFeatures,
};
use heimdall_geo::{LocalFrame, Receiver};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::PipelineError;
use crate::stage::fix::{FixConfig, FixSolver};
use crate::stage::{StageContext, StageOutput, spawn_blocking};

/// Events that are held in memory at a time.
const EVENTS_IN_FLIGHT: usize = 64;

/// Recordings that are read at a time.
const READS_IN_FLIGHT: usize = 16;

/// Relative difference of two sample rates up to which one filter bank serves both: rates that are
/// fitted to time stamps differ by some millionths.
const RATE_TOLERANCE: f64 = 1e-3;

/// Turns every event of the recordings into a feature map.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExtractStage {
    /// How samples become features.
    pub features: FeatureConfig,
    /// How many bits a level takes on disk.
    pub precision: Precision,
    /// How the delays between the recordings become a position that is stored beside the features;
    /// left out, there is none.
    pub fix: Option<FixConfig>,
}

impl ExtractStage {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// The error of the crate whose rule is broken.
    pub fn validate(&self) -> Result<(), PipelineError> {
        self.features.validate()?;
        self.fix.as_ref().map_or(Ok(()), FixConfig::validate)
    }

    /// Writes the shards, with events in the order of their ids.
    ///
    /// # Errors
    ///
    /// Stops at the first recording that cannot be read or has no features, and names it.
    pub(crate) async fn run(&self, context: &StageContext) -> Result<StageOutput, PipelineError> {
        let recordings = Recordings::open(context.input("recordings")).await?;
        let events = recordings.catalog().events().await?;
        let first = events.iter().flat_map(|event| &event.recordings).next();
        let rate_hz = first.ok_or(PipelineError::NoRecordings)?.sample_rate_hz;
        let header = self.header(recordings.catalog().receivers().await?, rate_hz)?;
        let writer = ShardWriter::create(context.output("features"), &header)?;
        let mut writer = writer.with_precision(self.precision);
        let extractor = Arc::new(FeatureExtractor::new(&self.features, rate_hz)?);
        let solver = self.fix.as_ref().map(|fix| fix.solver(&header.receivers, header.frame));
        let solver = Arc::new(solver.transpose()?);
        let mut fixes = 0;

        for (index, chunk) in events.chunks(EVENTS_IN_FLIGHT).enumerate() {
            let done = index * EVENTS_IN_FLIGHT;
            context.progress(done as u64, events.len() as u64, "events extracted");
            let mut heard = Vec::with_capacity(chunk.len());
            for event in load(chunk, &recordings).await? {
                heard.push(AssignedEvent::new(event, &header.receivers, rate_hz)?);
            }
            let (shape, extractor) = (header.shape, Arc::clone(&extractor));
            let (stage, solver) = (context.clone(), Arc::clone(&solver));
            let extraction = spawn_blocking(move || {
                let extract = |event: AssignedEvent| {
                    stage.check_cancelled()?;
                    event.extract(shape, &extractor, solver.as_ref().as_ref())
                };
                heard.into_par_iter().map(extract).collect::<Result<Vec<_>, _>>()
            });
            let maps = extraction.await.expect("extraction does not panic")?;
            fixes += maps.iter().filter(|features| features.fix.is_some()).count();
            for (event, features) in chunk.iter().zip(&maps) {
                writer.push(label(event, &header.frame), features)?;
            }
        }
        writer.finish()?;
        recordings.close().await?;
        Ok(StageOutput {
            metrics: [
                ("events".to_owned(), events.len() as f64),
                ("fixes".to_owned(), fixes as f64),
            ]
            .into(),
            headline: Some(match self.fix {
                Some(_) => format!("{} events, {fixes} with a fix by delays", events.len()),
                None => format!("{} events", events.len()),
            }),
        })
    }

    fn header(
        &self,
        receivers: Vec<Receiver>,
        rate_hz: f64,
    ) -> Result<FeatureHeader, PipelineError> {
        let positions: Vec<_> = receivers.iter().map(|receiver| receiver.position).collect();
        Ok(FeatureHeader {
            format_version: FEATURE_FORMAT_VERSION,
            shape: FeatureShape {
                receivers: receivers.len(),
                bands: self.features.bands,
                frames: self.features.frames,
            },
            frame: LocalFrame::centered_on(&positions)?,
            receivers,
            features: Some(self.features.clone()),
            sample_rate_hz: Some(rate_hz),
        })
    }
}

fn label(event: &EventEntry, frame: &LocalFrame) -> EventLabel {
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
struct LoadedEvent {
    /// Name of the event.
    id: String,
    /// Receiver and samples.
    recordings: Vec<(String, IqRecording)>,
}

async fn load(
    events: &[EventEntry],
    recordings: &Recordings,
) -> Result<Vec<LoadedEvent>, PipelineError> {
    let entries: Vec<_> = events.iter().flat_map(|event| &event.recordings).collect();
    let reads: Vec<_> = entries.iter().map(|entry| recordings.load(entry)).collect();
    let samples: Vec<IqRecording> =
        stream::iter(reads).buffered(READS_IN_FLIGHT).try_collect().await?;
    let mut heard = entries.iter().map(|entry| entry.receiver.clone()).zip(samples);
    let take = |event: &EventEntry| LoadedEvent {
        id: event.id.clone(),
        recordings: heard.by_ref().take(event.recordings.len()).collect(),
    };
    Ok(events.iter().map(take).collect())
}

/// An event whose recordings stand at their receivers.
struct AssignedEvent {
    id: String,
    /// One per receiver of the network.
    receivers: Vec<Option<(String, IqRecording)>>,
}

impl AssignedEvent {
    fn new(
        event: LoadedEvent,
        receivers: &[Receiver],
        sample_rate_hz: f64,
    ) -> Result<Self, PipelineError> {
        for (receiver, recording) in &event.recordings {
            let difference = recording.sample_rate_hz / sample_rate_hz - 1.0;
            if difference.abs() > RATE_TOLERANCE {
                return Err(PipelineError::MixedRates {
                    event: event.id,
                    receiver: receiver.clone(),
                    expected_hz: sample_rate_hz,
                    actual_hz: recording.sample_rate_hz,
                });
            }
        }
        let mut by_name: HashMap<String, IqRecording> = event.recordings.into_iter().collect();
        let receivers = receivers.iter().map(|receiver| by_name.remove_entry(&receiver.name));
        Ok(Self { id: event.id, receivers: receivers.collect() })
    }

    fn extract(
        self,
        shape: FeatureShape,
        extractor: &FeatureExtractor,
        solver: Option<&FixSolver>,
    ) -> Result<FeatureMap, PipelineError> {
        let receivers = self.receivers.iter().map(|heard| {
            let Some((receiver, recording)) = heard else { return Ok(None) };
            let features = extractor.extract(&recording.samples);
            features.map(Some).map_err(|source| PipelineError::Extraction {
                event: self.id.clone(),
                receiver: receiver.clone(),
                source,
            })
        });
        let receivers: Vec<Option<ReceiverFeatures>> = receivers.collect::<Result<_, _>>()?;
        let map = FeatureMap::assemble(shape, receivers);
        let recordings: Vec<Option<&IqRecording>> =
            self.receivers.iter().map(|heard| heard.as_ref().map(|(_, r)| r)).collect();
        let fix = solver.and_then(|solver| solver.fix(&recordings, &map.scalars));
        Ok(FeatureMap { fix, ..map })
    }
}
