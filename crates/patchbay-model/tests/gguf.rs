//! GGUF files of the golden models against the same models as Hugging Face's folders.
//!
//! `tests/golden/write_gguf.py` writes the files with the `gguf` package and its maps of names, and does to tensors what
//! llama.cpp's converter does; it shares nothing with this crate. Two blocks of each model, matrices in float16 or Q8_0, make
//! files of about 30 kB, small enough to lie in the repository, and every change that a converter makes to a tensor is in them.
//! A decoder is its [`Spec`](patchbay_model::Spec) and its tensors: where both are the folder's, so is all that it computes.
//! Beside each file lies what the converter leaves out, and what llama.cpp runs in its place.

#![allow(clippy::unwrap_used, reason = "a test stops where something fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use patchbay_checkpoint::{Checkpoint, Config, HubSettings, Source, open};
use patchbay_model::{Decoder, LoadOptions, describe, run_checks, supported_model_types};
use serde_json::Value;

/// Largest difference allowed, relative to the tensor's largest value: half a step of Q8_0, which is coarser than float16.
const TOLERANCE: f32 = 0.5 / 127.0 + 1e-3;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

fn open_path(path: &Path) -> Checkpoint {
    open(&Source::parse(path.to_str().unwrap()).unwrap(), &HubSettings::default(), &|_| ()).unwrap()
}

/// The samples: name, file, and what is said of it.
fn samples() -> Vec<(String, PathBuf, Value)> {
    let files = std::fs::read_dir(golden().join("gguf")).unwrap().map(|entry| entry.unwrap().path());
    let mut samples: Vec<_> = files
        .filter(|file| file.extension().is_some_and(|extension| extension == "gguf"))
        .map(|file| {
            let about = serde_json::from_slice(&std::fs::read(file.with_extension("json")).unwrap()).unwrap();
            (file.file_stem().unwrap().to_str().unwrap().to_owned(), file, about)
        })
        .collect();
    samples.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(samples.len() >= 67, "samples are missing: {}", samples.len());
    samples
}

#[test]
fn configurations_describe_the_same_decoder() {
    for (name, file, about) in samples() {
        let original = golden().join(about["folder"].as_str().unwrap()).join("config.json");
        let mut original: Value = serde_json::from_slice(&std::fs::read(original).unwrap()).unwrap();
        for (key, value) in about["changed"].as_object().unwrap() {
            original[key] = value.clone();
        }
        let expected = describe(&Config::from_json("config.json", original).unwrap()).unwrap();
        let found = describe(&open_path(&file).config).unwrap();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn tensors_are_the_original_ones() {
    for (name, file, about) in samples() {
        let original = open_path(&golden().join(about["folder"].as_str().unwrap())).weights;
        let blocks: Vec<String> = about["blocks"].as_array().unwrap().iter().map(Value::to_string).collect();
        let weights = open_path(&file).weights;
        let originals: BTreeMap<String, &str> = original
            .names()
            .filter(|original| !is_left_out(original, &about["without"]))
            .filter_map(|original| Some((renumbered(original, &blocks)?, original)))
            .collect();
        let names: BTreeSet<&str> = weights.names().collect();
        let expected: BTreeSet<&str> = originals.keys().map(String::as_str).collect();
        assert_eq!(names, expected, "{name}");
        for tensor in names {
            let shape = original.shape(originals[tensor]).unwrap();
            let read = |weights: &patchbay_checkpoint::Weights, name: &str| {
                weights.get(name, shape, DType::F32, &Device::Cpu).unwrap()
            };
            let (found, expected) = (read(&weights, tensor), read(&original, originals[tensor]));
            let largest = |tensor: &Tensor| tensor.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            let worst = largest(&(found - &expected).unwrap());
            assert!(worst <= TOLERANCE * largest(&expected), "{name}: {tensor} differs by {worst}");
        }
    }
}

#[test]
fn every_file_runs() {
    for (name, file, _) in samples() {
        let decoder = Decoder::load(&open_path(&file), &LoadOptions::default(), &|_| ()).unwrap();
        let report = run_checks(&decoder, None);
        assert!(report.checks.iter().all(|check| check.passed), "{name}: {report:?}");
    }
}

#[test]
fn every_type_that_gguf_has_is_among_the_samples() {
    // llama.cpp's converter has no OPT and no GPT-Neo, and none that writes GPT-J.
    let without = ["gpt_neo", "gptj", "opt"];
    // A file has the text part alone.
    let parts = ["gemma3", "llama4", "mistral3"];
    let without: BTreeSet<&str> = without.into_iter().chain(parts).collect();
    let found: BTreeSet<String> =
        samples().iter().map(|(_, file, _)| open_path(file).config.model_type().unwrap().to_owned()).collect();
    let missing: Vec<_> = supported_model_types()
        .into_iter()
        .filter(|known| !found.contains(*known) && !without.contains(known))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// A name in the file of a name in the folder; nothing for blocks that were not taken.
fn renumbered(name: &str, blocks: &[String]) -> Option<String> {
    let mut parts: Vec<String> = name.split('.').map(str::to_owned).collect();
    if let Some(before) = parts.iter().position(|part| matches!(part.as_str(), "layers" | "h" | "blocks")) {
        let block = &mut parts[before + 1];
        *block = blocks.iter().position(|taken| taken == block)?.to_string();
    }
    Some(parts.join("."))
}

/// Whether a tensor's name ends as those do that the file has not got.
fn is_left_out(name: &str, suffixes: &Value) -> bool {
    suffixes.as_array().unwrap().iter().any(|suffix| name.ends_with(suffix.as_str().unwrap()))
}
