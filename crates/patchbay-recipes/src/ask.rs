//! What a recipe may ask about the model.

use patchbay_graph::problem::Result;
use patchbay_graph::{Store, Tree};
use serde_json::Value;

/// A model, as far as recipes have to know it.
pub struct Ask<'a> {
    /// Its sizes and sites.
    pub tree: &'a Tree,
    /// Whether its final norm takes the mean off.
    pub centres: bool,
    /// The caller's tensors.
    pub store: &'a dyn Store,
    /// The tokens of a text, without special ones.
    pub encode: &'a dyn Fn(&str) -> Result<Vec<u32>>,
    /// The tokens of the rows of an input, as the field `input` has it.
    pub rows: &'a dyn Fn(&Value) -> Result<Vec<Vec<u32>>>,
}
