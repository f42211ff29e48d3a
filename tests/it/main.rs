//! The tests that cross crates: one binary, which starts the real program.

mod tidy;
