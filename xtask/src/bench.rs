//! Benchmarks: each is a program of the crate that it measures, and prints a table.

use anyhow::Result;
use clap::Subcommand;

use crate::command::cargo;
use crate::python;

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Time feature extraction beside its bare transforms, SciPy and librosa
    Features,
    /// Time a training step and inference beside Burn's own operations and PyTorch
    Train,
    /// Time where an exported model puts one event of seven receivers
    Predict,
    /// Time runs of trivial stages beside DVC and Snakemake
    Runner,
    /// Count the events per second of each depth of simulation
    Sim,
    /// Time the loader on warm shards, and how much memory it takes
    Load,
    /// Time a catalog of a million recordings, and how much memory it takes
    Catalog,
}

/// Runs a benchmark, with optimization.
pub(crate) fn bench(what: &Bench) -> Result<()> {
    match what {
        Bench::Features => {
            let python = python::install(python::TESTS)?;
            let python = ("HEIMDALL_TEST_PYTHON", &*python.to_string_lossy());
            cargo(&["bench", "--package", "heimdall-features", "--bench", "features"], &[python])
        }
        Bench::Train => cargo(&["bench", "--package", "heimdall-train", "--bench", "train"], &[]),
        Bench::Predict => {
            cargo(&["bench", "--package", "heimdall-pipeline", "--bench", "predict"], &[])
        }
        Bench::Runner => {
            let python = python::install(python::RUNNERS)?;
            let python = ("HEIMDALL_BENCH_PYTHON", &*python.to_string_lossy());
            cargo(&["bench", "--package", "heimdall-pipeline", "--bench", "runner"], &[python])
        }
        Bench::Sim => cargo(&["bench", "--package", "heimdall-sim", "--bench", "depths"], &[]),
        Bench::Load => cargo(&["bench", "--package", "heimdall-data", "--bench", "load"], &[]),
        Bench::Catalog => {
            cargo(&["bench", "--package", "heimdall-data", "--bench", "catalog"], &[])
        }
    }
}
