//! Joins what the steps of a generation saved along the axis of tokens.
//!
//! Each row has the places that were there, in the order of the steps; rows that have fewer of them, as some ended earlier or have a
//! shorter prompt, are left-padded with zeros, as rows of an input are. Keys, of which each step has more, have their place
//! in the sequence: what a step does not look on yet is zero, or minus infinity among scores.

use candle_core::{DType, Result, Tensor, bail};
use patchbay_graph::plan::{Source, ValueId};
use patchbay_graph::shape::Ragged;
use patchbay_graph::{LayerSite, Plan, Shape, Site, TokenPlaces};

/// What a step saved, with an axis of tokens.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    tensor: Tensor,
    /// The axis of tokens, that of rows where there is one, and that of keys.
    axis: usize,
    rows: Option<usize>,
    keys: Option<usize>,
    /// Number of keys of each row, where rows differ in it.
    lengths: Option<Vec<usize>>,
    /// Which places are there, by row.
    there: Vec<Vec<bool>>,
    /// What stands for keys that are not there yet.
    fill: f64,
}

/// The axes of a value that has an axis of tokens, which is put in where there is none.
pub(crate) struct Layout {
    /// Where the axis of tokens is put in, if it is.
    put_in: Option<usize>,
    axis: usize,
    rows: Option<usize>,
    keys: Option<usize>,
    /// The sizes, with 0 for those that may differ from step to step.
    pub(crate) dims: Vec<usize>,
}

impl Layout {
    /// Of a value of this shape. Where its tokens are not known, it gets a first axis of steps.
    pub(crate) fn new(dims: &[usize], places: Option<&TokenPlaces>) -> Self {
        let (axis, kept) = places.map_or((0, false), |places| (places.axis, places.kept));
        let moved = |place: usize| if kept || place < axis { place } else { place + 1 };
        let rows = places.and_then(|places| places.rows).map(moved);
        let keys = places.and_then(|places| places.keys).map(|(axis, _)| moved(axis));
        let mut dims = dims.to_vec();
        if !kept {
            dims.insert(axis, 0);
        }
        dims[axis] = 0;
        if let Some(keys) = keys {
            dims[keys] = 0;
        }
        Self { put_in: (!kept).then_some(axis), axis, rows, keys, dims }
    }
}

impl Piece {
    /// Of a value of a plan, whose first axes these are at least.
    pub(crate) fn new(tensor: &Tensor, plan: &Plan, value: ValueId, places: Option<&TokenPlaces>) -> Result<Self> {
        let layout = Layout::new(tensor.dims(), places);
        let tensor = match layout.put_in {
            Some(axis) => tensor.unsqueeze(axis)?,
            None => tensor.clone(),
        };
        let shape = &plan.values[value].shape;
        let lengths = places.and_then(|places| shape.ragged.as_ref()?.lengths(places.keys?.0));
        let fill = if are_scores(plan, value) { f64::NEG_INFINITY } else { 0.0 };
        let there = places.map_or(vec![vec![true]], |places| places.there.clone());
        let Layout { axis, rows, keys, .. } = layout;
        Ok(Self { tensor, axis, rows, keys, lengths: lengths.map(|lengths| lengths.to_vec()), there, fill })
    }

    fn keys(&self, row: usize) -> usize {
        let all = self.keys.map_or(0, |axis| self.tensor.dims()[axis]);
        self.lengths.as_ref().and_then(|lengths| lengths.get(row)).copied().unwrap_or(all)
    }

    /// The same with all keys in their places: so many in each row, of `size`.
    fn aligned(&self, axis: usize, most: &[usize], size: usize) -> Result<Tensor> {
        let row = |row: usize| {
            let mut of_row = match self.rows {
                Some(rows) => self.tensor.narrow(rows, row, 1)?,
                None => self.tensor.clone(),
            };
            let count = self.keys(row);
            of_row = of_row.narrow(axis, of_row.dims()[axis] - count, count)?;
            let of_row = padded(&of_row, axis, 0, most[row] - count, self.fill)?;
            padded(&of_row, axis, size - most[row], 0, 0.0)
        };
        let rows = (0..self.there.len()).map(row).collect::<Result<Vec<_>>>()?;
        match self.rows {
            Some(axis) => Tensor::cat(&rows, axis),
            None => rows.into_iter().next().map_or_else(|| Ok(self.tensor.clone()), Ok),
        }
    }
}

/// Joins pieces of one value.
pub(crate) fn join(pieces: &[Piece]) -> Result<(Tensor, Shape)> {
    let Some(first) = pieces.first() else { bail!("nothing was saved") };
    let Piece { axis, rows, keys, .. } = first;
    let count = first.there.len();
    let most = |row: usize| pieces.iter().map(|piece| piece.keys(row)).max().unwrap_or(0);
    let most: Vec<usize> = (0..count).map(most).collect();
    let size = most.iter().copied().max().unwrap_or(0);
    let same = |piece: &Piece| keys.is_none_or(|axis| piece.lengths.is_none() && piece.tensor.dims()[axis] == size);
    let tensors: Vec<Tensor> = match keys.filter(|_| !pieces.iter().all(same)) {
        None => pieces.iter().map(|piece| piece.tensor.clone()).collect(),
        Some(keys) => pieces.iter().map(|piece| piece.aligned(keys, &most, size)).collect::<Result<_>>()?,
    };
    let order: Vec<Vec<u32>> = (0..count).map(|row| places(pieces, row)).collect();
    let lengths: Vec<usize> = order.iter().map(Vec::len).collect();
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let tensor = gathered(&tensors, *axis, *rows, &order, longest)?;
    let mut axes = Vec::new();
    if lengths.iter().any(|length| *length != longest) {
        axes.push((*axis, lengths.into()));
    }
    if let Some(keys) = keys
        && most.iter().any(|count| *count != size)
    {
        axes.push((*keys, most.into()));
    }
    axes.sort_by_key(|(axis, _)| *axis);
    let ragged = rows.filter(|_| !axes.is_empty()).map(|rows| Ragged { rows, axes });
    let shape = Shape { dims: tensor.dims().to_vec(), ragged };
    Ok((tensor, shape))
}

/// The places of a row that are there, counted over all pieces laid side by side.
fn places(pieces: &[Piece], row: usize) -> Vec<u32> {
    let (mut found, mut before) = (Vec::new(), 0);
    for piece in pieces {
        let there = piece.there.get(row).map_or(&[][..], Vec::as_slice);
        found.extend(there.iter().enumerate().filter(|(_, there)| **there).map(|(place, _)| (before + place) as u32));
        before += piece.tensor.dims()[piece.axis];
    }
    found
}

/// Takes each row's places out of pieces laid side by side, left-padded to the longest.
fn gathered(
    tensors: &[Tensor],
    axis: usize,
    rows: Option<usize>,
    order: &[Vec<u32>],
    longest: usize,
) -> Result<Tensor> {
    let all = Tensor::cat(tensors, axis)?;
    if longest == 0 {
        let mut dims = all.dims().to_vec();
        dims[axis] = 0;
        return Tensor::zeros(dims, all.dtype(), all.device());
    }
    let count = all.dims()[axis] as u32;
    let pads = order.iter().any(|places| places.len() < longest);
    let all = if pads { padded(&all, axis, 0, 1, 0.0)? } else { all };
    let take = |of: &Tensor, places: &Vec<u32>| {
        let padding = std::iter::repeat_n(count, longest - places.len());
        let places: Vec<u32> = padding.chain(places.iter().copied()).collect();
        let in_order = places.iter().enumerate().all(|(i, place)| i == *place as usize);
        if in_order && places.len() == of.dims()[axis] {
            return Ok(of.clone());
        }
        of.contiguous()?.index_select(&Tensor::new(places, of.device())?, axis)
    };
    match (rows, &order[0]) {
        (Some(rows), first) if order.iter().any(|places| places != first) => {
            let row = |(row, places)| take(&all.narrow(rows, row, 1)?, places);
            Tensor::cat(&order.iter().enumerate().map(row).collect::<Result<Vec<_>>>()?, rows)
        }
        (_, first) => take(&all, first),
    }
}

/// A tensor with so many more places before and behind those of an axis.
fn padded(tensor: &Tensor, axis: usize, before: usize, behind: usize, with: f64) -> Result<Tensor> {
    let padding = |count: usize| {
        let mut dims = tensor.dims().to_vec();
        dims[axis] = count;
        match with {
            0.0 => Tensor::zeros(dims, tensor.dtype(), tensor.device()),
            with => Tensor::full(with, dims, tensor.device())?.to_dtype(tensor.dtype()),
        }
    };
    match (before, behind) {
        (0, 0) => Ok(tensor.clone()),
        (0, behind) => Tensor::cat(&[tensor, &padding(behind)?], axis),
        (before, 0) => Tensor::cat(&[&padding(before)?, tensor], axis),
        (before, behind) => Tensor::cat(&[&padding(before)?, tensor, &padding(behind)?], axis),
    }
}

/// Whether a value is scores as they are at their site, which are minus infinity where nothing is looked on.
fn are_scores(plan: &Plan, value: ValueId) -> bool {
    match &plan.values[value].source {
        Source::Read(read) => {
            matches!(read.site, Site::Layer(_, LayerSite::Scores)) && plan.values[value].dtype.is_float()
        }
        Source::Index { of, .. } => are_scores(plan, *of),
        Source::Stack(of) => of.first().is_some_and(|first| are_scores(plan, *first)),
        _ => false,
    }
}

/// A tensor of the numbers of places, from `first` on.
pub(crate) fn numbered(dims: &[usize], first: usize) -> Result<Tensor> {
    let count: usize = dims.iter().product();
    Tensor::arange(first as i64, (first + count) as i64, &candle_core::Device::Cpu)?.to_dtype(DType::I64)?.reshape(dims)
}
