//! An index, resolved against one shape: which elements it selects, and where they lie in memory.
//!
//! One mechanism serves reads and writes, of dense tensors and of the packed values of sites. A [`Selection`] says for each
//! element of the result which coordinates of the source it has; a [`Placement`] says where a coordinate lies in memory;
//! [`Selection::blocks`] puts the two together as a list of equal contiguous blocks, so that reading is a gather of blocks and
//! writing is a scatter of blocks.

mod blocks;
mod pick;
mod resolve;

use std::sync::Arc;

use crate::index::Index;
use crate::problem::{Code, Problem, Result};
use crate::shape::{Ragged, Shape};

pub use blocks::{Blocks, Gather, Placement, RowPlacement};
use pick::{Pick, Place, joint_place};

/// Size of one axis of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The same in every row.
    Fixed(usize),
    /// Tokens of a row: a length of its own in every row.
    Tokens(Arc<[usize]>),
}

impl Extent {
    fn of(&self, row: usize) -> usize {
        match self {
            Self::Fixed(size) => *size,
            Self::Tokens(lengths) => lengths.get(row).copied().unwrap_or(0),
        }
    }

    fn uniform(&self) -> Option<usize> {
        match self {
            Self::Fixed(size) => Some(*size),
            Self::Tokens(lengths) => lengths.first().copied().filter(|first| lengths.iter().all(|n| n == first)),
        }
    }

    fn longest(&self) -> usize {
        match self {
            Self::Fixed(size) => *size,
            Self::Tokens(lengths) => lengths.iter().copied().max().unwrap_or(0),
        }
    }
}

/// What an index is resolved against: the sizes of the axes, and which axis (if any) is the one of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extents {
    /// One an axis.
    pub axes: Vec<Extent>,
    /// The axis of rows, where some axis depends on the row.
    pub rows: Option<usize>,
}

impl Extents {
    /// The extents of a dense tensor, ragged or not.
    pub fn of_shape(shape: &Shape) -> Self {
        let axis = |axis: usize| {
            let lengths = shape.ragged.as_ref().and_then(|ragged| ragged.lengths(axis));
            lengths.map_or(Extent::Fixed(shape.dims[axis]), |lengths| Extent::Tokens(Arc::clone(lengths)))
        };
        Self { axes: (0..shape.rank()).map(axis).collect(), rows: shape.ragged.as_ref().map(|ragged| ragged.rows) }
    }

    fn dims(&self) -> String {
        let longest: Vec<usize> = self.axes.iter().map(Extent::longest).collect();
        Shape::dense(longest).to_string()
    }

    fn row_count(&self) -> usize {
        self.rows.map_or(1, |axis| self.axes[axis].longest())
    }
}

/// Finds a text among the tokens of a row: the last token of the last place where it stands, if it stands there.
pub type FindText<'a> = &'a dyn Fn(usize, &str) -> Option<usize>;

/// An axis of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Out {
    /// The joint places.
    Joint,
    /// An axis of the source.
    Axis(usize),
    /// A new one, of size 1.
    New,
}

/// A resolved index. Copies are cheap: lists of places are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    source: Extents,
    picks: Vec<Pick>,
    outs: Vec<Out>,
    /// How many places each joint pick has.
    joint: usize,
    /// The rows that are selected, in the order of the result: one an entry of the axis that decides the row, or a single
    /// one where none does.
    rows: Arc<[usize]>,
    shape: Shape,
}

impl Selection {
    /// Resolves `index` against a source. A quoted text needs `find` and stands on an axis of tokens.
    ///
    /// # Errors
    /// More items than axes, lists that do not pair, a place outside of an axis (in any row), a text off the token axes or
    /// not found.
    pub fn new(index: &Index, source: Extents, find: Option<FindText<'_>>) -> Result<Self> {
        let resolved = resolve::resolve(index, &source, find)?;
        let rows = selected_rows(&source, &resolved.picks, resolved.joint);
        let resolve::Resolved { picks, outs, joint } = resolved;
        let mut selection = Self { source, picks, outs, joint, rows, shape: Shape::default() };
        selection.check_bounds(index)?;
        selection.shape = selection.result_shape();
        Ok(selection)
    }

    /// The whole source.
    pub fn all(source: Extents) -> Self {
        let picks = vec![Pick::ALL; source.axes.len()];
        let outs = (0..source.axes.len()).map(Out::Axis).collect();
        let rows = selected_rows(&source, &picks, 1);
        let mut selection = Self { source, picks, outs, joint: 1, rows, shape: Shape::default() };
        selection.shape = selection.result_shape();
        selection
    }

    /// Shape of the result.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Whether it names places that not all rows have.
    pub fn has_absent(&self) -> bool {
        let absent = |place: &Place| matches!(place, Place::Found(found) if found.contains(&None));
        self.picks.iter().any(|pick| match pick {
            Pick::Span { .. } => false,
            Pick::Each(places) | Pick::Joint(places) => places.iter().any(absent),
        })
    }

    /// The axis of the result that an axis of the source has become; where it would be, where a single place of it was taken.
    ///
    /// # Errors
    /// A single place of it was taken.
    pub(crate) fn place_of(&self, axis: usize) -> std::result::Result<usize, usize> {
        let place = |axis: usize| {
            let out = if matches!(self.picks[axis], Pick::Joint(_)) { Out::Joint } else { Out::Axis(axis) };
            self.outs.iter().position(|found| *found == out)
        };
        place(axis).ok_or_else(|| (0..axis).rev().find_map(place).map_or(0, |before| before + 1))
    }

    /// Whether the result has all places of an axis, in their order.
    pub(crate) fn has_all(&self, axis: usize) -> bool {
        self.picks[axis] == Pick::ALL
    }

    /// How many places of an axis are listed; one where it is a slice.
    pub(crate) fn listed(&self, axis: usize) -> usize {
        match &self.picks[axis] {
            Pick::Each(places) | Pick::Joint(places) => places.len(),
            Pick::Span { .. } => 1,
        }
    }

    /// The selected places of an axis that has this size in this row, in the order of the result.
    pub(crate) fn picked(&self, axis: usize, row: usize, size: usize) -> Vec<Option<usize>> {
        self.picks[axis].places(row, size)
    }

    /// The same part of a source that has of an axis these places alone, in ascending order. The part's are among them, and the
    /// axis is equally long in all rows.
    pub fn within(&self, axis: usize, places: &[usize]) -> Self {
        let picked = self.picks[axis].places(0, self.source.axes[axis].longest());
        // one that is not among them would be beyond the end, where nothing is
        let place = |place: Option<usize>| place.and_then(|place| places.binary_search(&place).ok());
        let moved = || picked.iter().map(|picked| Place::Int(place(*picked).unwrap_or(places.len()) as i64)).collect();
        let pick = match &self.picks[axis] {
            Pick::Joint(_) => Pick::Joint(moved()),
            _ if picked.iter().copied().eq(places.iter().copied().map(Some)) => Pick::ALL,
            _ => Pick::Each(moved()),
        };
        let mut within = self.clone();
        within.picks[axis] = pick;
        within.source.axes[axis] = Extent::Fixed(places.len());
        within
    }

    /// The rows that are selected, in the order of the result; a single one where none decides.
    pub(crate) fn rows(&self) -> &[usize] {
        &self.rows
    }

    /// Which places of an axis are there in each selected row, left-padded to the longest.
    pub(crate) fn there(&self, axis: usize) -> Vec<Vec<bool>> {
        let row =
            |(entry, row): (usize, &usize)| self.places_of(axis, entry, *row).iter().map(Option::is_some).collect();
        let there: Vec<Vec<bool>> = self.rows.iter().enumerate().map(row).collect();
        let most = there.iter().map(Vec::len).max().unwrap_or(0);
        there.into_iter().map(|places| [vec![false; most - places.len()], places].concat()).collect()
    }

    /// Whether the result is the whole source, in its own order.
    pub fn is_all(&self) -> bool {
        *self == Self::all(self.source.clone())
    }

    /// The selected places of an axis of the source, row by row, in ascending order, each once; rows that are not selected
    /// have none.
    pub fn tokens(&self, axis: usize) -> Vec<Vec<usize>> {
        let mut found = vec![Vec::new(); self.source.row_count()];
        for (entry, row) in self.rows.iter().enumerate() {
            found[*row].extend(self.places_of(axis, entry, *row).into_iter().flatten());
        }
        for places in &mut found {
            places.sort_unstable();
            places.dedup();
        }
        found
    }

    /// The places of an axis in a selected row, which is this entry of them; nothing for one that is not there.
    fn places_of(&self, axis: usize, entry: usize, row: usize) -> Vec<Option<usize>> {
        let size = self.source.axes[axis].of(row);
        match &self.picks[axis] {
            Pick::Joint(places) if self.joint_decides_row() => {
                vec![joint_place(places, entry).and_then(|place| place.resolve(row, size))]
            }
            pick => pick.places(row, size),
        }
    }

    /// Whether it names the same places as a part of another source of the same axes, one after the other, though these may be longer
    /// or shorter there.
    pub(crate) fn names_the_same(&self, other: &Self) -> bool {
        let places = |one: &Self, axis: usize| -> Vec<Vec<Option<usize>>> {
            one.rows.iter().enumerate().map(|(entry, row)| one.places_of(axis, entry, *row)).collect()
        };
        let same = |axis: usize| {
            let named_alike =
                self.picks[axis] == other.picks[axis] && self.source.axes[axis] == other.source.axes[axis];
            named_alike || places(self, axis) == places(other, axis)
        };
        (&self.outs, self.joint, &self.rows) == (&other.outs, other.joint, &other.rows)
            && (self.source.rows, self.picks.len()) == (other.source.rows, other.picks.len())
            && (0..self.picks.len()).all(same)
    }

    /// Marks the selected places of an axis of the source, row by row; the same as [`tokens`](Self::tokens).
    pub(crate) fn mark(&self, axis: usize, marks: &mut [Vec<bool>]) {
        for (entry, row) in self.rows.iter().enumerate() {
            let (size, marks) = (self.source.axes[axis].of(*row), &mut marks[*row]);
            match &self.picks[axis] {
                Pick::Span { start: None, stop: None, step: 1 } => marks.fill(true),
                Pick::Joint(places) if self.joint_decides_row() => {
                    let place = joint_place(places, entry).and_then(|place| place.resolve(*row, size));
                    place.into_iter().for_each(|place| marks[place] = true);
                }
                Pick::Each(places) | Pick::Joint(places) => {
                    let places = places.iter().filter_map(|place| place.resolve(*row, size));
                    places.for_each(|place| marks[place] = true);
                }
                span => span.places(*row, size).into_iter().flatten().for_each(|place| marks[place] = true),
            }
        }
    }

    /// Whether the joint places say which row is meant, so that each of them belongs to one row.
    fn joint_decides_row(&self) -> bool {
        self.source.rows.is_some_and(|rows| matches!(self.picks[rows], Pick::Joint(_)))
    }

    /// The axis of the result whose places are the selected rows.
    pub(crate) fn row_out(&self) -> Option<usize> {
        let rows = self.source.rows?;
        let wanted = if self.joint_decides_row() { Out::Joint } else { Out::Axis(rows) };
        self.outs.iter().position(|out| *out == wanted)
    }

    fn check_bounds(&self, index: &Index) -> Result<()> {
        for (axis, pick) in self.picks.iter().enumerate() {
            let (Pick::Each(places) | Pick::Joint(places)) = pick else { continue };
            let extent = &self.source.axes[axis];
            let paired = matches!(pick, Pick::Joint(_))
                && places.len() > 1
                && self.joint_decides_row()
                && self.source.rows != Some(axis);
            let shortest = self.rows.iter().copied().min_by_key(|row| extent.of(*row)).unwrap_or(0);
            for (entry, place) in places.iter().enumerate() {
                // a number that is inside of the shortest row is inside of all
                let rows = match place {
                    _ if paired => self.rows.get(entry).map_or(&[][..], std::slice::from_ref),
                    Place::Int(_) => std::slice::from_ref(&shortest),
                    Place::Text { .. } => &self.rows,
                    Place::Found(_) => &[],
                };
                let outside = |row: &&usize| place.resolve(**row, extent.of(**row)).is_none();
                if let Some(row) = rows.iter().find(outside) {
                    return Err(self.not_there(index, axis, *row, place));
                }
            }
        }
        Ok(())
    }

    fn not_there(&self, index: &Index, axis: usize, row: usize, place: &Place) -> Problem {
        let place = match place {
            Place::Int(place) => *place,
            Place::Found(found) => found[row].map_or(-1, |place| place as i64),
            Place::Text { text, .. } => {
                let detail = format!("index {index}: the text {text:?} does not stand in row {row}");
                return Problem::new(Code::TextNotFound, detail)
                    .hint("texts are matched as the tokens spell them, spaces included");
            }
        };
        let extent = &self.source.axes[axis];
        let size = extent.of(row);
        let what = match extent {
            Extent::Tokens(_) => format!("row {row}, which has {size} tokens"),
            Extent::Fixed(_) => format!("axis {axis}, which has {size} places"),
        };
        let detail = format!("index {index}: {place} is outside of {what}");
        let problem = Problem::new(Code::IndexOutOfRange, detail);
        match size {
            0 => problem.hint("there are none"),
            _ => problem.hint(format!("places go from {} to {}", -(size as i64), size - 1)),
        }
    }

    fn result_shape(&self) -> Shape {
        let mut dims = Vec::with_capacity(self.outs.len());
        let mut axes = Vec::new();
        for (position, out) in self.outs.iter().enumerate() {
            let Out::Axis(axis) = *out else {
                dims.push(if *out == Out::New { 1 } else { self.joint });
                continue;
            };
            let (pick, extent) = (&self.picks[axis], &self.source.axes[axis]);
            let same = if self.rows.is_empty() { Some(extent.longest()) } else { extent.uniform() };
            if let Some(size) = same {
                dims.push(pick.count(size));
                continue;
            }
            let counts: Vec<usize> = self.rows.iter().map(|row| pick.count(extent.of(*row))).collect();
            let longest = counts.iter().copied().max().unwrap_or(0);
            dims.push(longest);
            if counts.iter().any(|n| *n != longest) {
                axes.push((position, counts.into()));
            }
        }
        let ragged = self.row_out().filter(|_| !axes.is_empty()).map(|rows| Ragged { rows, axes });
        Shape { dims, ragged }
    }
}

fn selected_rows(source: &Extents, picks: &[Pick], joint: usize) -> Arc<[usize]> {
    let count = source.row_count();
    match source.rows.map(|axis| (axis, &picks[axis])) {
        None => Arc::new([0]),
        Some((_, Pick::Joint(places))) => {
            (0..joint).filter_map(|entry| joint_place(places, entry)?.resolve(0, count)).collect()
        }
        Some((axis, _)) => picks[axis].places(0, count).into_iter().flatten().collect(),
    }
}
