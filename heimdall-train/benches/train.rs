//! The cost of a training step and of inference, beside Burn's own operations and PyTorch.
//!
//! Each measurement is a process of its own, so that threads and memory are its own; the contenders
//! take turns, and the fastest of all turns is shown, as other programs only ever make it slower.
//! `HEIMDALL_BENCH_TORCH_PYTHON` names an interpreter that has PyTorch; without it, that is left out.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::env;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use heimdall_loss::gaussian_nll;
use heimdall_model::{CovarianceKind, LocalizationNet, LocalizationNetConfig};
use heimdall_train::{TrainConfig, optimizer};

/// Receivers, bands and frames of an event.
const SHAPE: [usize; 3] = [3, 128, 32];

/// Turns that each contender takes.
const TURNS: usize = 3;

/// Steps before the clock starts, in which memory is taken and caches are filled.
const WARM_UP: usize = 3;

/// For how long steps are counted in each turn.
const TURN: Duration = Duration::from_secs(4);

/// The variable with which this program tells itself what to measure.
const CONTENDER: &str = "HEIMDALL_BENCH_CONTENDER";

/// What one step does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Task {
    /// Forward, backward and optimizer.
    Train,
    /// Forward without gradients.
    Infer,
    /// A product of two square matrices.
    Multiply,
}

impl Task {
    fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Infer => "infer",
            Self::Multiply => "multiply",
        }
    }
}

/// Size of the matrices of [`Task::Multiply`].
const MATRIX: usize = 1024;

/// The cost of a step.
#[derive(Clone, Copy, Debug)]
struct Cost {
    processor_ms: f64,
    wall_ms: f64,
    memory_mb: f64,
}

fn main() {
    if let Ok(contender) = env::var(CONTENDER) {
        run_contender(&contender);
        return;
    }
    // Cargo says so when it measures; when it tests all targets, this one has no tests.
    if !env::args().any(|argument| argument == "--bench") {
        return;
    }
    let torch = env::var("HEIMDALL_BENCH_TORCH_PYTHON").ok();
    println!("ResNet-18, {SHAPE:?}, single precision, {}", processor());
    println!("Burn 0.22.1; {}", torch_version(torch.as_deref()));
    println!("| step | batch | threads | contender | processor ms | wall ms | memory MB |");
    println!("|---|---|---|---|---|---|---|");
    let mut multiply = Vec::new();
    for (task, batch, threads) in [
        (Task::Train, 32, 1),
        (Task::Train, 32, 2),
        (Task::Infer, 1, 1),
        (Task::Infer, 32, 1),
        (Task::Infer, 32, 2),
        (Task::Multiply, MATRIX, 1),
    ] {
        let contenders = ["heimdall", "burn", "torch", "torch channels-last"];
        let mut best = [None::<Cost>; 4];
        for _ in 0..TURNS {
            for (name, best) in contenders.iter().zip(&mut best) {
                if task == Task::Multiply && ["heimdall", "torch channels-last"].contains(name) {
                    continue;
                }
                let Some(cost) = measure(name, task, batch, threads, torch.as_deref()) else {
                    continue;
                };
                *best = Some(best.map_or(cost, |best| Cost {
                    processor_ms: best.processor_ms.min(cost.processor_ms),
                    wall_ms: best.wall_ms.min(cost.wall_ms),
                    memory_mb: best.memory_mb.min(cost.memory_mb),
                }));
            }
        }
        for (name, cost) in contenders.iter().zip(best) {
            let Some(Cost { processor_ms, wall_ms, memory_mb }) = cost else { continue };
            if task == Task::Multiply {
                let operations = 2.0 * (MATRIX as f64).powi(3);
                multiply.push(format!("{name} {:.0}", operations / processor_ms / 1e6));
                continue;
            }
            println!(
                "| {} | {batch} | {threads} | {name} | {processor_ms:.1} | {wall_ms:.1} | \
                 {memory_mb:.0} |",
                task.name()
            );
        }
        let [ours, _, torch, channels_last] = best;
        let fastest = [torch, channels_last].into_iter().flatten();
        let fastest = fastest.map(|cost| cost.processor_ms).reduce(f64::min);
        if let (Some(ours), Some(fastest)) = (ours, fastest) {
            println!(
                "|  |  |  | heimdall is {:.2} × PyTorch |  |  |  |",
                fastest / ours.processor_ms
            );
        }
    }
    println!("Product of matrices, GFLOP/s of one core: {}", multiply.join(", "));
}

/// Lets a process of its own measure one contender.
fn measure(
    contender: &str,
    task: Task,
    batch: usize,
    threads: usize,
    torch: Option<&str>,
) -> Option<Cost> {
    let mut command = if contender.starts_with("torch") {
        let manifest = env::var("CARGO_MANIFEST_DIR").expect("cargo says where the manifest is");
        let script = Path::new(&manifest).join("../tests/python/time_torch.py");
        let mut command = Command::new(torch?);
        command.arg(script).arg(contender);
        command
    } else {
        let mut command = Command::new(env::current_exe().expect("a program knows its path"));
        command.env(CONTENDER, contender);
        command
    };
    let output = command
        .env("HEIMDALL_BENCH_TASK", task.name())
        .env("HEIMDALL_BENCH_BATCH", batch.to_string())
        .env("HEIMDALL_BENCH_SECONDS", TURN.as_secs_f64().to_string())
        .env("HEIMDALL_BENCH_THREADS", threads.to_string())
        .env("RAYON_NUM_THREADS", threads.to_string())
        .stderr(Stdio::inherit())
        .output()
        .expect("a contender starts");
    assert!(output.status.success(), "{contender} failed");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text.split_whitespace().map(|word| word.parse::<f64>().expect("a number"));
    let mut next = || numbers.next().expect("three numbers");
    Some(Cost { processor_ms: next(), wall_ms: next(), memory_mb: next() })
}

fn setting<T: std::str::FromStr>(name: &str) -> T {
    let value = env::var(name).ok().and_then(|value| value.parse().ok());
    value.unwrap_or_else(|| panic!("{name} is set by the process that started this one"))
}

/// Measures one contender, and prints its cost.
fn run_contender(contender: &str) {
    let (batch, task): (usize, String) =
        (setting("HEIMDALL_BENCH_BATCH"), setting("HEIMDALL_BENCH_TASK"));
    heimdall_kernels::set_threads(setting::<NonZeroUsize>("HEIMDALL_BENCH_THREADS"));
    if contender == "burn" {
        heimdall_kernels::disable();
    }
    let cost = match task.as_str() {
        "train" => train(batch),
        "infer" => infer(batch),
        _ => multiply(batch),
    };
    println!("{} {} {}", cost.processor_ms, cost.wall_ms, cost.memory_mb);
}

fn network(device: &Device) -> LocalizationNet {
    let config =
        LocalizationNetConfig { covariance: CovarianceKind::Diagonal, ..Default::default() };
    config.init(device)
}

/// Numbers between −1.7 and 1.7 without a pattern.
fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    let mut state = 7_u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / 16_777_216.0 - 0.5) * 3.4
    };
    let numbers: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
    Tensor::from_data(TensorData::new(numbers, shape), device)
}

fn train(batch: usize) -> Cost {
    let device = Device::flex().autodiff();
    let mut network = Some(network(&device));
    let mut adam = optimizer(&TrainConfig::default());
    let [receivers, bands, frames] = SHAPE;
    let levels_db = random([batch, receivers, bands, frames], &device);
    let position_km = random([batch, 2], &device);
    repeat(|| {
        let current = network.take().expect("put back after each step");
        let estimate = current.forward(levels_db.clone().into());
        let loss = gaussian_nll(estimate.mean_km, estimate.cholesky_km, position_km.clone());
        let loss_nats = loss.clone().into_scalar::<f32>();
        let gradients = GradientsParams::from_grads(loss.backward(), &current);
        network = Some(adam.step(1e-3, current, gradients));
        loss_nats
    })
}

fn infer(batch: usize) -> Cost {
    let device = Device::flex();
    let network = network(&device);
    let [receivers, bands, frames] = SHAPE;
    let levels_db = random([batch, receivers, bands, frames], &device);
    repeat(|| network.forward(levels_db.clone().into()).mean_km.sum().into_scalar::<f32>())
}

fn multiply(size: usize) -> Cost {
    let device = Device::flex();
    let matrix: Tensor<2> = random([size, size], &device);
    repeat(|| matrix.clone().matmul(matrix.clone()).slice([0..1, 0..1]).into_scalar::<f32>())
}

/// Repeats a step for a while.
fn repeat(mut step: impl FnMut() -> f32) -> Cost {
    for _ in 0..WARM_UP {
        black_box(step());
    }
    let (started, before) = (Instant::now(), processor_seconds());
    let mut steps = 0;
    while steps == 0 || started.elapsed() < TURN {
        black_box(step());
        steps += 1;
    }
    let ms = 1000.0 / f64::from(steps);
    Cost {
        processor_ms: (processor_seconds() - before) * ms,
        wall_ms: started.elapsed().as_secs_f64() * ms,
        memory_mb: peak_memory_mb(),
    }
}

/// Processor time of all threads of this process, as Linux counts it in hundredths of a second.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("this benchmark runs on Linux");
    // The second field is a name in parentheses; user and system time are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.map(|ticks| ticks.parse::<f64>().expect("a number")).sum::<f64>() / 100.0
}

fn peak_memory_mb() -> f64 {
    let status =
        std::fs::read_to_string("/proc/self/status").expect("this benchmark runs on Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kilobytes.expect("the peak of the resident memory") / 1024.0
}

/// Name of the processor.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name"));
    name.map_or("unknown processor", |name| name.trim_start_matches([' ', '\t', ':'])).to_owned()
}

fn torch_version(torch: Option<&str>) -> String {
    let Some(python) = torch else {
        return "PyTorch is left out, as HEIMDALL_BENCH_TORCH_PYTHON is not set".to_owned();
    };
    let output = Command::new(python)
        .args(["-c", "import torch; print(torch.__version__)"])
        .stderr(Stdio::null())
        .output()
        .expect("HEIMDALL_BENCH_TORCH_PYTHON names an interpreter");
    format!("PyTorch {}", String::from_utf8_lossy(&output.stdout).trim())
}
