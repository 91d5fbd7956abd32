//! SentencePiece vocabularies, from a `tokenizer.model` and from GGUF: ids against what transformers and SentencePiece itself
//! make of the same texts (`fixtures/make_sentencepiece.py`), and files that were damaged.

#![allow(clippy::unwrap_used, reason = "helpers of tests stop the test, as tests do")]

mod common;

use std::path::Path;

use common::{fixture, fixture_json, open_path};
use patchbay_checkpoint::Tokenizer;
use proptest::prelude::*;
use serde_json::{Value, json};

/// A folder with this vocabulary and next to no model.
fn folder(model: &[u8], config: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("config.json", br#"{"model_type": "llama"}"#);
    write("model.safetensors", &std::fs::read(fixture("tiny-llama.safetensors")).unwrap());
    write("tokenizer.model", model);
    write("tokenizer_config.json", config.to_string().as_bytes());
    folder
}

fn model(name: &str) -> Vec<u8> {
    std::fs::read(fixture(&format!("sentencepiece/{name}.model"))).unwrap()
}

fn tokenizer(path: &Path) -> Tokenizer {
    open_path(path).unwrap().tokenizer.unwrap()
}

fn check(tokenizer: &Tokenizer, cases: &str) {
    let expected = fixture_json(&format!("sentencepiece/{cases}.json"));
    let cases = expected["cases"].as_array().unwrap();
    assert!(cases.len() > 30, "cases are missing");
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let ids = |key: &str| -> Vec<u32> { serde_json::from_value(case[key].clone()).unwrap() };
        let encoding = tokenizer.encode(text, false).unwrap();
        assert_eq!(encoding.ids, ids("ids"), "ids of {text:?}");
        assert_eq!(tokenizer.encode(text, true).unwrap().ids, ids("framed"), "framed ids of {text:?}");
        if let Some(decoded) = case["decoded"].as_str() {
            assert_eq!(tokenizer.decode(&encoding.ids, false).unwrap(), decoded, "text of the ids of {text:?}");
            assert_eq!(encoding.text, decoded, "text of {text:?}");
        }
    }
}

fn check_model(name: &str) -> Tokenizer {
    let folder = folder(&model(name), &fixture_json(&format!("sentencepiece/{name}-config.json")));
    let tokenizer = tokenizer(folder.path());
    check(&tokenizer, name);
    tokenizer
}

#[test]
fn bpe_with_bytes_and_added_tokens() {
    let tokenizer = check_model("llama");
    assert_eq!(tokenizer.id("<|turn|>"), Some(420));
    assert_eq!(tokenizer.id("<tool>"), Some(423));
    assert!(tokenizer.is_special(420) && !tokenizer.is_special(423));
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(1), Some(2)));
    assert_eq!(tokenizer.stop_ids(), [2]);
}

#[test]
fn bpe_whose_prefix_follows_special_tokens_too() {
    check_model("llama-legacy");
}

#[test]
fn bpe_without_a_prefix() {
    check_model("gemma");
}

#[test]
fn unigram_with_a_table_of_characters_and_squeezed_spaces() {
    check_model("unigram-t5");
}

#[test]
fn unigram_with_bytes() {
    check_model("unigram-bytes");
}

#[test]
fn unigram_in_gguf() {
    check(&tokenizer(&fixture("sentencepiece/unigram-t5-llama.gguf")), "unigram-t5");
}

#[test]
fn bpe_in_gguf_as_phi3_has_it() {
    check(&tokenizer(&fixture("sentencepiece/llama-phi3.gguf")), "llama-phi3");
}

#[test]
fn tokens_of_the_older_file_are_added_and_ids_that_lie_far_off_refused() {
    let folder = folder(&model("llama"), &json!({}));
    let file = folder.path().join("added_tokens.json");
    std::fs::write(&file, r#"{"<fim>": 421}"#).unwrap();
    let found = tokenizer(folder.path());
    assert_eq!(found.id("<fim>"), Some(421));
    assert_eq!(found.encode("a<fim>b", false).unwrap().ids.iter().filter(|id| **id == 421).count(), 1);
    std::fs::write(&file, r#"{"<fim>": 4000000000}"#).unwrap();
    let error = open_path(folder.path()).unwrap_err().to_string();
    assert!(error.contains("4000000000"), "{error}");
}

#[test]
fn other_forms_say_what_would_be_read() {
    let folder = folder(b"IQ== 0\nIg== 1\nIw== 2\n", &json!({}));
    let error = open_path(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("tokenizer.model") && error.contains("tiktoken") && error.contains("tokenizer.json"),
        "{error}"
    );
}

/// Opens a folder with these bytes for a model, and uses what comes of it.
fn try_all(bytes: &[u8]) {
    let folder = folder(bytes, &json!({"add_bos_token": true}));
    if let Ok(checkpoint) = open_path(folder.path()) {
        let tokenizer = checkpoint.tokenizer.unwrap();
        for text in ["The capital of France is 123 é <s>", "ｆｕｌｌ  ﬁ ①\n", ""] {
            if let Ok(encoding) = tokenizer.encode(text, true) {
                let _ = tokenizer.describe_ids(&encoding.ids);
                let _ = tokenizer.decode(&encoding.ids, true);
            }
        }
    }
}

#[test]
fn a_model_cut_off_anywhere_never_panics() {
    for name in ["llama", "unigram-t5"] {
        let whole = model(name);
        (0..whole.len()).step_by(97).for_each(|length| try_all(&whole[..length]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_changed_model_never_panics(
        name in prop::sample::select(vec!["llama", "unigram-t5", "unigram-bytes"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = model(name);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        try_all(&bytes);
    }

    /// The table of characters and what follows it, at the end of the file, set to anything.
    #[test]
    fn a_changed_table_of_characters_never_panics(at in 0_usize..1500, change in any::<[u8; 4]>()) {
        let mut bytes = model("unigram-t5");
        let at = bytes.len() - 4 - at;
        bytes[at..at + 4].copy_from_slice(&change);
        try_all(&bytes);
    }
}
