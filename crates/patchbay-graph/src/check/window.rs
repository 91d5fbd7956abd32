//! Indices on a sequence that is computed in several passes.
//!
//! Positions count from the sequence's first token, and negative ones from its newest; a pass has some of the tokens, and the
//! keys of all up to its last one. Here an index of the whole sequence becomes one of what the pass has.

use std::sync::Arc;

use crate::context::{TokenRow, TokenRows};
use crate::index::{Coord, Index, Item};
use crate::problem::{Code, Problem, Result};
use crate::site::{Axis, Packing};

/// The part of an index that a pass has; `None` outside where it has none of it, inside where it is all.
pub(super) fn window(index: Option<&Index>, input: &TokenRows, packing: Packing) -> Result<Option<Option<Index>>> {
    let Some(index) = index.filter(|_| input.rows.iter().any(TokenRow::is_step)) else {
        return Ok(Some(index.cloned()));
    };
    let axes = packing.axes();
    let Some(items) = spread(index, axes.len()) else { return Ok(Some(Some(index.clone()))) };
    let mut window = Window { input, axes: &axes, items };
    for place in 0..window.items.len() {
        let Some(axis) = window.axis(place) else { continue };
        if matches!(axes[axis], Axis::Rows | Axis::Fixed(_)) {
            continue;
        }
        let here = match window.items[place].1.clone() {
            Item::Span { start, stop, step } => window.span(place, axes[axis], start, stop, step),
            item => window.places(place, axes[axis], item.coords())?,
        };
        if !here {
            return Ok(None);
        }
    }
    Ok(Some(Some(Index(window.items.into_iter().map(|(_, item)| item).collect()))))
}

/// The items with the axes that they stand on; nothing where there are too many of them.
fn spread(index: &Index, rank: usize) -> Option<Vec<(Option<usize>, Item)>> {
    let given = index.0.iter().filter(|item| !matches!(item, Item::Ellipsis | Item::NewAxis)).count();
    let left = rank.checked_sub(given)?;
    let (mut items, mut axis) = (Vec::with_capacity(rank), 0);
    for item in &index.0 {
        match item {
            Item::NewAxis => items.push((None, item.clone())),
            Item::Ellipsis => {
                items.extend((axis..axis + left).map(|axis| (Some(axis), Item::ALL)));
                axis += left;
            }
            item => {
                items.push((Some(axis), item.clone()));
                axis += 1;
            }
        }
    }
    items.extend((axis..rank).map(|axis| (Some(axis), Item::ALL)));
    Some(items)
}

/// An index on its way.
struct Window<'a> {
    input: &'a TokenRows,
    axes: &'a [Axis],
    items: Vec<(Option<usize>, Item)>,
}

impl Window<'_> {
    fn axis(&self, place: usize) -> Option<usize> {
        self.items[place].0
    }

    /// Places one by one. Whether the pass has any of them.
    fn places(&mut self, place: usize, axis: Axis, coords: &[Coord]) -> Result<bool> {
        let found = coords.iter().enumerate().map(|(entry, coord)| self.found(axis, coord, self.row_of(entry)));
        let mut found = found.collect::<Result<Vec<_>>>()?;
        let here: Vec<bool> = found.iter().map(|coord| !is_nowhere(coord)).collect();
        if !here.contains(&true) && !here.is_empty() {
            return Ok(false);
        }
        match &mut self.items[place].1 {
            Item::At(coord) => *coord = found.swap_remove(0),
            Item::Each(coords) => *coords = kept(found, &here),
            _ => {
                // lists are paired: what one of them leaves out, the others do too
                for (_, item) in &mut self.items {
                    if let Item::List(coords) = item
                        && coords.len() == here.len()
                        && coords.len() > 1
                    {
                        *coords = kept(std::mem::take(coords), &here);
                    }
                }
                self.items[place].1 = Item::List(kept(found, &here));
            }
        }
        Ok(true)
    }

    /// The row that an entry of a list is paired with, if rows are listed.
    fn row_of(&self, entry: usize) -> Option<&TokenRow> {
        let rows = self.items.iter().find(|(axis, _)| axis.is_some_and(|axis| self.axes[axis] == Axis::Rows));
        let Some((_, Item::List(rows))) = rows else { return None };
        let Some(Coord::Int(row)) = rows.get(if rows.len() == 1 { 0 } else { entry }) else { return None };
        let count = self.input.rows.len() as i64;
        self.input.rows.get(usize::try_from(if *row < 0 { row + count } else { *row }).ok()?)
    }

    /// A place as the pass has it, in the rows where it does.
    fn found(&self, axis: Axis, coord: &Coord, only: Option<&TokenRow>) -> Result<Coord> {
        // what counts from the newest token is the same place of every pass that has it
        if let (Coord::Int(place @ ..0), true) = (coord, self.input.rows.iter().all(|row| row.past == 0)) {
            return Ok(Coord::Int(*place));
        }
        let rows = self.input.rows.iter();
        let found = rows.map(|row| match only.is_none_or(|only| std::ptr::eq(only, row)) {
            true => place(row, axis, coord),
            false => Ok(None),
        });
        Ok(Coord::Found(found.collect::<Result<Arc<[_]>>>()?))
    }

    /// A slice. Whether the pass has any of it.
    fn span(&mut self, place: usize, axis: Axis, start: Option<i64>, stop: Option<i64>, step: i64) -> bool {
        let found: Vec<Vec<usize>> = self.input.rows.iter().map(|row| sliced(row, axis, start, stop, step)).collect();
        let most = found.iter().map(Vec::len).max().unwrap_or(0);
        let all = |(row, found): (&TokenRow, &Vec<usize>)| {
            let size = if axis == Axis::Keys { row.keys() } else { row.len() };
            found.len() == size && found.is_sorted()
        };
        if self.input.rows.iter().zip(&found).all(all) {
            self.items[place].1 = Item::ALL;
        } else if axis == Axis::Tokens && self.input.rows.iter().any(|row| row.past > 0) {
            // rows that have fewer places have nothing before them
            let entry = |entry: usize| {
                let found = found.iter().map(|found| found.get((entry + found.len()).checked_sub(most)?).copied());
                Coord::Found(found.collect())
            };
            self.items[place].1 = Item::Each((0..most).map(entry).collect());
        }
        most > 0
    }
}

/// Those that are anywhere.
fn kept(coords: Vec<Coord>, here: &[bool]) -> Vec<Coord> {
    coords.into_iter().zip(here).filter(|(_, here)| **here).map(|(coord, _)| coord).collect()
}

fn is_nowhere(coord: &Coord) -> bool {
    matches!(coord, Coord::Found(found) if found.iter().all(Option::is_none))
}

/// Where a row has a place, if its pass has it.
fn place(row: &TokenRow, axis: Axis, coord: &Coord) -> Result<Option<usize>> {
    let before = if axis == Axis::Keys { 0 } else { row.past };
    let position = match coord {
        Coord::Int(place @ 0..) => *place as usize,
        Coord::Int(place) => match row.keys().checked_sub(place.unsigned_abs() as usize) {
            Some(position) => position,
            None => return Ok(None),
        },
        Coord::Text(text) => {
            let prompt = row.prompt.as_deref().unwrap_or(row);
            let Some(position) = prompt.find(text) else {
                let detail = format!("the text {text:?} does not stand in the prompt of a row");
                return Err(Problem::new(Code::TextNotFound, detail)
                    .hint("texts are looked for in the prompt, and matched as the tokens spell them"));
            };
            position + prompt.past
        }
        Coord::Found(_) => return Ok(None),
    };
    if position >= row.keys() + row.more {
        let most = row.keys() + row.more;
        let detail = format!("position {position} is never reached: the sequence has at most {most} tokens to compute");
        return Err(Problem::new(Code::IndexOutOfRange, detail)
            .hint("the last token that is generated is not computed; raise `max_new_tokens` for more"));
    }
    Ok(position.checked_sub(before).filter(|_| position < row.keys()))
}

/// What a row's pass has of a slice of the sequence so far, in the slice's order.
fn sliced(row: &TokenRow, axis: Axis, start: Option<i64>, stop: Option<i64>, step: i64) -> Vec<usize> {
    let (size, before) = (row.keys() as i64, if axis == Axis::Keys { 0 } else { row.past });
    let (low, high) = if step > 0 { (0, size) } else { (-1, size - 1) };
    let clamp = |place: i64| if place < 0 { place.saturating_add(size).max(low) } else { place.min(high) };
    let first = start.map_or(if step > 0 { low } else { high }, clamp);
    let stop = stop.map_or(if step > 0 { high } else { low }, clamp);
    let on_grid = |distance: i64| distance.unsigned_abs().is_multiple_of(step.unsigned_abs());
    let in_slice = |position: &i64| match step > 0 {
        true => (first..stop).contains(position) && on_grid(position - first),
        false => *position <= first && *position > stop && on_grid(first - position),
    };
    let mut found: Vec<usize> =
        (before as i64..size).filter(in_slice).map(|position| position as usize - before).collect();
    if step < 0 {
        found.reverse();
    }
    found
}
