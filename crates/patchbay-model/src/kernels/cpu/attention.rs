//! Attention over the segments of a packed batch.
//!
//! The parts (scores, softmax, mix) and the fused whole share their inner functions, and each of these keeps an order
//! of its own: a score depends on one query and one key, a softmax adds up lanes counted from the segment's first key,
//! and a mix adds values from the first key on. A masked key adds an exact zero. So the fused kernel, which never
//! touches masked keys, gives the same bits as the parts one after the other.

use candle_core::{Device, Result, Tensor, bail};
use pulp::{Arch, Simd, WithSimd};

use super::super::Scoring;
use super::dots::{LEFT, strip};
use super::exp::exp;
use super::lanes::fold;
use super::memory::{Floats, split_columns};
use super::parallel::share;
use crate::segments::{Segment, Segments};

/// Queries that share a pass over the keys.
const QUERIES: usize = 24;
/// A softmax starts at a multiple of this many keys, so that its lanes stay the same ones.
const ALIGN: usize = 16;

/// `[T, heads, dim]`, read head by head.
struct Heads<'a> {
    data: &'a [f32],
    heads: usize,
    dim: usize,
}

impl<'a> Heads<'a> {
    fn of(data: &'a [f32], tensor: &Tensor, segments: &Segments) -> Result<Self> {
        let (tokens, heads, dim) = tensor.dims3()?;
        if tokens != segments.tokens() {
            bail!("segments of {} tokens do not fit a value of shape {:?}", segments.tokens(), tensor.shape());
        }
        Ok(Self { data, heads, dim })
    }

    #[inline(always)]
    fn row(&self, token: usize, head: usize) -> &'a [f32] {
        let start = (token * self.heads + head) * self.dim;
        &self.data[start..start + self.dim]
    }

    /// The key/value head that a query head of `heads` reads.
    fn shared(&self, head: usize, heads: usize) -> usize {
        head / (heads / self.heads.max(1)).max(1)
    }
}

/// Scores, flat.
pub(super) fn scores(arch: Arch, q: &Tensor, k: &Tensor, segments: &Segments, scoring: &Scoring) -> Result<Tensor> {
    let (q, k) = (q.contiguous()?, k.contiguous()?);
    let (queries, keys) = (Floats::of(&q)?, Floats::of(&k)?);
    let queries = Heads::of(&queries, &q, segments)?;
    let keys = Heads::of(&keys, &k, segments)?;
    let heads = queries.heads;
    let mut output = vec![f32::NEG_INFINITY; segments.pairs(heads)];
    share(matrices(&mut output, segments, heads), |(segment, head, output)| {
        let view = View { queries: &queries, keys: &keys, segment, head, scoring };
        for first in (0..segment.len).step_by(QUERIES) {
            let last = segment.len.min(first + QUERIES);
            let rows = output[first * segment.len..last * segment.len].chunks_exact_mut(segment.len).collect();
            arch.dispatch(ScoreBlock { view: &view, first, rows });
        }
    });
    let count = output.len();
    Tensor::from_vec(output, count, &Device::Cpu)
}

/// The softmax of each row, flat.
pub(super) fn probs(arch: Arch, scores: &Tensor, segments: &Segments, heads: usize) -> Result<Tensor> {
    let scores = scores.contiguous()?;
    let mut output = Floats::of(&scores)?.to_vec();
    check_pairs(&output, segments, heads)?;
    share(matrices(&mut output, segments, heads), |(segment, _, output)| {
        arch.dispatch(|| output.chunks_exact_mut(segment.len).for_each(softmax));
    });
    Tensor::from_vec(output, scores.shape(), &Device::Cpu)
}

/// Each head's mix of values: `[T, heads, d]`.
pub(super) fn mix(arch: Arch, probs: &Tensor, v: &Tensor, segments: &Segments, heads: usize) -> Result<Tensor> {
    let (probs, v) = (probs.contiguous()?, v.contiguous()?);
    let (probs, values) = (Floats::of(&probs)?, Floats::of(&v)?);
    let values = Heads::of(&values, &v, segments)?;
    check_pairs(&probs, segments, heads)?;
    let mut output = vec![0.0; segments.tokens() * heads * values.dim];
    let mut start = 0;
    let jobs = head_rows(&mut output, segments, heads, values.dim).into_iter().map(|(segment, head, rows)| {
        let pairs = segment.len * segment.len;
        start += pairs;
        (segment, head, rows, &probs[start - pairs..start])
    });
    share(jobs.collect(), |(segment, head, rows, probs)| {
        let head = values.shared(head, heads);
        for (output, probs) in rows.into_iter().zip(probs.chunks_exact(segment.len)) {
            arch.dispatch(Mix { probs, first: segment.start, values: &values, head, output });
        }
    });
    Tensor::from_vec(output, (segments.tokens(), heads, values.dim), &Device::Cpu)
}

/// Scores, softmax and mix at once: `[T, H, d]`.
pub(super) fn fused(
    arch: Arch,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    segments: &Segments,
    scoring: &Scoring,
) -> Result<Tensor> {
    let (q, k, v) = (q.contiguous()?, k.contiguous()?, v.contiguous()?);
    let (queries, keys, values) = (Floats::of(&q)?, Floats::of(&k)?, Floats::of(&v)?);
    let queries = Heads::of(&queries, &q, segments)?;
    let keys = Heads::of(&keys, &k, segments)?;
    let values = Heads::of(&values, &v, segments)?;
    let heads = queries.heads;
    let mut output = vec![0.0; segments.tokens() * heads * values.dim];
    share(head_rows(&mut output, segments, heads, values.dim), |(segment, head, rows)| {
        let view = View { queries: &queries, keys: &keys, segment, head, scoring };
        view.attend(arch, &values, rows);
    });
    Tensor::from_vec(output, (segments.tokens(), heads, values.dim), &Device::Cpu)
}

fn check_pairs(flat: &[f32], segments: &Segments, heads: usize) -> Result<()> {
    let expected = segments.pairs(heads);
    if flat.len() != expected {
        bail!("attention matrices of {expected} elements were expected, not {}", flat.len());
    }
    Ok(())
}

/// Every segment's and head's `[len, len]`.
fn matrices<'a>(flat: &'a mut [f32], segments: &'a Segments, heads: usize) -> Vec<(&'a Segment, usize, &'a mut [f32])> {
    let mut rest = flat;
    let mut parts = Vec::new();
    for segment in segments {
        for head in 0..heads {
            let (matrix, tail) = rest.split_at_mut(segment.len * segment.len);
            parts.push((segment, head, matrix));
            rest = tail;
        }
    }
    parts
}

/// Every segment's and head's rows of a `[T, heads, dim]`, segments first.
fn head_rows<'a>(
    flat: &'a mut [f32],
    segments: &'a Segments,
    heads: usize,
    dim: usize,
) -> Vec<(&'a Segment, usize, Vec<&'a mut [f32]>)> {
    let columns = split_columns(flat, heads * dim, std::iter::repeat_n(dim, heads));
    let mut columns: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
    let mut parts = Vec::new();
    for segment in segments {
        for (head, column) in columns.iter_mut().enumerate() {
            parts.push((segment, head, column.by_ref().take(segment.len).collect()));
        }
    }
    parts
}

/// One head's attention within one segment.
struct View<'a> {
    queries: &'a Heads<'a>,
    keys: &'a Heads<'a>,
    segment: &'a Segment,
    head: usize,
    scoring: &'a Scoring,
}

impl View<'_> {
    fn attend(&self, arch: Arch, values: &Heads<'_>, mut output: Vec<&mut [f32]>) {
        let len = self.segment.len;
        let head = values.shared(self.head, self.queries.heads);
        let mut scratch = vec![0.0; QUERIES.min(len) * len];
        for first in (0..len).step_by(QUERIES) {
            let rows = scratch.chunks_exact_mut(len).take(len - first).collect();
            arch.dispatch(ScoreBlock { view: self, first, rows });
            for (query, probs) in (first..len).zip(scratch.chunks_exact_mut(len)) {
                let start = self.aligned_key(query);
                let probs = &mut probs[start..=query];
                arch.dispatch(|| softmax(probs));
                let output = &mut *output[query];
                arch.dispatch(Mix { probs, first: self.segment.start + start, values, head, output });
            }
        }
    }

    /// Where a query's row of scores begins: its first key, or a little before.
    fn aligned_key(&self, query: usize) -> usize {
        let first = self.scoring.first_key(query);
        first - first % ALIGN
    }
}

/// The scores of some neighbouring queries, each written into a row of `len` (masked: -inf).
struct ScoreBlock<'a> {
    view: &'a View<'a>,
    first: usize,
    rows: Vec<&'a mut [f32]>,
}

impl WithSimd for ScoreBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let View { queries, keys, segment, head, scoring } = *self.view;
        let shared = keys.shared(head, queries.heads);
        let key = |key: usize| keys.row(segment.start + key, shared);
        let query = |query: usize| queries.row(segment.start + query, head);
        let last = self.first + self.rows.len();
        let mut at = self.view.aligned_key(self.first);
        while at + LEFT <= last {
            let left = [key(at), key(at + 1), key(at + 2), key(at + 3)];
            strip(simd, left, query, self.first.max(at)..last, |query, products| {
                self.rows[query - self.first][at..at + LEFT].copy_from_slice(&products);
            });
            at += LEFT;
        }
        for at in at..last {
            strip(simd, [key(at)], query, self.first.max(at)..last, |query, [product]| {
                self.rows[query - self.first][at] = product;
            });
        }
        for (query, row) in (self.first..).zip(&mut self.rows) {
            finish(row, query, head, segment, scoring);
        }
    }
}

/// Scales the products of a query's row and masks the keys that it does not see.
#[inline(always)]
fn finish(row: &mut [f32], query: usize, head: usize, segment: &Segment, scoring: &Scoring) {
    let first = scoring.first_key(query);
    row[..first].fill(f32::NEG_INFINITY);
    row[query + 1..].fill(f32::NEG_INFINITY);
    for score in &mut row[first..=query] {
        *score *= scoring.scale;
    }
    if let Some(cap) = scoring.soft_cap {
        for score in &mut row[first..=query] {
            *score = (*score / cap).tanh() * cap;
        }
    }
    if scoring.alibi.is_some() {
        for (key, score) in (first..).zip(&mut row[first..=query]) {
            *score += scoring.bias(head, key, segment);
        }
    }
}

#[inline(always)]
fn softmax(row: &mut [f32]) {
    let highest = fold(row, f32::NEG_INFINITY, |x| x, f32::max);
    for score in &mut *row {
        *score = exp(*score - highest);
    }
    let total = fold(row, 0.0, |x| x, |a, b| a + b);
    for prob in row {
        *prob /= total;
    }
}

/// `Σ_j probs[j] · values[first + j]` of one query and head.
struct Mix<'a> {
    probs: &'a [f32],
    first: usize,
    values: &'a Heads<'a>,
    head: usize,
    output: &'a mut [f32],
}

impl WithSimd for Mix<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { probs, first, values, head, output } = self;
        let value = |key: usize| values.row(first + key, head);
        let (whole, rest) = S::as_mut_simd_f32s(output);
        let (wide, narrow) = whole.as_chunks_mut::<8>();
        let mut at = 0;
        for part in wide {
            *part = columns(simd, probs, &value, at);
            at += 8;
        }
        for part in narrow {
            [*part] = columns(simd, probs, &value, at);
            at += 1;
        }
        if !rest.is_empty() {
            let mut total = simd.splat_f32s(0.0);
            for (key, prob) in probs.iter().enumerate() {
                let (_, value) = S::as_simd_f32s(value(key));
                total = simd.mul_add_e_f32s(simd.splat_f32s(*prob), simd.partial_load_f32s(value), total);
            }
            simd.partial_store_f32s(rest, total);
        }
    }
}

/// The mix of `N` vectors of channels, from vector `at` on.
#[inline(always)]
fn columns<'a, S: Simd, const N: usize>(
    simd: S,
    probs: &[f32],
    value: &impl Fn(usize) -> &'a [f32],
    at: usize,
) -> [S::f32s; N] {
    let mut totals = [simd.splat_f32s(0.0); N];
    for (key, prob) in probs.iter().enumerate() {
        let (value, _) = S::as_simd_f32s(value(key));
        let value = &value[at..at + N];
        let prob = simd.splat_f32s(*prob);
        for n in 0..N {
            totals[n] = simd.mul_add_e_f32s(prob, value[n], totals[n]);
        }
    }
    totals
}
