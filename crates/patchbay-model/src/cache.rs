//! Keys and values of growing sequences, so that a new token costs no more than itself.

use candle_core::{Result, Tensor, bail};

use crate::memory::{KeyMemory, Sources};
use crate::segments::{Segment, Segments, Span};

/// The keys and values of one sequence at every layer that it went through.
#[derive(Debug, Default)]
pub struct KeyCache {
    layers: Vec<Option<Stored>>,
    tokens: usize,
}

/// The keys and values of one layer.
#[derive(Clone, Debug)]
struct Stored {
    /// `[capacity, K, d]` and `[capacity, K, value dim]`, of which the first rows are in use.
    rows: [Tensor; 2],
    /// Whether another sequence has them, too, so that nothing may be written to them.
    shared: bool,
}

impl KeyCache {
    /// The smallest capacity, in tokens.
    const LEAST: usize = 32;

    /// How many tokens it holds, from position 0 on.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Forgets the tokens from this position on.
    pub fn truncate(&mut self, tokens: usize) {
        self.tokens = self.tokens.min(tokens);
    }

    /// Another sequence that begins with the first tokens of this one, which nothing is added to any more. It has the same rows as long as
    /// nothing is added to it either.
    pub fn fork(&self, tokens: usize) -> Self {
        let shared = |stored: &Stored| Stored { shared: true, ..stored.clone() };
        let layers = self.layers.iter().map(|stored| stored.as_ref().map(shared)).collect();
        Self { layers, tokens: self.tokens.min(tokens) }
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        let size = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
        self.layers.iter().flatten().flat_map(|stored| &stored.rows).map(size).sum()
    }

    /// Keys `[capacity, K, d]` and values `[capacity, K, value dim]` of a layer, of which those of the tokens it holds count.
    pub fn layer(&self, layer: usize) -> Option<&[Tensor; 2]> {
        self.layers.get(layer)?.as_ref().map(|stored| &stored.rows)
    }

    /// Counts tokens whose keys and values were appended at every layer.
    pub fn advance(&mut self, tokens: usize) {
        self.tokens += tokens;
    }

    /// Writes keys and values of new tokens, runs of `[tokens, K, d]` and `[tokens, K, value dim]`, behind those that it holds. They
    /// count once they are [counted](Self::advance): before that they are overwritten.
    ///
    /// # Errors
    /// There is no run; the layer was left out before; memory runs out.
    pub fn append(&mut self, layer: usize, runs: &[[Tensor; 2]]) -> Result<[Tensor; 2]> {
        if self.layers.len() <= layer {
            self.layers.resize(layer + 1, None);
        }
        let Some(like) = runs.first() else { bail!("there are no keys to append") };
        let before = self.tokens;
        let after = runs.iter().try_fold(before, |sum, [keys, _]| Ok::<_, candle_core::Error>(sum + keys.dim(0)?))?;
        let stored = match self.layers[layer].take() {
            Some(Stored { rows, shared: false }) if rows[0].dim(0)? >= after => rows,
            Some(Stored { rows: [keys, values], .. }) => [grown(&keys, before, after)?, grown(&values, before, after)?],
            None if before == 0 => [grown(&like[0], 0, after)?, grown(&like[1], 0, after)?],
            None => bail!("the keys of layer {layer} were not kept from the start"),
        };
        let mut end = before;
        for run in runs {
            for (stored, rows) in stored.iter().zip(run) {
                stored.slice_set(&rows.contiguous()?, 0, end)?;
            }
            end += run[0].dim(0)?;
        }
        self.layers[layer] = Some(Stored { rows: stored.clone(), shared: false });
        Ok(stored)
    }
}

/// Room for at least `after` rows, beginning with the first `before` rows of a tensor.
fn grown(like: &Tensor, before: usize, after: usize) -> Result<Tensor> {
    let mut shape = like.dims().to_vec();
    shape[0] = after.next_power_of_two().max(KeyCache::LEAST);
    let room = Tensor::zeros(shape, like.dtype(), like.device())?;
    if before > 0 {
        room.slice_set(&like.narrow(0, 0, before)?.contiguous()?, 0, 0)?;
    }
    Ok(room)
}

/// The caches of the sequences of one pass, which goes on with each of them by some tokens.
#[derive(Debug)]
pub struct Caches<'a> {
    caches: Vec<&'a mut KeyCache>,
    segments: Segments,
}

impl<'a> Caches<'a> {
    /// A pass over the next tokens of each sequence: so many of them.
    pub fn new(caches: Vec<&'a mut KeyCache>, lengths: &[usize]) -> Self {
        let mut start = 0;
        let segment = |(number, (cache, len)): (usize, (&&mut KeyCache, &usize))| {
            let (position, length) = (cache.tokens, cache.tokens + len);
            start += len;
            let keys = vec![Span { source: number + 1, start: 0, len: length }];
            Segment { start: start - len, len: *len, position, length, keys }
        };
        let segments = Segments::new(caches.iter().zip(lengths).enumerate().map(segment).collect());
        Self { caches, segments }
    }

    /// The tokens of the pass.
    pub fn segments(&self) -> Segments {
        self.segments.clone()
    }

    /// Keeps what the pass has computed, now that it has ended.
    pub fn finish(self) {
        for (cache, segment) in self.caches.into_iter().zip(&self.segments) {
            cache.advance(segment.len);
        }
    }
}

impl KeyMemory for Caches<'_> {
    fn exchange(&mut self, layer: usize, keys: Tensor, values: Tensor) -> Result<Sources> {
        let mut sources = Sources::of_pass(keys.clone(), values.clone());
        for (cache, segment) in self.caches.iter_mut().zip(&self.segments) {
            let rows = |tensor: &Tensor| tensor.narrow(0, segment.start, segment.len);
            let [keys, values] = cache.append(layer, &[[rows(&keys)?, rows(&values)?]])?;
            sources.keys.push(keys);
            sources.values.push(values);
        }
        Ok(sources)
    }
}
