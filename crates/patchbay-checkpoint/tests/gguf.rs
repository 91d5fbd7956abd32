//! GGUF files against what transformers reads from them: configuration, every weight, every token id.

#![allow(clippy::unwrap_used, reason = "helpers of tests stop the test, as tests do")]

mod common;

use candle_core::{DType, Device};
use common::{check_tokenizer, fixture, fixture_json, open_path, same};

/// Every tensor of the file is the one transformers reads, and there are no others.
fn check_weights(name: &str) {
    let gguf = open_path(&fixture(&format!("{name}.gguf"))).unwrap().weights;
    let expected = candle_core::safetensors::load(fixture(&format!("{name}.safetensors")), &Device::Cpu).unwrap();
    let mut names: Vec<&str> = expected.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(gguf.names().collect::<Vec<_>>(), names);
    for (name, expected) in &expected {
        let found = gguf.get(name, expected.dims(), DType::F32, &Device::Cpu).unwrap();
        let worst = (found - expected).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(worst < 1e-6, "{name} differs by {worst}");
    }
}

/// Every key that this crate sets has transformers' value.
fn check_config(name: &str, not_in_transformers: &[&str]) {
    let config = open_path(&fixture(&format!("{name}.gguf"))).unwrap().config;
    let expected = &fixture_json(&format!("{name}.json"))["config"];
    for (key, value) in config.raw().as_object().unwrap() {
        if !not_in_transformers.contains(&key.as_str()) {
            assert!(same(value, &expected[key]), "{key}: {value} instead of {}", expected[key]);
        }
    }
}

fn check_tiny_tokenizer(name: &str) {
    let tokenizer = open_path(&fixture(&format!("{name}.gguf"))).unwrap().tokenizer.unwrap();
    check_tokenizer(&tokenizer, &fixture_json(&format!("{name}.json")), &[]);
}

#[test]
fn llama_with_its_paired_rows_and_untied_head() {
    check_weights("tiny-llama");
    check_config("tiny-llama", &[]);
}

#[test]
fn gemma3_with_its_norms_plus_one() {
    check_weights("tiny-gemma3");
    // transformers has no mlp_bias here, and leaves the scale of the scores at its default for heads of 256; llama.cpp,
    // which wrote such files, takes the size of a head.
    check_config("tiny-gemma3", &["mlp_bias", "query_pre_attn_scalar"]);
}

#[test]
fn gpt2_with_its_transposed_layers() {
    check_weights("tiny-gpt2");
    // transformers leaves n_inner out, which means the same: four times the width.
    check_config("tiny-gpt2", &["n_inner"]);
}

/// `tests/fixtures/make_blocks.py` filled blocks of every format with random bits, and had the `gguf` package read them.
#[test]
fn every_block_format_reads_as_the_gguf_package_reads_it() {
    check_weights("blocks");
}

#[test]
fn sentence_piece_tokenizer_and_chat_template() {
    check_tiny_tokenizer("tiny-llama");
}

#[test]
fn sentence_piece_tokenizer_as_gemma_has_it() {
    check_tiny_tokenizer("tiny-gemma3");
}

#[test]
fn byte_level_tokenizer() {
    check_tiny_tokenizer("tiny-gpt2");
}

#[test]
fn special_tokens_frame_a_text_without_being_part_of_it() {
    let tokenizer = open_path(&fixture("tiny-llama.gguf")).unwrap().tokenizer.unwrap();
    let encoding = tokenizer.encode("The capital of é", true).unwrap();
    assert_eq!(encoding.ids[0], tokenizer.bos().unwrap());
    assert_eq!((encoding.tokens[0].as_str(), encoding.ends[0]), ("<s>", 0));
    assert_eq!(encoding.text, "The capital of é");
    // é is two byte tokens: the first ends before the character, the second behind it.
    let last = encoding.ends.len() - 1;
    assert_eq!(encoding.ends[last - 1..], ["The capital of ".len(), encoding.text.len()]);
    assert_eq!(tokenizer.describe_ids(&encoding.ids).unwrap(), encoding);
    assert_eq!(tokenizer.stop_ids(), [tokenizer.eos().unwrap()]);
    assert!(tokenizer.is_special(0) && !tokenizer.is_special(300));
}

#[test]
fn ids_outside_of_the_vocabulary_are_refused() {
    let tokenizer = open_path(&fixture("tiny-gpt2.gguf")).unwrap().tokenizer.unwrap();
    let vocab = tokenizer.vocab_size();
    let error = tokenizer.describe_ids(&[5, vocab as u32]).unwrap_err().to_string();
    assert_eq!(error, format!("there is no token {vocab}: the vocabulary has ids 0 to {}", vocab - 1));
    assert_eq!(tokenizer.token_text(vocab as u32), "");
}
