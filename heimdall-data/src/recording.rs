//! Recordings as bytes: decoding, and telling the useful ones from the others.

mod gps;
mod kiwi;
#[cfg(test)]
pub(crate) mod kiwi_fixture;
mod kiwi_name;
mod npy;
mod quality;
mod stamp;

pub(crate) use kiwi::decode_kiwi_wav;
pub use kiwi::{KiwiRecording, read_kiwi_wav};
pub use npy::{read_npy, write_npy};
pub use quality::{RecordingLimits, check_recording};
