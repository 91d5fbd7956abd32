//! Large allocations.

use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::mapping;
use crate::pool::{Block, Pool};
use crate::size;

static POOL: Mutex<Pool> = Mutex::new(Pool::new());

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// So many bytes, which hold anything. Null where there is no memory.
pub(crate) fn take(bytes: usize) -> *mut u8 {
    taken(bytes).0
}

/// So many bytes, all zero. Null where there is no memory.
pub(crate) fn take_zeroed(bytes: usize) -> *mut u8 {
    let (start, fresh) = taken(bytes);
    if !fresh && !start.is_null() {
        #[allow(unsafe_code)]
        // SAFETY: the mapping is at least so long, and nobody else has it
        unsafe {
            start.write_bytes(0, bytes);
        }
    }
    start
}

/// Memory, and whether it comes from the system, which clears it.
fn taken(bytes: usize) -> (*mut u8, bool) {
    let Some(mapped) = size::mapped(bytes) else { return (null_mut(), true) };
    if let Some(block) = pool().take(mapped) {
        return (std::ptr::with_exposed_provenance_mut(block.start), false);
    }
    keep_within();
    let start = mapping::map(mapped);
    if start.is_null() {
        pool().freed(mapped);
    }
    (start, true)
}

/// Takes memory back.
///
/// # Safety
///
/// It is of one of this module's functions, of these bytes, and nobody uses it.
#[allow(unsafe_code)]
pub(crate) unsafe fn give(start: *mut u8, bytes: usize) {
    let Some(mapped) = size::mapped(bytes) else { return };
    let refused = pool().give(Block { start: start.expose_provenance(), bytes: mapped });
    if refused.is_some() {
        // SAFETY: as the caller sees to; its mapping is so long, and the pool did not keep it
        unsafe { mapping::unmap(start, mapped) };
    }
}

/// The memory with another length, perhaps elsewhere. None where it cannot be had by mapping alone, and then it is as it was: parts
/// that were mapped one by one cannot be moved as one.
///
/// # Safety
///
/// It is of one of this module's functions, of `from` bytes, and nobody but the caller uses it.
#[allow(unsafe_code)]
pub(crate) unsafe fn resize(start: *mut u8, from: usize, to: usize) -> Option<*mut u8> {
    let (before, after) = (size::mapped(from)?, size::mapped(to)?);
    if before == after {
        return Some(start);
    }
    // SAFETY: as the caller sees to
    let moved = unsafe { mapping::remap(start, before, after) };
    if moved.is_null() {
        return None;
    }
    pool().resized(before, after);
    keep_within();
    Some(moved)
}

/// Changes the books by this, and keeps to them.
pub(crate) fn change(by: impl Fn(&mut Pool)) {
    by(&mut pool());
    keep_within();
}

/// Unmaps what is kept beyond what is expected, block by block, so that others need not wait for all of it.
fn keep_within() {
    let excess = || pool().excess();
    while let Some(block) = excess() {
        #[allow(unsafe_code)]
        // SAFETY: the block was kept, so that nobody uses it, and the pool has it no more
        unsafe {
            mapping::unmap(std::ptr::with_exposed_provenance_mut(block.start), block.bytes);
        }
    }
}
