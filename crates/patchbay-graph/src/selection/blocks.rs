//! Where selected elements lie in memory.

use super::pick::{Pick, joint_place};
use super::{Out, Selection};
use crate::shape::Shape;

/// Where the elements of a source lie: row by row the offset of its first element, and the stride of each axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// One a row; a single one where the source has no axis of rows.
    pub rows: Vec<RowPlacement>,
    /// Number of elements in memory.
    pub elements: usize,
}

/// Where one row lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowPlacement {
    /// Offset of the row's first element.
    pub base: usize,
    /// Distance between neighbours on each axis; that of the axis of rows is not used.
    pub strides: Vec<usize>,
}

/// Equal contiguous blocks of a flat memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Elements in a block.
    pub size: usize,
    /// Number of the block in memory for every block of the result, in the result's order; [`Blocks::PAD`] is padding. A
    /// block may be there twice, where an index lists a place twice.
    pub index: Vec<u32>,
    /// Number of blocks in memory.
    pub total: usize,
}

/// How much a list of blocks takes, without the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gather {
    /// Elements in a block.
    pub size: usize,
    /// Number of blocks of the result.
    pub blocks: usize,
    /// Number of blocks in memory.
    pub total: usize,
    /// Whether some of the result is padding.
    pub padded: bool,
    /// Whether the result is the memory as it lies.
    pub whole: bool,
}

impl Blocks {
    /// Stands for a block of zeros that lies nowhere.
    pub const PAD: u32 = u32::MAX;

    /// Whether the result is the memory as it lies.
    pub fn is_identity(&self) -> bool {
        self.index.len() == self.total && self.index.iter().enumerate().all(|(i, block)| i == *block as usize)
    }

    /// Whether some of the result is padding.
    pub fn has_padding(&self) -> bool {
        self.index.contains(&Self::PAD)
    }
}

impl Placement {
    /// A dense row-major tensor, left-padded where it is ragged.
    pub fn of_shape(shape: &Shape) -> Self {
        let mut strides = vec![1; shape.rank()];
        for axis in (1..shape.rank()).rev() {
            strides[axis - 1] = strides[axis] * shape.dims[axis];
        }
        let row = |row: usize| match &shape.ragged {
            None => RowPlacement { base: 0, strides: strides.clone() },
            Some(ragged) => {
                let pads =
                    ragged.axes.iter().map(|(axis, lengths)| (shape.dims[*axis] - lengths[row]) * strides[*axis]);
                RowPlacement { base: row * strides[ragged.rows] + pads.sum::<usize>(), strides: strides.clone() }
            }
        };
        let rows = shape.ragged.as_ref().map_or(1, |ragged| shape.dims[ragged.rows]);
        Self { rows: (0..rows).map(row).collect(), elements: shape.elements().unwrap_or(usize::MAX) }
    }
}

/// What a place on one axis of the result adds to the offset.
struct Steps {
    /// For every selected row the steps of each place, nothing in the padding; a single list where they do not depend on
    /// the row.
    rows: Vec<Vec<Option<usize>>>,
}

impl Steps {
    fn of(&self, entry: usize) -> &[Option<usize>] {
        if self.rows.len() == 1 { &self.rows[0] } else { &self.rows[entry] }
    }
}

impl Selection {
    /// Where the selected elements lie, as equal contiguous blocks.
    ///
    /// # Panics
    /// Where `placement` is of another source.
    pub fn blocks(&self, placement: &Placement) -> Blocks {
        let (outer, size) = self.contiguous(placement);
        let total = placement.elements / size;
        let dims = &self.shape.dims[..outer];
        if self.shape.dims.contains(&0) {
            return Blocks { size, index: Vec::new(), total };
        }
        let Some((inner, front)) = dims.split_last() else {
            let offset = self.fixed(0, placement);
            return Blocks { size, index: vec![block(offset, size)], total };
        };
        let steps: Vec<Steps> = (0..outer).map(|position| self.steps(position, placement)).collect();
        let fixed: Vec<Option<usize>> = (0..self.rows.len()).map(|entry| self.fixed(entry, placement)).collect();
        let row_out = self.row_out();
        let mut index = Vec::with_capacity(dims.iter().product());
        let mut at = vec![0; front.len()];
        for _ in 0..front.iter().product() {
            let entry_of = |last: usize| row_out.map_or(0, |position| at.get(position).copied().unwrap_or(last));
            for last in 0..*inner {
                let entry = entry_of(last);
                let places = at.iter().copied().chain([last]);
                let mut offset = fixed[entry];
                for (place, steps) in places.zip(&steps) {
                    offset = offset.zip(steps.of(entry)[place]).map(|(offset, step)| offset + step);
                }
                index.push(block(offset, size));
            }
            for axis in (0..front.len()).rev() {
                at[axis] += 1;
                if at[axis] < front[axis] {
                    break;
                }
                at[axis] = 0;
            }
        }
        Blocks { size, index, total }
    }

    /// Size and number of the blocks that [`blocks`](Self::blocks) lists, without listing them.
    ///
    /// # Panics
    /// Where `placement` is of another source.
    pub fn gather(&self, placement: &Placement) -> Gather {
        let (outer, size) = self.contiguous(placement);
        let total = placement.elements / size;
        let blocks = self.shape.dims[..outer].iter().product();
        let padded = self.shape.ragged.is_some() || self.has_absent();
        let whole = blocks == total && !padded && self.in_order(placement) && self.is_all();
        Gather { size, blocks, total, padded, whole }
    }

    /// Whether the source's elements lie in memory in the order of its axes, which is the same in every row.
    fn in_order(&self, placement: &Placement) -> bool {
        placement.rows.first().is_none_or(|row| {
            let others = (0..row.strides.len()).filter(|axis| self.source.rows != Some(*axis));
            others
                .filter(|axis| self.source.axes[*axis].longest() > 1)
                .map(|axis| row.strides[axis])
                .is_sorted_by(|a, b| a >= b)
        })
    }

    /// How many axes of the result are outside of the largest contiguous block, and the block's size.
    fn contiguous(&self, placement: &Placement) -> (usize, usize) {
        let mut outer = self.outs.len();
        let mut size = 1;
        let mut axis = self.source.axes.len();
        while outer > 0 && axis > 0 {
            let here = axis - 1;
            let whole = self.outs[outer - 1] == Out::Axis(here)
                && self.picks[here] == Pick::ALL
                && self.source.rows != Some(here);
            let Some(extent) = self.source.axes[here].uniform() else { break };
            let next = size * extent;
            let fits = |row: &RowPlacement| {
                let mut others = (0..here).filter(|other| self.source.rows != Some(*other));
                row.strides[here] == size
                    && row.base.is_multiple_of(next)
                    && others.all(|other| row.strides[other].is_multiple_of(next))
            };
            let dense = next > 0 && placement.elements.is_multiple_of(next);
            if !whole || !dense || !placement.rows.iter().all(fits) {
                break;
            }
            (outer, size, axis) = (outer - 1, next, here);
        }
        (outer, size)
    }

    /// What the places on an axis of the result add to the offset, that of the row left out.
    fn steps(&self, position: usize, placement: &Placement) -> Steps {
        let decides_row = self.row_out() == Some(position);
        let rows = match self.outs[position] {
            Out::New => vec![vec![Some(0)]],
            _ if decides_row => vec![vec![Some(0); self.rows.len()]],
            Out::Joint => self.each_row(placement, |row, placed| {
                (0..self.joint).map(|entry| self.joint_offset(entry, row, &placed.strides)).collect()
            }),
            Out::Axis(axis) => self.each_row(placement, |row, placed| {
                let places = self.picks[axis].places(row, self.source.axes[axis].of(row));
                let padding = self.shape.dims[position] - places.len();
                let steps = places.into_iter().map(|place| place.map(|place| place * placed.strides[axis]));
                std::iter::repeat_n(None, padding).chain(steps).collect()
            }),
        };
        Steps { rows }
    }

    fn each_row<T>(&self, placement: &Placement, of: impl Fn(usize, &RowPlacement) -> T) -> Vec<T> {
        self.rows.iter().map(|row| of(*row, &placement.rows[*row])).collect()
    }

    /// Offset of the selected row, joint places included where no other axis of the result is theirs.
    fn fixed(&self, entry: usize, placement: &Placement) -> Option<usize> {
        let row = self.rows[entry];
        let placed = &placement.rows[row];
        let joint = match self.outs.contains(&Out::Joint) && !self.joint_decides_row() {
            true => Some(0),
            false => self.joint_offset(entry.min(self.joint.saturating_sub(1)), row, &placed.strides),
        };
        joint.map(|joint| placed.base + joint)
    }

    /// What one entry of the joint places adds to the offset of a row.
    fn joint_offset(&self, entry: usize, row: usize, strides: &[usize]) -> Option<usize> {
        self.picks.iter().enumerate().filter(|(axis, _)| self.source.rows != Some(*axis)).try_fold(
            0,
            |sum, (axis, pick)| {
                let Pick::Joint(places) = pick else { return Some(sum) };
                let place = joint_place(places, entry)?.resolve(row, self.source.axes[axis].of(row))?;
                Some(sum + place * strides[axis])
            },
        )
    }
}

/// Number of the block that starts at an offset.
fn block(offset: Option<usize>, size: usize) -> u32 {
    offset.map_or(Blocks::PAD, |offset| (offset / size) as u32)
}
