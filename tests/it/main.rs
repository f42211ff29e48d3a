//! The tests that cross crates: one binary, which starts the real program.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bad_input;
mod catalog;
mod cmd;
mod end_to_end;
mod explain;
mod faults;
mod features;
mod interrupt;
mod kill;
mod killed_training;
mod locate;
mod locate_tables;
mod matrix;
mod mlflow;
mod onnx;
mod postgres;
mod predict;
mod random;
mod report;
mod schema;
mod sharing;
mod sigmf;
mod small;
mod tables;
mod tidy;
mod tracking;
mod upkeep;
mod upload;
mod workplace;
