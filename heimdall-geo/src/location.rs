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

/// Where a transmitter is, as far as a method can tell: by default in the plane of the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Location<E = Estimate> {
    /// There is one place.
    Fix(E),
    /// There are several places, none of which the measurements rule out.
    Ambiguous {
        /// The most likely of them.
        best: E,
        /// The others, the most likely one first.
        alternatives: Vec<E>,
        /// Why there are several.
        reason: Ambiguity,
    },
    /// The measurements do not lead to a place.
    NoFix(NoFix),
}

impl<E> Location<E> {
    /// One place, or several, of which the first is the most likely one; `none` where there is none.
    pub(crate) fn of(estimates: Vec<E>, reason: Ambiguity, none: NoFix) -> Self {
        let mut estimates = estimates.into_iter();
        match estimates.next() {
            None => Self::NoFix(none),
            Some(best) if estimates.len() == 0 => Self::Fix(best),
            Some(best) => Self::Ambiguous { best, alternatives: estimates.collect(), reason },
        }
    }

    /// The most likely place and its covariance, where there is one.
    pub fn best(&self) -> Option<&E> {
        match self {
            Self::Fix(best) | Self::Ambiguous { best, .. } => Some(best),
            Self::NoFix(_) => None,
        }
    }

    /// All places, the most likely one first.
    pub fn places(&self) -> impl Iterator<Item = &E> {
        self.best().into_iter().chain(self.alternatives())
    }

    /// The places beside the most likely one, the most likely one of them first.
    pub fn alternatives(&self) -> &[E] {
        match self {
            Self::Ambiguous { alternatives, .. } => alternatives,
            Self::Fix(_) | Self::NoFix(_) => &[],
        }
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

impl Location {
    /// The same places, with covariances multiplied by `factor`.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        self.with_covariances(|covariance| covariance.scaled(factor))
    }

    /// The same places, with `variance_km2` more in each direction.
    #[must_use]
    pub(crate) fn widened(self, variance_km2: f64) -> Self {
        self.with_covariances(|covariance| Covariance {
            east_km2: covariance.east_km2 + variance_km2,
            north_km2: covariance.north_km2 + variance_km2,
            ..*covariance
        })
    }

    /// The same places, with other covariances.
    fn with_covariances(mut self, other: impl Fn(&Covariance) -> Covariance) -> Self {
        let change = |estimate: &mut Estimate| estimate.covariance = other(&estimate.covariance);
        match &mut self {
            Self::Fix(best) => change(best),
            Self::Ambiguous { best, alternatives, .. } => {
                change(best);
                alternatives.iter_mut().for_each(change);
            }
            Self::NoFix(_) => {}
        }
        self
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

impl NoFix {
    /// A name of the kind of reason, for machines.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NothingHeard => "nothing_heard",
            Self::InvalidLevel { .. } => "invalid_level",
            Self::TooFewReceivers { .. } => "too_few_receivers",
            Self::ImpossibleDelay { .. } => "impossible_delay",
            Self::OutsideRegion => "outside_region",
            Self::Unexplained => "unexplained",
            Self::Undetermined => "undetermined",
            Self::TooUncertain { .. } => "too_uncertain",
            Self::TooFewFingerprints { .. } => "too_few_fingerprints",
        }
    }
}

/// Why the measurements lead to no place.
#[derive(Clone, Debug, Error, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NoFix {
    /// No receiver hears the transmitter.
    #[error("no receiver hears the transmitter")]
    NothingHeard,

    /// A level is not one.
    #[error("observation {observation} is no level within ±1000000 dB at a finite place")]
    InvalidLevel {
        /// Index of the observation.
        observation: usize,
    },

    /// Too few receivers give an arrival time, or a delay.
    #[error(
        "a position by times takes {required} receivers at different places, but here are \
         {receivers}: two receivers give a line (a hyperbola), not a point"
    )]
    TooFewReceivers {
        /// Distinct places of the receivers that give one.
        receivers: usize,
        /// How many it takes.
        required: usize,
    },

    /// A delay is longer than the way between its receivers, by more than its error explains.
    #[error(
        "the delay of receivers {first} and {second} is {delay_s} s, but the signal takes only \
         {delay_s_max} s from one to the other"
    )]
    ImpossibleDelay {
        /// Index of the first receiver.
        first: usize,
        /// Index of the second receiver.
        second: usize,
        /// The delay, in seconds.
        delay_s: f64,
        /// Travel time between the two, in seconds.
        delay_s_max: f64,
    },

    /// The measurements fit best on the border of the region that is searched.
    #[error("the measurements lead out of the region")]
    OutsideRegion,

    /// No place of the region explains the measurements together.
    #[error("no place of the region explains the measurements together")]
    Unexplained,

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
