//! Queries, keys and values of heads, where they lie in memory.

use candle_core::{Result, Tensor, bail};

use super::super::check_spans;
use super::memory::Floats;
use crate::segments::{Segment, Segments, Span};

/// Heads of queries: `[T, heads, dim]`.
pub(super) struct Queries<'a> {
    data: &'a [f32],
    pub(super) heads: usize,
    dim: usize,
}

impl<'a> Queries<'a> {
    pub(super) fn of(data: &'a [f32], tensor: &Tensor, segments: &Segments) -> Result<Self> {
        let (tokens, heads, dim) = tensor.dims3()?;
        if tokens != segments.tokens() {
            bail!("segments of {} tokens do not fit a value of shape {:?}", segments.tokens(), tensor.shape());
        }
        Ok(Self { data, heads, dim })
    }

    pub(super) fn row(&self, token: usize, head: usize) -> &'a [f32] {
        let start = (token * self.heads + head) * self.dim;
        &self.data[start..start + self.dim]
    }
}

/// Sources of keys or of values, in memory: `[rows, heads, dim]` each.
pub(super) struct Stored<'a> {
    sources: Vec<Floats<'a>>,
    pub(super) heads: usize,
    pub(super) dim: usize,
}

impl<'a> Stored<'a> {
    pub(super) fn of(sources: &'a [Tensor], segments: &Segments) -> Result<Self> {
        check_spans(segments, sources)?;
        let (_, heads, dim) = sources.first().map_or(Ok((0, 0, 0)), Tensor::dims3)?;
        for source in sources {
            if source.dims3()? != (source.dim(0)?, heads, dim) {
                bail!("sources of {heads} heads of size {dim} were expected, not {:?}", source.shape());
            }
        }
        Ok(Self { sources: sources.iter().map(Floats::of).collect::<Result<_>>()?, heads, dim })
    }

    /// What every segment looks on, in the order of the segments.
    pub(super) fn all_looked_on(&self, segments: &Segments) -> Vec<Heads<'_>> {
        segments.iter().map(|segment| self.looked_on(segment)).collect()
    }

    /// What a segment looks on.
    fn looked_on(&self, segment: &Segment) -> Heads<'_> {
        let width = self.heads * self.dim;
        let mut rows = Vec::with_capacity(segment.key_count());
        for Span { source, start, len } in &segment.keys {
            let part = &self.sources[*source][start * width..(start + len) * width];
            rows.extend(part.chunks_exact(width.max(1)));
        }
        Heads { rows, dim: self.dim }
    }

    /// How many query heads share a key/value head.
    pub(super) fn group(&self, heads: usize) -> Result<usize> {
        if self.heads == 0 || !heads.is_multiple_of(self.heads) {
            bail!("{heads} heads of queries cannot share {} of keys and values", self.heads);
        }
        Ok(heads / self.heads)
    }
}

/// The keys or the values of a sequence from its position 0 on, `[heads, dim]` each.
pub(super) struct Heads<'a> {
    rows: Vec<&'a [f32]>,
    pub(super) dim: usize,
}

impl<'a> Heads<'a> {
    #[inline(always)]
    pub(super) fn row(&self, position: usize, head: usize) -> &'a [f32] {
        &self.rows[position][head * self.dim..(head + 1) * self.dim]
    }
}
