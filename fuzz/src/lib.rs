//! What the fuzz targets have in common: the kinds of files, and what is done with each.
//!
//! A target reads bytes as a file of one kind. It finds panics, files for which reading in parts
//! differs from reading as a whole, and those that give more samples than they have bytes.

#[path = "../../heimdall-data/src/recording/kiwi_fixture.rs"]
mod kiwi_fixture;
mod reading;
mod seed;

use std::path::Path;
use std::{env, fs};

pub use reading::{Kind, read};
use seed::seeds;

/// Writes seeds into the corpus, the first folder among the arguments of the program.
///
/// # Panics
///
/// If the corpus cannot be written.
pub fn write_seeds(kind: Kind) {
    let Some(folder) = env::args().skip(1).find(|argument| !argument.starts_with('-')) else {
        return;
    };
    for (index, content) in seeds(kind).iter().enumerate() {
        fs::write(Path::new(&folder).join(format!("seed-{index}")), content)
            .expect("the corpus can be written");
    }
}
