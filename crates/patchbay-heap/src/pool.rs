//! The books: what is in use, what is kept for the next, and how much that may be.

use crate::size::GRAIN;

/// Blocks that may be kept at a time.
const MOST: usize = 256;

/// Bytes that may be kept beyond what is expected to be used, for kept blocks are not always of the sizes that are asked for.
const SLACK: usize = 4 << 20;

/// Memory that nobody uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Where it begins.
    pub(crate) start: usize,
    /// Its length.
    pub(crate) bytes: usize,
}

impl Block {
    /// Whether one begins where the other ends.
    fn touches(self, other: Self) -> bool {
        self.start + self.bytes == other.start || other.start + other.bytes == self.start
    }

    /// Both, of two that touch.
    fn with(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), bytes: self.bytes + other.bytes }
    }
}

/// Blocks that were freed, in the order in which they were. Allocates nothing itself, for it is what allocates.
#[derive(Debug)]
pub(crate) struct Pool {
    blocks: [Block; MOST],
    count: usize,
    kept: usize,
    used: usize,
    /// Bytes in use that nobody said to expect: weights.
    base: usize,
    expected: usize,
    /// What used and kept blocks may take.
    ceiling: usize,
}

impl Pool {
    /// Nothing is used, expected or kept.
    pub(crate) const fn new() -> Self {
        let none = Block { start: 0, bytes: 0 };
        Self { blocks: [none; MOST], count: 0, kept: 0, used: 0, base: 0, expected: 0, ceiling: 0 }
    }

    /// So many bytes come into use: in the smallest kept block that holds them, the rest of which is kept on, or in one that the
    /// caller has yet to map.
    pub(crate) fn take(&mut self, bytes: usize) -> Option<Block> {
        self.used += bytes;
        let kept = self.blocks[..self.count].iter().enumerate();
        // of blocks as small as each other the one that was freed last, which may still be in a cache
        let (at, block) = kept.rev().filter(|(_, block)| block.bytes >= bytes).min_by_key(|(_, block)| block.bytes)?;
        let taken = Block { start: block.start, bytes };
        self.cut(at, taken);
        Some(taken)
    }

    /// So many bytes are used no more.
    pub(crate) fn freed(&mut self, bytes: usize) {
        self.used -= bytes;
    }

    /// What was in use with so many bytes is so with others.
    pub(crate) fn resized(&mut self, from: usize, to: usize) {
        self.used = self.used - from + to;
    }

    /// A block is used no more. It comes back where it is not kept, and the caller has to unmap it.
    pub(crate) fn give(&mut self, block: Block) -> Option<Block> {
        self.freed(block.bytes);
        if self.used + self.kept + block.bytes > self.ceiling {
            return Some(block);
        }
        let mut whole = block;
        while let Some(at) = self.blocks[..self.count].iter().position(|kept| kept.touches(whole)) {
            whole = whole.with(self.blocks[at]);
            self.remove(at);
        }
        if self.count == MOST {
            return Some(block);
        }
        self.kept += block.bytes;
        self.blocks[self.count] = whole;
        self.count += 1;
        None
    }

    /// As much of the block that was kept longest as used and kept ones take more than is expected. The caller has to unmap it.
    pub(crate) fn excess(&mut self) -> Option<Block> {
        let over = (self.used + self.kept).saturating_sub(self.ceiling);
        let oldest = *self.blocks[..self.count].first()?;
        if over == 0 {
            return None;
        }
        let bytes = over.next_multiple_of(GRAIN).min(oldest.bytes);
        let gone = Block { start: oldest.start, bytes };
        self.cut(0, gone);
        Some(gone)
    }

    /// So many bytes more are going to be used.
    pub(crate) fn expect(&mut self, bytes: usize) {
        let unexpected = self.used.saturating_sub(self.expected);
        self.base = if self.expected == 0 { unexpected } else { self.base.max(unexpected) };
        self.expected = self.expected.saturating_add(bytes);
        self.ceiling = self.base.saturating_add(self.expected).saturating_add(SLACK);
    }

    /// So many of the bytes that were expected are expected no more. What is kept for them stays for what is expected next.
    pub(crate) fn expect_no_more(&mut self, bytes: usize) {
        self.expected = self.expected.saturating_sub(bytes);
    }

    /// Nothing is expected in the near future.
    pub(crate) fn rest(&mut self) {
        self.ceiling = 0;
    }

    /// Keeps of a block what lies behind this beginning of it.
    fn cut(&mut self, at: usize, beginning: Block) {
        self.kept -= beginning.bytes;
        let block = &mut self.blocks[at];
        *block = Block { start: block.start + beginning.bytes, bytes: block.bytes - beginning.bytes };
        if block.bytes == 0 {
            self.remove(at);
        }
    }

    fn remove(&mut self, at: usize) {
        self.blocks.copy_within(at + 1..self.count, at);
        self.count -= 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Grains from one to another.
    fn grains(first: usize, end: usize) -> Block {
        Block { start: first * GRAIN, bytes: (end - first) * GRAIN }
    }

    fn with(used: usize, expected: usize) -> Pool {
        let mut pool = Pool::new();
        assert_eq!(pool.take(used * GRAIN), None);
        pool.expect(expected * GRAIN);
        pool.ceiling -= SLACK;
        pool
    }

    #[test]
    fn the_smallest_that_holds_it_is_taken_and_the_last_of_those() {
        let mut pool = with(0, 100);
        assert_eq!(pool.take(40 * GRAIN), None);
        for block in [grains(1, 3), grains(10, 14), grains(20, 22)] {
            assert_eq!(pool.give(block), None);
        }
        assert_eq!(pool.take(2 * GRAIN), Some(grains(20, 22)));
        assert_eq!(pool.take(3 * GRAIN), Some(grains(10, 13)));
        assert_eq!(pool.take(3 * GRAIN), None);
        assert_eq!((pool.take(GRAIN), pool.take(GRAIN)), (Some(grains(13, 14)), Some(grains(1, 2))));
    }

    #[test]
    fn neighbours_become_one() {
        let mut pool = with(0, 100);
        assert_eq!(pool.take(40 * GRAIN), None);
        for block in [grains(1, 3), grains(5, 9), grains(3, 5)] {
            assert_eq!(pool.give(block), None);
        }
        assert_eq!(pool.take(8 * GRAIN), Some(grains(1, 9)));
    }

    #[test]
    fn nothing_is_kept_beyond_what_is_expected() {
        let mut pool = Pool::new();
        assert_eq!((pool.take(GRAIN), pool.give(grains(1, 2))), (None, Some(grains(1, 2))));
        // weights are no part of what is expected
        let mut pool = with(1000, 30);
        assert_eq!(pool.take(40 * GRAIN), None);
        assert_eq!(pool.give(grains(0, 10)), Some(grains(0, 10)));
        assert_eq!((pool.give(grains(10, 20)), pool.give(grains(30, 40)), pool.excess()), (None, None, None));
        pool.expect_no_more(30 * GRAIN);
        assert_eq!(pool.excess(), None);
        pool.expect(3 * GRAIN);
        pool.ceiling -= SLACK;
        assert_eq!([pool.excess(), pool.excess(), pool.excess()], [Some(grains(10, 20)), Some(grains(30, 37)), None]);
        pool.rest();
        assert_eq!([pool.excess(), pool.excess()], [Some(grains(37, 40)), None]);
    }

    proptest! {
        #[test]
        fn used_and_kept_stay_within_what_is_expected(steps in prop::collection::vec((0_u8..4, 1_usize..6), 1..300)) {
            let mut pool = Pool::new();
            let (mut used, mut next, mut expected) = (Vec::<Block>::new(), 1, Vec::new());
            for (what, grains) in steps {
                let bytes = grains * GRAIN;
                match what {
                    0 => {
                        // now and then a mapping lies right behind the last
                        let fresh = Block { start: next * GRAIN, bytes };
                        let taken = pool.take(bytes).unwrap_or(fresh);
                        next += grains + grains % 2;
                        let apart = |other: &Block| other.start + other.bytes <= taken.start || taken.start + bytes <= other.start;
                        prop_assert!(taken.bytes == bytes && used.iter().all(apart));
                        used.push(taken);
                    }
                    1 if !used.is_empty() => drop(pool.give(used.swap_remove(bytes % used.len()))),
                    2 => {
                        pool.expect(bytes * 4);
                        expected.push(bytes * 4);
                    }
                    3 if !expected.is_empty() => pool.expect_no_more(expected.swap_remove(bytes % expected.len())),
                    _ => {}
                }
                while pool.excess().is_some() {}
                let in_use: usize = used.iter().map(|block| block.bytes).sum();
                prop_assert_eq!(pool.used, in_use);
                prop_assert_eq!(pool.kept, pool.blocks[..pool.count].iter().map(|block| block.bytes).sum::<usize>());
                prop_assert_eq!(pool.expected, expected.iter().sum::<usize>());
                prop_assert!(pool.kept == 0 || pool.used + pool.kept <= pool.ceiling);
            }
        }
    }
}
