//! The training loop, its checkpoints, and an evaluation that cannot flatter.
