//! What a method of localization answers: a fix, an ambiguous one, or none.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Covariance;
use crate::LocalPosition;

/// A position in the plane of the network, and how uncertain it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estimate {
    /// The position.
    pub position: LocalPosition,
    /// Covariance of its error.
    pub covariance: Covariance,
}

/// Where a transmitter is, as far as a method can tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Location {
    /// There is one place.
    Fix(Estimate),
    /// There are several places, none of which the measurements rule out.
    Ambiguous {
        /// The most likely of them.
        best: Estimate,
        /// The others, the most likely one first.
        alternatives: Vec<Estimate>,
        /// Why there are several.
        reason: Ambiguity,
    },
    /// The measurements do not lead to a place.
    NoFix(NoFix),
}

impl Location {
    /// The most likely place and its covariance, where there is one.
    pub fn best(&self) -> Option<&Estimate> {
        match self {
            Self::Fix(best) | Self::Ambiguous { best, .. } => Some(best),
            Self::NoFix(_) => None,
        }
    }

    /// The same places, with covariances multiplied by `factor`.
    #[must_use]
    pub fn scaled(mut self, factor: f64) -> Self {
        let scale = |estimate: &mut Estimate| {
            estimate.covariance = estimate.covariance.scaled(factor);
        };
        match &mut self {
            Self::Fix(best) => scale(best),
            Self::Ambiguous { best, alternatives, .. } => {
                scale(best);
                alternatives.iter_mut().for_each(scale);
            }
            Self::NoFix(_) => {}
        }
        self
    }

    /// One word for the kind of answer: `fix`, `ambiguous` or `no_fix`.
    pub fn status(&self) -> &'static str {
        match self {
            Self::Fix(_) => "fix",
            Self::Ambiguous { .. } => "ambiguous",
            Self::NoFix(_) => "no_fix",
        }
    }
}

/// Why the measurements leave several places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ambiguity {
    /// The hyperbolas of the arrival times meet more than once.
    Branches,
    /// The probability has several separate peaks.
    Peaks,
}

/// Why the measurements lead to no place.
#[derive(Clone, Debug, Error, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NoFix {
    /// No receiver hears the transmitter.
    #[error("no receiver hears the transmitter")]
    NothingHeard,

    /// Too few receivers give an arrival time.
    #[error(
        "arrival times take {required} receivers at different places, but here are {receivers}"
    )]
    TooFewReceivers {
        /// Distinct places of the receivers that give one.
        receivers: usize,
        /// How many it takes.
        required: usize,
    },

    /// The measurements fit best on the border of the region that is searched.
    #[error("the measurements lead out of the region")]
    OutsideRegion,

    /// The measurements leave a direction open at the place that fits them best.
    #[error("seen from where the measurements fit best, the receivers leave one direction open")]
    Undetermined,

    /// The place may be almost anywhere.
    #[error(
        "the region that holds the transmitter with 90 % probability takes {share:.2} of the area \
         that is searched, more than {share_max:.2}"
    )]
    TooUncertain {
        /// Share of the searched area.
        share: f64,
        /// The largest share that counts as a fix.
        share_max: f64,
    },

    /// There are fewer fingerprints than neighbors to be averaged.
    #[error("{required} fingerprints are compared, but only {fingerprints} are comparable")]
    TooFewFingerprints {
        /// Fingerprints that share enough receivers with the event.
        fingerprints: usize,
        /// How many it takes.
        required: usize,
    },
}
