//! Memory of the system.

use std::ptr::null_mut;

use libc::{MADV_HUGEPAGE, MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, MREMAP_MAYMOVE, PROT_READ, PROT_WRITE};

/// Bytes of a huge page, of which the system clears and maps one about as fast as a few small ones.
const HUGE: usize = 2 << 20;

/// Maps so many bytes, all zero, in huge pages where they fill some. Null where there are none.
pub(crate) fn map(bytes: usize) -> *mut u8 {
    if bytes < HUGE {
        return anonymous(bytes);
    }
    let Some(wide) = bytes.checked_add(HUGE) else { return null_mut() };
    let start = anonymous(wide);
    if start.is_null() {
        return start;
    }
    let before = start.align_offset(HUGE);
    let (aligned, after) = (start.wrapping_add(before), HUGE - before);
    #[allow(unsafe_code)]
    // SAFETY: all three parts are of the mapping that was just made, whole pages, and none of them is used yet. The advice changes
    // how memory is come by and not what it holds; where it is not taken, small pages do.
    unsafe {
        if before > 0 {
            libc::munmap(start.cast(), before);
        }
        if after > 0 {
            libc::munmap(aligned.wrapping_add(bytes).cast(), after);
        }
        libc::madvise(aligned.cast(), bytes, MADV_HUGEPAGE);
    }
    aligned
}

fn anonymous(bytes: usize) -> *mut u8 {
    #[allow(unsafe_code)]
    // SAFETY: a new private mapping at an address of the system's choice touches nothing that is there.
    let start = unsafe { libc::mmap(null_mut(), bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) };
    if start == MAP_FAILED { null_mut() } else { start.cast() }
}

/// Gives mapped memory back.
///
/// # Safety
///
/// It is memory of [`map`] or [`remap`], whole pages, and nobody uses it.
#[allow(unsafe_code)]
pub(crate) unsafe fn unmap(start: *mut u8, bytes: usize) {
    // SAFETY: as the caller sees to
    unsafe { libc::munmap(start.cast(), bytes) };
}

/// Mapped memory with another length, perhaps elsewhere. Null where there is no room or it is of several mappings, and then it is
/// as it was.
///
/// # Safety
///
/// It is memory of [`map`] or [`remap`], whole pages, and nobody but the caller uses it.
#[allow(unsafe_code)]
pub(crate) unsafe fn remap(start: *mut u8, from: usize, to: usize) -> *mut u8 {
    // SAFETY: as the caller sees to
    let moved = unsafe { libc::mremap(start.cast(), from, to, MREMAP_MAYMOVE) };
    if moved == MAP_FAILED { null_mut() } else { moved.cast() }
}
