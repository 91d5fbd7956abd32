//! Bytes that may be held, and those that are.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use patchbay_heap::Expected;

/// A budget of bytes; clones share it, and so may the engines of several models.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Books>);

#[derive(Debug)]
struct Books {
    limit: AtomicU64,
    held: AtomicU64,
    /// Those of them that are held from wave to wave.
    kept: AtomicU64,
    /// What has bytes beside them as long as nobody else needs these.
    spare: Mutex<Vec<Weak<dyn Spare>>>,
}

/// Something that may take what is free, and lets go of it when it is held for something else.
pub(crate) trait Spare: Debug + Send + Sync {
    /// Bytes that it has.
    fn bytes(&self) -> u64;

    /// Lets go of all but so many bytes.
    fn shrink(&self, bytes: u64);
}

/// Bytes that are held until this is dropped.
#[derive(Debug)]
pub struct Held {
    books: Arc<Books>,
    bytes: u64,
    kept: bool,
    expected: Expected,
}

impl Default for Memory {
    /// A budget without an end.
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

impl Memory {
    /// A budget of so many bytes.
    pub fn new(limit: u64) -> Self {
        let (limit, spare) = (AtomicU64::new(limit), Mutex::default());
        Self(Arc::new(Books { limit, held: AtomicU64::new(0), kept: AtomicU64::new(0), spare }))
    }

    /// Bytes that may be held.
    pub fn limit(&self) -> u64 {
        self.0.limit.load(Ordering::Relaxed)
    }

    /// Sets the budget to what is held or lent now and so many bytes more.
    pub fn set_free(&self, bytes: u64) {
        let lent = self.borrowers().iter().map(|spare| spare.bytes()).fold(0, u64::saturating_add);
        self.0.limit.store(self.held().saturating_add(lent).saturating_add(bytes), Ordering::Relaxed);
    }

    /// Bytes that are held.
    pub fn held(&self) -> u64 {
        self.0.held.load(Ordering::Relaxed)
    }

    /// Bytes that may be held beside those that are.
    pub fn free(&self) -> u64 {
        self.limit().saturating_sub(self.held())
    }

    /// Holds so many bytes, whether or not they are free.
    pub fn hold(&self, bytes: u64) -> Held {
        self.0.held.fetch_add(bytes, Ordering::Relaxed);
        self.take_back();
        Held { books: Arc::clone(&self.0), bytes, kept: false, expected: patchbay_heap::expect(bytes) }
    }

    /// Lends what is free, until it is held.
    pub(crate) fn lend(&self, spare: &Arc<dyn Spare>) {
        let mut all = self.0.spare.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|spare| spare.strong_count() > 0);
        all.push(Arc::downgrade(spare));
    }

    fn borrowers(&self) -> Vec<Arc<dyn Spare>> {
        let all = self.0.spare.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).collect()
    }

    /// Takes back what was lent and is held now.
    fn take_back(&self) {
        let mut free = self.free();
        for spare in self.borrowers() {
            let bytes = spare.bytes();
            if bytes > free {
                spare.shrink(free);
            }
            free -= bytes.min(free);
        }
    }

    /// Bytes that may be kept from wave to wave: half of all, so that waves have room in which to end what keeps the other half.
    pub fn most_kept(&self) -> u64 {
        self.limit() / 2
    }

    /// Holds so many bytes from wave to wave, as the keys of a growing sequence are; nothing while too many are kept.
    pub fn keep(&self, bytes: u64) -> Option<Held> {
        let most = self.most_kept();
        let more = |kept: u64| kept.checked_add(bytes).filter(|kept| *kept <= most);
        self.0.kept.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        let mut held = self.hold(bytes);
        held.kept = true;
        Some(held)
    }
}

impl Held {
    /// Lets go of all but so many bytes.
    pub fn shrink(&mut self, bytes: u64) {
        let freed = self.bytes.saturating_sub(bytes);
        self.books.held.fetch_sub(freed, Ordering::Relaxed);
        if self.kept {
            self.books.kept.fetch_sub(freed, Ordering::Relaxed);
        }
        self.bytes -= freed;
        self.expected.shrink(self.bytes);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.books.held.fetch_sub(self.bytes, Ordering::Relaxed);
        if self.kept {
            self.books.kept.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_not_free_until_it_is_let_go() {
        let memory = Memory::new(100);
        let (a, b) = (memory.hold(30), memory.clone().hold(90));
        assert_eq!((memory.held(), memory.free()), (120, 0));
        drop(b);
        assert_eq!((memory.held(), memory.free()), (30, 70));
        memory.set_free(50);
        drop(a);
        assert_eq!((memory.limit(), memory.free()), (80, 80));
    }

    #[test]
    fn half_is_kept_at_most() {
        let memory = Memory::new(100);
        let kept = memory.keep(40).unwrap();
        assert!(memory.keep(11).is_none());
        assert_eq!((memory.held(), memory.keep(10).is_some()), (40, true));
        let mut kept = kept;
        kept.shrink(30);
        kept.shrink(35);
        assert_eq!((memory.held(), memory.keep(20).is_some()), (30, true));
        drop(kept);
        assert_eq!((memory.held(), memory.keep(50).map(drop)), (0, Some(())));
    }
}
