//! Small features and a database for the tests of this crate.

pub(crate) mod bucket;
#[path = "../../tests/it/postgres.rs"]
pub(crate) mod postgres;

use std::path::Path;

use heimdall_features::{
    ArrivalTime, ClassicalFix, FeatureConfig, FeatureMap, FeatureShape, ReceiverScalars, UtcTime,
};
use heimdall_geo::{LocalFrame, LocalPosition, Position, Receiver};

use crate::{EventLabel, FEATURE_FORMAT_VERSION, FeatureHeader, HeimdallDataset, ShardWriter};

/// Waits for a future where a test is not asynchronous, as those of `proptest` are.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Header of a network of this size.
pub(crate) fn header(receivers: usize, bands: usize, frames: usize) -> FeatureHeader {
    let origin = Position::new(45.0, 8.0).unwrap();
    FeatureHeader {
        format_version: FEATURE_FORMAT_VERSION,
        shape: FeatureShape { receivers, bands, frames },
        receivers: (0..receivers)
            .map(|index| Receiver {
                name: format!("receiver-{index}"),
                position: origin,
                altitude_m: 100.0,
                antenna_height_m: 10.0,
            })
            .collect(),
        frame: LocalFrame { origin },
        features: Some(FeatureConfig { bands, frames, ..FeatureConfig::default() }),
        sample_rate_hz: Some(24_000.0),
    }
}

/// Label of an event; two events make a session, and four a source.
pub(crate) fn label(event: usize) -> EventLabel {
    EventLabel {
        event: format!("event-{event:04}"),
        session: format!("session-{}", event / 2),
        source: format!("source-{}", event / 4),
        position_km: Some(LocalPosition { east_km: event as f64, north_km: -0.5 * event as f64 }),
        time: Some(UtcTime { seconds: 3600 * event as i64, nanoseconds: 0 }),
        waveform: Some("nbfm_voice".to_owned()),
    }
}

/// Features that differ from event to event, in steps that half precision holds exactly. One of
/// the receivers is absent in two of three events.
pub(crate) fn feature_map(shape: FeatureShape, event: usize) -> FeatureMap {
    let per_receiver = shape.bands * shape.frames;
    let absent = event % 3;
    let levels_db = (0..shape.len())
        .map(|index| {
            let level_db = ((event * 31 + index * 7) % 97) as f32 * 0.25 - 10.0;
            if index / per_receiver == absent { 0.0 } else { level_db }
        })
        .collect();
    let scalars = (0..shape.receivers)
        .map(|receiver| {
            (receiver != absent).then(|| ReceiverScalars {
                power_db: -40.1 - event as f32,
                noise_psd_db: -90.3,
                snr_db: receiver as f32 + 0.1,
                bandwidth_hz: 8_000.7,
                kurtosis: 1.3,
                detected: (event + receiver).is_multiple_of(2),
            })
        })
        .collect();
    let arrivals = (0..shape.receivers)
        .map(|receiver| {
            (receiver != absent && event.is_multiple_of(2)).then(|| ArrivalTime {
                time_s: 1e-3 / (1.0 + receiver as f64),
                sigma_s: 1e-7 * event as f64,
            })
        })
        .collect();
    FeatureMap { shape, levels_db, scalars, arrivals, fix: fix(event) }
}

/// A fix for two of three events, of which every other is ambiguous.
fn fix(event: usize) -> Option<ClassicalFix> {
    let event_f32 = event as f32;
    (!event.is_multiple_of(3)).then_some(ClassicalFix {
        position_km: [event_f32 + 0.5, -event_f32],
        covariance_km2: [1.0 + event_f32, 0.25, 2.0],
        ambiguous: event.is_multiple_of(2),
    })
}

/// A folder with this many events of 2 × 4 × 3, opened.
pub(crate) fn dataset(folder: &Path, events: usize) -> HeimdallDataset {
    let header = header(2, 4, 3);
    let mut writer = ShardWriter::create(folder, &header).unwrap();
    for event in 0..events {
        writer.push(label(event), &feature_map(header.shape, event)).unwrap();
    }
    writer.finish().unwrap();
    HeimdallDataset::open(folder).unwrap()
}
