//! Real models, where they are at hand: `PATCHBAY_TEST_MODELS` names a folder with the GGUF files and, if they are there
//! too, the same models as float32 Hugging Face folders. Token ids are transformers', recorded in the fixtures.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests stop the test, or say that they skip it"
)]

mod common;

use std::path::PathBuf;

use candle_core::{DType, Device};
use common::{check_tokenizer, fixture_json, open_path, same};

/// A file or folder among the real models; nothing, with a line that says so, where it is not there.
fn model(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATCHBAY_TEST_MODELS").map(|folder| PathBuf::from(folder).join(name));
    let found = path.filter(|path| path.exists());
    if found.is_none() {
        println!("skipped: there is no {name} in the folder PATCHBAY_TEST_MODELS");
    }
    found
}

/// Compares file and folder; `without` lists texts that the folder's tokenizer is known to cut in another way.
fn check(gguf: &str, folder: &str, without: &[&str]) {
    let expected = fixture_json(&format!("{folder}.json"));
    let Some(file) = model(gguf) else { return };
    let from_file = open_path(&file).unwrap();
    check_tokenizer(from_file.tokenizer.as_ref().unwrap(), &expected, without);
    let Some(folder) = model(folder) else { return };
    let from_folder = open_path(&folder).unwrap();
    check_tokenizer(from_folder.tokenizer.as_ref().unwrap(), &expected, &[]);
    assert_eq!(from_file.weights.names().collect::<Vec<_>>(), from_folder.weights.names().collect::<Vec<_>>());
    for name in from_folder.weights.names() {
        let shape = from_folder.weights.shape(name).unwrap();
        let [ours, theirs] = [&from_file, &from_folder]
            .map(|checkpoint| checkpoint.weights.get(name, shape, DType::F32, &Device::Cpu).unwrap());
        let worst = (ours - theirs).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(worst < 1e-5, "{name} differs by {worst}");
    }
    for (key, value) in from_file.config.raw().as_object().unwrap() {
        let expected = from_folder.config.raw().get(key);
        assert!(expected.is_none_or(|expected| same(value, expected)), "{key}: {value} instead of {expected:?}");
    }
}

#[test]
fn smollm2() {
    // The folder was made by transformers from the GGUF file, whose pre-tokenizer "smollm" transformers reads as GPT-2's.
    // llama.cpp, like SmolLM2's own tokenizer.json, cuts before every digit, which shows on digits outside of ASCII.
    check("SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2-135m", &["½ ² ٣ Ⅷ ①"]);
}

#[test]
fn gemma3() {
    check("gemma-3-270m-q4_k_m.gguf", "gemma3-270m", &[]);
}

#[test]
fn the_capital_of_france() {
    let Some(file) = model("SmolLM2-135M-Instruct.Q4_1.gguf") else { return };
    let tokenizer = open_path(&file).unwrap().tokenizer.unwrap();
    let encoding = tokenizer.encode("The capital of France is", true).unwrap();
    assert_eq!(encoding.ids, [504, 3575, 282, 4649, 314]);
    assert_eq!(encoding.tokens, ["The", " capital", " of", " France", " is"]);
    assert_eq!(encoding.ends, [3, 11, 14, 21, 24]);
    assert_eq!(tokenizer.token_text(7042), " Paris");
}
