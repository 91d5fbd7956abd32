//! The weights that a model has, by name.

use std::collections::{BTreeMap, HashSet};
use std::ops::Deref;

use serde::{Deserialize, Serialize};

/// Shapes of weights by their standardized names. Pricing a plan asks hundreds of times for weights that no block has (biases, as a
/// rule), so what stands behind `layers.N.` in any name is kept, too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, Vec<usize>>", into = "BTreeMap<String, Vec<usize>>")]
pub struct Weights {
    shapes: BTreeMap<String, Vec<usize>>,
    kinds: HashSet<String>,
}

/// The name without its block: `layers.5.mlp.up_proj` → `mlp.up_proj`.
fn kind(name: &str) -> &str {
    let behind = name.strip_prefix("layers.").and_then(|rest| rest.split_once('.'));
    behind.map_or(name, |(_, kind)| kind)
}

impl Weights {
    /// Whether there is one of this name.
    pub fn has(&self, name: &str) -> bool {
        self.kinds.contains(kind(name)) && self.shapes.contains_key(name)
    }
}

impl Deref for Weights {
    type Target = BTreeMap<String, Vec<usize>>;

    fn deref(&self) -> &Self::Target {
        &self.shapes
    }
}

impl From<BTreeMap<String, Vec<usize>>> for Weights {
    fn from(shapes: BTreeMap<String, Vec<usize>>) -> Self {
        let kinds = shapes.keys().map(|name| kind(name).to_owned()).collect();
        Self { shapes, kinds }
    }
}

impl From<Weights> for BTreeMap<String, Vec<usize>> {
    fn from(weights: Weights) -> Self {
        weights.shapes
    }
}

impl FromIterator<(String, Vec<usize>)> for Weights {
    fn from_iter<I: IntoIterator<Item = (String, Vec<usize>)>>(weights: I) -> Self {
        weights.into_iter().collect::<BTreeMap<_, _>>().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_block_by_block() {
        let names =
            ["layers.0.self_attn.q_proj", "layers.10.self_attn.q_proj", "layers.0.self_attn.q_proj.bias", "lm_head"];
        let weights: Weights = names.map(|name| (name.to_owned(), vec![1])).into_iter().collect();
        assert!(names.iter().all(|name| weights.has(name)));
        for name in ["layers.1.self_attn.q_proj", "layers.10.self_attn.q_proj.bias", "self_attn.q_proj", "layers.0", ""]
        {
            assert!(!weights.has(name), "{name}");
        }
    }
}
