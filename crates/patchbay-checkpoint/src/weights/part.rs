//! Which numbers of a stored tensor are wanted, and in which order.

/// A part of a stored tensor: some of its numbers, in an order of their own.
///
/// Projections that a checkpoint stacks, fuses or transposes are parts of one tensor, and each is read alone:
///
/// ```
/// # use patchbay_checkpoint::Part;
/// // The keys of the third of eight layers, out of `[queries; keys; values]` stored as `[8, in, out]`.
/// let part = Part::of(&[8, 64, 96]).index(2).transposed().rows(96, 32, 32);
/// assert_eq!(part.shape(), [32, 64]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where the first number lies, counted in numbers.
    offset: usize,
    /// Size of each axis, and how far apart its neighbours lie, counted in numbers.
    axes: Vec<(usize, usize)>,
    /// How many of `axes`, from the first on, are one axis of the part.
    first: usize,
}

impl Part {
    /// All of a tensor of this shape.
    pub fn of(shape: &[usize]) -> Self {
        let mut stride = 1_usize;
        let mut axes: Vec<_> = shape
            .iter()
            .rev()
            .map(|&size| {
                let axis = (size, stride);
                stride = stride.saturating_mul(size);
                axis
            })
            .collect();
        axes.reverse();
        Self::strided(axes)
    }

    /// All numbers of a tensor whose axes have these sizes and strides.
    pub(super) fn strided(axes: Vec<(usize, usize)>) -> Self {
        Self { offset: 0, axes, first: 1 }
    }

    /// Entry `index` of the first axis, which goes.
    #[must_use]
    pub fn index(mut self, index: usize) -> Self {
        // A number has no entries: its part is behind all there is, where no reading finds it.
        let stride = if self.axes.is_empty() { usize::MAX } else { self.axes.remove(0).1 };
        self.offset = self.offset.saturating_add(index.saturating_mul(stride));
        self
    }

    /// The first two axes changed for one another.
    #[must_use]
    pub fn transposed(mut self) -> Self {
        if self.axes.len() > 1 {
            self.axes.swap(0, 1);
        }
        self
    }

    /// Of every `group` rows (entries of the first axis), `len` from `start` on.
    #[must_use]
    pub fn rows(mut self, group: usize, start: usize, len: usize) -> Self {
        let (size, stride) = self.axes.first().copied().unwrap_or((1, 1));
        self.offset = self.offset.saturating_add(start.saturating_mul(stride));
        let rows = [(size / group.max(1), group.saturating_mul(stride)), (len, stride)];
        self.axes.splice(..self.axes.len().min(1), rows);
        self.first = 2;
        self
    }

    /// The part's shape.
    pub fn shape(&self) -> Vec<usize> {
        let (first, rest) = self.axes.split_at(self.first.min(self.axes.len()));
        let first = (!first.is_empty()).then(|| first.iter().map(|(size, _)| size).product());
        first.into_iter().chain(rest.iter().map(|(size, _)| *size)).collect()
    }

    /// How many numbers it has; nothing where that is more than can be counted.
    pub(super) fn elements(&self) -> Option<usize> {
        self.axes.iter().try_fold(1_usize, |product, (size, _)| product.checked_mul(*size))
    }

    /// How many stored numbers there must be for all of its own to be among them; nothing where no file is so long.
    pub(super) fn extent(&self) -> Option<usize> {
        if self.elements()? == 0 {
            return Some(0);
        }
        let last = self
            .axes
            .iter()
            .try_fold(self.offset, |sum, (size, stride)| sum.checked_add((size - 1).checked_mul(*stride)?))?;
        last.checked_add(1)
    }

    /// Size and stride of the last axis.
    pub(super) fn last(&self) -> (usize, usize) {
        self.axes.last().copied().unwrap_or((1, 1))
    }

    /// Where the first number of a row lies, rows being runs of the last axis, in the part's order.
    pub(super) fn start(&self, row: usize) -> usize {
        let outer = &self.axes[..self.axes.len().saturating_sub(1)];
        let step =
            |(rest, at): (usize, usize), (size, stride): &(usize, usize)| (rest / size, at + rest % size * stride);
        outer.iter().rev().fold((row, self.offset), step).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(part: &Part) -> Vec<usize> {
        let (size, stride) = part.last();
        let rows = part.elements().unwrap() / size;
        (0..rows).flat_map(|row| (0..size).map(move |i| part.start(row) + i * stride)).collect()
    }

    #[test]
    fn parts_are_taken_apart_in_the_order_of_their_calls() {
        assert_eq!(places(&Part::of(&[2, 3])), [0, 1, 2, 3, 4, 5]);
        assert_eq!(places(&Part::of(&[2, 3]).transposed()), [0, 3, 1, 4, 2, 5]);
        assert_eq!(places(&Part::of(&[2, 2, 2]).index(1)), [4, 5, 6, 7]);
        let middle = Part::of(&[6]).rows(3, 1, 1);
        assert_eq!((places(&middle), middle.shape()), (vec![1, 4], vec![2]));
        let part = Part::of(&[2, 2, 4]).index(1).transposed().rows(2, 1, 1);
        assert_eq!((places(&part), part.shape()), (vec![9, 13, 11, 15], vec![2, 2]));
        assert_eq!((places(&Part::of(&[])), Part::of(&[]).shape()), (vec![0], vec![]));
    }

    #[test]
    fn extents_are_what_a_file_must_have() {
        assert_eq!(Part::of(&[2, 3]).extent(), Some(6));
        assert_eq!(Part::of(&[2, 3]).rows(2, 1, 1).extent(), Some(6));
        assert_eq!(Part::of(&[2, 3]).index(5).extent(), Some(18));
        assert_eq!(Part::of(&[0, usize::MAX]).extent(), Some(0));
        assert_eq!(Part::of(&[usize::MAX, 2]).extent(), None);
        assert_eq!(Part::strided(vec![(3, usize::MAX)]).extent(), None);
    }
}
