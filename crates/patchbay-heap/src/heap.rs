//! Who serves an allocation.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::copy_nonoverlapping;

use crate::{large, size};

/// Large allocations from a pool of mappings, and all others from the system's allocator. To be a program's `#[global_allocator]`.
#[derive(Debug)]
pub struct Heap;

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
        let resized = match (size::is_large(layout), size::is_large(new)) {
            (true, true) => unsafe { large::resize(start, layout.size(), size) },
            (false, false) => return unsafe { System.realloc(start, layout, size) },
            _ => None,
        };
        // SAFETY: the new memory is another, and both are at least as long as what is copied; the old is not used any more
        resized.unwrap_or_else(|| unsafe {
            let moved = self.alloc(new);
            if !moved.is_null() {
                copy_nonoverlapping(start, moved, layout.size().min(size));
                self.dealloc(start, layout);
            }
            moved
        })
    }
}
