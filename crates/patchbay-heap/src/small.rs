//! Small allocations, which are glibc's.

use libc::{M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, c_int, mallopt};

use crate::size::LARGE;

/// Bytes that glibc may keep at the end of each of its arenas. A layer's small buffers took less with prompts of any length, for from
/// [`LARGE`] on they are no more glibc's.
const KEPT: c_int = 1 << 20;

/// Has glibc keep what the buffers of a layer leave at the end of an arena for those of the next. By its own rules it keeps 128 KiB
/// there, or twice the largest buffer that it mapped and that was freed since: but here it maps none.
pub(crate) fn keep() {
    for (option, bytes) in [(M_TRIM_THRESHOLD, KEPT), (M_MMAP_THRESHOLD, LARGE as c_int)] {
        #[allow(unsafe_code)]
        // SAFETY: it takes numbers, and locks what it changes. Where it knows better it changes nothing.
        unsafe {
            mallopt(option, bytes);
        }
    }
}
