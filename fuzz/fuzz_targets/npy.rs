//! Arrays of NumPy.

#![no_main]

use heimdall_fuzz::{Kind, read, write_seeds};
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: write_seeds(Kind::Npy),
    |bytes: &[u8]| read(Kind::Npy, bytes)
);
