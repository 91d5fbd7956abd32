//! Reading a rotation, in the old form (`rope_theta`, `rope_scaling`) and the new one (`rope_parameters`).

use patchbay_checkpoint::{CheckpointError, Config};

use crate::rope::{Pairing, RotaryScaling, RotarySpec};

type Result<T> = std::result::Result<T, CheckpointError>;

/// What a type takes where its configuration does not say.
#[derive(Clone, Copy, Debug)]
pub(super) struct RotaryDefaults {
    /// Base of the frequencies.
    pub(super) theta: f64,
    /// The share of a head's channels that is rotated.
    pub(super) part: f64,
}

impl Default for RotaryDefaults {
    fn default() -> Self {
        Self { theta: 10_000.0, part: 1.0 }
    }
}

/// The rotation that a configuration asks for.
///
/// What stands in `rope_parameters` (or `rope_scaling`) goes before the same key beside it, as in transformers.
pub(super) fn rotary(
    config: &Config,
    head_dim: usize,
    defaults: RotaryDefaults,
    pairing: Pairing,
) -> Result<RotarySpec> {
    let parameters = section(config);
    let theta = config.f64_or("rope_theta", defaults.theta)?;
    let rotary = rotary_of(config, parameters.as_ref(), RotaryDefaults { theta, ..defaults }, head_dim)?;
    Ok(RotarySpec { pairing, ..rotary })
}

/// Where a configuration describes its rotation.
pub(super) fn section(config: &Config) -> Option<Config> {
    // An empty one counts as none in transformers, but only under the old name.
    let scaling =
        config.section("rope_scaling").filter(|section| section.raw().as_object().is_some_and(|o| !o.is_empty()));
    scaling.or_else(|| config.section("rope_parameters"))
}

/// The factor on scores of DeepSeek's latent attention: `yarn_apply_mscale` in transformers.
pub(super) fn warmed_scale(config: &Config, scale: f64) -> Result<f64> {
    let Some(section) = section(config).filter(|section| kind(section).is_ok_and(|kind| kind != "default")) else {
        return Ok(scale);
    };
    match section.f64_or("mscale_all_dim", 0.0)? {
        0.0 => Ok(scale),
        all => Ok(scale * warmth(factor(&section, "factor")?, all).powi(2)),
    }
}

/// The rotation that `parameters` describe, with pairs made of halves.
pub(super) fn rotary_of(
    config: &Config,
    parameters: Option<&Config>,
    defaults: RotaryDefaults,
    head_dim: usize,
) -> Result<RotarySpec> {
    let source = parameters.unwrap_or(config);
    let theta = source.f64_or("rope_theta", defaults.theta)?;
    if theta <= 0.0 {
        return Err(source.wrong("rope_theta", "a number above 0"));
    }
    const PART: &str = "partial_rotary_factor";
    let part = source.f64_or(PART, config.f64_or(PART, defaults.part)?)?;
    if !(part > 0.0 && part <= 1.0) {
        return Err(source.wrong(PART, "a number above 0 and up to 1"));
    }
    let dims = (head_dim as f64 * part) as usize;
    if dims == 0 || !dims.is_multiple_of(2) {
        return Err(config.wrong("head_dim", &format!("such that an even number of channels rotate, not {dims}")));
    }
    let scaling = parameters.map_or(Ok(RotaryScaling::None), |section| scaling(config, section, dims))?;
    Ok(RotarySpec { theta, start: 0, dims, pairing: Pairing::Halves, scaling })
}

fn scaling(config: &Config, section: &Config, dims: usize) -> Result<RotaryScaling> {
    match kind(section)? {
        "default" => Ok(RotaryScaling::None),
        "linear" => Ok(RotaryScaling::Linear { factor: factor(section, "factor")? }),
        "dynamic" if dims > 2 => {
            Ok(RotaryScaling::Dynamic { factor: factor(section, "factor")?, context: context(config)? })
        }
        "llama3" => Ok(RotaryScaling::Llama3 {
            factor: factor(section, "factor")?,
            low_freq_factor: factor(section, "low_freq_factor")?,
            high_freq_factor: factor(section, "high_freq_factor")?,
            original_context: original_context(config, section)?,
        }),
        "yarn" => yarn(config, section),
        "longrope" | "su" => longrope(config, section, dims),
        _ => Err(section.wrong("rope_type", "one of default, linear, dynamic, llama3, yarn, longrope")),
    }
}

fn kind(section: &Config) -> Result<&str> {
    match section.opt_str("rope_type")? {
        Some(kind) => Ok(kind),
        None => Ok(section.opt_str("type")?.unwrap_or("default")),
    }
}

/// How much sharper attention is made for a reach that is longer by this factor.
fn warmth(factor: f64, mscale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
}

/// `_compute_yarn_parameters` in transformers.
fn yarn(config: &Config, section: &Config) -> Result<RotaryScaling> {
    let original_context = original_context(config, section)?;
    let factor = reach(config, section, original_context)?;
    let given = |key| section.opt_f64(key).map(|value| value.filter(|value| *value != 0.0));
    let attention_factor = match (section.opt_f64("attention_factor")?, given("mscale")?, given("mscale_all_dim")?) {
        (Some(factor), _, _) => factor,
        (None, Some(mscale), Some(all)) => warmth(factor, mscale) / warmth(factor, all),
        _ => warmth(factor, 1.0),
    };
    Ok(RotaryScaling::Yarn {
        factor,
        beta_fast: given("beta_fast")?.unwrap_or(32.0),
        beta_slow: given("beta_slow")?.unwrap_or(1.0),
        original_context,
        truncate: section.flag("truncate", true)?,
        attention_factor,
    })
}

/// `_compute_longrope_parameters` in transformers.
fn longrope(config: &Config, section: &Config, dims: usize) -> Result<RotaryScaling> {
    let original_context = original_context(config, section)?;
    let factor = reach(config, section, original_context)?;
    let attention_factor = match section.opt_f64("attention_factor")? {
        Some(factor) => factor,
        None if factor <= 1.0 => 1.0,
        None => (1.0 + factor.ln() / (original_context as f64).ln()).sqrt(),
    };
    let divisors = |key: &str| {
        let list = section.opt_f64_list(key)?.filter(|list| list.len() == dims / 2);
        list.ok_or_else(|| section.wrong(key, &format!("a list of {} numbers", dims / 2)))
    };
    let (short, long) = (divisors("short_factor")?, divisors("long_factor")?);
    Ok(RotaryScaling::LongRope { short, long, original_context, attention_factor, again: false })
}

fn factor(section: &Config, key: &str) -> Result<f64> {
    let factor = section.f64(key)?;
    if factor > 0.0 { Ok(factor) } else { Err(section.wrong(key, "a number above 0")) }
}

/// How much further than the first training the model reaches.
fn reach(config: &Config, section: &Config, original_context: usize) -> Result<f64> {
    match section.opt_f64("factor")? {
        Some(_) => factor(section, "factor"),
        None => Ok(context(config)? as f64 / original_context as f64),
    }
}

fn context(config: &Config) -> Result<usize> {
    let key = if config.get("max_seq_len").is_some() { "max_seq_len" } else { "max_position_embeddings" };
    super::settings::size(config, key)
}

/// The context of the first training. Phi-3 writes it beside the section, which then goes before.
pub(super) fn original_context(config: &Config, section: &Config) -> Result<usize> {
    const KEY: &str = "original_max_position_embeddings";
    for place in [config, section] {
        if place.get(KEY).is_some() {
            return super::settings::size(place, KEY);
        }
    }
    context(config)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(value: Value) -> RotarySpec {
        let config = Config::from_json("config.json", value).unwrap();
        rotary(&config, 8, RotaryDefaults::default(), Pairing::Halves).unwrap()
    }

    #[test]
    fn old_and_new_forms_say_the_same() {
        let old = json!({"rope_theta": 5e5, "max_position_embeddings": 2048, "rope_scaling": {
            "type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
            "original_max_position_embeddings": 256}});
        let new = json!({"max_position_embeddings": 2048, "rope_parameters": {"rope_theta": 5e5,
            "rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
            "original_max_position_embeddings": 256}});
        assert_eq!(read(old), read(new.clone()));
        assert_eq!(read(new).theta, 5e5);
        assert_eq!(read(json!({})).scaling, RotaryScaling::None);
        assert_eq!(read(json!({"rope_theta": 7.0, "rope_scaling": null})).theta, 7.0);
    }

    #[test]
    fn missing_reach_comes_from_the_contexts() {
        let config = json!({"max_position_embeddings": 2048,
            "rope_parameters": {"rope_type": "yarn", "original_max_position_embeddings": 256}});
        let RotaryScaling::Yarn { factor, attention_factor, .. } = read(config).scaling else { panic!() };
        assert_eq!(factor, 8.0);
        assert!((attention_factor - 1.207_944_154_167_983_6).abs() < 1e-15);
    }
}
