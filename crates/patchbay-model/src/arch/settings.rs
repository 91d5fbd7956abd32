//! Reading what many architectures' configurations have in common.

use patchbay_checkpoint::{CheckpointError, Config};

use crate::spec::Activation;

type Result<T> = std::result::Result<T, CheckpointError>;

/// No axis of any model is longer, and products of two such sizes stay far from overflowing.
const MAX_SIZE: usize = 1 << 26;

/// The size of an axis: at least 1.
pub(super) fn size(config: &Config, key: &str) -> Result<usize> {
    let size = config.usize(key)?;
    in_range(config, key, size, MAX_SIZE)
}

/// The size of an axis, or `default` where the key is absent.
pub(super) fn size_or(config: &Config, key: &str, default: usize) -> Result<usize> {
    let size = config.usize_or(key, default)?;
    in_range(config, key, size, MAX_SIZE)
}

/// The number of blocks.
pub(super) fn layer_count(config: &Config, key: &str) -> Result<usize> {
    let count = config.usize(key)?;
    in_range(config, key, count, 4096)
}

fn in_range(config: &Config, key: &str, found: usize, most: usize) -> Result<usize> {
    let expected = || format!("a whole number from 1 to {most}");
    if (1..=most).contains(&found) { Ok(found) } else { Err(config.wrong(key, &expected())) }
}

/// Query heads, key/value heads and the size of a head, as Llama and its kin write them.
pub(super) fn heads(config: &Config, hidden: usize) -> Result<(usize, usize, usize)> {
    let heads = size(config, "num_attention_heads")?;
    let kv_heads = size_or(config, "num_key_value_heads", heads)?;
    if heads % kv_heads != 0 {
        return Err(config.wrong("num_key_value_heads", &format!("a divisor of num_attention_heads, {heads}")));
    }
    let head_dim = match config.opt_usize("head_dim")? {
        Some(_) => size(config, "head_dim")?,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => return Err(config.wrong("num_attention_heads", &format!("a divisor of hidden_size, {hidden}"))),
    };
    Ok((heads, kv_heads, head_dim))
}

/// The activation that a key names.
pub(super) fn activation(config: &Config, key: &str, default: &str) -> Result<Activation> {
    let name = config.opt_str(key)?.unwrap_or(default);
    Activation::from_name(name).ok_or_else(|| {
        let known: Vec<_> = Activation::NAMES.iter().map(|(name, _)| *name).collect();
        config.wrong(key, &format!("one of {}", known.join(", ")))
    })
}

/// Kind of attention of each block, from `layer_types`, or from `sliding` where the configuration has none.
pub(super) fn sliding_layers(config: &Config, layers: usize, sliding: impl Fn(usize) -> bool) -> Result<Vec<bool>> {
    let Some(types) = config.opt_str_list("layer_types")? else { return Ok((0..layers).map(sliding).collect()) };
    let expected = || format!("a list of {layers} times full_attention or sliding_attention");
    let sliding = |kind: &&str| match *kind {
        "full_attention" => Ok(false),
        "sliding_attention" => Ok(true),
        _ => Err(config.wrong("layer_types", &expected())),
    };
    if types.len() != layers {
        return Err(config.wrong("layer_types", &expected()));
    }
    types.iter().map(sliding).collect()
}
