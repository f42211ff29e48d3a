//! Times feature extraction beside its bare transforms, SciPy and librosa.
//!
//! One second of samples at two rates, one thread, all methods in turn, again and again, so that
//! whatever else the machine does hits all of them. Printed are medians, and the fastest run, which
//! a busy machine disturbs least.

use std::hint::black_box;
use std::io::{self, BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use heimdall_features::{
    BandScaling, EmptyBands, FeatureConfig, FeatureExtractor, FilterBankConfig, FilterBankKind,
    Framing, MelScale, Real, SpectralConfig, SpectralExtractor, SpectralRows, SpectrumUnit,
};
use num_complex::Complex32;
use rayon::prelude::*;
use rustfft::FftPlanner;

const FFT_LENGTH: usize = 2048;
const HOP_LENGTH: usize = 512;
const BANDS: usize = 128;
const RUNS: usize = 41;
/// Recordings that are extracted side by side.
const RECORDINGS: usize = 64;

fn main() -> io::Result<()> {
    // Cargo says so when it measures; when it tests all targets, this one has no tests.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let mut python = Python::start()?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}", python.ask("versions")?)?;
    for sample_rate_hz in [192_000, 1_000_000] {
        let samples = noisy_carrier(sample_rate_hz);
        let frames = 1 + (samples.len() - FFT_LENGTH) / HOP_LENGTH;
        writeln!(out, "\n1 s at {sample_rate_hz} Hz, {frames} frames, one thread")?;
        let table = measure(&samples, sample_rate_hz, &mut python)?;
        table.print(&mut out)?;
    }
    print_scaling(&mut out)
}

/// White noise and a carrier 20 dB above it.
fn noisy_carrier(length: usize) -> Vec<Complex32> {
    let mut state = 1_u32;
    let mut noise = || {
        // Numerical Recipes' generator; the sum of four is nearly Gaussian.
        let uniform = |state: &mut u32| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (*state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..4).map(|_| uniform(&mut state)).sum::<f32>() * 0.01
    };
    (0..length)
        .map(|n| Complex32::cis(0.1 * (n % 62_832) as f32) * 0.1 + Complex32::new(noise(), noise()))
        .collect()
}

/// Names and seconds of every method's runs.
struct Table(Vec<(&'static str, Vec<f64>)>);

impl Table {
    fn add(&mut self, name: &'static str, seconds: f64) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, runs)) => runs.push(seconds),
            None => self.0.push((name, vec![seconds])),
        }
    }

    /// The first row is what the others are compared with.
    fn print(mut self, out: &mut impl Write) -> io::Result<()> {
        for (_, runs) in &mut self.0 {
            runs.sort_by(f64::total_cmp);
        }
        let median = |runs: &[f64]| runs[runs.len() / 2];
        let ours = |place: fn(&[f64]) -> f64| place(&self.0[0].1);
        writeln!(out, "{:34} median ms  fastest ms  ours / this: median  fastest", "")?;
        for (name, runs) in &self.0 {
            let ratios = (ours(median) / median(runs), ours(|runs| runs[0]) / runs[0]);
            writeln!(
                out,
                "{name:34} {:9.3}  {:10.3}  {:19.2}  {:7.2}",
                median(runs) * 1e3,
                runs[0] * 1e3,
                ratios.0,
                ratios.1
            )?;
        }
        Ok(())
    }
}

fn measure(samples: &[Complex32], sample_rate_hz: usize, python: &mut Python) -> io::Result<Table> {
    let mut table = Table(Vec::new());
    let mut single = bands::<f32>(sample_rate_hz, false);
    let mut exact = bands::<f32>(sample_rate_hz, true);
    let mut double = bands::<f64>(sample_rate_hz, false);
    let config = FeatureConfig { fft_length: FFT_LENGTH, ..FeatureConfig::default() };
    let features = FeatureExtractor::new(&config, sample_rate_hz as f64).expect("it is valid");
    let fft = FftPlanner::<f32>::new().plan_fft_forward(FFT_LENGTH);
    let mut frame = vec![Complex32::ZERO; FFT_LENGTH];
    let mut scratch = vec![Complex32::ZERO; fft.get_inplace_scratch_len()];
    for _ in 0..RUNS {
        table.add("our bands, f32", seconds(|| single(samples)));
        let bare = seconds(|| {
            for window in samples.windows(FFT_LENGTH).step_by(HOP_LENGTH) {
                frame.copy_from_slice(window);
                fft.process_with_scratch(&mut frame, &mut scratch);
                black_box(&mut frame);
            }
        });
        table.add("bare transforms, f32", bare);
        table.add("SciPy, both sides and mel", python.time("scipy", sample_rate_hz)?);
        table.add("librosa, real part", python.time("librosa", sample_rate_hz)?);
        table.add("our bands, f32, exact levels", seconds(|| exact(samples)));
        table.add("our bands, f64", seconds(|| double(samples)));
        let extraction = || {
            black_box(features.extract(samples).expect("samples are finite"));
        };
        table.add("our features, exactly 32 frames", seconds(extraction));
    }
    Ok(table)
}

/// The same bands of the same frames as the others make: mel, of both sides.
fn bands<T: Real>(sample_rate_hz: usize, exact_levels: bool) -> impl FnMut(&[Complex32]) {
    let bank = FilterBankConfig {
        bands: BANDS,
        kind: FilterBankKind::MelFolded,
        scale: MelScale::Slaney,
        scaling: BandScaling::Slaney,
        bandwidth_hz: None,
        empty_bands: EmptyBands::Silent,
    };
    let config = SpectralConfig {
        fft_length: FFT_LENGTH,
        framing: Framing::Hop { hop_length: HOP_LENGTH, center: false },
        unit: SpectrumUnit::Density,
        rows: SpectralRows::Bands { bank },
        exact_levels,
    };
    let extractor =
        SpectralExtractor::<T>::new(&config, sample_rate_hz as f64).expect("it is valid");
    let mut levels_db = Vec::new();
    move |samples| {
        levels_db.clear();
        let mut stream = extractor.stream(Some(samples.len())).expect("there are frames");
        stream.push(samples, |frame| levels_db.extend_from_slice(frame)).expect("they are finite");
        stream.finish(|frame| levels_db.extend_from_slice(frame)).expect("they are finite");
        black_box(&mut levels_db);
    }
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// Many recordings, on one thread and on more.
fn print_scaling(out: &mut impl Write) -> io::Result<()> {
    let config = FeatureConfig { fft_length: FFT_LENGTH, ..FeatureConfig::default() };
    let extractor = FeatureExtractor::new(&config, 192_000.0).expect("it is valid");
    let samples = noisy_carrier(192_000);
    let cores = std::thread::available_parallelism()?.get();
    writeln!(out, "\n{RECORDINGS} recordings of 1 s at 192 kHz, features")?;
    let mut alone = f64::NAN;
    for threads in 1..=cores {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(io::Error::other)?;
        let run = || {
            (0..RECORDINGS).into_par_iter().for_each(|_| {
                black_box(extractor.extract(&samples).expect("samples are finite"));
            });
        };
        let runs = (0..RUNS).map(|_| seconds(|| pool.install(run)));
        let fastest = runs.min_by(f64::total_cmp).unwrap_or(f64::NAN);
        alone = if threads == 1 { fastest } else { alone };
        let (milliseconds, factor) = (fastest * 1e3, alone / fastest);
        writeln!(out, "{threads} threads: fastest {milliseconds:.1} ms, {factor:.2} times one")?;
    }
    Ok(())
}

/// The interpreter that times SciPy and librosa.
struct Python {
    child: Child,
    requests: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Python {
    fn start() -> io::Result<Self> {
        let interpreter = std::env::var_os("HEIMDALL_TEST_PYTHON").ok_or_else(|| {
            io::Error::other("`cargo xtask bench features` sets HEIMDALL_TEST_PYTHON")
        })?;
        let manifest = std::env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
        let script = manifest + "/../tests/python/time_features.py";
        let numbers = [FFT_LENGTH, HOP_LENGTH, BANDS].map(|number| number.to_string());
        let mut child = Command::new(interpreter)
            .arg(script)
            .args(numbers)
            .env("OMP_NUM_THREADS", "1")
            .env("OPENBLAS_NUM_THREADS", "1")
            // What a shell sets for older processors would slow the product down.
            .env_remove("OPENBLAS_CORETYPE")
            .env_remove("OPENBLAS_L2_SIZE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the interpreter has pipes"));
        };
        Ok(Self { child, requests, answers: BufReader::new(answers).lines() })
    }

    fn ask(&mut self, request: &str) -> io::Result<String> {
        writeln!(self.requests, "{request}")?;
        self.answers.next().ok_or_else(|| io::Error::other("no answer"))?
    }

    fn time(&mut self, method: &str, sample_rate_hz: usize) -> io::Result<f64> {
        self.ask(&format!("{method} {sample_rate_hz}"))?.parse().map_err(io::Error::other)
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
