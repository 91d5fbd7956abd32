//! Projections stored as blocks of 4-bit floats.

#![allow(clippy::unwrap_used, reason = "helpers of tests stop the test, as tests do")]

mod common;

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use common::open_path;
use patchbay_checkpoint::{Checkpoint, CheckpointError};

/// A folder with these tensors, and a configuration that says MXFP4.
fn open(tensors: &[(&str, Tensor)]) -> Result<Checkpoint, CheckpointError> {
    let folder = tempfile::tempdir().unwrap();
    let config = r#"{"model_type": "gpt_oss", "quantization_config": {"quant_method": "mxfp4"}}"#;
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    let tensors: HashMap<String, Tensor> = tensors.iter().map(|(name, t)| ((*name).to_owned(), t.clone())).collect();
    candle_core::safetensors::save(&tensors, folder.path().join("model.safetensors")).unwrap();
    open_path(folder.path())
}

fn bytes(bytes: &[u8], shape: &[usize]) -> Tensor {
    Tensor::from_slice(bytes, shape, &Device::Cpu).unwrap()
}

/// Every value that half a byte has, at every kind of scale. The expected numbers are what transformers 5.23's
/// `convert_moe_packed_tensors` makes of the same bytes in float32.
#[test]
fn blocks_become_the_numbers_of_transformers() {
    let blocks: Vec<u8> = (0..8).map(|low| ((2 * low + 1) << 4) | (2 * low)).collect();
    let blocks = bytes(&[blocks.clone(), blocks.clone(), blocks].concat(), &[1, 3, 2, 4]);
    let scales = bytes(&[127, 129, 0, 254, 126, 255], &[1, 3, 2]);
    let weights = open(&[("x_blocks", blocks), ("x_scales", scales)]).unwrap().weights;
    assert_eq!(weights.names().collect::<Vec<_>>(), ["x"]);
    assert_eq!(weights.shape("x"), Some([1, 16, 3].as_slice()));
    assert_eq!(weights.parameters(), 48);
    let found = weights.get("x", &[1, 16, 3], DType::F32, &Device::Cpu).unwrap();
    let found: Vec<Vec<f32>> = found.get(0).unwrap().t().unwrap().contiguous().unwrap().to_vec2().unwrap();
    let (low, high) = (2f32.powi(-127), 2f32.powi(127));
    assert_eq!(found[0], [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -2.0, -4.0, -6.0, -8.0, -12.0, -16.0, -24.0]);
    let tiny = [0.0, 0.5 * low, low, 1.5 * low, 2.0 * low, 3.0 * low, 4.0 * low, 6.0 * low];
    assert_eq!(found[1][..8], tiny);
    assert_eq!(found[1][8..12], [-0.0, -0.5 * high, -high, -1.5 * high]);
    assert!(found[1][12..].iter().all(|number| *number == f32::NEG_INFINITY), "{:?}", found[1]);
    assert_eq!(found[2][..4], [0.0, 0.25, 0.5, 0.75]);
    assert_eq!(found[2][8..11], [-0.0, -high, f32::NEG_INFINITY]);
    let half = weights.get("x", &[1, 16, 3], DType::BF16, &Device::Cpu).unwrap();
    assert_eq!(half.dtype(), DType::BF16);
}

#[test]
fn what_does_not_fit_is_an_error_that_names_both() {
    let blocks = || bytes(&[0; 16], &[1, 2, 2, 4]);
    let message = |tensors: &[(&str, Tensor)]| open(tensors).unwrap_err().to_string();
    for shape in [vec![1, 2, 1], vec![1, 2, 2, 1], vec![2, 2, 1]] {
        let scales = bytes(&vec![127; shape.iter().product()], &shape);
        let message = message(&[("a.x_blocks", blocks()), ("a.x_scales", scales)]);
        assert!(message.contains("`a.x_blocks` [1, 2, 2, 4]") && message.contains("`a.x_scales`"), "{message}");
    }
    let flat = message(&[("x_blocks", bytes(&[0; 8], &[2, 4])), ("x_scales", bytes(&[0; 2], &[2]))]);
    assert!(flat.contains("[experts, out, blocks, bytes]"), "{flat}");
    let empty = message(&[("x_blocks", bytes(&[], &[1, 2, 0, 4])), ("x_scales", bytes(&[], &[1, 2, 0]))]);
    assert!(empty.contains("do not fit"), "{empty}");
    let alone = message(&[("x_blocks", blocks())]);
    assert!(alone.contains("model.safetensors") && alone.contains("`x_blocks` without `x_scales`"), "{alone}");
    let alone = message(&[("x_scales", bytes(&[0; 4], &[1, 2, 2]))]);
    assert!(alone.contains("`x_scales` without `x_blocks`"), "{alone}");
    let scales = || bytes(&[127; 4], &[1, 2, 2]);
    let both = message(&[("x", blocks()), ("x_blocks", blocks()), ("x_scales", scales())]);
    assert!(both.contains("tensor `x` is also in"), "{both}");
}

#[test]
fn numbers_in_the_place_of_bytes_are_an_error() {
    let floats = Tensor::zeros((1, 2, 2), DType::F32, &Device::Cpu).unwrap();
    let weights = open(&[("x_blocks", bytes(&[0; 16], &[1, 2, 2, 4])), ("x_scales", floats)]).unwrap().weights;
    let message = weights.get("x", &[1, 16, 2], DType::F32, &Device::Cpu).unwrap_err().to_string();
    assert!(message.contains("`x`") && message.contains("U8"), "{message}");
}

#[test]
fn other_quantisations_are_still_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = r#"{"model_type": "gpt_oss", "quantization_config": {"quant_method": "awq"}}"#;
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    let message = open_path(folder.path()).unwrap_err().to_string();
    assert!(message.contains("\"awq\"") && message.contains("MXFP4"), "{message}");
}
