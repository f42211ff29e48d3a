//! The tests that cross crates: one binary, which starts the real program.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bad_input;
mod end_to_end;
mod features;
mod interrupt;
mod locate;
mod locate_tables;
mod mlflow;
mod onnx;
mod sigmf;
mod tidy;
mod workplace;
