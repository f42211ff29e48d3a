//! Fast layers of a network on a processor, registered with Burn.
//!
//! ```text
//! convolve ──▶ normalize_batch (+ shortcut, rectifier) ──▶ max_pool        [batch, height, width, channels]
//!     │                 │                                     │
//!     └── sums over the taps of the kernel that see pixels, in tiles that stay in registers
//! ```
//!
//! Burn's own layers put channels first, and copy each image into a matrix before they multiply.
//! Here channels come last, so that a tile of outputs reads its inputs where they lie; see
//! `docs/decisions` for what that is worth. Weights keep Burn's order. Each layer has its gradient,
//! and runs on the widest vector instructions that the processor has.
//!
//! Results do not depend on the number of threads, bit by bit: no sum is split between two of them.
//!
//! # Example
//!
//! A kernel of ones adds up the pixels around each pixel:
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use heimdall_kernels::convolve;
//!
//! let device = Device::flex();
//! let image = Tensor::<4>::ones([1, 3, 3, 1], &device);
//! let weight = Tensor::<4>::ones([1, 1, 3, 3], &device);
//!
//! let sums = convolve(image, weight, [1, 1], [1, 1]).into_data();
//!
//! assert_eq!(sums.try_to_vec::<f32>()?, [4.0, 6.0, 4.0, 6.0, 9.0, 6.0, 4.0, 6.0, 4.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod buffer;
mod correlate;
mod extension;
mod flex;
mod instructions;
mod max_pool;
mod moments;
mod norm;
mod operation;
mod optimizer;
mod pack;
mod shape;
mod square;
#[cfg(test)]
mod sum_of_products;
mod team;
mod tile;
mod weight_gradient;

pub use operation::{
    AfterNorm, NormalizedBatch, convolve, disable, max_pool, normalize, normalize_batch,
    sum_of_squares, supports,
};
pub use optimizer::{Adam, AdamW};
pub use team::{set_threads, threads};
