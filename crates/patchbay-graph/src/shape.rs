//! Shapes, with the lengths of rows where rows differ in length.

use std::fmt;
use std::sync::Arc;

use crate::problem::{Code, Problem, Result};

/// How many axes a tensor may have.
pub const MAX_RANK: usize = 16;

/// Shape of a dense tensor. Where the rows of an input differ in length the tensor is left-padded with zeros and
/// [`Shape::ragged`] gives the true lengths.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Shape {
    /// Sizes of the axes, padding included.
    pub dims: Vec<usize>,
    /// The axes whose true length depends on the row, if any.
    pub ragged: Option<Ragged>,
}

/// Which axes of a tensor have a length of their own in each row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ragged {
    /// The axis of rows.
    pub rows: usize,
    /// The axes of tokens, in ascending order, each with its length in every row.
    pub axes: Vec<(usize, Arc<[usize]>)>,
}

impl Ragged {
    /// Lengths along `axis`, row by row, where that axis is ragged.
    pub fn lengths(&self, axis: usize) -> Option<&Arc<[usize]>> {
        self.axes.iter().find(|(a, _)| *a == axis).map(|(_, lengths)| lengths)
    }
}

impl Shape {
    /// A shape with no ragged axis.
    pub fn dense(dims: impl Into<Vec<usize>>) -> Self {
        Self { dims: dims.into(), ragged: None }
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// Number of elements, padding included, or nothing where the distances between them cannot be counted. An empty
    /// tensor has such distances too.
    pub fn elements(&self) -> Option<usize> {
        let counted = self.dims.iter().try_fold(1usize, |n, dim| n.checked_mul((*dim).max(1)))?;
        Some(if self.dims.contains(&0) { 0 } else { counted })
    }

    /// Number of elements, padding left out.
    pub fn real_elements(&self) -> u64 {
        let Some(ragged) = &self.ragged else { return self.elements().unwrap_or(usize::MAX) as u64 };
        let even = |axis: &usize| *axis != ragged.rows && ragged.lengths(*axis).is_none();
        let each = (0..self.rank()).filter(even).map(|axis| self.dims[axis] as u64);
        let row = |row: usize| ragged.axes.iter().map(|(_, lengths)| lengths[row] as u64).fold(1, u64::saturating_mul);
        let rows = (0..self.dims[ragged.rows]).map(row).fold(0, u64::saturating_add);
        each.fold(rows, u64::saturating_mul)
    }

    /// The length of each sequence of a value `[.., S, D]`, in order.
    ///
    /// # Panics
    /// Where there are fewer than two axes.
    pub fn sequences(&self) -> Vec<usize> {
        let dims = &self.dims;
        let rows: usize = dims[..dims.len() - 2].iter().product();
        let ragged = self.ragged.as_ref().and_then(|ragged| Some((ragged.rows, ragged.lengths(dims.len() - 2)?)));
        let Some((axis, lengths)) = ragged else { return vec![dims[dims.len() - 2]; rows] };
        let below: usize = dims[axis + 1..dims.len() - 2].iter().product();
        (0..rows).map(|row| lengths[row / below.max(1) % dims[axis]]).collect()
    }

    /// An axis given as PyTorch takes it: negative ones count from the end.
    pub fn axis(&self, axis: i64) -> Result<usize> {
        let rank = self.rank() as i64;
        let found = if axis < 0 { axis + rank } else { axis };
        if (0..rank).contains(&found) {
            return Ok(found as usize);
        }
        let hint = match rank {
            0 => "a single number has no axes".to_owned(),
            _ => format!("axes go from {} to {}", -rank, rank - 1),
        };
        Err(Problem::new(Code::IndexOutOfRange, format!("axis {axis} of a tensor of shape {self}")).hint(hint))
    }

    /// Whether the axis is one of rows or tokens of a ragged tensor.
    pub fn is_ragged(&self, axis: usize) -> bool {
        self.ragged.as_ref().is_some_and(|ragged| ragged.lengths(axis).is_some())
    }

    /// The shape of both when broadcast against each other, as NumPy and PyTorch do it. Ragged axes must agree.
    pub fn broadcast(&self, other: &Self) -> Result<Self> {
        let rank = self.rank().max(other.rank());
        let size = |shape: &Self, axis: usize| (axis + shape.rank()).checked_sub(rank).map_or(1, |a| shape.dims[a]);
        let mut dims = Vec::with_capacity(rank);
        for axis in 0..rank {
            match (size(self, axis), size(other, axis)) {
                (a, b) if a == b => dims.push(a),
                (1, n) | (n, 1) => dims.push(n),
                _ => return Err(self.misfit(other)),
            }
        }
        let ragged = match (self.ragged_at(rank), other.ragged_at(rank)) {
            (None, None) => None,
            (Some(a), Some(b)) if a == b => Some(a),
            (Some(_), Some(_)) => return Err(self.misfit(other).hint("their rows differ in length")),
            (Some(a), None) => other.fills(&a, rank).then_some(a).ok_or_else(|| self.misfit(other)).map(Some)?,
            (None, Some(b)) => self.fills(&b, rank).then_some(b).ok_or_else(|| self.misfit(other)).map(Some)?,
        };
        Ok(Self { dims, ragged })
    }

    /// Whether a value of this shape can be broadcast to `target` without changing it.
    pub fn broadcasts_to(&self, target: &Self) -> bool {
        self.broadcast(target).is_ok_and(|shape| shape.dims == target.dims && shape.ragged == target.ragged)
    }

    /// The ragged axes, counted in a tensor of `rank` axes that this one is broadcast to.
    fn ragged_at(&self, rank: usize) -> Option<Ragged> {
        let shift = rank - self.rank();
        self.ragged.as_ref().map(|ragged| Ragged {
            rows: ragged.rows + shift,
            axes: ragged.axes.iter().map(|(axis, lengths)| (axis + shift, Arc::clone(lengths))).collect(),
        })
    }

    /// Whether a dense tensor may stand beside ragged axes: it must not have tokens of its own there.
    fn fills(&self, ragged: &Ragged, rank: usize) -> bool {
        let shift = rank - self.rank();
        ragged.axes.iter().all(|(axis, _)| axis.checked_sub(shift).is_none_or(|a| self.dims[a] == 1))
    }

    fn misfit(&self, other: &Self) -> Problem {
        Problem::new(Code::ShapeMismatch, format!("shapes {self} and {other} do not broadcast against each other"))
            .hint("from the last axis backwards, sizes must be equal or 1")
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (axis, dim) in self.dims.iter().enumerate() {
            let comma = if axis > 0 { ", " } else { "" };
            match self.ragged.as_ref().and_then(|ragged| ragged.lengths(axis)) {
                Some(lengths) => {
                    let shortest = lengths.iter().min().copied().unwrap_or(0);
                    write!(f, "{comma}{shortest}..{dim}")?;
                }
                None => write!(f, "{comma}{dim}")?,
            }
        }
        f.write_str("]")
    }
}
