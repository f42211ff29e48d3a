//! What an evaluation says of a network: of all events, of groups of them, and of each one.

mod figures;
mod recalibration;
mod robustness;
mod shift;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use heimdall_geo::{Covariance, LocalFrame, LocalPosition, Receiver};
use heimdall_loss::CalibrationPoint;
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::file::read_json;

pub(crate) use figures::{curves, figures, group_figures};
pub use recalibration::{ConformalLimits, REPORTED_PERCENT, Recalibration};
pub use robustness::{OtherWorld, ReceiverLoss};
pub(crate) use shift::ShiftSet;
pub use shift::{DataShift, ShiftComparison, ShiftConfig, ShiftQuantity};

/// Version of the evaluation that is written, and the only one that is read.
pub const EVALUATION_FORMAT_VERSION: u32 = 3;

/// Name of the file that holds an evaluation.
pub const EVALUATION_FILE: &str = "evaluation.json";

/// A way to locate a transmitter that the network has to beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The center of the receivers' bounding box, whatever is heard.
    RegionCenter,
    /// The mean position of the training events, whatever is heard.
    TrainingMean,
    /// The receiver that hears the transmission best.
    Strongest,
    /// The centroid of the receivers that hear it, weighted by `10^(level/20)`.
    Centroid,
    /// The most likely place by level over distance and by silence, on a grid.
    LevelGrid,
    /// The mean place of the training events with the most similar levels.
    Fingerprints,
    /// Least squares over the times of arrival.
    Tdoa,
}

impl Method {
    /// All methods, in the order of reports.
    pub const ALL: [Self; 7] = [
        Self::RegionCenter,
        Self::TrainingMean,
        Self::Strongest,
        Self::Centroid,
        Self::LevelGrid,
        Self::Fingerprints,
        Self::Tdoa,
    ];

    /// Returns the name that metrics start with.
    pub fn name(self) -> &'static str {
        match self {
            Self::RegionCenter => "region_center",
            Self::TrainingMean => "training_mean",
            Self::Strongest => "strongest",
            Self::Centroid => "centroid",
            Self::LevelGrid => "level_grid",
            Self::Fingerprints => "fingerprints",
            Self::Tdoa => "tdoa",
        }
    }

    /// Returns the name that people read.
    pub fn title(self) -> &'static str {
        match self {
            Self::RegionCenter => "region center",
            Self::TrainingMean => "training mean",
            Self::Strongest => "strongest receiver",
            Self::Centroid => "weighted centroid",
            Self::LevelGrid => "level grid with silence",
            Self::Fingerprints => "nearest fingerprints",
            Self::Tdoa => "time differences",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// By what events are put into groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grouping {
    /// By the number of receivers that hear them.
    Receivers,
    /// By what was transmitted.
    Waveform,
    /// By the distance to the nearest training event.
    TrainingDistance,
}

/// How good a network is on events that it has never seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// Version of the format, [`EVALUATION_FORMAT_VERSION`] when written by this release.
    pub format_version: u32,
    /// Plane of all positions.
    pub frame: LocalFrame,
    /// Receivers of the network.
    pub receivers: Vec<Receiver>,
    /// Figures of all test events under flat names; [`evaluate`](crate::evaluate) lists them.
    pub metrics: BTreeMap<String, f64>,
    /// The same figures of groups of test events, by the grouping and the name of the group.
    pub groups: BTreeMap<Grouping, BTreeMap<String, BTreeMap<String, f64>>>,
    /// How the stated uncertainty was corrected.
    pub recalibration: Recalibration,
    /// Coverage over the stated probability, after recalibration.
    pub calibration_curve: Vec<CalibrationPoint>,
    /// The same before it.
    pub calibration_curve_uncalibrated: Vec<CalibrationPoint>,
    /// Whether the test events look like the training events; `None` without training events.
    pub shift: Option<DataShift>,
    /// The same network on events of another world, where there are any.
    pub new_world: Option<OtherWorld>,
    /// What each receiver is worth, if it was asked for: the network without it.
    pub without_receiver: Vec<ReceiverLoss>,
    /// Every test event, in the order of its set.
    pub events: Vec<EvaluatedEvent>,
}

impl Evaluation {
    /// Reads the evaluation in a folder.
    ///
    /// # Errors
    ///
    /// - [`TrainError::Read`] if there is none.
    /// - [`TrainError::NewerFormat`] if a newer release wrote it.
    /// - [`TrainError::Malformed`] if it is not one.
    pub fn load(folder: &Path) -> Result<Self, TrainError> {
        read_json(&folder.join(EVALUATION_FILE), EVALUATION_FORMAT_VERSION)
    }
}

/// What is said of one test event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluatedEvent {
    /// Name of the event.
    pub event: String,
    /// Name of its session.
    pub session: String,
    /// Name of its source.
    pub source: String,
    /// What was transmitted, if it is known.
    pub waveform: Option<String>,
    /// Receivers that detected it.
    pub hearing_receivers: usize,
    /// Receivers that measured when it arrived.
    pub timed_receivers: usize,
    /// Distance to the nearest training event, in km; `None` without training events.
    pub nearest_training_km: Option<f64>,
    /// Where the source was.
    pub truth: LocalPosition,
    /// Where the network says it was.
    pub estimate: LocalPosition,
    /// How uncertain the network is, after recalibration.
    pub covariance: Covariance,
    /// Whether no fix would be stated: nobody hears the event, or the region is too large.
    pub abstains: bool,
    /// Length of the geodesic from truth to estimate, in km.
    pub error_km: f64,
    /// Squared Mahalanobis distance of the truth, after recalibration.
    pub mahalanobis_squared: f64,
    /// Area of the region of 90 %, after recalibration, in km².
    pub region_90_area_km2: f64,
    /// What the other methods say; those without an answer are missing.
    pub baselines: BTreeMap<Method, BaselineAnswer>,
    /// Root of the trace of the Cramér–Rao bound by levels, in km; `None` where there is none.
    pub level_bound_km: Option<f64>,
    /// The same by times of arrival.
    pub arrival_bound_km: Option<f64>,
}

/// Where another method puts an event, and how wrong that is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaselineAnswer {
    /// The position.
    pub position: LocalPosition,
    /// Length of the geodesic from the truth to it, in km.
    pub error_km: f64,
}
