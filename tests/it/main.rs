//! The tests that cross crates: one binary, which starts the real program.

mod bad_input;
mod end_to_end;
mod locate;
mod mlflow;
mod onnx;
mod tidy;
mod workplace;
