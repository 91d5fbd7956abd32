//! Rotary positions of a GGUF file, as Hugging Face's `rope_parameters`.

use std::f64::consts::TAU;

use serde_json::{Value, json};

use super::BlockFormat;
use super::architectures::Rope;
use super::draft::Draft;
use crate::CheckpointError;

type Result<T> = std::result::Result<T, CheckpointError>;

/// Per-frequency divisors, which llama.cpp's converter works out from Llama 3's scaling and stores in its place.
const FACTORS: &str = "rope_freqs.weight";
/// The divisors of LongRoPE, up to the context of the first training and beyond it.
const SHORT: &str = "rope_factors_short.weight";
const LONG: &str = "rope_factors_long.weight";
/// Tensors that are read here, and are no weights.
pub(super) const TABLES: [&str; 3] = [FACTORS, SHORT, LONG];

/// `rope_parameters` of a file, for heads of `head_dim` channels.
pub(super) fn parameters(draft: &Draft<'_>) -> Result<Value> {
    let theta = draft.float("rope.freq_base").unwrap_or(10_000.0);
    with_base(draft, scaling(draft, theta)?, theta)
}

/// Rotary parameters without a scaling, with this base.
pub(super) fn plain(draft: &Draft<'_>, theta: f64) -> Result<Value> {
    with_base(draft, json!({"rope_type": "default"}), theta)
}

/// The parameters with what every rotation has.
fn with_base(draft: &Draft<'_>, mut parameters: Value, theta: f64) -> Result<Value> {
    parameters["rope_theta"] = json!(theta);
    let part = part(draft)?;
    if part != 1.0 || draft.architecture.rope == Rope::Part {
        parameters["partial_rotary_factor"] = json!(part);
    }
    Ok(parameters)
}

/// The share of a head that rotates, such that the share of the head's size is a whole number again.
fn part(draft: &Draft<'_>) -> Result<f64> {
    const KEY: &str = "rope.dimension_count";
    let head_dim = draft.sizes.head_dim as u64;
    let dims = draft.uint(KEY).unwrap_or(head_dim);
    if dims > head_dim {
        return Err(draft.wrong(KEY, &format!("a whole number up to the size of a head, {head_dim}")));
    }
    let part = dims as f64 / head_dim as f64;
    let whole = (head_dim as f64 * part) as u64 == dims;
    Ok(if whole { part } else { part.next_up() })
}

/// The scaling: `rope_type` and what belongs to it.
fn scaling(draft: &Draft<'_>, theta: f64) -> Result<Value> {
    if let Some(factors) = divisors(draft, FACTORS)? {
        return Ok(llama3(&factors, theta).unwrap_or_else(|| {
            // Divisors of any other origin: the same up to any length.
            json!({"rope_type": "longrope", "short_factor": factors, "long_factor": factors, "attention_factor": 1.0})
        }));
    }
    if let (Some(short), Some(long)) = (divisors(draft, SHORT)?, divisors(draft, LONG)?) {
        return longrope(draft, &short, &long);
    }
    const FACTOR: &str = "rope.scaling.factor";
    let factor = || draft.float(FACTOR).ok_or_else(|| draft.wrong(FACTOR, "a number"));
    const TYPE: &str = "rope.scaling.type";
    match draft.meta(TYPE).map(|kind| kind.as_text().unwrap_or_default()) {
        None => match draft.float("rope.scale_linear") {
            Some(factor) if factor != 1.0 => Ok(json!({"rope_type": "linear", "factor": factor})),
            _ => Ok(json!({"rope_type": "default"})),
        },
        Some("none") => Ok(json!({"rope_type": "default"})),
        Some("linear") => Ok(json!({"rope_type": "linear", "factor": factor()?})),
        Some("yarn") => {
            let original = original_context(draft)?;
            let mut yarn =
                json!({"rope_type": "yarn", "factor": factor()?, "original_max_position_embeddings": original});
            for (key, name) in [
                ("rope.scaling.yarn_attn_factor", "attention_factor"),
                ("rope.scaling.yarn_beta_fast", "beta_fast"),
                ("rope.scaling.yarn_beta_slow", "beta_slow"),
            ] {
                if let Some(number) = draft.float(key) {
                    yarn[name] = json!(number);
                }
            }
            Ok(yarn)
        }
        Some("longrope") => Err(CheckpointError::MissingTensor {
            file: draft.gguf.path().to_path_buf(),
            name: SHORT.to_owned(),
            nearest: Vec::new(),
        }),
        Some(_) => Err(draft.wrong(TYPE, "\"none\", \"linear\", \"yarn\" or \"longrope\"")),
    }
}

fn original_context(draft: &Draft<'_>) -> Result<u64> {
    const KEY: &str = "rope.scaling.original_context_length";
    draft.uint(KEY).filter(|context| *context > 0).ok_or_else(|| draft.wrong(KEY, "a whole number above 0"))
}

/// LongRoPE. Its factor on cosines and sines is left out where it is the one that follows from the contexts.
fn longrope(draft: &Draft<'_>, short: &[f64], long: &[f64]) -> Result<Value> {
    let original = original_context(draft)?;
    let mut longrope = json!({
        "rope_type": "longrope",
        "short_factor": short,
        "long_factor": long,
        "original_max_position_embeddings": original,
    });
    let stretch = draft.float("context_length").unwrap_or(1.0) / original as f64;
    let usual = if stretch > 1.0 { (1.0 + stretch.ln() / (original as f64).ln()).sqrt() } else { 1.0 };
    let factor = draft.float("rope.scaling.attn_factor").filter(|factor| (factor - usual).abs() > 1e-6);
    if let Some(factor) = factor {
        longrope["attention_factor"] = json!(factor);
    }
    Ok(longrope)
}

/// Divisors, of which there is one for each pair of rotated channels, stored as float32.
fn divisors(draft: &Draft<'_>, name: &str) -> Result<Option<Vec<f64>>> {
    let Some(tensor) = draft.gguf.tensor(name) else { return Ok(None) };
    let dims = draft.uint("rope.dimension_count").unwrap_or(draft.sizes.head_dim as u64);
    let bytes = &draft.gguf.file.1[tensor.bytes.clone()];
    let found: Vec<f64> = bytes.as_chunks().0.iter().map(|word| f64::from(f32::from_le_bytes(*word))).collect();
    let possible = found.iter().all(|divisor| divisor.is_finite() && *divisor > 0.0);
    if tensor.format == BlockFormat::F32 && found.len() as u64 == dims / 2 && possible {
        return Ok(Some(found));
    }
    let detail = format!("tensor `{name}` is not {} float32 divisors of rotary frequencies, all above 0", dims / 2);
    Err(CheckpointError::malformed(draft.gguf.path(), detail))
}

/// Llama 3's scaling, if it gives these divisors, for a context of the first training that is a power of two. The low and
/// the high frequency factor are 1 and 4, which no released model varies.
fn llama3(factors: &[f64], theta: f64) -> Option<Value> {
    const CONTEXTS: std::ops::RangeInclusive<u32> = 4..=20;
    let (low, high) = (1.0, 4.0);
    let factor = factors.iter().copied().fold(f64::NAN, f64::max);
    let fits = |original: f64| {
        factors.iter().enumerate().all(|(pair, &found)| {
            let wavelength = TAU * theta.powf(pair as f64 / factors.len() as f64);
            let smooth = ((original / wavelength - low) / (high - low)).clamp(0.0, 1.0);
            let expected = 1.0 / ((1.0 - smooth) / factor + smooth);
            (found - expected).abs() <= 1e-3 * expected
        })
    };
    // 8192 is what most have; several may fit where no pair lies between the two.
    let contexts = [13].into_iter().chain(CONTEXTS).map(|power| f64::from(1_u32 << power));
    let original = contexts.into_iter().find(|original| fits(*original))?;
    Some(json!({
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": original as u64,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The divisors as llama.cpp's converter computes them for Llama 3.2 1B (theta 500,000, heads of 64, factor 32).
    fn factors(original: f64) -> Vec<f64> {
        (0..32)
            .map(|pair| {
                let wavelength = TAU * 500_000_f64.powf(2.0 * f64::from(pair) / 64.0);
                if wavelength < original / 4.0 {
                    1.0
                } else if wavelength > original {
                    32.0
                } else {
                    let smooth = (original / wavelength - 1.0) / 3.0;
                    1.0 / ((1.0 - smooth) / 32.0 + smooth)
                }
            })
            .collect()
    }

    #[test]
    fn llama_3_scaling_is_recognised_by_its_divisors() {
        for original in [8192.0, 256.0] {
            let found = llama3(&factors(original), 500_000.0).unwrap();
            assert_eq!(found["rope_type"], "llama3");
            assert_eq!(found["factor"], 32.0);
            assert_eq!(found["original_max_position_embeddings"].as_f64(), Some(original));
        }
    }

    #[test]
    fn other_divisors_are_not() {
        let mut changed = factors(8192.0);
        changed[15] *= 1.01;
        assert!(llama3(&changed, 500_000.0).is_none());
        assert!(llama3(&factors(8192.0), 10_000.0).is_none());
    }
}
