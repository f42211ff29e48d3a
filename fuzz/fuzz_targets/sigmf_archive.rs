//! Archives with a SigMF recording.

#![no_main]

use heimdall_fuzz::{Kind, read, write_seeds};
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: write_seeds(Kind::SigmfArchive),
    |bytes: &[u8]| read(Kind::SigmfArchive, bytes)
);
