//! What can go wrong between samples and features.

use thiserror::Error;

/// An error of this crate.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum FeatureError {
    /// A field of a configuration has a value that no signal could be processed with.
    #[error("`{field}` must be {expected}, but is {actual}")]
    InvalidConfig {
        /// Path of the field, as the user wrote it: `stft.hop_length`.
        field: &'static str,
        /// The rule that the value breaks, as a phrase that follows "must be".
        expected: String,
        /// The value that was given.
        actual: f64,
    },

    /// Filters of a bank lie between two bins of the transform and would always read zero.
    #[error(
        "{empty} of {bands} bands catch no bin of a transform of {fft_length} samples, the first \
         is band {first_empty}; the smallest `fft_length` that works is {fft_length_min}"
    )]
    EmptyFilter {
        /// Bands without a bin.
        empty: usize,
        /// Bands of the bank.
        bands: usize,
        /// Index of the lowest band without a bin.
        first_empty: usize,
        /// The length that was given.
        fft_length: usize,
        /// The smallest even length at which every band has a bin.
        fft_length_min: usize,
    },

    /// The signal has no samples.
    #[error("the signal has no samples")]
    Empty,

    /// The signal is shorter than one frame.
    #[error("a frame takes {frame_length} samples, but the signal has {sample_count}")]
    TooShort {
        /// Samples in one frame.
        frame_length: usize,
        /// Samples in the signal.
        sample_count: usize,
    },

    /// A sample is infinite or not a number.
    #[error("sample {index} is not finite")]
    NotFinite {
        /// Index of the first such sample.
        index: usize,
    },

    /// Samples are finite, but their power is not.
    #[error("the samples from {start} on are so large that their power is infinite")]
    Overflow {
        /// Index of the first sample of the frame.
        start: usize,
    },

    /// A number of frames was asked for, but the number of samples is not known.
    #[error("as many frames as are wanted can be made only of a recording of known length")]
    UnknownLength,

    /// All samples are zero.
    #[error("all {sample_count} samples are zero")]
    Silent {
        /// Samples in the signal.
        sample_count: usize,
    },

    /// A recording has no clock that could be compared with another's.
    #[error("the {which} recording's clock is of unknown quality, so its delay means nothing")]
    UnknownClock {
        /// Which of the two recordings.
        which: Which,
    },

    /// A sample rate is not a positive number.
    #[error("the {which} recording's sample rate must be positive, but is {sample_rate_hz} Hz")]
    InvalidSampleRate {
        /// Which of the two recordings.
        which: Which,
        /// The rate that was given.
        sample_rate_hz: f64,
    },

    /// Two recordings have too little time in common.
    #[error("the recordings have {overlap_s} s in common, but {needed_s} s are needed")]
    NoOverlap {
        /// Time in common, negative if there is a gap between them.
        overlap_s: f64,
        /// The least that would do.
        needed_s: f64,
    },

    /// No frequency of the configured band lies in both recordings.
    #[error("no frequency of the band around {frequency_hz} Hz lies in both recordings")]
    NoCommonBand {
        /// Center of the band.
        frequency_hz: f64,
    },

    /// The common signal is a plain carrier, or nearly so: its correlation has no peak.
    #[error(
        "the common signal is {bandwidth_hz} Hz wide, but a delay takes at least \
         {bandwidth_hz_min} Hz"
    )]
    TooNarrow {
        /// Effective bandwidth of the common signal.
        bandwidth_hz: f64,
        /// The least that is configured.
        bandwidth_hz_min: f64,
    },

    /// The recordings do not contain a common signal that stands out of the noise.
    #[error(
        "the correlation peak has {significance:.1} times the power expected from noise, but \
         {needed:.1} are needed"
    )]
    NoCorrelation {
        /// Power of the peak over that expected without a common signal.
        significance: f64,
        /// The least that is accepted.
        needed: f64,
    },
}

/// One of the two recordings of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Which {
    /// The first argument.
    First,
    /// The second argument.
    Second,
}

impl std::fmt::Display for Which {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::First => "first",
            Self::Second => "second",
        })
    }
}
