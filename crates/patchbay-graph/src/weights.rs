//! The weights that a model has, by name.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Deref;

use serde::{Deserialize, Serialize};

/// Shapes of weights by their standardized names. Pricing a plan asks hundreds of times for weights that no block has (biases, as a
/// rule), so what stands behind `layers.N.` in any name is kept, too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, Vec<usize>>", into = "BTreeMap<String, Vec<usize>>")]
pub struct Weights {
    shapes: BTreeMap<String, Vec<usize>>,
    kinds: HashSet<String>,
    /// For each block the first one that has weights of the same names and shapes.
    alike: BTreeMap<usize, usize>,
}

/// A name's block and what stands behind it: `layers.5.mlp.up_proj` → 5, `mlp.up_proj`.
fn split(name: &str) -> Option<(usize, &str)> {
    let (block, kind) = name.strip_prefix("layers.")?.split_once('.')?;
    Some((block.parse().ok()?, kind))
}

/// The name without its block.
fn kind(name: &str) -> &str {
    split(name).map_or(name, |(_, kind)| kind)
}

impl Weights {
    /// Whether there is one of this name.
    pub fn has(&self, name: &str) -> bool {
        self.kinds.contains(kind(name)) && self.shapes.contains_key(name)
    }

    /// The first block whose weights have the names and shapes of this one's.
    pub(crate) fn first_alike(&self, block: usize) -> usize {
        self.alike.get(&block).copied().unwrap_or(block)
    }
}

/// For each block the first one of which there is the same.
fn alike(shapes: &BTreeMap<String, Vec<usize>>) -> BTreeMap<usize, usize> {
    let mut blocks: BTreeMap<usize, Vec<(&str, &[usize])>> = BTreeMap::new();
    for (name, shape) in shapes {
        if let Some((block, kind)) = split(name) {
            blocks.entry(block).or_default().push((kind, shape));
        }
    }
    let mut first = HashMap::new();
    blocks.into_iter().map(|(block, has)| (block, *first.entry(has).or_insert(block))).collect()
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
        let alike = alike(&shapes);
        Self { shapes, kinds, alike }
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

    #[test]
    fn blocks_are_alike_whose_weights_have_the_same_names_and_shapes() {
        let weight = |(name, size): (&str, usize)| (format!("layers.{name}"), vec![size, 4]);
        let names =
            [("0.up", 2), ("0.up.bias", 2), ("1.up", 2), ("2.up", 2), ("2.up.bias", 2), ("10.up", 3), ("11.up", 2)];
        let weights: Weights = names.map(weight).into_iter().collect();
        let alike = [0, 1, 2, 10, 11, 12].map(|block| weights.first_alike(block));
        assert_eq!(alike, [0, 1, 0, 10, 1, 12]);
    }
}
