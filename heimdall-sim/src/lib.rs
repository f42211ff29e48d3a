//! A radio world with known truth.
//!
//! A [`World`] has receivers, hills, noise and clocks that stay as they are. In its sessions
//! somebody transmits from some place, and every receiver records what is left of it. The truth is
//! written down beside the recordings, in [`EventLatents`].
//!
//! ```text
//! Waveform ──delay, multipath──▶ × path loss, shadowing ──▶ + noise ──gain, clock──▶ IqRecording
//!   phase at any instant            dBm at the antenna        dBm/Hz                  [n] FS
//! ```
//!
//! No random number depends on another one's turn: an event is a function of the configuration and
//! its index, whatever the number of threads and whichever other events are asked for.
//!
//! # Example
//!
//! ```
//! use heimdall_sim::{World, WorldConfig};
//!
//! let world = World::new(&WorldConfig { sessions: 10, ..WorldConfig::default() })?;
//!
//! let event = world.event(17);
//!
//! assert_eq!(event.receptions.len(), world.receivers().len());
//! assert_eq!(event.latents, world.latents(17));
//! for (link, reception) in event.latents.links.iter().zip(&event.receptions) {
//!     assert_eq!(link.outage, reception.is_none());
//! }
//! # Ok::<(), heimdall_sim::SimError>(())
//! ```
//!
//! # Units
//!
//! Powers are in dBm at a receiver's antenna, in dB relative to full scale (`dbfs`) in a recording.
//! Distances are in km along the geodesic, delays are these at the speed of light in a vacuum.

mod area;
mod channel;
mod config;
mod error;
mod event;
mod latents;
mod link;
mod multipath;
mod network;
mod noise;
mod propagation;
mod random;
mod receiver_chain;
mod session;
mod shadowing;
mod transmitter;
mod waveform;
mod world;

pub use config::WorldConfig;
pub use error::SimError;
pub use event::SimulatedEvent;
pub use latents::{CHANNEL_WIDTH_HZ, DETECTION_SNR_DB, EventLatents, LinkLatents};
pub use link::{LinkEstimator, LinkEvent, LinkMeasurement};
pub use multipath::MultipathConfig;
pub use network::{Network, Station};
pub use noise::{Environment, NoiseConfig};
pub use propagation::{LinkGeometry, PathLoss, SPEED_OF_LIGHT_KM_PER_S};
pub use receiver_chain::{Agc, Clock, ReceiverChainConfig};
pub use shadowing::ShadowingConfig;
pub use transmitter::{TransmitterClass, TransmitterConfig, TransmitterKind, TransmitterLatents};
pub use waveform::{WaveformConfig, WaveformKind};
pub use world::World;
