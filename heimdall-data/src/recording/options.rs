//! What a reader is told about a file that does not tell it itself.

use heimdall_features::{ClockQuality, UtcTime};

use super::metadata::Gain;
use super::raw::RawType;
use crate::DataError;

/// What is known about a file from elsewhere, and what of it is wanted.
///
/// A fact that is given here, or in the [sidecar](crate::IqFile#sidecars), stands above what the
/// file says.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadOptions {
    /// How samples are written in a file that has nothing but samples; such a file is read as
    /// raw, whatever its name and its first bytes are.
    pub raw_type: Option<RawType>,
    /// Sample rate, in Hz.
    pub sample_rate_hz: Option<f64>,
    /// Frequency that was mixed down to zero, in Hz.
    pub center_frequency_hz: Option<f64>,
    /// Instant of the first sample; of a KiwiSDR file, only near it.
    pub start: Option<UtcTime>,
    /// How far `start` and `sample_rate_hz` can be trusted.
    pub clock: Option<ClockQuality>,
    /// Gain of the receiver.
    pub gain: Option<Gain>,
    /// Which channel of several, from 0 on.
    pub channel: Option<usize>,
    /// Which run of a file that falls into several at gaps, from 0 on; else the longest.
    pub run: Option<usize>,
    /// Whether samples whose hash the file tells are checked against it, which takes one reading
    /// of the whole file.
    pub check_hash: bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            raw_type: None,
            sample_rate_hz: None,
            center_frequency_hz: None,
            start: None,
            clock: None,
            gain: None,
            channel: None,
            run: None,
            check_hash: true,
        }
    }
}

impl ReadOptions {
    /// The channel to be read of a file that has some.
    ///
    /// # Errors
    ///
    /// [`DataError::ChannelNotChosen`] if it has several and none was named, and
    /// [`DataError::NoSuchPart`] if it has not the one that was named.
    pub(super) fn channel_of(&self, file: &str, channel_count: u64) -> Result<u64, DataError> {
        match self.channel {
            None if channel_count > 1 => {
                Err(DataError::ChannelNotChosen { file: file.to_owned(), channel_count })
            }
            Some(channel) if channel as u64 >= channel_count => Err(DataError::NoSuchPart {
                file: file.to_owned(),
                part: format!("channel {channel}"),
                actual: format!("{channel_count} channels, counted from 0"),
            }),
            channel => Ok(channel.unwrap_or(0) as u64),
        }
    }
}
