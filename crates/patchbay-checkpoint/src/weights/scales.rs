//! Scales that stand beside quantised tensors, each put to the tensor it is for.

use std::collections::BTreeMap;

use ::safetensors::Dtype;

use super::float8::{self, Grid, WithScales};
use super::{Entry, safetensors};
use crate::CheckpointError;
use crate::quantization::Quantization;

/// The names of what a tensor's numbers are multiplied by. `_inv` (DeepSeek) is the inverse of what they were
/// multiplied by when they were quantised.
fn names(tensor: &str) -> impl Iterator<Item = String> {
    let module = tensor.strip_suffix(".weight").map(|module| format!("{module}.scale"));
    [format!("{tensor}_scale"), format!("{tensor}_scale_inv")].into_iter().chain(module)
}

/// Whether a tensor's numbers mean nothing without a scale.
fn is_whole(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::U8 | Dtype::I8 | Dtype::I16 | Dtype::U16 | Dtype::I32 | Dtype::U32 | Dtype::I64 | Dtype::F4)
}

/// Whether a tensor is of numbers that scales are stored as.
fn is_scale(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::BF16 | Dtype::F16 | Dtype::F8_E8M0 | Dtype::U8)
}

/// Makes each tensor of eight-bit floats that has a scale one whose numbers are multiplied by it; the scales go.
/// Tensors without one are plain numbers, unless the configuration says that the weights are quantised.
pub(super) fn attach(
    entries: &mut BTreeMap<String, Entry>,
    quantization: Option<&Quantization>,
) -> Result<(), CheckpointError> {
    let quantised: Vec<(String, Dtype)> = entries
        .iter()
        .filter_map(|(name, entry)| Some((name.clone(), entry.stored.dtype()?)))
        .filter(|(_, dtype)| (float8::table(*dtype).is_some() && *dtype != Dtype::F8_E8M0) || is_whole(*dtype))
        .collect();
    for (name, dtype) in quantised {
        let scale = names(&name).find(|scale| entries.contains_key(scale));
        match (scale, float8::table(dtype)) {
            (Some(scale), Some(_)) => multiply(entries, &name, &scale, quantization)?,
            (Some(scale), None) => {
                let what = format!("tensor `{name}`, stored as {dtype} with scales in `{scale}`,");
                let file = entries[&name].file.0.clone();
                return Err(CheckpointError::Unsupported {
                    file,
                    what,
                    known: vec!["F8_E4M3".into(), "F8_E5M2".into()],
                });
            }
            (None, Some(_)) if quantization.is_some() => {
                let tried: Vec<String> = names(&name).map(|name| format!("`{name}`")).collect();
                let detail = format!(
                    "tensor `{name}` is quantised as {dtype}, but has no scale: there is no {}",
                    tried.join(" nor ")
                );
                return Err(CheckpointError::malformed(&entries[&name].file.0, detail));
            }
            (None, _) => {}
        }
    }
    Ok(())
}

/// Puts a scale to its tensor.
fn multiply(
    entries: &mut BTreeMap<String, Entry>,
    name: &str,
    scale: &str,
    quantization: Option<&Quantization>,
) -> Result<(), CheckpointError> {
    let (Some(mut scales), Some(mut weight)) = (entries.remove(scale), entries.remove(name)) else { return Ok(()) };
    let dtype = scales.stored.dtype().filter(|dtype| is_scale(*dtype));
    let broken = |detail: String| Err(CheckpointError::malformed(&scales.file.0, format!("tensor `{scale}` {detail}")));
    let Some(dtype) = dtype else { return broken("is a scale, but not of floats of 8, 16 or 32 bits".to_owned()) };
    let declared = quantization.and_then(|quantization| quantization.block);
    let Some(grid) = Grid::fit(&weight.shape, &scales.shape, declared) else {
        let blocks = declared.map_or_else(String::new, |[rows, columns]| format!(" in blocks of {rows} × {columns}"));
        let shapes = format!("{:?}, which does not fit `{name}` of shape {:?}{blocks}", scales.shape, weight.shape);
        return broken(format!("has shape {shapes}"));
    };
    let Some(table) = weight.stored.dtype().and_then(float8::table) else { return Ok(()) };
    if dtype == Dtype::U8 {
        // Exponents of powers of two, stored as bytes.
        scales.stored = Box::new(safetensors::Plain { dtype: Dtype::F8_E8M0 });
    }
    weight.stored = Box::new(WithScales { table, grid, scales });
    entries.insert(name.to_owned(), weight);
    Ok(())
}
