//! Attention over the segments of a packed batch.
//!
//! The parts (scores, softmax, mix) and the fused whole share their inner functions, and each of these keeps an order
//! of its own: a score depends on one query and one key, a softmax adds up lanes counted from the segment's first key,
//! and a mix adds values from the first key on. A masked key adds an exact zero. So the fused kernel, which hardly
//! touches masked keys, gives the same bits as the parts one after the other.

use std::ops::Range;

use candle_core::{Device, Result, Tensor, bail};
use pulp::Arch;

use super::super::Scoring;
use super::heads::{Heads, Queries, Stored};
use super::memory::{Columns, Floats, split_columns};
use super::mix::Mix;
use super::parallel::share;
use super::scores::{Query, Scores};
use super::softmax::Softmax;
use crate::segments::{Segment, Segments};

/// Numbers of scores that a job holds, unless so few queries are not worth reading the keys for.
const SCORES: usize = 1 << 19;
/// The fewest and the most positions of a job.
const POSITIONS: Range<usize> = 16..64;
/// A softmax starts at a multiple of this many keys, so that its lanes stay the same ones.
const ALIGN: usize = 16;

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
    let (heads, group) = (queries.heads, keys.group(queries.heads)?);
    let keys = keys.all_looked_on(segments);
    let mut output = vec![f32::NEG_INFINITY; segments.pairs(heads)];
    share(matrices(&mut output, segments, heads), |(number, segment, head, output)| {
        let queries: Vec<_> = segment.positions().map(|position| query(&queries, segment, head, position)).collect();
        let mut rows: Vec<_> = output.chunks_exact_mut(segment.key_count()).collect();
        arch.dispatch(Scores {
            queries: &queries,
            keys: &keys[number],
            head: head / group,
            length: segment.length,
            scoring,
            rows: &mut rows,
        });
    });
    let count = output.len();
    Tensor::from_vec(output, count, &Device::Cpu)
}

/// The query of a head at a position.
fn query<'a>(queries: &Queries<'a>, segment: &Segment, head: usize, position: usize) -> Query<'a> {
    Query { row: queries.row(segment.start + position - segment.position, head), head, position }
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
        output.chunks_exact_mut(segment.key_count()).for_each(|row| arch.dispatch(Softmax { row, sink }));
    });
    Tensor::from_vec(output, scores.shape(), &Device::Cpu)
}

/// Each head's mix of values: `[T, heads, d]`.
pub(super) fn mix(arch: Arch, probs: &Tensor, values: &[Tensor], segments: &Segments, heads: usize) -> Result<Tensor> {
    let (probs, values) = (probs.contiguous()?, contiguous(values)?);
    let (probs, values) = (Floats::of(&probs)?, Stored::of(&values, segments)?);
    check_pairs(&probs, segments, heads)?;
    let (dim, group) = (values.dim, values.group(heads)?);
    let values = values.all_looked_on(segments);
    let mut output = vec![0.0; segments.tokens() * heads * dim];
    let mut start = 0;
    let jobs = head_rows(&mut output, segments, heads, dim).into_iter().map(|(number, segment, head, rows)| {
        let pairs = segment.len * segment.key_count();
        start += pairs;
        (number, segment, head, rows, &probs[start - pairs..start])
    });
    share(jobs.collect(), |(number, segment, head, output, probs)| {
        let mut output: Vec<_> = output.into_rows().collect();
        let probs: Vec<_> = probs.chunks_exact(segment.key_count()).collect();
        let looks = vec![0..segment.key_count(); segment.len];
        let values = &values[number];
        arch.dispatch(Mix { probs: &probs, looks: &looks, values, head: head / group, output: &mut output });
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
    let (shared, dim, group) = (values.heads, values.dim, keys.group(queries.heads)?);
    if keys.heads != shared {
        bail!("{} heads of keys and {shared} of values were given", keys.heads);
    }
    let (keys, values) = (keys.all_looked_on(segments), values.all_looked_on(segments));
    let mut output = vec![0.0; segments.tokens() * queries.heads * dim];
    let mut jobs = Vec::new();
    for (number, segment, head, mut rows) in head_rows(&mut output, segments, shared, group * dim) {
        let together = (SCORES / (group * segment.key_count()).max(1)).clamp(POSITIONS.start, POSITIONS.end);
        for first in segment.positions().step_by(together) {
            let (output, rest) = rows.split_rows(together);
            rows = rest;
            jobs.push(Block { segment, keys: &keys[number], values: &values[number], head, first, output });
        }
    }
    share(jobs, |block| block.attend(arch, &queries, group, scoring));
    Tensor::from_vec(output, (segments.tokens(), queries.heads, dim), &Device::Cpu)
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
fn head_rows<'a>(flat: &'a mut [f32], segments: &'a Segments, heads: usize, dim: usize) -> Vec<Share<'a, Columns<'a>>> {
    let mut columns: Vec<_> = split_columns(flat, heads * dim, std::iter::repeat_n(dim, heads)).collect();
    let mut parts = Vec::new();
    for (number, segment) in segments.iter().enumerate() {
        let split = columns.into_iter().map(|column| column.split_rows(segment.len));
        let (rows, rest): (Vec<_>, Vec<_>) = split.unzip();
        columns = rest;
        parts.extend(rows.into_iter().enumerate().map(|(head, rows)| (number, segment, head, rows)));
    }
    parts
}

/// Neighbouring positions of a segment, for all query heads that share a key/value head.
struct Block<'a> {
    segment: &'a Segment,
    keys: &'a Heads<'a>,
    values: &'a Heads<'a>,
    /// Of keys and values.
    head: usize,
    /// The first position.
    first: usize,
    /// For each position what the heads give, one after the other.
    output: Columns<'a>,
}

impl Block<'_> {
    fn attend(self, arch: Arch, queries: &Queries<'_>, group: usize, scoring: &Scoring) {
        let Self { segment, keys, values, head, first, output } = self;
        let width = first + output.rows();
        let heads = |position| (0..group).map(move |number| (head * group + number, position));
        let queries: Vec<_> =
            (first..width).flat_map(heads).map(|(head, position)| query(queries, segment, head, position)).collect();
        let mut scratch = vec![0.0; queries.len() * width];
        let mut rows: Vec<_> = scratch.chunks_exact_mut(width).collect();
        let length = segment.length;
        arch.dispatch(Scores { queries: &queries, keys, head, length, scoring, rows: &mut rows });

        let looks: Vec<_> = queries.iter().map(|query| looked_on(query.position, scoring)).collect();
        for ((query, look), row) in queries.iter().zip(&looks).zip(&mut rows) {
            let sink = scoring.sinks.as_ref().and_then(|sinks| sinks.get(query.head).copied());
            row[..look.start].fill(0.0);
            row[look.end..].fill(0.0);
            arch.dispatch(Softmax { row: &mut row[look.clone()], sink });
        }
        let probs: Vec<_> = scratch.chunks_exact(width).collect();
        let mut output: Vec<_> = output.into_rows().flat_map(|row| row.chunks_exact_mut(values.dim)).collect();
        arch.dispatch(Mix { probs: &probs, looks: &looks, values, head, output: &mut output });
    }
}

/// The keys that a query's softmax runs over: those that it sees, and a few before.
fn looked_on(position: usize, scoring: &Scoring) -> Range<usize> {
    let first = scoring.first_key(position);
    first - first % ALIGN..position + 1
}
