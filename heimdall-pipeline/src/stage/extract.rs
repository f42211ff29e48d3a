//! Stage `extract`: recordings in, feature shards out.

use std::sync::Arc;

use heimdall_data::{FEATURE_FORMAT_VERSION, FeatureHeader, Precision, Recordings, ShardWriter};
use heimdall_features::{FeatureConfig, FeatureShape};
use heimdall_geo::{LocalFrame, Receiver};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::PipelineError;
use crate::stage::extraction::{EventExtractor, LoadedEvent, label};
use crate::stage::fix::FixConfig;
use crate::stage::{StageContext, StageOutput, spawn_blocking};

/// Events that are held in memory at a time.
const EVENTS_IN_FLIGHT: usize = 64;

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
        let fix = self.fix.as_ref();
        let extractor = Arc::new(EventExtractor::new(&self.features, rate_hz, fix, &header)?);
        let mut fixes = 0;

        for (index, chunk) in events.chunks(EVENTS_IN_FLIGHT).enumerate() {
            let done = index * EVENTS_IN_FLIGHT;
            context.progress(done as u64, events.len() as u64, "events extracted");
            let loaded = LoadedEvent::load(chunk, &recordings).await?;
            let (stage, extractor) = (context.clone(), Arc::clone(&extractor));
            let extraction = spawn_blocking(move || {
                let extract = |event: LoadedEvent| {
                    stage.check_cancelled()?;
                    extractor.extract(event)
                };
                loaded.into_par_iter().map(extract).collect::<Result<Vec<_>, PipelineError>>()
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
