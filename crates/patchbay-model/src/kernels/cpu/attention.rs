//! Attention over the segments of a packed batch.
//!
//! The parts (scores, softmax, mix) and the fused whole share their inner functions, and each of these keeps an order
//! of its own: a score depends on one query and one key, a softmax adds up lanes counted from the segment's first key,
//! and a mix adds values from the first key on. A masked key adds an exact zero. So the fused kernel, which never
//! touches masked keys, gives the same bits as the parts one after the other.

use candle_core::{Device, Result, Tensor, bail};
use pulp::{Arch, Simd, WithSimd};

use super::super::{Scoring, check_spans};
use super::dots::{LEFT, strip};
use super::exp::exp;
use super::lanes::fold;
use super::memory::{Floats, split_columns};
use super::mix::Mix;
use super::parallel::share;
use crate::segments::{Segment, Segments, Span};

/// Queries that share a pass over the keys.
const QUERIES: usize = 24;
/// A softmax starts at a multiple of this many keys, so that its lanes stay the same ones.
const ALIGN: usize = 16;

/// Heads of queries: `[T, heads, dim]`.
struct Queries<'a> {
    data: &'a [f32],
    heads: usize,
    dim: usize,
}

impl<'a> Queries<'a> {
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
}

/// Sources of keys or of values, in memory: `[rows, heads, dim]` each.
struct Stored<'a> {
    sources: Vec<Floats<'a>>,
    heads: usize,
    dim: usize,
}

impl<'a> Stored<'a> {
    fn of(sources: &'a [Tensor], segments: &Segments) -> Result<Self> {
        check_spans(segments, sources)?;
        let (_, heads, dim) = sources.first().map_or(Ok((0, 0, 0)), Tensor::dims3)?;
        for source in sources {
            if source.dims3()? != (source.dim(0)?, heads, dim) {
                bail!("sources of {heads} heads of size {dim} were expected, not {:?}", source.shape());
            }
        }
        Ok(Self { sources: sources.iter().map(Floats::of).collect::<Result<_>>()?, heads, dim })
    }

    /// What a segment looks on.
    fn looked_on(&self, segment: &Segment) -> Heads<'_> {
        let width = self.heads * self.dim;
        let mut rows = Vec::with_capacity(segment.key_count());
        for Span { source, start, len } in &segment.keys {
            let part = &self.sources[*source][start * width..(start + len) * width];
            rows.extend(part.chunks_exact(width.max(1)));
        }
        Heads { rows, heads: self.heads, dim: self.dim }
    }
}

/// The keys or the values of a sequence from its position 0 on, `[heads, dim]` each.
pub(super) struct Heads<'a> {
    rows: Vec<&'a [f32]>,
    heads: usize,
    dim: usize,
}

impl<'a> Heads<'a> {
    #[inline(always)]
    pub(super) fn row(&self, position: usize, head: usize) -> &'a [f32] {
        &self.rows[position][head * self.dim..(head + 1) * self.dim]
    }

    /// The key/value head that a query head of `heads` reads.
    fn shared(&self, head: usize, heads: usize) -> usize {
        head / (heads / self.heads.max(1)).max(1)
    }
}

/// What every segment looks on, in the order of the segments.
fn all_looked_on<'a>(stored: &'a Stored<'a>, segments: &Segments) -> Vec<Heads<'a>> {
    segments.iter().map(|segment| stored.looked_on(segment)).collect()
}

/// Scores, flat.
pub(super) fn scores(
    arch: Arch,
    q: &Tensor,
    keys: &[Tensor],
    segments: &Segments,
    scoring: &Scoring,
) -> Result<Tensor> {
    let (q, keys) = (q.contiguous()?, contiguous(keys)?);
    let (queries, keys) = (Floats::of(&q)?, Stored::of(&keys, segments)?);
    let queries = Queries::of(&queries, &q, segments)?;
    let keys = all_looked_on(&keys, segments);
    let heads = queries.heads;
    let mut output = vec![f32::NEG_INFINITY; segments.pairs(heads)];
    share(matrices(&mut output, segments, heads), |(number, segment, head, output)| {
        let view = View { queries: &queries, keys: &keys[number], segment, head, scoring };
        let rows = output.chunks_mut(QUERIES * segment.key_count());
        for (first, rows) in segment.positions().step_by(QUERIES).zip(rows) {
            let rows = rows.chunks_exact_mut(segment.key_count()).collect();
            arch.dispatch(ScoreBlock { view: &view, first, rows });
        }
    });
    let count = output.len();
    Tensor::from_vec(output, count, &Device::Cpu)
}

/// The softmax of each row, flat.
pub(super) fn probs(
    arch: Arch,
    scores: &Tensor,
    segments: &Segments,
    heads: usize,
    sinks: Option<&[f32]>,
) -> Result<Tensor> {
    let scores = scores.contiguous()?;
    let mut output = Floats::of(&scores)?.to_vec();
    check_pairs(&output, segments, heads)?;
    share(matrices(&mut output, segments, heads), |(_, segment, head, output)| {
        let sink = sinks.and_then(|sinks| sinks.get(head).copied());
        arch.dispatch(|| output.chunks_exact_mut(segment.key_count()).for_each(|row| softmax(row, sink)));
    });
    Tensor::from_vec(output, scores.shape(), &Device::Cpu)
}

/// Each head's mix of values: `[T, heads, d]`.
pub(super) fn mix(arch: Arch, probs: &Tensor, values: &[Tensor], segments: &Segments, heads: usize) -> Result<Tensor> {
    let (probs, values) = (probs.contiguous()?, contiguous(values)?);
    let (probs, values) = (Floats::of(&probs)?, Stored::of(&values, segments)?);
    check_pairs(&probs, segments, heads)?;
    let dim = values.dim;
    let values = all_looked_on(&values, segments);
    let mut output = vec![0.0; segments.tokens() * heads * dim];
    let mut start = 0;
    let jobs = head_rows(&mut output, segments, heads, dim).into_iter().map(|(number, segment, head, rows)| {
        let pairs = segment.len * segment.key_count();
        start += pairs;
        (number, segment, head, rows, &probs[start - pairs..start])
    });
    share(jobs.collect(), |(number, segment, head, mut output, probs)| {
        let values = &values[number];
        let head = values.shared(head, heads);
        let probs: Vec<_> = probs.chunks_exact(segment.key_count()).collect();
        let keys = vec![0..segment.key_count(); segment.len];
        arch.dispatch(Mix { probs: &probs, keys: &keys, values, head, output: &mut output });
    });
    Tensor::from_vec(output, (segments.tokens(), heads, dim), &Device::Cpu)
}

/// Scores, softmax and mix at once: `[T, H, d]`.
pub(super) fn fused(
    arch: Arch,
    q: &Tensor,
    keys: &[Tensor],
    values: &[Tensor],
    segments: &Segments,
    scoring: &Scoring,
) -> Result<Tensor> {
    let (q, keys, values) = (q.contiguous()?, contiguous(keys)?, contiguous(values)?);
    let (queries, keys, values) = (Floats::of(&q)?, Stored::of(&keys, segments)?, Stored::of(&values, segments)?);
    let queries = Queries::of(&queries, &q, segments)?;
    let (heads, dim) = (queries.heads, values.dim);
    let (keys, values) = (all_looked_on(&keys, segments), all_looked_on(&values, segments));
    let mut output = vec![0.0; segments.tokens() * heads * dim];
    share(head_rows(&mut output, segments, heads, dim), |(number, segment, head, mut rows)| {
        let view = View { queries: &queries, keys: &keys[number], segment, head, scoring };
        view.attend(arch, &values[number], &mut rows);
    });
    Tensor::from_vec(output, (segments.tokens(), heads, dim), &Device::Cpu)
}

fn contiguous(tensors: &[Tensor]) -> Result<Vec<Tensor>> {
    tensors.iter().map(Tensor::contiguous).collect()
}

fn check_pairs(flat: &[f32], segments: &Segments, heads: usize) -> Result<()> {
    let expected = segments.pairs(heads);
    if flat.len() != expected {
        bail!("attention matrices of {expected} elements were expected, not {}", flat.len());
    }
    Ok(())
}

/// A segment with its number, a head, and what is theirs.
type Share<'a, T> = (usize, &'a Segment, usize, T);

/// Every segment's and head's `[len, keys]`.
fn matrices<'a>(flat: &'a mut [f32], segments: &'a Segments, heads: usize) -> Vec<Share<'a, &'a mut [f32]>> {
    let mut rest = flat;
    let mut parts = Vec::new();
    for (number, segment) in segments.iter().enumerate() {
        for head in 0..heads {
            let (matrix, tail) = rest.split_at_mut(segment.len * segment.key_count());
            parts.push((number, segment, head, matrix));
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
) -> Vec<Share<'a, Vec<&'a mut [f32]>>> {
    let columns = split_columns(flat, heads * dim, std::iter::repeat_n(dim, heads));
    let mut columns: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
    let mut parts = Vec::new();
    for (number, segment) in segments.iter().enumerate() {
        for (head, column) in columns.iter_mut().enumerate() {
            parts.push((number, segment, head, column.by_ref().take(segment.len).collect()));
        }
    }
    parts
}

/// One head's attention within one segment.
struct View<'a> {
    queries: &'a Queries<'a>,
    keys: &'a Heads<'a>,
    segment: &'a Segment,
    head: usize,
    scoring: &'a Scoring,
}

impl View<'_> {
    fn attend(&self, arch: Arch, values: &Heads<'_>, mut output: &mut [&mut [f32]]) {
        let (positions, keys) = (self.segment.positions(), self.segment.key_count());
        let head = values.shared(self.head, self.queries.heads);
        let sink = self.scoring.sinks.as_ref().and_then(|sinks| sinks.get(self.head).copied());
        let mut scratch = vec![0.0; QUERIES.min(positions.len()) * keys];
        for first in positions.clone().step_by(QUERIES) {
            let rows = scratch.chunks_exact_mut(keys).take(positions.end - first).collect();
            arch.dispatch(ScoreBlock { view: self, first, rows });
            let looks: Vec<_> =
                (first..positions.end.min(first + QUERIES)).map(|query| self.aligned_key(query)..query + 1).collect();
            for (look, probs) in looks.iter().zip(scratch.chunks_exact_mut(keys)) {
                let probs = &mut probs[look.clone()];
                arch.dispatch(|| softmax(probs, sink));
            }
            let probs: Vec<_> = scratch.chunks_exact(keys).take(looks.len()).collect();
            let (done, rest) = output.split_at_mut(looks.len());
            arch.dispatch(Mix { probs: &probs, keys: &looks, values, head, output: done });
            output = rest;
        }
    }

    /// Where a query's row of scores begins: its first key, or a little before.
    fn aligned_key(&self, query: usize) -> usize {
        let first = self.scoring.first_key(query);
        first - first % ALIGN
    }
}

/// The scores of some neighbouring queries, each written into a row of as many as there are keys (masked: -inf).
struct ScoreBlock<'a> {
    view: &'a View<'a>,
    /// Position of the first query.
    first: usize,
    rows: Vec<&'a mut [f32]>,
}

impl WithSimd for ScoreBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let View { queries, keys, segment, head, scoring } = *self.view;
        let shared = keys.shared(head, queries.heads);
        let key = |key: usize| keys.row(key, shared);
        let query = |query: usize| queries.row(segment.start + query - segment.position, head);
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
            finish(row, query, head, segment.length, scoring);
        }
    }
}

/// Scales the products of a query's row and masks the keys that it does not see.
#[inline(always)]
fn finish(row: &mut [f32], query: usize, head: usize, length: usize, scoring: &Scoring) {
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
            *score += scoring.bias(head, key, length);
        }
    }
}

/// The softmax of a row, and of a sink that is no part of it.
#[inline(always)]
fn softmax(row: &mut [f32], sink: Option<f32>) {
    let highest = fold(row, f32::NEG_INFINITY, |x| x, f32::max);
    let highest = sink.map_or(highest, |sink| highest.max(sink));
    for score in &mut *row {
        *score = exp(*score - highest);
    }
    let total = fold(row, 0.0, |x| x, |a, b| a + b);
    let total = sink.map_or(total, |sink| total + exp(sink - highest));
    for prob in row {
        *prob /= total;
    }
}
