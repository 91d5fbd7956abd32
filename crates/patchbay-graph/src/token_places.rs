//! Where the tokens of an input are in a value that was made of them.
//!
//! A generation computes its tokens in several passes, and what it saves is joined along the axis of tokens. Here that axis is
//! followed through the graph: from the sites, through indices, reductions and whatever works place by place. Where an operation
//! mixes axes, it is lost.

use crate::ops::{Attrs, Op, OpSpec};
use crate::plan::{Plan, Read, Source, ValueId};
use crate::selection::Selection;
use crate::shape::Shape;
use crate::site::Axis;
use crate::tree::Tree;

/// Where the tokens of an input are in a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenPlaces {
    /// The value's axis of tokens, or where it would be had nothing taken it away.
    pub axis: usize,
    /// Whether the value has that axis.
    pub kept: bool,
    /// The axis of rows, where there is one.
    pub rows: Option<usize>,
    /// The axis of keys, where there is one, and whether it has all of them.
    pub keys: Option<(usize, bool)>,
    /// For each entry of the axis of rows, or for all rows where there is none: which places of the axis of tokens are there,
    /// padding left out; a single place where the axis was taken away.
    pub there: Vec<Vec<bool>>,
}

/// Where tokens are in each value of a plan, if anywhere; the rows for which `takes_part` says no, by input and row, have none.
pub fn token_places(plan: &Plan, tree: &Tree, takes_part: &dyn Fn(usize, usize) -> bool) -> Vec<Option<TokenPlaces>> {
    let mut found: Vec<Option<TokenPlaces>> = Vec::with_capacity(plan.values.len());
    for value in &plan.values {
        let shape = |id: ValueId| &plan.values[id].shape;
        let known = |id: ValueId| found.get(id).and_then(Option::as_ref);
        let places = match &value.source {
            Source::Read(read) => of_read(read, tree, takes_part),
            Source::Index { of, selection } => known(*of).and_then(|places| places.indexed(shape(*of), selection)),
            Source::Stack(of) => of.iter().find_map(|id| known(*id)).map(|places| places.moved(&|axis| Some(axis + 1))),
            Source::Call { of, .. } | Source::Project { of, .. } => {
                let last = value.shape.rank().saturating_sub(1);
                known(*of).map(|places| places.moved(&|axis| (axis < last).then_some(axis)))
            }
            Source::Op { spec, args, attrs, .. } => args.iter().find_map(|id| {
                let places = known(*id)?;
                places.through(spec, Attrs(attrs), shape(*id), &value.shape, args.first() == Some(id))
            }),
            Source::Literal(_) | Source::Stored { .. } | Source::Weight(_) | Source::Grad { .. } => None,
        };
        found.push(places);
    }
    found
}

fn of_read(read: &Read, tree: &Tree, takes_part: &dyn Fn(usize, usize) -> bool) -> Option<TokenPlaces> {
    let axes = tree.packing(read.site)?.axes();
    let position = |wanted: Axis| axes.iter().position(|axis| *axis == wanted);
    let tokens = position(Axis::Tokens)?;
    let here = read.selection.rows();
    let there = read.selection.there(tokens);
    let there = there.into_iter().zip(here).map(|(places, row)| match takes_part(read.input, *row) {
        true => places,
        false => vec![false; places.len()],
    });
    let there: Vec<Vec<bool>> = there.collect();
    let keys =
        position(Axis::Keys).and_then(|axis| Some((read.selection.place_of(axis).ok()?, read.selection.has_all(axis))));
    let rows = read.selection.row_out();
    if let (Some(rows), Ok(axis)) = (rows, read.selection.place_of(tokens))
        && rows == axis
    {
        // rows and tokens are listed in pairs: an axis of both, unless all rows have the same place
        return Some(match read.selection.listed(tokens) {
            1 => TokenPlaces { axis: axis + 1, kept: false, rows: Some(rows), keys, there },
            _ => TokenPlaces { axis, kept: true, rows: None, keys, there: vec![there.concat()] },
        });
    }
    let (axis, kept) = match read.selection.place_of(tokens) {
        Ok(axis) => (axis, true),
        Err(axis) => (axis, false),
    };
    Some(TokenPlaces { axis, kept, rows, keys, there })
}

impl TokenPlaces {
    /// The same where axes have moved; nothing stands for one that is gone.
    fn moved(&self, to: &dyn Fn(usize) -> Option<usize>) -> TokenPlaces {
        let before = |axis: usize| (0..axis).rev().find_map(to).map_or(0, |axis| axis + 1);
        let (axis, kept) = match to(self.axis).filter(|_| self.kept) {
            Some(axis) => (axis, true),
            None => (before(self.axis), false),
        };
        let rows = self.rows.and_then(to);
        let keys = self.keys.and_then(|(axis, all)| Some((to(axis)?, all)));
        let mut there = self.there.clone();
        if self.kept && !kept {
            there.iter_mut().for_each(|places| *places = vec![places.contains(&true)]);
        }
        if self.rows.is_some() && rows.is_none() {
            let most = there.iter().map(Vec::len).max().unwrap_or(0);
            let any = |place: usize| there.iter().any(|places| places.get(place) == Some(&true));
            there = vec![(0..most).map(any).collect()];
        }
        TokenPlaces { axis, kept, rows, keys, there }
    }

    /// In a part of a value of this shape.
    fn indexed(&self, of: &Shape, selection: &Selection) -> Option<TokenPlaces> {
        let to = |axis: usize| selection.place_of(axis).ok();
        let joint = self.rows.filter(|_| self.kept).and_then(to);
        if joint.is_some() && joint == to(self.axis) {
            return None;
        }
        let size = |axis: usize| of.dims[axis];
        let entries: Vec<usize> = match self.rows {
            Some(rows) => selection.picked(rows, 0, size(rows)).into_iter().flatten().collect(),
            None => vec![0],
        };
        let lengths = of.ragged.as_ref().and_then(|ragged| ragged.lengths(self.axis));
        let there = entries.iter().map(|row| {
            let places = &self.there[*row];
            if !self.kept {
                return places.clone();
            }
            let length = lengths.and_then(|lengths| lengths.get(*row)).copied().unwrap_or(places.len());
            let padding = places.len() - length;
            let picked = selection.picked(self.axis, *row, length).into_iter();
            picked.map(|place| place.is_some_and(|place| places[padding + place])).collect::<Vec<_>>()
        });
        let there: Vec<Vec<bool>> = there.collect();
        let most = there.iter().map(Vec::len).max().unwrap_or(0);
        let padded = |places: Vec<bool>| [vec![false; most - places.len()], places].concat();
        let keys = self.keys.and_then(|(axis, all)| Some((to(axis)?, all && selection.has_all(axis))));
        let (axis, kept) = match selection.place_of(self.axis) {
            Ok(axis) if self.kept => (axis, true),
            Ok(axis) | Err(axis) => (axis, false),
        };
        let rows = self.rows.and_then(to);
        Some(TokenPlaces { axis, kept, rows, keys, there: there.into_iter().map(padded).collect() })
    }

    /// In what an operation makes of a value of shape `from`, which is the `first` of its values or another.
    fn through(&self, spec: &OpSpec, attrs: Attrs<'_>, from: &Shape, out: &Shape, first: bool) -> Option<TokenPlaces> {
        let shift = out.rank().checked_sub(from.rank());
        let in_place = |axis: usize| shift.map(|shift| axis + shift).filter(|axis| *axis < out.rank());
        let found = match kind(spec.op) {
            Kind::PlaceByPlace => self.moved(&in_place),
            Kind::Folds => {
                let folded = attrs.axes(from).ok()?;
                if out.rank() == from.rank() && !attrs.flag("keepdim") {
                    return Some(self.moved(&in_place));
                }
                let keeps = attrs.flag("keepdim");
                let to = |axis: usize| {
                    let before = folded.iter().filter(|folded| **folded < axis).count();
                    (!folded.contains(&axis)).then(|| if keeps { axis } else { axis - before })
                };
                let moved = self.moved(&to);
                if !keeps || moved.kept || !self.kept {
                    return Some(moved);
                }
                // the axis of tokens is still there, with one place
                TokenPlaces { axis: self.axis, kept: true, ..moved }
            }
            Kind::Rows if first && from.rank() >= 2 && out.rank() == from.rank() => {
                self.moved(&|axis| (axis + 1 < from.rank()).then_some(axis))
            }
            Kind::Rows | Kind::Mixes => return None,
        };
        // what is broadcast along the axis of tokens counts no tokens
        (!found.kept || found.there.iter().all(|places| places.len() == out.dims[found.axis])).then_some(found)
    }
}

/// What an operation does with axes.
enum Kind {
    /// Each place of the result is made of the same place of its arguments, aligned at the last axis.
    PlaceByPlace,
    /// The axes `dim` are folded.
    Folds,
    /// The first argument's axes but the last one stay.
    Rows,
    /// Anything else.
    Mixes,
}

fn kind(op: Op) -> Kind {
    match op {
        op if op.is_place_by_place() => Kind::PlaceByPlace,
        Op::Cumsum | Op::Softmax | Op::LogSoftmax | Op::Topk | Op::Sort => Kind::PlaceByPlace,
        Op::Sum | Op::Mean | Op::Var | Op::Std | Op::Norm | Op::Prod | Op::Logsumexp => Kind::Folds,
        Op::Max | Op::Min | Op::Argmax | Op::Argmin => Kind::Folds,
        Op::Matmul => Kind::Rows,
        _ => Kind::Mixes,
    }
}
