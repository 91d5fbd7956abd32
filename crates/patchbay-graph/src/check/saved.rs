//! What a request returns, and what it keeps.

use super::cost::tokens_bytes;
use crate::dtype::DType;
use crate::plan::{Plan, Value, ValueId};
use crate::shape::Shape;

/// A value that is returned or kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// Its name.
    pub name: String,
    /// JSON pointer to where the value stands.
    pub at: String,
    /// Its shape.
    pub shape: Shape,
    /// Its type.
    pub dtype: DType,
    /// How many of the likeliest tokens, where only those are wanted.
    pub top_tokens: Option<usize>,
}

impl Saved {
    fn new(name: &str, value: &Value, top_tokens: Option<usize>) -> Self {
        let Value { at, shape, dtype, .. } = value;
        Self { name: name.to_owned(), at: at.clone(), shape: shape.clone(), dtype: *dtype, top_tokens }
    }

    /// Bytes of all its elements, and of nothing else.
    pub fn bytes(&self) -> u64 {
        match (self.top_tokens, self.shape.dims.last()) {
            (Some(k), Some(vocab)) => tokens_bytes(&self.shape, *vocab, k),
            _ => (self.shape.elements().unwrap_or(usize::MAX) as u64).saturating_mul(self.dtype.size() as u64),
        }
    }
}

impl Plan {
    /// What is returned, in the order of the graph.
    pub fn returned(&self) -> impl Iterator<Item = (ValueId, Saved)> {
        let of = |id: usize, name, tokens| (id, Saved::new(name, &self.values[id], tokens));
        self.results.iter().map(move |result| of(result.value, &result.name, result.top_tokens))
    }

    /// What is kept in the caller's store.
    pub fn stored(&self) -> impl Iterator<Item = (ValueId, Saved)> {
        self.kept.iter().map(|(name, id)| (*id, Saved::new(name, &self.values[*id], None)))
    }
}

/// Bytes that stay in memory until a request that runs in several jobs has ended: of results that leave memory as they come, the
/// likeliest tokens alone; of what is kept, what came and what was put together.
pub(super) fn held<'a>(results: impl Iterator<Item = &'a Saved>, kept: impl Iterator<Item = &'a Saved>) -> u64 {
    let tokens = results.filter(|result| result.top_tokens.is_some()).map(Saved::bytes).fold(0, u64::saturating_add);
    kept.map(Saved::bytes).fold(0, u64::saturating_add).saturating_mul(2).saturating_add(tokens)
}
