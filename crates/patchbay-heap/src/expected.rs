//! What is going to be used.

/// So many bytes are going to be used until this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Expected(usize);

/// Says that so many bytes are going to be used beside those that are; freed memory is kept within that, until something
/// else is expected or [`give_back`](crate::give_back) is called.
pub fn expect(bytes: u64) -> Expected {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    change(|pool| pool.expect(bytes));
    Expected(bytes)
}

impl Expected {
    /// Expects so many bytes and no more of those that it does.
    pub fn shrink(&mut self, bytes: u64) {
        let freed = self.0.saturating_sub(usize::try_from(bytes).unwrap_or(usize::MAX));
        change(|pool| pool.expect_no_more(freed));
        self.0 -= freed;
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        change(|pool| pool.expect_no_more(self.0));
    }
}

#[cfg(target_os = "linux")]
use crate::large::change;

#[cfg(not(target_os = "linux"))]
fn change(_: impl Fn(&mut crate::pool::Pool)) {}
