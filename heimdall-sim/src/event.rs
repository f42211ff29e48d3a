//! One transmission, as all receivers recorded it.

use heimdall_features::{IqRecording, UtcTime};
use heimdall_geo::Position;

use crate::EventLatents;

/// One transmission, its recordings, and the truth about it.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatedEvent {
    /// Index of the event in its world.
    pub index: usize,
    /// Session that it belongs to; all events of a session have one transmitter at one place.
    pub session: usize,
    /// Where the transmitter was.
    pub position: Position,
    /// Instant of the first sample, as all recordings are stamped.
    pub start: UtcTime,
    /// Nominal frequency of the carrier, in Hz.
    pub frequency_hz: f64,
    /// Everything else that is true about the event.
    pub latents: EventLatents,
    /// `[receivers]`, in the order of the network; `None` where a receiver was out of order.
    pub receptions: Vec<Option<IqRecording>>,
}
