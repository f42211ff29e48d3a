//! Localization without a network: three tables in, positions and their honesty out.

mod blocks;
mod comparison;
mod network;
mod solver;
mod table;

use std::path::PathBuf;

use clap::ValueEnum;
use heimdall_data::read_measurement_tables;
use heimdall_geo::{ArrivalConfig, FingerprintConfig, LocalPosition, Location, PathLossFitConfig};
use rayon::prelude::*;

pub(crate) use self::comparison::Comparison;
use self::network::{Network, Observed};
use self::solver::Solver;
use crate::PipelineError;
use crate::output::OutputPlace;

/// Tables of a folder.
const TABLES: [&str; 3] = ["receivers.csv", "events.csv", "measurements.csv"];

/// How a position is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// Mean of the receivers that hear, weighted by how well
    Centroid,
    /// Probability on a grid by levels, silence and path loss
    Level,
    /// Nearest fingerprints of known places
    Knn,
    /// Times of arrival at receivers with a common clock
    Tdoa,
    /// Levels and times together
    Fusion,
}

/// Column that holds the levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LevelColumn {
    /// `snr_db`, or the difference of `rss_db` and `noise_db`
    Snr,
    /// `rss_db`
    Rss,
}

/// What is located, how, and where the answer goes.
#[derive(Clone, Debug)]
pub(crate) struct LocalizationOptions {
    /// Folder with the tables.
    pub(crate) folder: PathBuf,
    /// How.
    pub(crate) method: Method,
    /// Folder with tables of known places, to learn from.
    pub(crate) train: Option<PathBuf>,
    /// Side of the blocks that are held out in turn, in m: the folder is its own training.
    pub(crate) blocks_m: Option<f64>,
    /// Parts into which the blocks are divided.
    pub(crate) folds: usize,
    /// File for the positions.
    pub(crate) output: PathBuf,
    /// Column that holds the levels; none for the first one that is there.
    pub(crate) level: Option<LevelColumn>,
    /// How far beyond the receivers a transmitter may be, in km.
    pub(crate) margin_km: Option<f64>,
    /// Whether path loss alone makes the levels, without a map of what was heard.
    pub(crate) path_loss_only: bool,
    /// What is expected of path loss.
    pub(crate) path_loss: PathLossFitConfig,
    /// How fingerprints are compared.
    pub(crate) fingerprints: FingerprintConfig,
    /// How arrival times become a position.
    pub(crate) arrivals: ArrivalConfig,
    /// Standard deviation of an arrival time, in s.
    pub(crate) timing_sigma_s: f64,
}

impl Method {
    /// Whether it cannot do without known places.
    fn needs_training(self) -> bool {
        self == Self::Knn
    }

    /// Whether known places are of use to it.
    fn takes_training(self) -> bool {
        matches!(self, Self::Level | Self::Knn | Self::Fusion)
    }

    /// Its name on the command line.
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Locates every event of a folder, writes the positions, and compares them with the truth.
///
/// # Errors
///
/// - [`PipelineError::Measurements`] if a table cannot be read.
/// - [`PipelineError::InvalidOption`] if an option contradicts another or the tables, or the
///   positions would replace what is not to be replaced.
/// - [`PipelineError::Geo`] if an option has a value that nothing can be computed with.
/// - [`PipelineError::Io`] if the positions cannot be written.
pub(crate) fn locate_folder(options: &LocalizationOptions) -> Result<Comparison, PipelineError> {
    check(options)?;
    let folders = std::iter::once(&options.folder).chain(&options.train);
    let inputs = folders.flat_map(|folder| TABLES.map(|table| folder.join(table)));
    let place = OutputPlace::check("--output", &options.output, &inputs.collect::<Vec<_>>())?;
    let read = |folder| read_measurement_tables(folder).map_err(PipelineError::Measurements);
    let tables = read(&options.folder)?;
    let training = options.train.as_deref().map(read).transpose()?;
    let network = Network::new(&tables, training.as_ref(), options)?;
    let events: Vec<Observed> = tables.events.iter().map(|event| network.observe(event)).collect();
    let locations = match options.blocks_m {
        Some(blocks_m) if training.is_none() => {
            locate_by_blocks(&network, &events, blocks_m, options)?
        }
        _ => {
            let known = training.as_ref().map_or(&[][..], |tables| &tables.events);
            let samples = network.known(known);
            if training.is_some() && samples.is_empty() {
                return Err(invalid("--train", "a folder whose events have positions"));
            }
            let solver = Solver::train(&network, &samples, &events, options)?;
            locate_all(&solver, &network, &events)?
        }
    };
    table::write(&place, &network, &tables.events, &locations)?;
    Comparison::of(&network, &tables.events, &locations)
}

/// Refuses options that contradict each other.
fn check(options: &LocalizationOptions) -> Result<(), PipelineError> {
    let trains = options.train.is_some() || options.blocks_m.is_some();
    if options.method.needs_training() && !trains {
        return Err(PipelineError::NeedsTraining { method: options.method.name() });
    }
    if trains && !options.method.takes_training() {
        let option = if options.train.is_some() { "--train" } else { "--blocks-m" };
        return Err(PipelineError::NoUseOfTraining { option, method: options.method.name() });
    }
    if options.folds < 2 {
        return Err(invalid("--folds", "at least 2"));
    }
    for (option, value) in [("--blocks-m", options.blocks_m), ("--margin-km", options.margin_km)] {
        if value.is_some_and(|value| !(value > 0.0 && value.is_finite())) {
            return Err(invalid(option, "a positive number"));
        }
    }
    if !(options.timing_sigma_s > 0.0 && options.timing_sigma_s.is_finite()) {
        return Err(invalid("--timing-sigma-ns", "a positive number"));
    }
    Ok(())
}

fn invalid(option: &'static str, expected: &'static str) -> PipelineError {
    PipelineError::InvalidOption { option, expected }
}

/// Locates each event by a solver that was trained on the blocks of others.
fn locate_by_blocks(
    network: &Network,
    events: &[Observed],
    blocks_m: f64,
    options: &LocalizationOptions,
) -> Result<Vec<Location>, PipelineError> {
    let places: Option<Vec<LocalPosition>> = events.iter().map(|event| event.truth).collect();
    let places =
        places.ok_or(invalid("--blocks-m", "for a folder whose events all have positions"))?;
    let folds = blocks::folds(&places, blocks_m / 1000.0, options.folds);
    let parts: Vec<Vec<(usize, Location)>> = (0..options.folds)
        .into_par_iter()
        .map(|fold| {
            let known: Vec<_> = (0..events.len())
                .filter(|&event| folds[event] != fold)
                .filter_map(|event| events[event].sample())
                .collect();
            let held: Vec<usize> =
                (0..events.len()).filter(|&event| folds[event] == fold).collect();
            if held.is_empty() {
                return Ok(Vec::new());
            }
            if known.is_empty() {
                return Err(invalid("--blocks-m", "small enough for more than one block"));
            }
            let held_events: Vec<Observed> =
                held.iter().map(|&event| events[event].clone()).collect();
            let solver = Solver::train(network, &known, &held_events, options)?;
            let locations = locate_all(&solver, network, &held_events)?;
            Ok(held.into_iter().zip(locations).collect())
        })
        .collect::<Result<_, PipelineError>>()?;
    let mut located: Vec<(usize, Location)> = parts.into_iter().flatten().collect();
    located.sort_by_key(|(event, _)| *event);
    Ok(located.into_iter().map(|(_, location)| location).collect())
}

fn locate_all(
    solver: &Solver,
    network: &Network,
    events: &[Observed],
) -> Result<Vec<Location>, PipelineError> {
    events.par_iter().map(|event| solver.locate(network, event)).collect()
}
