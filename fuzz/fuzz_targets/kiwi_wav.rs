//! WAV files of KiwiSDR receivers.

#![no_main]

use heimdall_fuzz::{Kind, read, write_seeds};
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: write_seeds(Kind::KiwiWav),
    |bytes: &[u8]| read(Kind::KiwiWav, bytes)
);
