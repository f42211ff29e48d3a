//! How fast features are loaded from warm shards, and how much memory that takes.
//!
//! The set of 20 GB is one of 1 GB, whose shards stand in the folder under many names: what is read
//! is as much, and what is kept on disk is not. `HEIMDALL_BENCH_GB` sets another size.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use burn::tensor::Device;
use heimdall_data::{
    BatchOrder, Batcher, EventLabel, FEATURE_FORMAT_VERSION, FeatureHeader, HeimdallDataset,
    Precision, ShardWriter,
};
use heimdall_features::{FeatureConfig, FeatureMap, FeatureShape};
use heimdall_geo::{LocalFrame, LocalPosition, Position, Receiver};
use serde_json::{Value, json};

/// Size of the shards that are written, in GB.
const WRITTEN_GB: usize = 1;
/// Events of a batch.
const BATCH: usize = 64;
const SHAPE: FeatureShape = FeatureShape { receivers: 5, bands: 128, frames: 64 };

type Failure = Box<dyn std::error::Error>;

#[expect(clippy::print_stdout, reason = "a benchmark prints what it measures")]
fn main() -> Result<(), Failure> {
    // Cargo says so when it measures; when it tests all targets, this one has no tests.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let size_gb: usize = std::env::var("HEIMDALL_BENCH_GB").map_or(Ok(20), |text| text.parse())?;
    println!("{:<34} {:>10} {:>10}", "", "GB/s", "MB more");
    for (precision, name) in [(Precision::F32, "f32"), (Precision::F16, "f16")] {
        let folder = tempfile::tempdir()?;
        write(folder.path(), precision)?;
        let events_read = |dataset: &HeimdallDataset| -> Result<(), Failure> {
            for index in 0..dataset.len() {
                black_box(dataset.get(index)?);
            }
            Ok(())
        };
        let small = HeimdallDataset::open(folder.path())?;
        events_read(&small)?;
        let start = Instant::now();
        events_read(&small)?;
        let gb_per_s = gigabytes(&small) / start.elapsed().as_secs_f64();
        println!("{:<34} {gb_per_s:>10.2}", format!("{name}, one thread, stored order"));

        multiply(folder.path(), size_gb / WRITTEN_GB)?;
        let large = HeimdallDataset::open(folder.path())?;
        let order = BatchOrder::Shuffled { seed: 1, epoch: 2 };
        for prefetch in [2, 16] {
            let batcher = Batcher::new(&large, BATCH)?.with_prefetch(prefetch);
            let before_mb = anonymous_mb()?;
            let mut most_mb = before_mb;
            let start = Instant::now();
            for (index, batch) in batcher.iter(order, &Device::flex()).enumerate() {
                black_box(batch?);
                if index % 32 == 0 {
                    most_mb = most_mb.max(anonymous_mb()?);
                }
            }
            let gb_per_s = gigabytes(&large) / start.elapsed().as_secs_f64();
            let what = format!("{name}, {:.0} GB shuffled, prefetch {prefetch}", gigabytes(&large));
            println!("{what:<34} {gb_per_s:>10.2} {:>10.0}", most_mb - before_mb);
        }
    }
    Ok(())
}

/// Bytes of the levels as they are stored, in GB.
fn gigabytes(dataset: &HeimdallDataset) -> f64 {
    let bytes = match dataset.precision() {
        Precision::F16 => 2,
        Precision::F32 => 4,
    };
    (dataset.len() * SHAPE.len() * bytes) as f64 / 1e9
}

/// Memory that this process has for itself, in MB, files not counted.
fn anonymous_mb() -> Result<f64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()).unwrap_or("0");
    Ok(kilobytes.parse::<f64>()? / 1024.0)
}

fn write(folder: &Path, precision: Precision) -> Result<(), Failure> {
    let origin = Position::new(45.0, 8.0)?;
    let receiver = |index: usize| Receiver {
        name: format!("receiver-{index}"),
        position: origin,
        altitude_m: 100.0,
        antenna_height_m: 10.0,
    };
    let header = FeatureHeader {
        format_version: FEATURE_FORMAT_VERSION,
        shape: SHAPE,
        receivers: (0..SHAPE.receivers).map(receiver).collect(),
        frame: LocalFrame { origin },
        features: Some(FeatureConfig {
            bands: SHAPE.bands,
            frames: SHAPE.frames,
            ..FeatureConfig::default()
        }),
        sample_rate_hz: Some(24_000.0),
    };
    let mut writer = ShardWriter::create(folder, &header)?.with_precision(precision);
    let bytes = SHAPE.len() * if precision == Precision::F32 { 4 } else { 2 };
    for event in 0..WRITTEN_GB * 1_000_000_000 / bytes {
        let levels_db = (0..SHAPE.len()).map(|n| ((n * 7 + event) % 97) as f32 * 0.25).collect();
        let features = FeatureMap {
            shape: SHAPE,
            levels_db,
            scalars: vec![None; SHAPE.receivers],
            arrivals: vec![None; SHAPE.receivers],
            fix: None,
        };
        let label = EventLabel {
            event: format!("event-{event:06}"),
            session: format!("session-{}", event / 10),
            source: format!("source-{}", event / 100),
            position_km: Some(LocalPosition { east_km: event as f64, north_km: 0.0 }),
            time: None,
            waveform: None,
        };
        writer.push(label, &features)?;
    }
    Ok(writer.finish()?)
}

/// Lets the shards of a folder stand there this many times.
fn multiply(folder: &Path, times: usize) -> Result<(), Failure> {
    let path = folder.join("features.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path)?)?;
    let shards = index["shards"].as_array().cloned().unwrap_or_default();
    let events = index["events"].as_array().cloned().unwrap_or_default();
    let (mut all_shards, mut all_events) = (shards.clone(), events.clone());
    for copy in 1..times {
        for shard in &shards {
            let file = shard["file"].as_str().unwrap_or_default();
            let name = format!("copy-{copy}-{file}");
            fs::hard_link(folder.join(file), folder.join(&name))?;
            all_shards.push(json!({ "file": name, "events": shard["events"] }));
        }
        all_events.extend(events.iter().cloned().map(|mut event| {
            event["event"] = json!(format!("{copy}-{}", event["event"].as_str().unwrap_or("")));
            event
        }));
    }
    index["shards"] = all_shards.into();
    index["events"] = all_events.into();
    Ok(fs::write(&path, serde_json::to_vec(&index)?)?)
}
