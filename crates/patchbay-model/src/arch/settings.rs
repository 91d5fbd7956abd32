//! Reading what many architectures' configurations have in common.

use patchbay_checkpoint::{CheckpointError, Config};

use crate::spec::{Activation, ActivationSpec};

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

/// The size of an axis, from the first of these keys that is there, and that key; `default` where none is.
pub(super) fn size_of<'k>(config: &Config, keys: &[&'k str], default: usize) -> Result<(&'k str, usize)> {
    let there = keys.iter().find(|key| config.get(key).is_some()).or(keys.first());
    let key = there.copied().unwrap_or_default();
    Ok((key, size_or(config, key, default)?))
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

/// Query heads, key/value heads and the size of a head, as Llama and its kin write them, with what the type takes for
/// the last two where the configuration does not name them.
pub(super) fn heads(
    config: &Config,
    hidden: usize,
    kv_default: Option<usize>,
    dim_default: Option<usize>,
) -> Result<(usize, usize, usize)> {
    let heads = size(config, "num_attention_heads")?;
    // A key that is there as null stands for the share, not for the type's own number.
    let or = |key, default: Option<usize>, share| {
        let named = config.raw().get(key).is_some();
        size_or(config, key, default.filter(|_| !named).unwrap_or(share))
    };
    let kv_heads = or("num_key_value_heads", kv_default, heads)?;
    if heads % kv_heads != 0 {
        return Err(config.wrong("num_key_value_heads", &format!("a divisor of num_attention_heads, {heads}")));
    }
    if config.get("head_dim").is_none() && dim_default.is_none() && !hidden.is_multiple_of(heads) {
        return Err(config.wrong("num_attention_heads", &format!("a divisor of hidden_size, {hidden}")));
    }
    let head_dim = or("head_dim", dim_default, (hidden / heads).max(1))?;
    Ok((heads, kv_heads, head_dim))
}

/// The size of a head where each has its share of the hidden size.
pub(super) fn head_share(config: &Config, key: &str, hidden: usize) -> Result<(usize, usize)> {
    let heads = size(config, key)?;
    if !hidden.is_multiple_of(heads) {
        return Err(config.wrong(key, &format!("a divisor of the hidden size, {hidden}")));
    }
    Ok((heads, hidden / heads))
}

/// A bound on absolute values, if there is one.
pub(super) fn bound(config: &Config, key: &str) -> Result<Option<f64>> {
    let bound = config.opt_f64(key)?;
    if bound.is_some_and(|bound| bound < 0.0) { Err(config.wrong(key, "a number of at least 0")) } else { Ok(bound) }
}

/// The section under a key that has to be there.
pub(super) fn section(config: &Config, key: &str) -> Result<Config> {
    config.section(key).ok_or_else(|| config.wrong(key, "an object with settings"))
}

/// The setting at `key` where only one value is supported.
pub(super) fn only(config: &Config, key: &str, value: bool, default: bool) -> Result<()> {
    if config.flag(key, default)? == value {
        Ok(())
    } else {
        Err(config.wrong(key, &format!("{value}: nothing else is supported")))
    }
}

/// The sliding window: `default` where the key is absent, none where it is null.
pub(super) fn window(config: &Config, default: Option<usize>) -> Result<Option<usize>> {
    match config.raw().get("sliding_window") {
        None => Ok(default),
        Some(value) if value.is_null() => Ok(None),
        Some(_) => size(config, "sliding_window").map(Some),
    }
}

/// The activation that a key names.
pub(super) fn activation(config: &Config, key: &str, default: &str) -> Result<ActivationSpec> {
    let name = config.opt_str(key)?.unwrap_or(default);
    Activation::from_name(name).map(ActivationSpec::from).ok_or_else(|| {
        let known: Vec<_> = Activation::NAMES.iter().map(|(name, _)| *name).collect();
        config.wrong(key, &format!("one of {}", known.join(", ")))
    })
}

/// Kind of attention of each block, from `layer_types`, or from `sliding` where the configuration has none.
pub(super) fn sliding_layers(config: &Config, layers: usize, sliding: impl Fn(usize) -> bool) -> Result<Vec<bool>> {
    layers_of_kind(config, layers, "sliding_attention", sliding)
}

/// Whether each block has this kind of attention and not `full_attention`, from `layer_types`, or from `or` where the
/// configuration has none.
pub(super) fn layers_of_kind(
    config: &Config,
    layers: usize,
    kind: &str,
    or: impl Fn(usize) -> bool,
) -> Result<Vec<bool>> {
    let Some(types) = config.opt_str_list("layer_types")? else { return Ok((0..layers).map(or).collect()) };
    if types.len() != layers || types.iter().any(|found| *found != kind && *found != "full_attention") {
        return Err(config.wrong("layer_types", &format!("a list of {layers} times full_attention or {kind}")));
    }
    Ok(types.iter().map(|found| *found == kind).collect())
}
