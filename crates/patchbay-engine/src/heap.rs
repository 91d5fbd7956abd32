//! The process's heap.

/// Gives memory that was freed back to the system, where the allocator keeps it for itself otherwise: glibc keeps what its other
/// threads freed, up to buffers of 32 MiB, which are most of what a wave takes.
pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code)]
    // SAFETY: it takes a number, locks what it works on, and touches free memory alone.
    unsafe {
        libc::malloc_trim(0);
    }
}
