//! Stage `simulate`: a simulated world in, recordings out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use heimdall_data::{
    EventEntry, RecordingEntry, RecordingFormat, Recordings, read_receivers, write_npy,
};
use heimdall_features::IqRecording;
use heimdall_geo::Receiver;
use heimdall_sim::{EventLatents, Network, SimulatedEvent, Station, World, WorldConfig};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::fs::File;
use tokio::io::{AsyncWriteExt, BufWriter};

use crate::PipelineError;
use crate::stage::{StageContext, StageOutput, spawn_blocking};

/// Events that are held in memory at a time.
const EVENTS_IN_FLIGHT: usize = 64;

/// Name of the file of what only the simulation knows, beside the recordings.
pub(crate) const LATENTS_FILE: &str = "latents.jsonl";

/// Objects that are written at a time.
const WRITES_IN_FLIGHT: usize = 8;

/// Makes the recordings of a simulated world.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimulateStage {
    /// The world: its receivers, its transmitters, and how radio waves go from one to the other.
    pub world: WorldConfig,
    /// Table of receivers that stand in place of the world's network: `receivers.csv`.
    pub receivers: Option<PathBuf>,
}

impl SimulateStage {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// The error of the crate whose rule is broken.
    pub fn validate(&self) -> Result<(), PipelineError> {
        Ok(self.world.validate()?)
    }

    /// Writes the recordings of every event of the world, and `latents.jsonl` beside them: what the
    /// simulation knows and no receiver does, one event a line.
    ///
    /// # Errors
    ///
    /// Whatever keeps recordings or rows from being written.
    pub(crate) async fn run(&self, context: &StageContext) -> Result<StageOutput, PipelineError> {
        let world = Arc::new(world_of(&self.world, self.receivers.as_deref())?);
        let folder = context.output("recordings");
        let recordings = Recordings::create(folder).await?;
        recordings.catalog().add_receivers(world.receivers()).await?;
        let mut latents = LatentsFile::create(folder.join(LATENTS_FILE)).await?;

        let total = world.len();
        for first in (0..total).step_by(EVENTS_IN_FLIGHT) {
            context.progress(first as u64, total as u64, "events simulated");
            let last = total.min(first + EVENTS_IN_FLIGHT);
            let (shared, stage) = (Arc::clone(&world), context.clone());
            let simulation = spawn_blocking(move || {
                let simulate = |index| {
                    stage.check_cancelled()?;
                    Ok(shared.event(index))
                };
                (first..last)
                    .into_par_iter()
                    .map(simulate)
                    .collect::<Result<Vec<_>, PipelineError>>()
            });
            let events: Vec<_> = simulation.await.expect("a valid world can be simulated")?;
            let mut entries = Vec::with_capacity(events.len());
            for event in events {
                latents.push(&event).await?;
                entries.push(store(event, world.receivers(), &recordings).await?);
            }
            recordings.catalog().add_events(&entries).await?;
        }
        latents.finish().await?;
        recordings.close().await?;
        Ok(StageOutput {
            metrics: [("events".to_owned(), total as f64)].into(),
            headline: Some(format!("{total} events")),
        })
    }
}

/// Makes the world of a configuration, with the receivers of a table if there is one.
pub(super) fn world_of(
    config: &WorldConfig,
    receivers: Option<&Path>,
) -> Result<World, PipelineError> {
    let Some(table) = receivers else { return Ok(World::new(config)?) };
    let bytes = std::fs::read(table).map_err(PipelineError::io("read", table))?;
    let stations = read_receivers(table, &bytes)?.into_iter().map(Station::of).collect();
    Ok(World::new(&WorldConfig { network: Network::Stations(stations), ..config.clone() })?)
}

/// What the things of an event are called.
pub(super) struct EventNames {
    pub(super) event: String,
    pub(super) session: String,
    pub(super) source: String,
}

/// Names the things of an event by their numbers.
pub(super) fn names(latents: &EventLatents) -> EventNames {
    EventNames {
        event: format!("event-{:06}", latents.index),
        session: format!("session-{:05}", latents.session),
        source: format!("transmitter-{:05}", latents.session),
    }
}

/// Stores the samples of an event, and returns its row.
async fn store(
    event: SimulatedEvent,
    receivers: &[Receiver],
    recordings: &Recordings,
) -> Result<EventEntry, PipelineError> {
    let EventNames { event: id, session, source } = names(&event.latents);
    let heard = event.receptions.into_iter().zip(receivers);
    let writes = heard.filter_map(|(recording, receiver)| {
        let object = format!("sessions/{session}/{id}/{}.npy", receiver.name);
        recording.map(|recording| store_recording(recording, &receiver.name, object, recordings))
    });
    let stored = stream::iter(writes.collect::<Vec<_>>()).buffered(WRITES_IN_FLIGHT);
    Ok(EventEntry {
        source,
        position: Some(event.position),
        frequency_hz: event.frequency_hz,
        start: event.start,
        waveform: Some(event.latents.waveform.name().to_owned()),
        recordings: stored.try_collect().await?,
        levels: Vec::new(),
        session,
        id,
    })
}

async fn store_recording(
    recording: IqRecording,
    receiver: &str,
    object: String,
    recordings: &Recordings,
) -> Result<RecordingEntry, PipelineError> {
    let digest = recordings.put(&object, write_npy(&recording.samples)).await?;
    Ok(RecordingEntry {
        receiver: receiver.to_owned(),
        object,
        format: RecordingFormat::Npy,
        sample_rate_hz: recording.sample_rate_hz,
        center_frequency_hz: recording.center_frequency_hz,
        start: recording.start,
        clock: recording.clock,
        sample_count: recording.samples.len() as u64,
        digest,
    })
}

/// The file of what only the simulation knows.
struct LatentsFile {
    path: PathBuf,
    file: BufWriter<File>,
}

impl LatentsFile {
    async fn create(path: PathBuf) -> Result<Self, PipelineError> {
        let file = File::create(&path).await.map_err(PipelineError::io("create", &path))?;
        Ok(Self { path, file: BufWriter::new(file) })
    }

    async fn push(&mut self, event: &SimulatedEvent) -> Result<(), PipelineError> {
        let mut line = serde_json::to_vec(&event.latents).expect("latents are plain data");
        line.push(b'\n');
        self.file.write_all(&line).await.map_err(PipelineError::io("write", &self.path))
    }

    async fn finish(mut self) -> Result<(), PipelineError> {
        self.file.flush().await.map_err(PipelineError::io("write", &self.path))
    }
}
