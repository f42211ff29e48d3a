//! Stage `simulate_features`: a simulated world in, features out; no recording is kept.

use std::path::PathBuf;
use std::sync::Arc;

use heimdall_data::{EventLabel, FEATURE_FORMAT_VERSION, FeatureHeader, Precision, ShardWriter};
use heimdall_features::{
    FeatureConfig, FeatureExtractor, FeatureMap, FeatureShape, ReceiverScalars,
};
use heimdall_sim::{EventLatents, LinkEstimator, LinkEvent, LinkMeasurement, World, WorldConfig};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::PipelineError;
use crate::stage::simulate::{names, world_of};
use crate::stage::{StageContext, StageOutput, spawn_blocking};

/// Makes the features of a simulated world.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimulateFeaturesStage {
    /// The world: its receivers, its transmitters, and how radio waves go from one to the other.
    pub world: WorldConfig,
    /// Table of receivers that stand in place of the world's network: `receivers.csv`.
    pub receivers: Option<PathBuf>,
    /// What is simulated of each event.
    pub depth: SimulationDepth,
    /// How samples become features; at link level the numbers of receivers deviate as theirs.
    pub features: FeatureConfig,
    /// How many bits a level takes on disk.
    pub precision: Precision,
}

/// What is simulated of each event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SimulationDepth {
    /// Levels, arrival times and masks, without samples: thousands of events per second.
    #[default]
    Link,
    /// Samples, from which features are extracted.
    Samples,
}

impl SimulationDepth {
    /// Events that are held in memory at a time.
    fn events_in_flight(self) -> usize {
        match self {
            Self::Link => 4096,
            Self::Samples => 64,
        }
    }
}

impl SimulateFeaturesStage {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// The error of the crate whose rule is broken.
    pub fn validate(&self) -> Result<(), PipelineError> {
        self.world.validate()?;
        Ok(self.features.validate()?)
    }

    /// Writes the shards, with events in the order of their indices.
    ///
    /// # Errors
    ///
    /// Whatever keeps the world from being made, or the shards from being written.
    pub(crate) async fn run(&self, context: &StageContext) -> Result<StageOutput, PipelineError> {
        let world = Arc::new(world_of(&self.world, self.receivers.as_deref())?);
        let (stage, context) = (self.clone(), context.clone());
        spawn_blocking(move || stage.write(&world, &context))
            .await
            .expect("a valid world can be simulated")
    }

    fn write(&self, world: &World, context: &StageContext) -> Result<StageOutput, PipelineError> {
        let rate_hz = world.config().sample_rate_hz;
        let extractor = FeatureExtractor::new(&self.features, rate_hz)?;
        let estimator = LinkEstimator::new(world.config(), &extractor)?;
        let header = self.header(world);
        let writer = ShardWriter::create(context.output("features"), &header)?;
        let mut writer = writer.with_precision(self.precision);

        let (total, step) = (world.len(), self.depth.events_in_flight());
        let (mut heard, mut timed) = (0_usize, 0_usize);
        for first in (0..total).step_by(step) {
            context.progress(first as u64, total as u64, "events simulated");
            let indices = (first..total.min(first + step)).into_par_iter();
            let events: Vec<(EventLabel, FeatureMap)> = indices
                .map(|index| self.event(world, index, &extractor, &estimator, header.shape))
                .collect::<Result<_, _>>()?;
            context.check_cancelled()?;
            for (label, features) in events {
                heard += features.hearing_receivers();
                timed += features.arrivals.iter().flatten().count();
                writer.push(label, &features)?;
            }
        }
        writer.finish()?;
        Ok(StageOutput {
            metrics: [
                ("events".to_owned(), total as f64),
                ("heard_per_event".to_owned(), heard as f64 / total as f64),
                ("timed_per_event".to_owned(), timed as f64 / total as f64),
            ]
            .into(),
            headline: Some(format!("{total} events")),
        })
    }

    fn header(&self, world: &World) -> FeatureHeader {
        let receivers = world.receivers().to_vec();
        FeatureHeader {
            format_version: FEATURE_FORMAT_VERSION,
            shape: match self.depth {
                SimulationDepth::Link => FeatureShape::without_levels(receivers.len()),
                SimulationDepth::Samples => FeatureShape {
                    receivers: receivers.len(),
                    bands: self.features.bands,
                    frames: self.features.frames,
                },
            },
            frame: *world.frame(),
            receivers,
            features: Some(self.features.clone()),
            sample_rate_hz: Some(world.config().sample_rate_hz),
        }
    }

    fn event(
        &self,
        world: &World,
        index: usize,
        extractor: &FeatureExtractor,
        estimator: &LinkEstimator,
        shape: FeatureShape,
    ) -> Result<(EventLabel, FeatureMap), PipelineError> {
        match self.depth {
            SimulationDepth::Link => {
                let event = world.link_event(index, estimator);
                Ok((label(&event.latents, world), measured(&event)))
            }
            SimulationDepth::Samples => {
                let event = world.event(index);
                let receivers = event.receptions.iter().zip(world.receivers());
                let features = receivers.map(|(recording, receiver)| {
                    let Some(recording) = recording else { return Ok(None) };
                    let features = extractor.extract(&recording.samples);
                    features.map(Some).map_err(|source| PipelineError::Extraction {
                        event: names(&event.latents).event,
                        receiver: receiver.name.clone(),
                        source,
                    })
                });
                let features = features.collect::<Result<_, _>>()?;
                Ok((label(&event.latents, world), FeatureMap::assemble(shape, features)))
            }
        }
    }
}

fn label(latents: &EventLatents, world: &World) -> EventLabel {
    let names = names(latents);
    EventLabel {
        event: names.event,
        session: names.session,
        source: names.source,
        position_km: Some(world.frame().to_local(&latents.position)),
        time: Some(latents.start),
        waveform: Some(latents.waveform.name().to_owned()),
    }
}

/// What receivers measure at link level; bandwidth and kurtosis are properties of samples.
fn measured(event: &LinkEvent) -> FeatureMap {
    let scalars = |measurement: &LinkMeasurement| ReceiverScalars {
        // Decibels have a few hundred as their largest values.
        power_db: measurement.power_db as f32,
        noise_psd_db: measurement.noise_psd_db as f32,
        snr_db: measurement.snr_db as f32,
        bandwidth_hz: f32::NAN,
        kurtosis: f32::NAN,
        detected: measurement.detected,
    };
    FeatureMap::of_measurements(
        event.measurements.iter().map(|measurement| measurement.as_ref().map(scalars)).collect(),
        event.measurements.iter().map(|measurement| measurement.and_then(|m| m.arrival)).collect(),
    )
}
