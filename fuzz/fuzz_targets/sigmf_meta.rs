//! Metadata of SigMF recordings, beside a file of samples.

#![no_main]

use heimdall_fuzz::{Kind, read, write_seeds};
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: write_seeds(Kind::SigmfMeta),
    |bytes: &[u8]| read(Kind::SigmfMeta, bytes)
);
