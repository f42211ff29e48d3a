//! Times where an exported model puts one event of seven receivers: from samples in memory to a
//! position with its region.
//!
//! The model is that of a pipeline with features, a classical fix and a network as users have them,
//! trained so little that it knows nothing: that takes as long.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use heimdall_data::Recordings;
use heimdall_features::IqRecording;
use heimdall_pipeline::{LocalizationModel, ModelAddress, TrackingSpec};

/// Most milliseconds that an event may take, in the median.
const LIMIT_MS: f64 = 50.0;
/// Calls before the clock starts, and those that are timed.
const CALLS: [usize; 2] = [5, 100];

const PIPELINE: &str = "
name: bench
stages:
  recordings:
    uses: simulate
    world: { sessions: 40, events_per_session: 1, seed: 3, outage_probability: 0 }
  features:
    uses: extract
    from: recordings
    fix: { solver: { timing_floor_s: 3.0e-7 } }
  split:
    uses: split
    from: features
    ratio: { train: 0.4, validation: 0.2, calibration: 0.2, test: 0.2 }
  train:
    uses: train
    from: { train: split.train, validation: split.validation }
    epochs: 1
    batch_size: 8
  evaluate:
    uses: evaluate
    from: { model: train, calibration: split.calibration, test: split.test }
  export:
    uses: export
    from: { model: evaluate.model, samples: split.test }
";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Cargo says so when it measures; when it tests all targets, this one has no tests.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("pipeline.yaml"), PIPELINE)?;
    let status = Command::new(env!("CARGO_BIN_EXE_heimdall-pipeline"))
        .args(["--log", "warn", "run", "pipeline.yaml"])
        .current_dir(folder.path())
        .status()?;
    assert!(status.success(), "the pipeline runs");

    let output = |path: &str| folder.path().join("artifacts/bench").join(path);
    let (event, recordings) = loudest_event(&output("recordings/recordings")).await?;
    let started = Instant::now();
    let address = ModelAddress::Path(output("export/onnx"));
    let model =
        LocalizationModel::open(&address, &TrackingSpec::default(), &BTreeMap::new()).await?;
    let open_ms = 1e3 * started.elapsed().as_secs_f64();

    let mut times_ms = Vec::new();
    let [warm_up, timed] = CALLS;
    for _ in 0..warm_up + timed {
        let recordings = recordings.clone();
        let started = Instant::now();
        model.locate(&event, recordings, 0.9)?;
        times_ms.push(1e3 * started.elapsed().as_secs_f64());
    }
    let mut times_ms = times_ms.split_off(warm_up);
    times_ms.sort_by(f64::total_cmp);
    let percentile = |share: f64| times_ms[(share * (timed - 1) as f64).round() as usize];
    println!("receivers       {}", recordings.len());
    println!("samples         {} each", recordings[0].1.samples.len());
    println!("open model      {open_ms:.0} ms, once");
    println!("event, median   {:.1} ms (limit {LIMIT_MS} ms)", percentile(0.5));
    println!("event, 95 %     {:.1} ms", percentile(0.95));
    // Other programs only ever make it slower.
    println!("event, fastest  {:.1} ms", times_ms[0]);
    assert!(percentile(0.5) < LIMIT_MS, "the limit is exceeded");
    Ok(())
}

/// The event with the most recordings, and those of them the loudest: its fix takes the longest.
async fn loudest_event(
    folder: &Path,
) -> Result<(String, Vec<(String, IqRecording)>), Box<dyn Error>> {
    let opened = Recordings::open(folder).await?;
    let mut loudest = (0.0, String::new(), Vec::new());
    for event in opened.catalog().events().await? {
        let mut recordings = Vec::new();
        for entry in &event.recordings {
            recordings.push((entry.receiver.clone(), opened.load(entry).await?));
        }
        let power = |recording: &IqRecording| -> f32 {
            recording.samples.iter().map(num_complex::Complex::norm_sqr).sum()
        };
        let total = recordings.iter().map(|(_, recording)| power(recording)).sum::<f32>();
        if recordings.len() == 7 && total > loudest.0 {
            loudest = (total, event.id, recordings);
        }
    }
    Ok((loudest.1, loudest.2))
}
