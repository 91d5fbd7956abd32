//! The rows of a matrix in groups, a group's rows side by side, as a tile reads them.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::parallel::{part, share};
use super::tile::Widest;
use crate::panels::interleave;

/// Numbers that stay in the second-level cache beside a panel.
const CACHED: usize = 1 << 18;
/// Numbers that are not worth waking another core.
const SMALL: usize = 1 << 15;

/// Rows in groups of nearly equal size.
pub(super) struct Grouped {
    columns: usize,
    /// For each group, and each column in it, a number of each row.
    numbers: Vec<f32>,
    groups: Vec<Range<usize>>,
}

impl Grouped {
    /// The rows `x: [rows, columns]`.
    pub(super) fn new(arch: Arch, x: &[f32], columns: usize) -> Self {
        let rows = x.len() / columns.max(1);
        let count = rows.div_ceil(arch.dispatch(Widest));
        let groups: Vec<_> = (0..count).map(|group| rows * group / count..rows * (group + 1) / count).collect();
        let mut numbers = vec![0.0; x.len()];
        let together = if x.len() <= SMALL { count } else { part(count, 1) };
        let (mut jobs, mut left) = (Vec::new(), numbers.as_mut_slice());
        for groups in groups.chunks(together.max(1)) {
            let (first, last) = (groups[0].start, groups[groups.len() - 1].end);
            let (numbers, rest) = left.split_at_mut((last - first) * columns);
            jobs.push(Lay { x: &x[first * columns..last * columns], columns, groups, numbers });
            left = rest;
        }
        share(jobs, |job| arch.dispatch(job));
        Self { columns, numbers, groups }
    }

    /// Runs of groups that stay in the second-level cache together.
    pub(super) fn runs(&self) -> impl Iterator<Item = &[Range<usize>]> {
        let rows = self.groups.first().map_or(1, |group| group.len().max(1));
        self.groups.chunks((CACHED / (rows * self.columns).max(1)).max(1))
    }

    /// All groups.
    pub(super) fn groups(&self) -> &[Range<usize>] {
        &self.groups
    }

    /// A group's numbers.
    pub(super) fn of(&self, group: &Range<usize>) -> &[f32] {
        &self.numbers[group.start * self.columns..group.end * self.columns]
    }
}

/// Some groups, and where they go.
struct Lay<'a> {
    x: &'a [f32],
    columns: usize,
    groups: &'a [Range<usize>],
    numbers: &'a mut [f32],
}

impl WithSimd for Lay<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (mut x, mut numbers) = (self.x, self.numbers);
        for group in self.groups {
            let size = group.len() * self.columns;
            let (rows, others) = x.split_at(size);
            let (to, rest) = numbers.split_at_mut(size);
            lay(rows, group.len(), to);
            (x, numbers) = (others, rest);
        }
    }
}

#[inline(always)]
fn lay(rows: &[f32], count: usize, to: &mut [f32]) {
    match count {
        2 => interleave(rows, to.as_chunks_mut::<2>().0),
        3 => interleave(rows, to.as_chunks_mut::<3>().0),
        4 => interleave(rows, to.as_chunks_mut::<4>().0),
        5 => interleave(rows, to.as_chunks_mut::<5>().0),
        6 => interleave(rows, to.as_chunks_mut::<6>().0),
        7 => interleave(rows, to.as_chunks_mut::<7>().0),
        8 => interleave(rows, to.as_chunks_mut::<8>().0),
        9 => interleave(rows, to.as_chunks_mut::<9>().0),
        10 => interleave(rows, to.as_chunks_mut::<10>().0),
        11 => interleave(rows, to.as_chunks_mut::<11>().0),
        12 => interleave(rows, to.as_chunks_mut::<12>().0),
        _ => to.copy_from_slice(rows),
    }
}
