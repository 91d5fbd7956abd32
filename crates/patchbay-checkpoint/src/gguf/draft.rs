//! A configuration in the making: a GGUF file's metadata and tensors on one side, Hugging Face's keys on the other.

use serde_json::{Map, Value as Json, json};

use super::GgufFile;
use super::architectures::{Architecture, Key, Rope};
use super::reader::{Number, Value};
use crate::CheckpointError;

type Result<T> = std::result::Result<T, CheckpointError>;

/// The sizes that names and layouts of tensors hang on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) layers: usize,
    /// Blocks after the last layer that serve to predict several tokens at once, and are not read.
    pub(super) skipped: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
}

/// A configuration in the making.
pub(super) struct Draft<'a> {
    pub(super) gguf: &'a GgufFile,
    pub(super) architecture: &'static Architecture,
    pub(super) config: Map<String, Json>,
    pub(super) sizes: Sizes,
}

impl<'a> Draft<'a> {
    /// Reads the sizes.
    pub(super) fn new(gguf: &'a GgufFile, architecture: &'static Architecture) -> Result<Self> {
        let config = Map::from_iter([("model_type".to_owned(), json!(architecture.model_type))]);
        let sizes = Sizes { layers: 0, skipped: 0, heads: 0, kv_heads: 0, head_dim: 0 };
        let mut draft = Self { gguf, architecture, config, sizes };
        // Every block has a tensor at least, so that nothing is ever as long as a count that lies.
        let most = gguf.tensors.len();
        let blocks = draft.size("block_count", most)?;
        let skipped = draft.uint("nextn_predict_layers").map_or(0, |count| usize::try_from(count).unwrap_or(blocks));
        let layers = blocks.checked_sub(skipped).filter(|layers| *layers > 0);
        let heads = draft.size("attention.head_count", 1 << 16)?;
        let kv_heads = match draft.meta("attention.head_count_kv") {
            Some(_) => draft.size("attention.head_count_kv", 1 << 16)?,
            None => heads,
        };
        let wrong = || draft.wrong("nextn_predict_layers", "less than the number of blocks");
        let layers = layers.ok_or_else(wrong)?;
        let width = draft.size("embedding_length", 1 << 26)?;
        let rotated = ["attention.key_length", "rope.dimension_count"];
        let named = match architecture.rope {
            Rope::Whole => &rotated[..],
            Rope::Part | Rope::None => &rotated[..1],
            Rope::Latent => &rotated[1..],
        };
        let head_dim = match named.iter().find(|key| draft.meta(key).is_some()) {
            Some(key) => draft.size(key, 1 << 26)?,
            None => width / heads,
        };
        draft.sizes = Sizes { layers, skipped, heads, kv_heads, head_dim };
        Ok(draft)
    }

    /// A metadata entry of the architecture, by its key without the prefix.
    pub(super) fn meta(&self, key: &str) -> Option<&'a Value> {
        self.gguf.get(&self.key(key))
    }

    /// A metadata key in full.
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture.name)
    }

    /// A whole number among the metadata.
    pub(super) fn uint(&self, key: &str) -> Option<u64> {
        self.number(key).and_then(|number| u64::try_from(number.as_int()?).ok())
    }

    /// Any number among the metadata, in the shortest decimals that are it.
    pub(super) fn float(&self, key: &str) -> Option<f64> {
        self.number(key).map(Number::shortest)
    }

    /// A number; of a list, which some converters write a layer each, the one that all its elements are.
    fn number(&self, key: &str) -> Option<Number> {
        match self.meta(key)? {
            Value::Number(number) => Some(*number),
            Value::List(_) => {
                let numbers = self.gguf.numbers(&self.key(key))?;
                let (first, rest) = numbers.split_first()?;
                rest.iter().all(|number| number == first).then_some(*first)
            }
            _ => None,
        }
    }

    fn size(&self, key: &str, most: usize) -> Result<usize> {
        let size = self.uint(key).and_then(|size| usize::try_from(size).ok());
        size.filter(|size| (1..=most).contains(size))
            .ok_or_else(|| self.wrong(key, &format!("a whole number from 1 to {most}")))
    }

    /// An error about a metadata entry.
    pub(super) fn wrong(&self, key: &str, expected: &str) -> CheckpointError {
        self.gguf.wrong(&self.key(key), expected)
    }

    /// Sets a key of the configuration.
    pub(super) fn set(&mut self, key: &str, value: impl Into<Json>) {
        self.config.insert(key.to_owned(), value.into());
    }

    /// Sets a key of the configuration, unless the file says what it is.
    pub(super) fn set_absent(&mut self, key: &str, value: impl Into<Json>) {
        self.config.entry(key).or_insert_with(|| value.into());
    }

    /// Takes metadata entries over.
    pub(super) fn take(&mut self, keys: &[Key]) -> Result<()> {
        for key in keys {
            let value = match (self.number(key.gguf), self.meta(key.gguf)) {
                (Some(Number::Int(number)), _) => json!(number),
                (Some(number), _) => json!(number.shortest()),
                (None, Some(Value::Bool(flag))) => json!(flag),
                (None, None) if !key.required => continue,
                _ => return Err(self.wrong(key.gguf, "a number")),
            };
            self.set(key.hf, value);
        }
        Ok(())
    }

    /// Whether a block has this tensor (`attn_q.bias`).
    pub(super) fn has(&self, tensor: &str) -> bool {
        self.gguf.tensors.iter().any(|found| in_block(&found.name).is_some_and(|(_, name)| name == tensor))
    }

    /// The blocks that have not got this tensor.
    pub(super) fn without(&self, tensor: &str) -> Vec<usize> {
        let mut without = vec![true; self.sizes.layers];
        for found in &self.gguf.tensors {
            if let Some((block, name)) = in_block(&found.name)
                && name == tensor
                && let Some(without) = without.get_mut(block)
            {
                *without = false;
            }
        }
        without.iter().enumerate().filter(|(_, without)| **without).map(|(block, _)| block).collect()
    }

    /// Kinds of attention, from the list that newer files have, or from a period whose last block sees everything.
    pub(super) fn layer_types(&self, period: usize) -> Result<Json> {
        const KEY: &str = "attention.sliding_window_pattern";
        let full = |block: usize, period: usize| period == 0 || (block + 1).is_multiple_of(period);
        let sliding: Vec<bool> = match (self.meta(KEY), self.gguf.flags(&self.key(KEY))) {
            (_, Some(flags)) => flags,
            (Some(_), None) => {
                let period = self.size(KEY, usize::MAX)?;
                (0..self.sizes.layers).map(|block| !full(block, period)).collect()
            }
            (None, None) => (0..self.sizes.layers).map(|block| !full(block, period)).collect(),
        };
        if sliding.len() < self.sizes.layers {
            return Err(self.wrong(KEY, &format!("a list of {} times true or false", self.sizes.layers)));
        }
        let kinds = sliding.iter().take(self.sizes.layers);
        Ok(kinds.map(|sliding| if *sliding { "sliding_attention" } else { "full_attention" }).collect())
    }
}

/// The block that a tensor belongs to, and its name there.
fn in_block(name: &str) -> Option<(usize, &str)> {
    let (block, name) = name.strip_prefix("blk.")?.split_once('.')?;
    Some((block.parse().ok()?, name))
}
