//! Inputs and outputs of the file: their names, shapes and meanings.

use heimdall_features::{ClassicalFix, FeatureMap, FeatureShape};
use heimdall_model::{LocalizationNetConfig, SideInputConfig};
use serde::{Deserialize, Serialize};

/// Name, type and shape of an input or output of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Name.
    pub name: String,
    /// Type of the elements, as NumPy names it: `float32` or `float64`.
    pub dtype: String,
    /// Length of each axis; −1 for the batch, which may have any.
    pub shape: Vec<i64>,
}

impl Port {
    /// Makes a port with a batch axis in front of `shape`.
    pub(crate) fn new(name: &str, dtype: &str, shape: &[usize]) -> Self {
        let lengths = shape.iter().map(|&length| i64::try_from(length).expect("axes are short"));
        Self {
            name: name.to_owned(),
            dtype: dtype.to_owned(),
            shape: std::iter::once(-1).chain(lengths).collect(),
        }
    }
}

/// An input of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Levels,
    Scalars,
    Mask,
    Receivers,
    Fix,
    FixCovariance,
    FixStatus,
}

/// Names of the outputs, in their order, with their meanings.
pub(crate) const OUTPUTS: [(&str, &str); 3] = [
    (
        "position",
        "latitude north and longitude east of the transmitter on WGS 84, in degrees; not a number \
         where the estimate lies over no point of the Earth",
    ),
    (
        "uncertainty",
        "one standard deviation of the position along latitude and longitude, in degrees, after \
         recalibration; the meridian radius and the distance from the Earth's axis at the position \
         give the scale",
    ),
    (
        "covariance_m2",
        "covariance of the position after recalibration, in square meters: rows and columns are \
         east and north in the local plane",
    ),
];

impl Input {
    const SIDE: [Self; 6] = [
        Self::Scalars,
        Self::Mask,
        Self::Receivers,
        Self::Fix,
        Self::FixCovariance,
        Self::FixStatus,
    ];

    /// The inputs that a network takes, in the order of the file.
    pub(crate) fn of(config: &LocalizationNetConfig) -> Vec<Self> {
        let levels = config.backbone.takes_levels().then_some(Self::Levels);
        let side = config.side_inputs.as_ref().map(|_| Self::SIDE);
        levels.into_iter().chain(side.into_iter().flatten()).collect()
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Levels => "mel_spectrogram",
            Self::Scalars => "scalars",
            Self::Mask => "mask",
            Self::Receivers => "receivers_km",
            Self::Fix => "fix_km",
            Self::FixCovariance => "fix_covariance_km2",
            Self::FixStatus => "fix_status",
        }
    }

    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Levels => {
                "levels of each receiver above its own noise floor, in dB, before any \
                 normalization; axes are receivers, bands from the lowest up, frames from the first \
                 on; 0 where a receiver is absent"
            }
            Self::Scalars => {
                "numbers of each receiver: power in the occupied band in dB of full scale, noise \
                 density in dB of full scale squared per Hz, SNR in dB, width of 99 % of the power \
                 in Hz, kurtosis of the samples, 1 if it detects the signal, else 0; any finite \
                 number where a receiver is absent"
            }
            Self::Mask => "1 for each receiver that recorded something, else 0",
            Self::Receivers => {
                "where each receiver stands: east and north of the origin in the local plane, in km"
            }
            Self::Fix => {
                "where a classical method puts the transmitter: east and north of the origin in the \
                 local plane, in km; 0 where it has no answer"
            }
            Self::FixCovariance => {
                "covariance of the classical fix: east, east-north and north, in km²; 0 without one"
            }
            Self::FixStatus => {
                "0 without a classical fix, 1 with one, 2 where another position explains the \
                 measurements about as well"
            }
        }
    }

    /// Length of each axis beside the batch.
    pub(crate) fn shape(self, config: &LocalizationNetConfig, shape: FeatureShape) -> Vec<usize> {
        let receivers = config.input_channels;
        let scalars = config.side_inputs.as_ref().map_or(0, SideInputConfig::scalars);
        match self {
            Self::Levels => vec![receivers, shape.bands, shape.frames],
            Self::Scalars => vec![receivers, scalars],
            Self::Mask => vec![receivers],
            Self::Receivers => vec![receivers, 2],
            Self::Fix => vec![2],
            Self::FixCovariance => vec![3],
            Self::FixStatus => vec![1],
        }
    }

    /// What an event gives to this input, row by row. Receivers stand where they stood in training.
    pub(crate) fn values(self, config: &LocalizationNetConfig, sample: &FeatureMap) -> Vec<f32> {
        let fix = ClassicalFix::to_row(sample.fix);
        match self {
            Self::Levels => sample.levels_db.clone(),
            Self::Scalars => sample.scalar_rows().collect(),
            Self::Mask => sample.mask().collect(),
            Self::Receivers => {
                let side_inputs = config.side_inputs.as_ref();
                side_inputs.map_or_else(Vec::new, |side| side.receivers_km.concat())
            }
            Self::Fix => fix[..2].to_vec(),
            Self::FixCovariance => fix[2..5].to_vec(),
            Self::FixStatus => fix[5..].to_vec(),
        }
    }
}
