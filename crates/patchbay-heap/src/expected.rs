//! What is going to be used.

#[cfg(target_os = "linux")]
use crate::large::change;
#[cfg(target_os = "linux")]
use crate::pool::Pool;

/// So many bytes are going to be used until this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Expected(usize);

/// Says that so many bytes are going to be used beside those that are; freed memory is kept within that, until something
/// else is expected or [`give_back`] is called.
pub fn expect(bytes: u64) -> Expected {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    #[cfg(target_os = "linux")]
    change(|pool| pool.expect(bytes));
    Expected(bytes)
}

impl Expected {
    /// Expects so many bytes and no more of those that it does.
    pub fn shrink(&mut self, bytes: u64) {
        let left = self.0.min(usize::try_from(bytes).unwrap_or(usize::MAX));
        #[cfg(target_os = "linux")]
        change(|pool| pool.expect_no_more(self.0 - left));
        self.0 = left;
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

/// Gives freed memory back to the system: what is kept for the next, and what glibc keeps of what was freed by others than the first
/// thread.
pub fn give_back() {
    #[cfg(target_os = "linux")]
    change(Pool::rest);
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code)]
    // SAFETY: it takes a number, locks what it works on, and touches free memory alone.
    unsafe {
        libc::malloc_trim(0);
    }
}
