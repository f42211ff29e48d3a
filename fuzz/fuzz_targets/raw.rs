//! Sidecars, beside a file that has nothing but samples.

#![no_main]

use heimdall_fuzz::{Kind, read, write_seeds};
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: write_seeds(Kind::Sidecar),
    |bytes: &[u8]| read(Kind::Sidecar, bytes)
);
