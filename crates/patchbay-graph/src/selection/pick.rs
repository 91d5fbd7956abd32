//! Which places of one axis are selected.

use std::sync::Arc;

/// Where one axis of the source is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pick {
    /// `start:stop:step`, keeping the axis.
    Span { start: Option<i64>, stop: Option<i64>, step: i64 },
    /// Listed places, keeping the axis.
    Each(Arc<[Place]>),
    /// Places paired with those of the other joint axes, a single one with all; together they have one axis, or none.
    Joint(Arc<[Place]>),
}

/// A place on an axis, perhaps another one in every row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Int(i64),
    Text {
        text: Arc<str>,
        found: Arc<[Option<usize>]>,
    },
    /// It is not in all rows.
    Found(Arc<[Option<usize>]>),
}

impl Pick {
    /// The whole axis.
    pub(super) const ALL: Self = Self::Span { start: None, stop: None, step: 1 };

    /// How many places it has on an axis of this size.
    pub(super) fn count(&self, size: usize) -> usize {
        match self {
            Self::Span { start, stop, step } => span(*start, *stop, *step, size).1,
            Self::Each(places) | Self::Joint(places) => places.len(),
        }
    }

    /// Its places on an axis that has this size in this row, in order; nothing for a place outside of the axis.
    pub(super) fn places(&self, row: usize, size: usize) -> Vec<Option<usize>> {
        match self {
            Self::Span { start, stop, step } => {
                let (first, count) = span(*start, *stop, *step, size);
                (0..count).map(|n| usize::try_from(first + n as i64 * step).ok()).collect()
            }
            Self::Each(places) | Self::Joint(places) => places.iter().map(|place| place.resolve(row, size)).collect(),
        }
    }
}

/// The place of a joint pick that belongs to an entry of the joint axis.
pub(super) fn joint_place(places: &[Place], entry: usize) -> Option<&Place> {
    if places.len() == 1 { places.first() } else { places.get(entry) }
}

impl Place {
    /// The place on an axis that has this size in this row, if it is there.
    pub(super) fn resolve(&self, row: usize, size: usize) -> Option<usize> {
        match self {
            Self::Text { found, .. } | Self::Found(found) => found[row],
            Self::Int(place) => {
                let found = if *place < 0 { place.checked_add(size as i64)? } else { *place };
                usize::try_from(found).ok().filter(|found| *found < size)
            }
        }
    }
}

/// First place and number of places of a slice, as Python's `slice.indices` has them.
fn span(start: Option<i64>, stop: Option<i64>, step: i64, size: usize) -> (i64, usize) {
    let size = size as i64;
    let (low, high) = if step > 0 { (0, size) } else { (-1, size - 1) };
    let clamp = |place: i64| if place < 0 { place.saturating_add(size).max(low) } else { place.min(high) };
    let start = start.map_or(if step > 0 { low } else { high }, clamp);
    let stop = stop.map_or(if step > 0 { high } else { low }, clamp);
    let distance = if step > 0 { stop - start } else { start - stop };
    let step = step.unsigned_abs();
    (start, if distance <= 0 { 0 } else { (distance as u64).div_ceil(step) as usize })
}
