//! Which allocations are large, and how large.

use std::alloc::Layout;

/// Bytes from which on an allocation comes from the pool.
pub(crate) const LARGE: usize = 256 << 10;

/// What large allocations are a multiple of: some pages, so that few are left over between them.
pub(crate) const GRAIN: usize = 16 << 10;

/// Bytes of a page, as the smallest that Linux has.
const PAGE: usize = 4096;

/// Whether an allocation comes from the pool.
pub(crate) fn is_large(layout: Layout) -> bool {
    layout.size() >= LARGE && layout.align() <= PAGE
}

/// Bytes that a large allocation takes of the pool: whole grains. None where that is more than there are addresses.
pub(crate) fn mapped(bytes: usize) -> Option<usize> {
    bytes.checked_next_multiple_of(GRAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_little_more_in_whole_grains() {
        for bytes in [LARGE, LARGE + 1, 1_000_000, 5 << 20, (5 << 20) + 1, 3_333_333_333] {
            let mapped = mapped(bytes).unwrap();
            assert!(
                mapped >= bytes
                    && mapped.is_multiple_of(GRAIN)
                    && GRAIN.is_multiple_of(PAGE)
                    && mapped - bytes <= bytes / 16,
                "{bytes}: {mapped}"
            );
            assert_eq!(super::mapped(mapped), Some(mapped));
        }
        assert_eq!(mapped(usize::MAX), None);
    }

    #[test]
    fn what_is_aligned_to_more_than_a_page_is_not_from_the_pool() {
        let layout = |align| Layout::from_size_align(LARGE, align).unwrap();
        assert_eq!([64, PAGE, 2 * PAGE].map(|align| is_large(layout(align))), [true, true, false]);
    }
}
