//! The process's allocator.
//!
//! A forward pass takes and frees the same few sizes of large buffers layer after layer. General allocators either give such
//! buffers back to the system at once, which then clears every page of them anew, or keep them by rules of their own, so that the
//! process takes a third more than is in use. But here it is known beforehand what is going to be in use: whoever runs something
//! says so ([`expect`]), and freed buffers are kept for the next that asks for their size as long as all of them stay within that.
//!
//! Small allocations are the system allocator's. Elsewhere than on Linux all are.

mod expected;
#[cfg(target_os = "linux")]
mod large;
#[cfg(target_os = "linux")]
mod mapping;
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
mod pool;
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
mod size;

use std::alloc::{GlobalAlloc, Layout, System};

pub use expected::{Expected, expect};

/// Large allocations from a pool of mappings, and all others from the system's allocator. To be a program's `#[global_allocator]`.
#[derive(Debug)]
pub struct Heap;

#[cfg(not(target_os = "linux"))]
#[allow(unsafe_code)]
// SAFETY: every call is handed on as it came.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        unsafe { System.dealloc(start, layout) }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        unsafe { System.realloc(start, layout, size) }
    }
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
// SAFETY: a layout alone decides who serves it (`size::is_large`), so that memory comes back to where it was taken from. What is
// large has whole pages, as many as it asks for, that nobody else has, and thus any alignment that is let through.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match size::is_large(layout) {
            true => large::take(layout.size()),
            false => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match size::is_large(layout) {
            true => large::take_zeroed(layout.size()),
            false => unsafe { System.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        match size::is_large(layout) {
            true => unsafe { large::give(start, layout.size()) },
            false => unsafe { System.dealloc(start, layout) },
        }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller sees to it that the size, rounded up to the alignment, does not overflow
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (size::is_large(layout), size::is_large(new)) {
            (true, true) => unsafe { large::resize(start, layout.size(), size) },
            (false, false) => unsafe { System.realloc(start, layout, size) },
            _ => unsafe {
                let moved = self.alloc(new);
                if !moved.is_null() {
                    std::ptr::copy_nonoverlapping(start, moved, layout.size().min(size));
                    self.dealloc(start, layout);
                }
                moved
            },
        }
    }
}

/// Gives freed memory back to the system: what is kept for the next, and what glibc keeps of what was freed by others than the first
/// thread.
pub fn give_back() {
    #[cfg(target_os = "linux")]
    large::change(pool::Pool::rest);
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code)]
    // SAFETY: it takes a number, locks what it works on, and touches free memory alone.
    unsafe {
        libc::malloc_trim(0);
    }
}
