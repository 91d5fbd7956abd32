//! Weights of eight-bit floats, with and without scales, held against what PyTorch makes of the same files.

#![allow(clippy::unwrap_used, reason = "helpers of tests stop the test, as tests do")]

mod common;

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use common::{fixture, fixture_json, open_path};
use half::bf16;
use patchbay_checkpoint::{Part, Weights};
use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

/// A folder of one safetensors file, with this `quantization_config`.
fn folder(bytes: &[u8], quantization: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut config = json!({"model_type": "llama"});
    if quantization.as_object().is_some_and(|section| !section.is_empty()) {
        config["quantization_config"] = quantization.clone();
    }
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    folder
}

fn open(bytes: &[u8], quantization: &Value) -> Result<Weights, String> {
    open_path(folder(bytes, quantization).path()).map(|found| found.weights).map_err(|error| error.to_string())
}

/// What is stored, and what PyTorch makes of it.
fn recorded(name: &str) -> (Weights, HashMap<String, Tensor>) {
    let bytes = std::fs::read(fixture(&format!("float8/{name}.safetensors"))).unwrap();
    let values = fixture(&format!("float8/{name}-values.safetensors"));
    let weights = open(&bytes, &fixture_json(&format!("float8/{name}.json"))).unwrap();
    (weights, candle_core::safetensors::load(values, &Device::Cpu).unwrap())
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_dtype(DType::F32).unwrap().to_vec1().unwrap()
}

/// The same numbers, bit for bit, but that all NaN are one.
fn assert_same(found: &[f32], expected: &[f32], what: &str) {
    let bits = |number: &f32| if number.is_nan() { f32::NAN.to_bits() } else { number.to_bits() };
    let (found, expected): (Vec<_>, Vec<_>) = (found.iter().map(bits).collect(), expected.iter().map(bits).collect());
    assert_eq!(found, expected, "{what}");
}

#[test]
fn scaled_or_not_they_are_what_pytorch_makes_of_them() {
    for name in ["plain", "tensor", "channel", "block", "small-block", "powers", "rows"] {
        let (weights, values) = recorded(name);
        assert!(values.len() > 1, "{name}");
        for (tensor, expected) in &values {
            let what = format!("{name}: {tensor}");
            let read = |dtype| weights.get(tensor, expected.dims(), dtype, &Device::Cpu).unwrap();
            let (found, expected) = (read(DType::F32), numbers(expected));
            assert_eq!(found.dtype(), DType::F32);
            assert_same(&numbers(&found), &expected, &what);
            let rounded: Vec<f32> = expected.iter().map(|number| bf16::from_f32(*number).to_f32()).collect();
            assert_same(&numbers(&read(DType::BF16)), &rounded, &what);
        }
    }
}

#[test]
fn scales_are_no_tensors_of_their_own() {
    let (weights, values) = recorded("rows");
    let mut expected: Vec<&str> = values.keys().map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!(weights.names().collect::<Vec<_>>(), expected);
}

#[test]
fn parts_have_the_scales_of_their_places() {
    let (weights, values) = recorded("rows");
    let whole = &values["experts.gate_up_proj"];
    for expert in 0..3 {
        let part = Part::of(&[3, 4, 6]).index(expert).transposed().rows(6, 2, 3);
        let found = weights.get_part("experts.gate_up_proj", &[3, 4, 6], &part, DType::F32, &Device::Cpu);
        let expected = whole.get(expert).unwrap().t().unwrap().narrow(0, 2, 3).unwrap();
        assert_same(&numbers(&found.unwrap().unwrap()), &numbers(&expected), "part");
    }
    let (weights, values) = recorded("small-block");
    let part = Part::of(&[7, 10]).rows(7, 2, 4);
    let found = weights.get_part("e5m2.weight", &[7, 10], &part, DType::F32, &Device::Cpu).unwrap().unwrap();
    assert_same(&numbers(&found), &numbers(&values["e5m2.weight"].narrow(0, 2, 4).unwrap()), "rows");
}

/// A file of one quantised tensor and a scale of this type and shape.
fn file(weight: (Dtype, &[usize]), name: &str, scale: (Dtype, &[usize])) -> Vec<u8> {
    let bytes = |(dtype, shape): (Dtype, &[usize])| vec![0x38; shape.iter().product::<usize>() * dtype.bitsize() / 8];
    let (stored, scales) = (bytes(weight), bytes(scale));
    let tensors = [
        ("a.weight", TensorView::new(weight.0, weight.1.to_vec(), &stored).unwrap()),
        (name, TensorView::new(scale.0, scale.1.to_vec(), &scales).unwrap()),
    ];
    safetensors::serialize(tensors, None).unwrap()
}

#[test]
fn scales_that_do_not_fit_are_errors_that_name_both() {
    let blocks = json!({"quant_method": "fp8", "weight_block_size": [2, 2]});
    let none = json!({});
    for (scale, config) in [
        (&[3][..], &none),
        (&[3, 1], &none),
        (&[1, 4, 6], &none),
        (&[0], &none),
        (&[6, 4], &none),
        (&[1, 1], &blocks),
        (&[4, 6], &blocks),
        (&[3, 2], &blocks),
        (&[2, 3, 1, 1], &blocks),
    ] {
        let bytes = file((Dtype::F8_E4M3, &[4, 6]), "a.weight_scale_inv", (Dtype::F32, scale));
        let error = open(&bytes, config).unwrap_err();
        assert!(error.contains("model.safetensors: tensor `a.weight_scale_inv` has shape"), "{error}");
        assert!(error.contains("`a.weight` of shape [4, 6]"), "{error}");
    }
    for scale in [&[][..], &[1], &[2, 3]] {
        let bytes = file((Dtype::F8_E4M3, &[4, 6]), "a.weight_scale_inv", (Dtype::F32, scale));
        open(&bytes, &blocks).unwrap();
    }
}

#[test]
fn scales_of_other_types_and_other_weights_with_scales_are_refused() {
    let wrong = file((Dtype::F8_E5M2, &[4, 6]), "a.weight_scale", (Dtype::I32, &[]));
    let error = open(&wrong, &json!({})).unwrap_err();
    assert!(error.contains("`a.weight_scale` is a scale, but not of floats"), "{error}");
    for dtype in [Dtype::I8, Dtype::U8, Dtype::I32] {
        let whole = file((dtype, &[4, 6]), "a.weight_scale", (Dtype::F32, &[]));
        let error = open(&whole, &json!({})).unwrap_err();
        assert!(error.contains("tensor `a.weight`, stored as") && error.contains("not supported"), "{error}");
    }
    // A float of any other width means itself.
    let plain = file((Dtype::BF16, &[4, 6]), "a.weight_scale", (Dtype::F32, &[]));
    assert_eq!(open(&plain, &json!({})).unwrap().names().count(), 2);
}

#[test]
fn a_quantised_checkpoint_has_a_scale_for_each_weight() {
    let bytes = file((Dtype::F8_E4M3, &[4, 6]), "b.weight_scale", (Dtype::F32, &[]));
    open(&bytes, &json!({})).unwrap();
    let error = open(&bytes, &json!({"quant_method": "fp8"})).unwrap_err();
    assert!(error.contains("tensor `a.weight` is quantised as F8_E4M3, but has no scale"), "{error}");
    assert!(error.contains("`a.weight_scale_inv`"), "{error}");
}

#[test]
fn a_scale_may_lie_in_another_shard() {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({"model_type": "llama", "quantization_config": {"quant_method": "fp8"}});
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let save = |name: &str, tensor: &str, dtype, shape: &[usize], bytes: &[u8]| {
        let view = TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
        std::fs::write(folder.path().join(name), safetensors::serialize([(tensor, view)], None).unwrap()).unwrap();
    };
    save("1.safetensors", "a.weight", Dtype::F8_E4M3, &[1, 2], &[0x38, 0xB8]);
    save("2.safetensors", "a.weight_scale_inv", Dtype::F32, &[], &3.5_f32.to_le_bytes());
    let map = json!({"weight_map": {"a.weight": "1.safetensors", "a.weight_scale_inv": "2.safetensors"}});
    std::fs::write(folder.path().join("model.safetensors.index.json"), map.to_string()).unwrap();
    let weights = open_path(folder.path()).unwrap().weights;
    let found = weights.get("a.weight", &[1, 2], DType::F32, &Device::Cpu).unwrap();
    assert_eq!(numbers(&found), [3.5, -3.5]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the shapes are, it is an error or the numbers are all there.
    #[test]
    fn shapes_of_any_kind_never_panic(
        weight in prop::collection::vec(0_usize..7, 0..4),
        scale in prop::collection::vec(0_usize..7, 0..4),
        block in prop::option::of((1_usize..5, 1_usize..5)),
    ) {
        let bytes = file((Dtype::F8_E5M2, &weight), "a.weight_scale", (Dtype::BF16, &scale));
        let config = block.map_or(json!({}), |(a, b)| json!({"quant_method": "fp8", "weight_block_size": [a, b]}));
        if let Ok(weights) = open(&bytes, &config) {
            let read = weights.get("a.weight", &weight, DType::F32, &Device::Cpu).unwrap();
            prop_assert_eq!(read.dims(), weight);
        }
    }
}
