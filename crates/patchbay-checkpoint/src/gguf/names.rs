//! From a GGUF tensor's name to Hugging Face's.

use super::GgufTensor;
use super::architectures::{Architecture, Row};
use super::draft::Sizes;
use super::layout::Part;
use super::rope;

/// What a tensor of the file is to the model.
pub(crate) enum Role {
    /// Weights.
    Weights(Vec<Part>),
    /// Numbers that follow from the configuration, which is where they are read, or a part of the file that the decoder
    /// does not need.
    Unused,
}

/// The names of one model's tensors.
pub(crate) struct TensorNames {
    architecture: &'static Architecture,
    sizes: Sizes,
}

/// The numbers that stand for the wildcards of a pattern.
#[derive(Default)]
struct Found {
    block: Option<usize>,
    place: Option<usize>,
}

impl TensorNames {
    pub(super) fn new(architecture: &'static Architecture, sizes: Sizes) -> Self {
        Self { architecture, sizes }
    }

    /// `general.architecture`.
    pub(crate) fn architecture(&self) -> &'static str {
        self.architecture.name
    }

    /// The tensors that are lists of the metadata: the key of each list, and the name and shape of each block's own.
    pub(crate) fn lists(&self) -> impl Iterator<Item = (&'static str, Vec<String>, &'static [usize])> {
        let named = |hf: &str| (0..self.sizes.layers).map(|block| hf.replace('*', &block.to_string())).collect();
        self.architecture.lists.iter().map(move |list| (list.gguf, named(list.hf), list.shape))
    }

    /// What a tensor is; nothing where the architecture has none of its name, or none of its shape.
    pub(crate) fn find(&self, tensor: &GgufTensor) -> Option<Role> {
        if rope::TABLES.contains(&tensor.name.as_str()) {
            return Some(Role::Unused);
        }
        let (stem, suffix) = tensor.name.rsplit_once('.').filter(|(_, suffix)| matches!(*suffix, "weight" | "bias"))?;
        let Sizes { layers, skipped, .. } = self.sizes;
        if matches("blk.*.attn_rot_embd", stem).is_some() {
            return Some(Role::Unused);
        }
        let block = stem.strip_prefix("blk.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
        if block.is_some_and(|block| block >= layers && block < layers.saturating_add(skipped)) {
            return Some(Role::Unused);
        }
        let rows = self.architecture.tensors.iter().copied().flatten();
        let mut parts = Vec::new();
        for row in rows {
            if let Some(found) = matches(row.gguf, stem).filter(|found| found.block.is_none_or(|block| block < layers))
            {
                parts.extend(row.change.parts(
                    name(row, &found, suffix),
                    suffix == "weight",
                    &tensor.shape,
                    &self.sizes,
                )?);
            }
        }
        (!parts.is_empty()).then_some(Role::Weights(parts))
    }
}

/// Hugging Face's name of what a row stands for. A name that ends in `_bias` is whole; others get their suffix.
fn name(row: &Row, found: &Found, suffix: &str) -> String {
    let number = |number: Option<usize>| number.map(|number| number.to_string());
    let name = number(found.block).map_or_else(|| row.hf.to_owned(), |block| row.hf.replace('*', &block));
    let name = number(found.place).map_or_else(|| name.clone(), |place| name.replace('#', &place));
    match suffix {
        _ if name.ends_with("_bias") => name,
        "weight" if row.bare => name,
        suffix if row.bare => format!("{name}_{suffix}"),
        suffix => format!("{name}.{suffix}"),
    }
}

/// Compares a name with a pattern, part by part: `*` is a block's number, `#` an expert's.
fn matches(pattern: &str, name: &str) -> Option<Found> {
    let mut found = Found::default();
    let mut parts = name.split('.');
    for wanted in pattern.split('.') {
        let part = parts.next()?;
        let number = || part.parse().ok().filter(|number: &usize| number.to_string() == part);
        match wanted {
            "*" => found.block = Some(number()?),
            "#" => found.place = Some(number()?),
            _ if wanted == part => {}
            _ => return None,
        }
    }
    parts.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names_and_plain_numbers() {
        let found = matches("blk.*.ffn_gate.#", "blk.3.ffn_gate.12").unwrap();
        assert_eq!((found.block, found.place), (Some(3), Some(12)));
        for name in ["blk.3.ffn_gate", "blk.3.ffn_gate.1.2", "blk.03.ffn_gate.1", "blk.3.ffn_up.1", "blk.+3.ffn_gate.1"]
        {
            assert!(matches("blk.*.ffn_gate.#", name).is_none(), "{name}");
        }
    }
}
