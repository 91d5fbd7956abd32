//! What llama.cpp's converter does to a tensor, and how it is undone.

use std::ops::Range;

use candle_core::{D, Tensor};

use super::draft::Sizes;

/// More experts or heads than any model has on one axis.
const MOST_SLABS: usize = 4096;

/// What the converter does to a tensor, as the tables name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// Adds 1 to the weight (the norms of Gemma and Nemotron, around 0 in Hugging Face's files); a bias stays.
    PlusOne,
    /// Query rows reordered so that rotary pairs are neighbours.
    PairedQueryRows,
    /// The same for keys.
    PairedKeyRows,
    /// A matrix is transposed; a vector stays.
    Transposed,
    /// All queries, all keys, all values, where Hugging Face has for each key/value head its queries, key and value.
    Ungrouped,
    /// The queries among queries, keys and values side by side, where Hugging Face stores each alone.
    Queries,
    /// The keys among them.
    Keys,
    /// The values among them.
    Values,
    /// Loses its first axis, of size 1.
    OneRow,
    /// The last two axes of a weight change places; a bias stays.
    Swapped,
    /// The first two axes, experts and rows, become one.
    Flat,
    /// The last two axes change places, and then the first two become one.
    SwappedFlat,
    /// A half of a tensor whose other half stands in another tensor of the file.
    Half(Half),
    /// A half with the last two axes swapped, where they are a weight's; a bias stays.
    SwappedHalf(Half),
}

/// Which half of a tensor of Hugging Face's, and how the two make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Half {
    /// 0 for the first, 1 for the second.
    pub(crate) place: usize,
    pub(crate) join: Join,
}

/// How two halves, each with its own change undone, make one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Join {
    /// Rows (before the last axis) after rows.
    Rows,
    /// Rows after rows, and then the first two axes become one: each head's rows of one, then its rows of the other.
    FlatRows,
    /// Columns (the last axis) after columns.
    Columns,
    /// Columns in turn, one of each.
    Alternating,
}

/// The change to undo, with the model's numbers in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    AsIs,
    PlusOne,
    Paired { heads: usize },
    Transposed,
    Ungrouped { kv_heads: usize, queries: usize },
    OneRow,
    Swapped,
    Flat,
    SwappedFlat,
}

/// One tensor of Hugging Face's, or one half of one: where it lies in a tensor of the file, and what to undo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Hugging Face's name.
    pub(crate) name: String,
    /// The rows (of the first axis) that belong to it; all where nothing stands here.
    pub(crate) rows: Option<Range<usize>>,
    /// Whether the first axis, of which this is one place, is gone in Hugging Face's tensor.
    pub(crate) slab: bool,
    /// What to undo.
    pub(crate) layout: Layout,
    /// Which half it is, of two that come from different tensors of the file.
    pub(crate) half: Option<Half>,
}

impl Change {
    /// The parts of a stored tensor of this shape; `names` are those of its slabs, or the one of the whole.
    pub(super) fn parts(self, name: String, weight: bool, shape: &[usize], sizes: &Sizes) -> Option<Vec<Part>> {
        let Sizes { heads, kv_heads, head_dim, .. } = *sizes;
        let whole = |layout| Part { name: name.clone(), rows: None, slab: false, layout, half: None };
        let run = |start: usize, len: usize, total: usize| {
            let fits = shape.first() == Some(&total) && len > 0;
            fits.then(|| Part { rows: Some(start..start + len), ..whole(Layout::AsIs) })
        };
        let keys = kv_heads.checked_mul(head_dim)?;
        let queries = heads.checked_mul(head_dim)?;
        let total = keys.checked_mul(2)?.checked_add(queries)?;
        let part = match self {
            _ if name.contains('#') => return slabs(&name, shape),
            Self::None => whole(Layout::AsIs),
            Self::PlusOne => whole(if weight { Layout::PlusOne } else { Layout::AsIs }),
            Self::PairedQueryRows => whole(Layout::Paired { heads }),
            Self::PairedKeyRows => whole(Layout::Paired { heads: kv_heads }),
            Self::Transposed => whole(Layout::Transposed),
            Self::Ungrouped => whole(Layout::Ungrouped { kv_heads, queries: heads.checked_div(kv_heads)? }),
            Self::Queries => run(0, queries, total)?,
            Self::Keys => run(queries, keys, total)?,
            Self::Values => run(queries + keys, keys, total)?,
            Self::OneRow => whole(Layout::OneRow),
            Self::Swapped => whole(if weight { Layout::Swapped } else { Layout::AsIs }),
            Self::Flat => whole(Layout::Flat),
            Self::SwappedFlat => whole(Layout::SwappedFlat),
            Self::Half(half) => Part { half: Some(half), ..whole(Layout::AsIs) },
            Self::SwappedHalf(half) => {
                Part { half: Some(half), ..whole(if weight { Layout::Swapped } else { Layout::AsIs }) }
            }
        };
        Some(vec![part])
    }
}

/// A tensor for each place of the first axis, under a name with the place's number for `#`.
fn slabs(name: &str, shape: &[usize]) -> Option<Vec<Part>> {
    let count = *shape.first().filter(|count| **count <= MOST_SLABS && shape.len() > 1)?;
    let slab = |place: usize| Part {
        name: name.replace('#', &place.to_string()),
        rows: Some(place..place + 1),
        slab: true,
        layout: Layout::AsIs,
        half: None,
    };
    Some((0..count).map(slab).collect())
}

impl Layout {
    /// The shape after the change is undone; nothing where the stored shape does not allow it.
    pub(crate) fn shape(self, stored: &[usize]) -> Option<Vec<usize>> {
        match self {
            Self::AsIs | Self::PlusOne => Some(stored.to_vec()),
            Self::Transposed => (stored.len() <= 2).then(|| stored.iter().rev().copied().collect()),
            Self::Paired { heads } => {
                let rows = *stored.first()?;
                let pairs = heads.checked_mul(2).filter(|&pairs| pairs > 0)?;
                (stored.len() <= 2 && rows.is_multiple_of(pairs)).then(|| stored.to_vec())
            }
            Self::Ungrouped { kv_heads, queries } => {
                let heads = kv_heads.checked_mul(queries.checked_add(2)?).filter(|&heads| heads > 0)?;
                (stored.len() <= 2 && stored.first()?.is_multiple_of(heads)).then(|| stored.to_vec())
            }
            Self::OneRow if stored.len() > 1 => (stored[0] == 1).then(|| stored.to_vec()),
            Self::OneRow => Some([&[1], stored].concat()),
            Self::Swapped => {
                let last = stored.len().checked_sub(2)?;
                let mut shape = stored.to_vec();
                shape.swap(last, last + 1);
                Some(shape)
            }
            Self::Flat => flat(stored),
            Self::SwappedFlat => flat(&Self::Swapped.shape(stored)?),
        }
    }

    /// The tensor as Hugging Face has it.
    pub(crate) fn undo(self, tensor: Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::AsIs => Ok(tensor),
            Self::PlusOne => tensor.affine(1.0, -1.0),
            Self::Transposed if tensor.rank() < 2 => Ok(tensor),
            Self::Transposed => tensor.t()?.contiguous(),
            // In the file a head's rows are r0 r(d/2) r1 r(d/2+1) …: [heads, d/2, 2]; in Hugging Face's [heads, 2, d/2].
            Self::Paired { heads } => {
                let (shape, rows) = (tensor.shape().clone(), tensor.dim(0)?);
                let columns = tensor.elem_count() / rows.max(1);
                tensor.reshape((heads, rows / heads / 2, 2, columns))?.transpose(1, 2)?.contiguous()?.reshape(shape)
            }
            Self::Ungrouped { kv_heads, queries } => {
                let (shape, rows) = (tensor.shape().clone(), tensor.dim(0)?);
                let columns = tensor.elem_count() / rows.max(1);
                let dim = rows / (kv_heads * (queries + 2));
                let run = |start: usize, each: usize| {
                    let run = tensor.narrow(0, start * dim, kv_heads * each * dim)?;
                    run.reshape((kv_heads, each * dim, columns))
                };
                let (keys, values) = (kv_heads * queries, kv_heads * (queries + 1));
                Tensor::cat(&[run(0, queries)?, run(keys, 1)?, run(values, 1)?], 1)?.reshape(shape)
            }
            Self::OneRow if tensor.rank() > 1 => Ok(tensor),
            Self::OneRow => tensor.unsqueeze(0),
            Self::Swapped => tensor.transpose(D::Minus1, D::Minus2)?.contiguous(),
            Self::Flat => tensor.flatten(0, 1),
            Self::SwappedFlat => Self::Flat.undo(Self::Swapped.undo(tensor)?),
        }
    }
}

/// A shape whose first two axes are one.
fn flat(shape: &[usize]) -> Option<Vec<usize>> {
    let [first, second, rest @ ..] = shape else { return None };
    Some([&[first.checked_mul(*second)?], rest].concat())
}

impl Join {
    /// The axis that grows.
    fn axis(self, rank: usize) -> Option<usize> {
        match self {
            Self::Rows | Self::FlatRows => rank.checked_sub(2),
            Self::Columns | Self::Alternating => rank.checked_sub(1),
        }
    }

    /// The shape of two halves in one; nothing where they do not fit one another.
    pub(crate) fn shape(self, first: &[usize], second: &[usize]) -> Option<Vec<usize>> {
        let axis = self.axis(first.len())?;
        let mut shape = first.to_vec();
        shape[axis] = shape[axis].checked_add(*second.get(axis)?)?;
        let equal = |place: usize| place == axis && self != Self::Alternating || first[place] == second[place];
        let fit = first.len() == second.len() && (0..first.len()).all(equal);
        match self {
            _ if !fit => None,
            Self::FlatRows => flat(&shape),
            _ => Some(shape),
        }
    }

    /// The two halves in one.
    pub(crate) fn join(self, first: &Tensor, second: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Rows => Tensor::cat(&[first, second], D::Minus2),
            Self::FlatRows => Tensor::cat(&[first, second], D::Minus2)?.flatten(0, 1),
            Self::Columns => Tensor::cat(&[first, second], D::Minus1),
            Self::Alternating => {
                let last = first.rank();
                Tensor::stack(&[first, second], last)?.flatten(last - 1, last)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn undone(layout: Layout, stored: &[f32]) -> Vec<f32> {
        layout.undo(Tensor::new(stored, &Device::Cpu).unwrap()).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn paired_rows_come_apart_head_by_head() {
        // Two heads of 4 rows; Hugging Face's order is 0..8, the file's pairs row i with row i + 2 of its head.
        let found = undone(Layout::Paired { heads: 2 }, &[0., 2., 1., 3., 4., 6., 5., 7.]);
        assert_eq!(found, [0., 1., 2., 3., 4., 5., 6., 7.]);
    }

    #[test]
    fn queries_keys_and_values_go_back_to_their_heads() {
        // Two key/value heads, each with two queries, of size 1. Hugging Face: q0 q1 k0 v0 q2 q3 k1 v1.
        let found = undone(Layout::Ungrouped { kv_heads: 2, queries: 2 }, &[0., 1., 4., 5., 2., 6., 3., 7.]);
        assert_eq!(found, [0., 1., 2., 3., 4., 5., 6., 7.]);
    }

    #[test]
    fn shapes_that_cannot_be_undone_are_nothing() {
        assert_eq!(Layout::Paired { heads: 3 }.shape(&[8, 4]), None);
        assert_eq!(Layout::Paired { heads: 0 }.shape(&[8, 4]), None);
        assert_eq!(Layout::Transposed.shape(&[2, 3]), Some(vec![3, 2]));
        assert_eq!(Layout::Transposed.shape(&[2, 3, 4]), None);
        assert_eq!(Layout::Ungrouped { kv_heads: 2, queries: 3 }.shape(&[24, 5]), None);
        assert_eq!(Layout::Ungrouped { kv_heads: usize::MAX, queries: 3 }.shape(&[24, 5]), None);
        assert_eq!(Layout::OneRow.shape(&[7]), Some(vec![1, 7]));
        assert_eq!(Layout::OneRow.shape(&[2, 7]), None);
    }

    #[test]
    fn halves_are_joined_as_they_are_said_to_be() {
        let tensor = |numbers: &[f32]| Tensor::new(numbers, &Device::Cpu).unwrap().reshape((2, 1, 2)).unwrap();
        let (first, second) = (tensor(&[0., 1., 2., 3.]), tensor(&[4., 5., 6., 7.]));
        for (join, shape, expected) in [
            (Join::Rows, &[2, 2, 2][..], [0., 1., 4., 5., 2., 3., 6., 7.]),
            (Join::FlatRows, &[4, 2], [0., 1., 4., 5., 2., 3., 6., 7.]),
            (Join::Columns, &[2, 1, 4], [0., 1., 4., 5., 2., 3., 6., 7.]),
            (Join::Alternating, &[2, 1, 4], [0., 4., 1., 5., 2., 6., 3., 7.]),
        ] {
            let joined = join.join(&first, &second).unwrap();
            assert_eq!(joined.flatten_all().unwrap().to_vec1::<f32>().unwrap(), expected);
            assert_eq!((joined.dims(), join.shape(&[2, 1, 2], &[2, 1, 2]).as_deref()), (shape, Some(shape)));
        }
        assert_eq!(Join::Rows.shape(&[2, 1, 2], &[2, 3, 2]), Some(vec![2, 4, 2]));
        assert_eq!(Join::Rows.shape(&[2, 1, 2], &[2, 1, 3]), None);
        assert_eq!(Join::Rows.shape(&[2], &[2]), None);
        assert_eq!(Join::Alternating.shape(&[2, 1, 2], &[2, 1, 3]), None);
        assert_eq!(Join::FlatRows.shape(&[usize::MAX, 1, 2], &[usize::MAX, 1, 2]), None);
    }

    #[test]
    fn slabs_are_named_by_their_place_and_never_too_many() {
        let sizes = Sizes { layers: 1, skipped: 0, heads: 2, kv_heads: 1, head_dim: 4 };
        let parts = |shape: &[usize]| Change::None.parts("experts.#.up".to_owned(), true, shape, &sizes);
        let names: Vec<_> = parts(&[3, 4, 5]).unwrap().into_iter().map(|part| part.name).collect();
        assert_eq!(names, ["experts.0.up", "experts.1.up", "experts.2.up"]);
        assert_eq!(parts(&[MOST_SLABS + 1, 4, 5]), None);
        let keys = Change::Keys.parts("k".to_owned(), true, &[16, 8], &sizes).unwrap();
        assert_eq!(keys[0].rows, Some(8..12));
        assert_eq!(Change::Keys.parts("k".to_owned(), true, &[12, 8], &sizes), None);
    }
}
