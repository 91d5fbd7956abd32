//! What checking has to know besides the graph: the model, the tokenized inputs, the caller's tensors, the limits.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::dtype::DType;
use crate::problem::Result;
use crate::selection::{Extent, Extents};
use crate::site::{Axis, Packing};
use crate::tree::Tree;

/// Everything that a graph is checked against.
pub struct Context<'a> {
    /// The model's tree.
    pub tree: &'a Tree,
    /// The inputs, tokenized.
    pub inputs: &'a [TokenRows],
    /// The caller's tensors.
    pub store: &'a dyn Store,
    /// What is allowed.
    pub limits: &'a Limits,
}

/// An input after tokenization.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenRows {
    /// Its name.
    pub name: String,
    /// Its rows.
    pub rows: Vec<TokenRow>,
}

/// One row: how its tokens spell its text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenRow {
    /// The text that the tokens stand for.
    pub text: String,
    /// Byte offset in the text at which each token ends; one a token.
    pub ends: Vec<usize>,
    /// How many tokens of its sequence came before these, in earlier passes.
    pub past: usize,
    /// How many tokens may still come after these, in later passes.
    pub more: usize,
    /// The row that the sequence began with, where this is not it.
    pub prompt: Option<Arc<TokenRow>>,
}

impl TokenRow {
    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it has no token.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Number of tokens of its sequence so far.
    pub fn keys(&self) -> usize {
        self.past + self.len()
    }

    /// Whether its sequence is computed in several passes.
    pub fn is_step(&self) -> bool {
        self.past > 0 || self.more > 0
    }

    /// The last token of the last place where `text` stands.
    pub fn find(&self, text: &str) -> Option<usize> {
        let end = self.text.rfind(text).filter(|_| !text.is_empty())? + text.len();
        self.ends.iter().position(|token_end| *token_end >= end)
    }
}

impl TokenRows {
    /// Number of tokens of each row.
    pub fn lengths(&self) -> Vec<usize> {
        self.rows.iter().map(TokenRow::len).collect()
    }

    /// Number of tokens that came before those of each row.
    pub fn past(&self) -> Vec<usize> {
        self.rows.iter().map(|row| row.past).collect()
    }

    /// The sizes of a site's axes for this input.
    pub fn extents(&self, packing: Packing) -> Extents {
        let keys: Vec<usize> = self.rows.iter().map(TokenRow::keys).collect();
        Self::sized(&self.lengths(), &keys, packing)
    }

    /// The sizes of a site's axes for whole rows of these lengths.
    pub fn extents_of(lengths: &[usize], packing: Packing) -> Extents {
        Self::sized(lengths, lengths, packing)
    }

    fn sized(lengths: &[usize], keys: &[usize], packing: Packing) -> Extents {
        let (lengths, keys): (Arc<[usize]>, Arc<[usize]>) = (lengths.into(), keys.into());
        let extent = |axis| match axis {
            Axis::Rows => Extent::Fixed(lengths.len()),
            Axis::Tokens => Extent::Tokens(lengths.clone()),
            Axis::Keys => Extent::Tokens(keys.clone()),
            Axis::Fixed(size) => Extent::Fixed(size),
        };
        Extents { axes: packing.axes().into_iter().map(extent).collect(), rows: Some(0) }
    }
}

/// The caller's tensors, as far as checking has to know them.
pub trait Store {
    /// Type and sizes of `@name` or `@name.key`.
    ///
    /// # Errors
    /// No such tensor, or several under the name and no key: with the nearest names.
    fn describe(&self, name: &str, key: Option<&str>) -> Result<(DType, Vec<usize>)>;
}

/// What a request may ask for. Refusals name the limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Nodes of a graph, those written into others included.
    pub max_nodes: usize,
    /// Cells of a sweep.
    pub max_cells: usize,
    /// Rows of all inputs together.
    pub max_rows: usize,
    /// Tokens of all inputs together.
    pub max_tokens: usize,
    /// Bytes of all results together.
    pub max_result_bytes: u64,
    /// Bytes that a request may hold while it runs.
    pub max_peak_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_nodes: 4096,
            max_cells: 100_000,
            max_rows: 1024,
            max_tokens: 65_536,
            max_result_bytes: 1 << 30,
            max_peak_bytes: 8 << 30,
        }
    }
}
