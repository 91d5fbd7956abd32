//! What is largest, and what comes first.
//!
//! Indices are found on the host; values are gathered by them, so that gradients go to the elements that were taken.

use std::cmp::Ordering;

use candle_core::{DType, Result, Tensor, WithDType};
use patchbay_graph::ops::Op;

use super::Call;
use super::host::{self, Lanes};
use crate::ragged;
use patchbay_model::derive::derived;

/// Elements that have an order: NaN is above all others, and −0 equals 0.
trait Key: WithDType {
    fn order(&self, other: &Self) -> Ordering;
}

macro_rules! float_key {
    ($($t:ty),*) => {$(
        impl Key for $t {
            fn order(&self, other: &Self) -> Ordering {
                self.partial_cmp(other).unwrap_or_else(|| self.is_nan().cmp(&other.is_nan()))
            }
        }
    )*};
}
float_key!(f32, f64);

impl Key for i64 {
    fn order(&self, other: &Self) -> Ordering {
        self.cmp(other)
    }
}

/// Which elements of a lane are wanted.
#[derive(Clone, Copy)]
enum Wanted {
    /// The first of the largest, or of the smallest; NaN is both.
    Best { largest: bool },
    /// The first `count` in descending or ascending order; equal ones as they stand.
    First { count: usize, descending: bool },
}

impl Wanted {
    /// Numbers of the wanted ones among `keys`.
    fn pick<T: Key>(self, keys: &[T]) -> Vec<usize> {
        match self {
            Self::Best { largest } => {
                let better = |new: &T, old: &T| match (new.order(new), new.order(old)) {
                    (_, Ordering::Greater) => largest || is_nan(new),
                    (_, Ordering::Less) => !largest && !is_nan(old),
                    _ => false,
                };
                vec![(1..keys.len()).fold(0, |best, i| if better(&keys[i], &keys[best]) { i } else { best })]
            }
            Self::First { count, descending } => {
                let compare = |a: &usize, b: &usize| {
                    let order = keys[*a].order(&keys[*b]);
                    if descending { order.reverse() } else { order }.then(a.cmp(b))
                };
                let mut all: Vec<usize> = (0..keys.len()).collect();
                if count == 0 {
                    return Vec::new();
                }
                if count < all.len() {
                    all.select_nth_unstable_by(count - 1, compare);
                    all.truncate(count);
                }
                all.sort_unstable_by(compare);
                all
            }
        }
    }
}

/// NaN is the one number that is not equal to itself.
fn is_nan<T: Key>(key: &T) -> bool {
    key.partial_cmp(key).is_none()
}

impl Call<'_> {
    /// `argmax` and `argmin`.
    pub(super) fn place(&self) -> Result<Tensor> {
        let wanted = Wanted::Best { largest: self.spec.op == Op::Argmax };
        match self.attrs.get("dim").is_some() {
            true => self.logical(wanted, 1),
            false => {
                let picks = self.picks(&self.input(0).tensor.detach().flatten_all()?, flat, wanted)?;
                self.indices(picks.iter().flatten().map(|place| *place as i64).collect())
            }
        }
    }

    /// `max` and `min`: of all, along an axis, or of two tensors.
    pub(super) fn extreme(&self) -> Result<Tensor> {
        let largest = self.spec.op == Op::Max;
        let wanted = Wanted::Best { largest };
        match (self.find("other").is_some(), self.attrs.get("dim").is_some()) {
            (true, _) => self.larger_or_smaller(largest),
            (false, false) => self.of_all(largest),
            (false, true) if self.out == 1 => self.logical(wanted, 1),
            (false, true) => self.values(wanted, 1),
        }
    }

    /// `topk` and `sort`.
    pub(super) fn order(&self) -> Result<Tensor> {
        let shape = self.input(0).shape;
        let axis = self.axis(shape, -1)?;
        let size = axis.map_or(1, |axis| shape.dims[axis]);
        let (count, descending) = match self.spec.op {
            Op::Topk => (
                self.attrs.int("k").map_or(0, |k| k.clamp(0, size as i64) as usize),
                self.attrs.flag_or_true("largest"),
            ),
            _ => (size, self.attrs.flag("descending")),
        };
        let wanted = Wanted::First { count, descending };
        if self.out == 1 { self.logical(wanted, count) } else { self.values(wanted, count) }
    }

    /// Picks of every lane of a tensor, counted in the lane without its padding.
    fn picks(&self, x: &Tensor, lanes: fn(&Self) -> Result<Lanes>, wanted: Wanted) -> Result<Vec<Vec<usize>>> {
        let lanes = lanes(self)?;
        match x.dtype() {
            DType::F64 => self.picks_of::<f64>(x, lanes, wanted),
            dtype if dtype.is_float() => self.picks_of::<f32>(&x.to_dtype(DType::F32)?, lanes, wanted),
            _ => self.picks_of::<i64>(&x.to_dtype(DType::I64)?, lanes, wanted),
        }
    }

    fn picks_of<T: Key>(&self, x: &Tensor, lanes: Lanes, wanted: Wanted) -> Result<Vec<Vec<usize>>> {
        let data = x.flatten_all()?.to_vec1::<T>()?;
        let padding = self.padding(lanes)?;
        let mut keys = Vec::with_capacity(lanes.size);
        let pick = |(lane, first): (usize, usize)| {
            let from = padding.as_ref().map_or(0, |padding| padding[lane]);
            keys.clear();
            keys.extend((from..lanes.size).map(|a| data[first + a * lanes.inner]));
            wanted.pick(&keys)
        };
        Ok(lanes.each().map(pick).collect())
    }

    fn padding(&self, lanes: Lanes) -> Result<Option<Vec<usize>>> {
        let shape = self.input(0).shape;
        Ok(lanes
            .padding(shape, self.axis(shape, -1).ok().flatten())
            .filter(|padding| padding.len() == lanes.outer * lanes.inner))
    }

    /// Indices as a client counts them, `count` a lane.
    fn logical(&self, wanted: Wanted, count: usize) -> Result<Tensor> {
        let (lanes, picks) = (along(self)?, self.picks(&self.input(0).tensor.detach(), along, wanted)?);
        self.indices(spread(lanes, count, &picks, |_, place| place.map_or(0, |place| place as i64)))
    }

    fn indices(&self, data: Vec<i64>) -> Result<Tensor> {
        host::of_ints(data, &self.shape.dims, self.dtype, self.device)
    }

    /// The picked elements, `count` a lane.
    fn values(&self, wanted: Wanted, count: usize) -> Result<Tensor> {
        let input = self.input(0);
        let Some(axis) = self.axis(input.shape, -1)? else { return Ok(input.tensor.clone()) };
        let (lanes, picks) = (along(self)?, self.picks(&input.tensor.detach(), along, wanted)?);
        let padding = self.padding(lanes)?;
        let from = |lane: usize| padding.as_ref().map_or(0, |padding| padding[lane]);
        let places = spread(lanes, count, &picks, |lane, place| place.map_or(0, |place| (place + from(lane)) as u32));
        let mut dims = input.shape.dims.clone();
        dims[axis] = count;
        let places = Tensor::from_vec(places, dims, self.device)?;
        input.tensor.contiguous()?.gather(&places, axis)?.reshape(self.shape.dims.as_slice())
    }

    /// The largest or smallest of all.
    fn of_all(&self, largest: bool) -> Result<Tensor> {
        let input = self.input(0);
        let filler = if largest { f64::NEG_INFINITY } else { f64::INFINITY };
        if !self.dtype.is_float() {
            let mut data = host::ints(&input.tensor)?;
            if let Some(mask) = ragged::mask(input.shape, self.device)? {
                let mut there = host::ints(&mask.broadcast_as(input.shape.dims.as_slice())?)?.into_iter();
                data.retain(|_| there.next() == Some(1));
            }
            let best = if largest { data.into_iter().max() } else { data.into_iter().min() };
            return self.indices(vec![best.unwrap_or(0)]);
        }
        let x = ragged::fill_padding(&self.float(0)?, input.shape, filler)?;
        let picks = self.picks(&x.detach().flatten_all()?, flat, Wanted::Best { largest })?;
        let best = x.detach().flatten_all()?.get(picks[0][0])?;
        derived(&x, best, |x, best, g| {
            let best = best.broadcast_as(x.dims())?;
            let equal = x.eq(&best)?.maximum(&(x.ne(x)? * best.ne(&best)?)?)?;
            let share = (g / equal.to_dtype(DType::F64)?.sum_all()?.to_dtype(g.dtype())?)?;
            equal.to_dtype(g.dtype())?.broadcast_mul(&share)
        })
    }
}

fn along(call: &Call<'_>) -> Result<Lanes> {
    let shape = call.input(0).shape;
    Ok(Lanes::new(&shape.dims, call.axis(shape, -1)?))
}

fn flat(call: &Call<'_>) -> Result<Lanes> {
    Ok(Lanes { outer: 1, size: call.input(0).shape.dims.iter().product(), inner: 1 })
}

/// What was picked of each lane, laid out as a tensor with `count` places along the axis: at the end of its lane, so that what
/// is missing is padding on the left.
fn spread<T: Clone + Default>(
    lanes: Lanes,
    count: usize,
    picks: &[Vec<usize>],
    value: impl Fn(usize, Option<usize>) -> T,
) -> Vec<T> {
    let mut out = vec![T::default(); lanes.outer * count * lanes.inner];
    for (lane, picked) in picks.iter().enumerate() {
        let (o, i) = (lane / lanes.inner, lane % lanes.inner);
        let missing = count - picked.len();
        for place in 0..count {
            let pick = place.checked_sub(missing).map(|place| picked[place]);
            out[(o * count + place) * lanes.inner + i] = value(lane, pick);
        }
    }
    out
}
