//! From a folder to the features of the events in it, as a model takes them.

use std::path::Path;
use std::sync::Arc;

use heimdall_data::{
    DataError, EventLabel, HeimdallDataset, Recordings, import_folder, read_measurement_tables,
};
use heimdall_features::FeatureMap;
use tokio::task::spawn_blocking;

use super::{LocalizationModel, ReadingOptions, RecordingFiles};
use crate::PipelineError;
use crate::model_input::{ModelInput, is_of_unknown_silence, unfit};
use crate::stage::{LoadedEvent, label};

/// Events whose samples are held in memory at a time.
const EVENTS_IN_FLIGHT: usize = 16;
/// Kinds of files that are looked for, in this order.
const FILES: [RecordingFiles; 4] =
    [RecordingFiles::Sigmf, RecordingFiles::Wav, RecordingFiles::Npy, RecordingFiles::Raw];

/// An event, and what a model sees of it.
#[derive(Clone, Debug)]
pub(super) struct InputEvent {
    pub(super) label: EventLabel,
    pub(super) features: FeatureMap,
}

/// Reads the events of a folder: features as a stage writes them, tables of measurements, recordings
/// with their catalog, or files of samples.
pub(super) async fn read(
    folder: &Path,
    model: &Arc<LocalizationModel>,
    reading: &ReadingOptions,
) -> Result<Vec<InputEvent>, PipelineError> {
    let input = folder.display().to_string();
    let found = std::fs::metadata(folder).map_err(PipelineError::io("read", folder))?;
    if !found.is_dir() {
        let expected = "a folder: of recordings, of tables or of features";
        return Err(unfit(&input, "what there is", "a file", expected));
    }
    if folder.join("features.json").is_file() {
        return of_features(&input, folder, model.input());
    }
    if folder.join("measurements.csv").is_file() {
        return of_tables(&input, folder, model.input());
    }
    model.planned(&input)?;
    let scratch = tempfile::tempdir().map_err(PipelineError::io("create", "a scratch folder"))?;
    let recordings = match folder.join("catalog.db").is_file() {
        true => Recordings::open(folder).await.map_err(PipelineError::Recording)?,
        false => import(folder, scratch.path(), reading).await?,
    };
    let events = of_recordings(&input, &recordings, model).await?;
    recordings.close().await?;
    Ok(events)
}

/// Copies the samples of a folder into a catalog of its own.
async fn import(
    folder: &Path,
    scratch: &Path,
    reading: &ReadingOptions,
) -> Result<Recordings, PipelineError> {
    let kinds = reading.files.map_or(FILES.to_vec(), |files| vec![files]);
    let mut missing = None;
    for (number, files) in kinds.into_iter().enumerate() {
        let recordings = Recordings::create(&scratch.join(number.to_string())).await?;
        match import_folder(folder, &recordings, &reading.import(files)).await {
            Ok(_) => return Ok(recordings),
            Err(error @ DataError::NothingToImport { .. }) => {
                missing.get_or_insert(error);
            }
            Err(error) => return Err(PipelineError::Recording(error)),
        }
    }
    Err(PipelineError::Recording(missing.expect("at least one kind is looked for")))
}

/// Makes features of recordings.
async fn of_recordings(
    input: &str,
    recordings: &Recordings,
    model: &Arc<LocalizationModel>,
) -> Result<Vec<InputEvent>, PipelineError> {
    let (receivers, entries) =
        (recordings.catalog().receivers().await?, recordings.catalog().events().await?);
    if entries.is_empty() {
        return Err(PipelineError::NoRecordings);
    }
    for entry in &entries {
        for recording in &entry.recordings {
            let (name, rate_hz) = (&recording.receiver, recording.sample_rate_hz);
            model.input().check_recording(input, &entry.id, name, rate_hz)?;
        }
    }
    for receiver in &receivers {
        model.input().check_place(input, receiver)?;
    }
    let mut events = Vec::with_capacity(entries.len());
    for chunk in entries.chunks(EVENTS_IN_FLIGHT) {
        let loaded = LoadedEvent::load(chunk, recordings).await?;
        let (model_of_task, input) = (Arc::clone(model), input.to_owned());
        let extracting = spawn_blocking(move || {
            let features = |event| model_of_task.features(&input, event);
            loaded.into_iter().map(features).collect::<Result<Vec<_>, PipelineError>>()
        });
        let features = extracting.await.expect("extraction does not panic")?;
        events.extend(chunk.iter().zip(features).map(|(entry, features)| InputEvent {
            label: label(entry, &model.input().header.frame),
            features,
        }));
    }
    Ok(events)
}

/// Makes features of tables of levels and arrival times.
fn of_tables(
    input: &str,
    folder: &Path,
    model: &ModelInput,
) -> Result<Vec<InputEvent>, PipelineError> {
    let Some(tables) = &model.tables else {
        let expected = match model.header.features {
            Some(_) => "recordings or features, from which it learned",
            None => "features as a stage writes them: it does not say how it takes tables",
        };
        return Err(unfit(input, "what there is", "tables of measurements", expected));
    };
    let read = read_measurement_tables(folder).map_err(PipelineError::Measurements)?;
    for receiver in &read.receivers {
        model.check_place(input, receiver)?;
    }
    let network = tables.network(&model.header).map_err(PipelineError::Measurements)?;
    let scratch = tempfile::tempdir().map_err(PipelineError::io("create", "a scratch folder"))?;
    let report = network.write(&read, scratch.path()).map_err(PipelineError::Measurements)?;
    if let Some(receiver) = report.unknown_receivers.first() {
        return Err(unfit(input, "a receiver", &format!("`{receiver}`"), &model.only_these()));
    }
    let events = of_features(input, scratch.path(), model)?;
    for InputEvent { label, features } in &events {
        for (scalars, receiver) in features.scalars.iter().zip(&model.header.receivers) {
            if scalars.as_ref().is_some_and(is_of_unknown_silence) {
                let what = format!("`{}` in event `{}`", receiver.name, label.event);
                let expected = "it to hear every event, as it did when the model was exported";
                return Err(unfit(input, &what, "silent", expected));
            }
        }
    }
    Ok(events)
}

/// Reads features that a stage wrote into a folder.
fn of_features(
    input: &str,
    folder: &Path,
    model: &ModelInput,
) -> Result<Vec<InputEvent>, PipelineError> {
    let dataset = HeimdallDataset::open(folder).map_err(PipelineError::Recording)?;
    model.check_header(input, dataset.header())?;
    let event = |index| {
        let (label, features) = dataset.get(index)?;
        Ok(InputEvent { label, features })
    };
    (0..dataset.len()).map(event).collect()
}
