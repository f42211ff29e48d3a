//! `locate`: tables of levels and arrival times in, positions out.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use heimdall_geo::{
    ArrivalConfig, FingerprintConfig, LevelMetric, PathLossFitConfig, SilentReceiver,
};
use tokio::task::spawn_blocking;

use super::Surroundings;
use crate::PipelineError;
use crate::localization::{LevelColumn, LocalizationOptions, Method, locate_folder};

/// Arguments of `locate`.
#[derive(Debug, Args)]
pub struct LocateArgs {
    /// Folder with `receivers.csv`, `events.csv` and `measurements.csv`
    pub folder: PathBuf,

    /// How a position is computed
    #[arg(long, value_enum)]
    pub method: Method,

    /// File for the positions
    #[arg(long, value_name = "FILE", default_value = "positions.csv")]
    pub output: PathBuf,

    /// Folder with events of known places to learn from, in the same form
    #[arg(long, value_name = "FOLDER", conflicts_with = "folds")]
    pub train: Option<PathBuf>,

    /// Side of square blocks in m: without `--train`, a part of them is held out in turn and located
    /// from the others
    #[arg(long, value_name = "METERS")]
    pub blocks_m: Option<f64>,

    /// Parts into which the blocks are divided
    #[arg(long, default_value_t = 10)]
    pub folds: usize,

    /// Print the comparison with the truth as one JSON object
    #[arg(long)]
    pub json: bool,

    /// Column of the levels; without it, `snr` where it has any
    #[arg(long, value_enum)]
    pub level: Option<LevelColumn>,

    /// How far beyond the receivers a transmitter may be
    #[arg(long, value_name = "KM")]
    pub margin_km: Option<f64>,

    /// How levels become positions
    #[command(flatten)]
    pub levels: LevelArgs,

    /// How fingerprints become positions
    #[command(flatten)]
    pub fingerprints: FingerprintArgs,

    /// How times become positions
    #[command(flatten)]
    pub timing: TimingArgs,
}

/// What `level` and `fusion` expect.
#[derive(Debug, Args)]
#[command(next_help_heading = "Levels")]
pub struct LevelArgs {
    /// Path-loss exponent, or what is expected of it before it is fitted
    #[arg(long, default_value_t = PathLossFitConfig::default().exponent)]
    pub exponent: f64,

    /// Standard deviation of levels around path loss, or what is expected of it
    #[arg(long, value_name = "DB", default_value_t = PathLossFitConfig::default().sigma_db)]
    pub shadowing_db: f64,

    /// Fit path loss only, and draw no map of what was heard where
    #[arg(long)]
    pub path_loss_only: bool,
}

/// How `knn` compares.
#[derive(Debug, Args)]
#[command(next_help_heading = "Fingerprints")]
pub struct FingerprintArgs {
    /// Fingerprints that are averaged
    #[arg(long, default_value_t = FingerprintConfig::default().neighbors)]
    pub neighbors: usize,

    /// How different levels are
    #[arg(long, value_enum, default_value_t = Metric::Euclidean)]
    pub metric: Metric,

    /// What a receiver counts as that hears nothing
    #[arg(long, value_enum, default_value_t = Silence::Lowest)]
    pub silence: Silence,

    /// Weigh by the inverse of the difference to this power
    #[arg(long, value_name = "POWER", default_value_t = FingerprintConfig::default().weight_power)]
    pub weight_power: f64,
}

/// How different levels are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Metric {
    /// Root of the mean squared difference
    Euclidean,
    /// Mean absolute difference
    Manhattan,
}

/// What a receiver counts as that hears nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Silence {
    /// One that hears the lowest level it ever reports
    Lowest,
    /// None: the others are compared
    Ignored,
}

/// What `tdoa` and `fusion` take the times for.
#[derive(Debug, Args)]
#[command(next_help_heading = "Arrival times")]
pub struct TimingArgs {
    /// Standard deviation of an arrival time; more is used where the times show it
    #[arg(long, value_name = "NS", default_value_t = 50.0)]
    pub timing_sigma_ns: f64,

    /// Standard deviation of what stays in a receiver's times: clock, cable, multipath
    #[arg(long, value_name = "NS", default_value_t = 100.0)]
    pub timing_floor_ns: f64,

    /// Standard deviation in each direction of the true position itself: a transmitter that moves
    #[arg(long, value_name = "METERS", default_value_t = 70.0)]
    pub position_floor_m: f64,

    /// Speed of propagation relative to that of light in vacuum
    #[arg(long, value_name = "RATIO", default_value_t = ArrivalConfig::default().propagation_speed_ratio)]
    pub propagation_speed: f64,
}

impl LocateArgs {
    /// Writes the positions, and prints how they compare with the truth.
    pub(crate) async fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        let options = self.options();
        let locating = spawn_blocking(move || locate_folder(&options));
        let comparison = locating.await.expect("locating does not panic")?;
        if self.json {
            let json = serde_json::to_string(&comparison).expect("a comparison is plain data");
            surroundings.print(&format!("{json}\n"))?;
        } else {
            surroundings.print(&comparison.to_string())?;
        }
        Ok(0)
    }

    fn options(&self) -> LocalizationOptions {
        let FingerprintArgs { neighbors, metric, silence, weight_power } = self.fingerprints;
        LocalizationOptions {
            folder: self.folder.clone(),
            method: self.method,
            train: self.train.clone(),
            blocks_m: self.blocks_m,
            folds: self.folds,
            output: self.output.clone(),
            level: self.level,
            margin_km: self.margin_km,
            path_loss_only: self.levels.path_loss_only,
            path_loss: PathLossFitConfig {
                exponent: self.levels.exponent,
                sigma_db: self.levels.shadowing_db,
                ..PathLossFitConfig::default()
            },
            fingerprints: FingerprintConfig {
                neighbors,
                metric: match metric {
                    Metric::Euclidean => LevelMetric::Euclidean,
                    Metric::Manhattan => LevelMetric::Manhattan,
                },
                silent: match silence {
                    Silence::Lowest => SilentReceiver::LowestLevel,
                    Silence::Ignored => SilentReceiver::Ignored,
                },
                weight_power,
                ..FingerprintConfig::default()
            },
            arrivals: ArrivalConfig {
                timing_floor_s: self.timing.timing_floor_ns * 1e-9,
                position_floor_km: self.timing.position_floor_m * 1e-3,
                propagation_speed_ratio: self.timing.propagation_speed,
                ..ArrivalConfig::default()
            },
            timing_sigma_s: self.timing.timing_sigma_ns * 1e-9,
        }
    }
}
