//! How long a written file takes.

use std::time::{Duration, Instant};

use heimdall_features::FeatureMap;
use heimdall_model::LocalizationNetConfig;
use serde::{Deserialize, Serialize};

use crate::predictor::Plan;
use crate::{BenchmarkConfig, ExportError};

/// Batch sizes that are timed.
const BATCH_SIZES: [usize; 2] = [1, 32];
/// Runs before the clock starts, in which memory is taken.
const WARM_UP: usize = 1;
/// Most runs that are timed.
const RUNS_MAX: usize = 200;

/// How long a written file takes: `benchmark.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Benchmark {
    /// What ran the file.
    pub runtime: String,
    /// Instruction set and operating system of the machine: `x86_64-linux`.
    pub machine: String,
    /// Processors of the machine; the file was run on one of them.
    pub processors: usize,
    /// How long it took.
    pub batches: Vec<BatchLatency>,
}

/// How long a batch takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchLatency {
    /// Events of the batch.
    pub batch_size: usize,
    /// Runs that were timed.
    pub runs: usize,
    /// Median of the time of a run, in ms.
    pub latency_ms_median: f64,
    /// 95th percentile of it, in ms.
    pub latency_ms_p95: f64,
}

/// Times a file; `None` where no time is given for it.
pub(crate) fn benchmark(
    onnx: &[u8],
    network: &LocalizationNetConfig,
    samples: &[FeatureMap],
    config: &BenchmarkConfig,
) -> Result<Option<Benchmark>, ExportError> {
    if config.seconds <= 0.0 {
        return Ok(None);
    }
    let limit = Duration::from_secs_f64(config.seconds);
    let batches = BATCH_SIZES.map(|batch_size| {
        let plan = Plan::new(onnx, network, samples[0].shape, batch_size)?;
        let batch: Vec<&FeatureMap> = samples.iter().cycle().take(batch_size).collect();
        let (mut times_ms, mut left) = (Vec::new(), WARM_UP);
        let mut started = Instant::now();
        while times_ms.is_empty() || (times_ms.len() < RUNS_MAX && started.elapsed() < limit) {
            let run = Instant::now();
            plan.run(&batch)?;
            if left > 0 {
                left -= 1;
                started = Instant::now();
                continue;
            }
            times_ms.push(1e3 * run.elapsed().as_secs_f64());
        }
        Ok(BatchLatency {
            batch_size,
            runs: times_ms.len(),
            latency_ms_median: percentile(&mut times_ms, 0.5),
            latency_ms_p95: percentile(&mut times_ms, 0.95),
        })
    });
    Ok(Some(Benchmark {
        runtime: "tract-onnx".to_owned(),
        machine: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        batches: batches.into_iter().collect::<Result<_, ExportError>>()?,
    }))
}

/// The time below which a share of the runs lies, rounded up to a run.
fn percentile(times_ms: &mut [f64], share: f64) -> f64 {
    times_ms.sort_by(f64::total_cmp);
    let rank = (share * times_ms.len() as f64).ceil() as usize;
    times_ms[rank.max(1) - 1]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::sample::{features, frame, network, shape};
    use crate::{ExportConfig, export};

    #[test]
    fn percentiles_are_ranks() {
        let mut times_ms: Vec<f64> = (1..=40).rev().map(f64::from).collect();

        for (share, expected) in [(0.5, 20.0), (0.95, 38.0), (0.0, 1.0), (1.0, 40.0)] {
            assert!((percentile(&mut times_ms, share) - expected).abs() < 1e-12, "{share}");
        }
    }

    #[test]
    fn both_batch_sizes_are_timed_unless_there_is_no_time() {
        let network = network(1);
        let config = ExportConfig::default();
        let model = export(&network, &frame(), shape(), 1.0, &BTreeMap::new(), &config).unwrap();
        let timed = |seconds| {
            let config = BenchmarkConfig { seconds };
            benchmark(model.bytes(), network.config(), &features(2), &config).unwrap()
        };

        let found = timed(0.01).unwrap();

        assert_eq!(found.batches.iter().map(|b| b.batch_size).collect::<Vec<_>>(), [1, 32]);
        for batch in found.batches {
            assert!(batch.runs >= 1 && batch.latency_ms_median > 0.0, "{batch:?}");
            assert!(batch.latency_ms_p95 >= batch.latency_ms_median, "{batch:?}");
        }
        assert_eq!(timed(0.0), None);
    }
}
