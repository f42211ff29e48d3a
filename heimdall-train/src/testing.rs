//! Small sets and networks for the tests of this crate.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use heimdall_data::{
    Augmentation, EventLabel, FEATURE_FORMAT_VERSION, FeatureHeader, HeimdallDataset, ShardWriter,
};
use heimdall_features::{ClassicalFix, FeatureConfig, FeatureMap, FeatureShape, ReceiverScalars};
use heimdall_geo::{LocalFrame, LocalPosition, Position, Receiver};
use heimdall_model::LocalizationNetConfig;

use crate::standardization::measure_standardization;
use crate::{MODEL_FORMAT_VERSION, MemberRun, ModelManifest, TrainConfig, TrainedModel};

/// Numbers in 0 … 1 that look random.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> f64 {
        // The generator of Knuth's MMIX; its upper bits are the good ones.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f64 / (1_u64 << 24) as f64
    }
}

fn header(shape: FeatureShape) -> FeatureHeader {
    let position = |longitude_deg| Position::new(45.0, longitude_deg).unwrap();
    FeatureHeader {
        format_version: FEATURE_FORMAT_VERSION,
        shape,
        receivers: (0..shape.receivers)
            .map(|index| Receiver {
                name: format!("receiver-{index}"),
                position: position(7.5 + index as f64),
                altitude_m: 100.0,
                antenna_height_m: 10.0,
            })
            .collect(),
        frame: LocalFrame { origin: position(8.0) },
        features: Some(FeatureConfig {
            bands: shape.bands,
            frames: shape.frames,
            ..FeatureConfig::default()
        }),
        sample_rate_hz: Some(24_000.0),
    }
}

/// Writes and opens a set of 2 × 16 × 8 in which levels tell positions: the first receiver is
/// louder in the east, the second in the north. Every third event is missed by one of them.
pub(crate) fn synthetic(folder: &Path, events: usize, seed: u64) -> HeimdallDataset {
    write(folder, FeatureShape { receivers: 2, bands: 16, frames: 8 }, events, seed)
}

/// Writes and opens a set of two events with more bands.
pub(crate) fn wider(folder: &Path) -> HeimdallDataset {
    write(folder, FeatureShape { receivers: 2, bands: 20, frames: 8 }, 2, 1)
}

fn write(folder: &Path, shape: FeatureShape, events: usize, seed: u64) -> HeimdallDataset {
    let mut random = Random(seed);
    // The first numbers of a small seed are small.
    for _ in 0..8 {
        random.next();
    }
    let mut writer = ShardWriter::create(folder, &header(shape)).unwrap();
    for event in 0..events {
        let position = LocalPosition {
            east_km: 120.0 * random.next() - 60.0,
            north_km: 80.0 * random.next() - 40.0,
        };
        let snrs_db = [20.0 + position.east_km / 5.0, 20.0 + position.north_km / 5.0];
        let absent = (event % 3 == 2).then_some(event % 2);
        let mut features = FeatureMap {
            shape,
            levels_db: Vec::new(),
            scalars: Vec::new(),
            fix: fix(event, position, &mut random),
            arrivals: vec![None; shape.receivers],
        };
        for (receiver, snr_db) in snrs_db.into_iter().enumerate() {
            let present = absent != Some(receiver);
            for band in 0..shape.bands {
                let carries = band >= shape.bands / 2;
                for _ in 0..shape.frames {
                    let noise_db = 2.0 * random.next() - 1.0;
                    let level_db = if carries { snr_db + noise_db } else { noise_db };
                    features.levels_db.push(if present { level_db as f32 } else { 0.0 });
                }
            }
            features.scalars.push(present.then_some(ReceiverScalars {
                power_db: -60.0,
                noise_psd_db: -90.0,
                snr_db: snr_db as f32,
                bandwidth_hz: 8000.0,
                kurtosis: 1.5,
                detected: snr_db > 12.0,
            }));
        }
        let label = EventLabel {
            event: format!("event-{event:04}"),
            session: format!("session-{event}"),
            source: format!("source-{event}"),
            position_km: Some(position),
            time: None,
            waveform: None,
        };
        writer.push(label, &features).unwrap();
    }
    writer.finish().unwrap();
    HeimdallDataset::open(folder).unwrap()
}

/// A fix for two of three events, up to 5 km off.
fn fix(event: usize, truth: LocalPosition, random: &mut Random) -> Option<ClassicalFix> {
    let mut off = |km: f64| (km + 10.0 * random.next() - 5.0) as f32;
    let position_km = [off(truth.east_km), off(truth.north_km)];
    (!event.is_multiple_of(3)).then_some(ClassicalFix {
        position_km,
        covariance_km2: [8.0, 0.0, 8.0],
        ambiguous: event.is_multiple_of(2),
    })
}

/// A network that has not learned anything, with the standardization of a set.
pub(crate) fn untrained(dataset: &HeimdallDataset) -> TrainedModel {
    let (standardization, side_inputs) =
        measure_standardization(dataset, false, &Augmentation::NONE).unwrap();
    let network = LocalizationNetConfig {
        input_channels: dataset.header().shape.receivers,
        head_width: 8,
        standardization,
        side_inputs: Some(side_inputs),
        ..LocalizationNetConfig::default()
    };
    let manifest = ModelManifest {
        format_version: MODEL_FORMAT_VERSION,
        network: network.clone(),
        train: TrainConfig::default(),
        pretrained_digest: None,
        features: dataset.header().clone(),
        sigma_scale: 1.0,
        seed: 0,
        training_events: dataset.len(),
        validation_events: 1,
        members: vec![MemberRun { seed: 0, best_epoch: 1, history: Vec::new() }],
        network_digest: String::new(),
        metrics: BTreeMap::new(),
    };
    TrainedModel { network: network.init(&Device::flex()).into(), manifest }
}
