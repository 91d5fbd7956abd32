//! Hints to the processor's caches.

/// Bytes of a cache line.
const LINE: usize = 64;

/// Asks for the entry `distance` after `entry`, which need not be there, to be brought near while other work goes on.
#[inline(always)]
#[allow(unsafe_code)]
pub(crate) fn ahead<T>(entry: &T, distance: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let first = std::ptr::from_ref(entry).wrapping_add(distance).cast::<i8>();
        for line in 0..size_of::<T>().div_ceil(LINE) {
            // SAFETY: this is a hint, which reads nothing and does not fail whatever the address; SSE is part of x86-64.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(line * LINE)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (entry, distance, LINE);
}
