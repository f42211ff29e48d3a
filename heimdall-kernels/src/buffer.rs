//! Memory that is used again: a training step takes the same buffers as the one before it.
//!
//! Fresh memory costs more than it looks: the operating system clears each page when it is first
//! touched, and takes large blocks back as soon as they are free.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty, Bytes};

/// Buffers start where a cache line does.
const ALIGNMENT: usize = 64;

/// Capacities are multiples of a page.
const PAGE: usize = 4096;

/// Memory that may lie idle: more than a training step of the networks here takes.
const IDLE_BYTES_MAX: usize = 1 << 30;

static IDLE: Mutex<Idle> = Mutex::new(Idle { blocks: BTreeMap::new(), bytes: 0 });

/// Blocks that nobody uses, by their capacity.
struct Idle {
    blocks: BTreeMap<usize, Vec<Block>>,
    bytes: usize,
}

/// Initialized memory from the global allocator.
struct Block {
    start: NonNull<u8>,
    capacity_bytes: usize,
}

// SAFETY: a block is owned memory.
unsafe impl Send for Block {}
// SAFETY: as above; it is read through shared references and written through unique ones.
unsafe impl Sync for Block {}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `Block::new` with the same layout.
        unsafe { dealloc(self.start.as_ptr(), Self::layout(self.capacity_bytes)) }
    }
}

impl Block {
    fn layout(capacity_bytes: usize) -> Layout {
        Layout::from_size_align(capacity_bytes, ALIGNMENT).expect("a tensor fits into memory")
    }

    fn new(capacity_bytes: usize) -> Self {
        let layout = Self::layout(capacity_bytes);
        // SAFETY: the capacity is at least a page. Zeros are valid numbers.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        Self { start, capacity_bytes }
    }
}

fn idle() -> MutexGuard<'static, Idle> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Single-precision numbers in memory that goes back to be used again.
pub(crate) struct Buffer {
    /// Present until the buffer is dropped.
    block: Option<Block>,
    length: usize,
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Buffer").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Buffer {
    /// Takes a buffer whose numbers are any.
    pub(crate) fn take(length: usize) -> Self {
        let wanted = (length * size_of::<f32>()).next_multiple_of(PAGE).max(PAGE);
        let mut idle = idle();
        // A block that is a little too large is better than a new one.
        let fitting = idle.blocks.range_mut(wanted..=wanted + wanted / 4).next();
        let reused = fitting.and_then(|(&capacity_bytes, blocks)| {
            let block = blocks.pop();
            let is_last = blocks.is_empty();
            block.map(|block| (block, capacity_bytes, is_last))
        });
        let block = reused.map(|(block, capacity_bytes, is_last)| {
            if is_last {
                idle.blocks.remove(&capacity_bytes);
            }
            idle.bytes -= capacity_bytes;
            block
        });
        drop(idle);
        Self { block: Some(block.unwrap_or_else(|| Block::new(wanted))), length }
    }

    /// Makes it the storage of a tensor, to come back when the tensor is dropped.
    pub(crate) fn into_bytes(self) -> Bytes {
        let length_bytes = self.length * size_of::<f32>();
        // SAFETY: all of the block is initialized.
        unsafe { Bytes::from_controller(Box::new(self), length_bytes) }
    }

    fn block(&self) -> &Block {
        self.block.as_ref().expect("only `drop` takes the block")
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some(block) = self.block.take() else { return };
        let mut idle = idle();
        if idle.bytes + block.capacity_bytes <= IDLE_BYTES_MAX {
            idle.bytes += block.capacity_bytes;
            idle.blocks.entry(block.capacity_bytes).or_default().push(block);
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: the block is aligned, initialized, and at least as long.
        unsafe { std::slice::from_raw_parts(self.block().start.as_ptr().cast(), self.length) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and this is the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.block().start.as_ptr().cast(), self.length) }
    }
}

impl AllocationController for Buffer {
    fn alloc_align(&self) -> usize {
        align_of::<f32>()
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    unsafe fn memory_mut(
        &mut self,
        _: AccessPolicy,
    ) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        let (start, length_bytes) = (self.block().start, self.length * size_of::<f32>());
        // SAFETY: as for `deref_mut`; the caller writes initialized bytes only.
        Ok(unsafe { std::slice::from_raw_parts_mut(start.as_ptr().cast(), length_bytes) })
    }

    fn memory(&self, _: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        let (start, length_bytes) = (self.block().start, self.length * size_of::<f32>());
        // SAFETY: as for `deref`.
        Ok(unsafe { std::slice::from_raw_parts(start.as_ptr().cast(), length_bytes) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_that_live_together_are_not_the_same() {
        let (mut first, mut second) = (Buffer::take(3000), Buffer::take(3000));

        first.fill(1.0);
        second.fill(2.0);

        assert!(first.iter().all(|number| number.to_bits() == 1_f32.to_bits()));
    }

    #[test]
    fn dropped_buffer_is_used_again() {
        // A length that no other test takes.
        let length = 123 * 1024;
        let first = Buffer::take(length);
        let start = first.as_ptr();
        drop(first);

        let second = Buffer::take(length - 5);

        assert_eq!((second.as_ptr(), second.len()), (start, length - 5));
        assert_eq!(start.align_offset(ALIGNMENT), 0);
    }

    #[test]
    fn bytes_are_the_numbers() {
        let mut buffer = Buffer::take(2);
        buffer.copy_from_slice(&[0.0, 1.5]);

        let mut bytes = buffer.into_bytes();
        bytes[..4].copy_from_slice(&2.5_f32.to_ne_bytes());

        assert_eq!(bytes[..], [2.5_f32.to_ne_bytes(), 1.5_f32.to_ne_bytes()].concat());
        assert_eq!(bytes.clone()[..], bytes[..]);
    }
}
