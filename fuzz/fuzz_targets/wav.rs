//! WAV files of two channels.

#![no_main]

use heimdall_fuzz::{Kind, read, write_seeds};
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: write_seeds(Kind::Wav),
    |bytes: &[u8]| read(Kind::Wav, bytes)
);
