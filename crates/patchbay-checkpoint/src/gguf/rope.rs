//! Rotary positions of a GGUF file, as Hugging Face's `rope_parameters`.

use std::f64::consts::TAU;

use candle_core::quantized::GgmlDType;
use serde_json::{Value, json};

use super::GgufFile;
use crate::CheckpointError;

/// Per-frequency divisors, which llama.cpp's converter works out from Llama 3's scaling and stores in its place.
pub(super) const FACTORS: &str = "rope_freqs.weight";

/// The parameters of Llama 3.1's scaling that no released model varies
/// (`rope_scaling` in its `config.json`): low and high frequency factor, and the original context.
const LLAMA3: (f64, f64, f64) = (1.0, 4.0, 8192.0);

/// `rope_parameters` of a file whose metadata keys begin with `prefix`, for heads of `head_dim` channels.
pub(super) fn parameters(gguf: &GgufFile, prefix: &str, head_dim: u64) -> Result<Value, CheckpointError> {
    let key = |suffix: &str| format!("{prefix}.rope.{suffix}");
    let number = |suffix: &str| gguf.get(&key(suffix)).and_then(super::Value::as_f64);
    let theta = number("freq_base").unwrap_or(10_000.0);
    if let Some(tensor) = gguf.tensor(FACTORS) {
        let factors = stored_factors(gguf, tensor);
        return llama3(&factors, theta, head_dim).ok_or_else(|| CheckpointError::Unsupported {
            file: gguf.path().to_path_buf(),
            what: format!("`{FACTORS}` other than Llama 3's"),
            known: Vec::new(),
        });
    }
    let factor = || number("scaling.factor").ok_or_else(|| gguf.wrong(&key("scaling.factor"), "a number"));
    match gguf.text(&key("scaling.type")) {
        None | Some("none") => Ok(json!({"rope_type": "default", "rope_theta": theta})),
        Some("linear") => Ok(json!({"rope_type": "linear", "rope_theta": theta, "factor": factor()?})),
        Some("yarn") => {
            let original = gguf
                .uint(&key("scaling.original_context_length"))
                .ok_or_else(|| gguf.wrong(&key("scaling.original_context_length"), "a whole number"))?;
            Ok(json!({
                "rope_type": "yarn",
                "rope_theta": theta,
                "factor": factor()?,
                "original_max_position_embeddings": original,
            }))
        }
        Some(_) => Err(gguf.wrong(&key("scaling.type"), "\"none\", \"linear\" or \"yarn\"")),
    }
}

/// The divisors, which are few and stored as float32.
fn stored_factors(gguf: &GgufFile, tensor: &super::GgufTensor) -> Vec<f64> {
    if tensor.dtype != GgmlDType::F32 {
        return Vec::new();
    }
    let bytes = &gguf.file.1[tensor.bytes.clone()];
    bytes.as_chunks().0.iter().map(|word| f64::from(f32::from_le_bytes(*word))).collect()
}

/// Llama 3's scaling, if it gives these divisors.
fn llama3(factors: &[f64], theta: f64, head_dim: u64) -> Option<Value> {
    let (low, high, original) = LLAMA3;
    let factor = factors.iter().copied().fold(f64::NAN, f64::max);
    let fits = head_dim > 0
        && factors.len() as u64 * 2 == head_dim
        && factors.iter().enumerate().all(|(pair, &found)| {
            let wavelength = TAU * theta.powf(2.0 * pair as f64 / head_dim as f64);
            let smooth = ((original / wavelength - low) / (high - low)).clamp(0.0, 1.0);
            let expected = 1.0 / ((1.0 - smooth) / factor + smooth);
            (found - expected).abs() <= 1e-3 * expected
        });
    fits.then(|| {
        json!({
            "rope_type": "llama3",
            "rope_theta": theta,
            "factor": factor,
            "low_freq_factor": low,
            "high_freq_factor": high,
            "original_max_position_embeddings": original as u64,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The divisors as `convert_hf_to_gguf.py` computes them for Llama 3.2 1B (theta 500,000, heads of 64, factor 32).
    fn factors() -> Vec<f64> {
        (0..32)
            .map(|pair| {
                let wavelength = TAU * 500_000_f64.powf(2.0 * f64::from(pair) / 64.0);
                if wavelength < 8192.0 / 4.0 {
                    1.0
                } else if wavelength > 8192.0 {
                    32.0
                } else {
                    let smooth = (8192.0 / wavelength - 1.0) / 3.0;
                    1.0 / ((1.0 - smooth) / 32.0 + smooth)
                }
            })
            .collect()
    }

    #[test]
    fn llama_3_scaling_is_recognised_by_its_divisors() {
        let found = llama3(&factors(), 500_000.0, 64).unwrap();
        assert_eq!(found["rope_type"], "llama3");
        assert_eq!(found["factor"], 32.0);
    }

    #[test]
    fn other_divisors_are_not() {
        let mut changed = factors();
        changed[15] *= 1.01;
        assert!(llama3(&changed, 500_000.0, 64).is_none());
        assert!(llama3(&factors(), 10_000.0, 64).is_none());
        assert!(llama3(&factors(), 500_000.0, 128).is_none());
        assert!(llama3(&[], 500_000.0, 0).is_none());
    }
}
