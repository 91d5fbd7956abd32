//! What the tests share: the fixtures that `fixtures/make.py` made, and their reading.

use std::path::{Path, PathBuf};

use patchbay_checkpoint::{ChatOptions, Checkpoint, CheckpointError, HubSettings, Source, Tokenizer, open};
use serde_json::Value;

/// A file beside `make.py`.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

#[allow(dead_code, reason = "not every test file reads one")]
pub(crate) fn fixture_json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixture(name)).unwrap()).unwrap()
}

/// Opens what lies on disk; the Hub is never reached.
#[allow(dead_code, reason = "not every test file opens one")]
pub(crate) fn open_path(path: &Path) -> Result<Checkpoint, CheckpointError> {
    let hub = HubSettings { endpoint: None, cache: None, token: None, offline: true };
    open(&Source::parse(path.to_str().unwrap())?, &hub, &|_| ())
}

/// Holds a tokenizer against what transformers made of the same texts and chats, but for the texts in `without`.
#[allow(dead_code, reason = "not every test file has a tokenizer")]
pub(crate) fn check_tokenizer(tokenizer: &Tokenizer, expected: &Value, without: &[&str]) {
    let ids = |value: &Value| -> Vec<u32> { serde_json::from_value(value.clone()).unwrap() };
    for case in expected["cases"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        if without.contains(&text) {
            continue;
        }
        let encoding = tokenizer.encode(text, false).unwrap();
        assert_eq!(encoding.ids, ids(&case["ids"]), "ids of {text:?}");
        assert_eq!(tokenizer.encode(text, true).unwrap().ids, ids(&case["framed"]), "framed ids of {text:?}");
        assert_eq!(tokenizer.decode(&encoding.ids, false).unwrap(), case["decoded"], "text of the ids of {text:?}");
        assert_eq!(encoding.text, case["decoded"], "text of {text:?}");
        assert_eq!(encoding.ends.last().copied().unwrap_or(0), encoding.text.len(), "last end of {text:?}");
        assert!(encoding.ends.is_sorted(), "ends of {text:?}");
        assert!(encoding.ends.iter().all(|&end| encoding.text.is_char_boundary(end)), "ends of {text:?}");
        assert_eq!(encoding.tokens.len(), encoding.ids.len());
    }
    for (name, chat) in expected["chats"].as_object().unwrap() {
        let add_generation_prompt = chat["add_generation_prompt"].as_bool().unwrap();
        let options = ChatOptions { add_generation_prompt, ..ChatOptions::default() };
        assert_eq!(tokenizer.apply_chat_template(&chat["messages"], &options).unwrap(), chat["text"], "chat {name}");
    }
    let id = |key: &str| expected[key].as_u64().map(|id| id as u32);
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (id("bos"), id("eos")));
}

/// Whether two values are the same in float32, the type of numbers in these files. transformers writes out all digits of one.
#[allow(dead_code, reason = "not every test file compares values")]
pub(crate) fn same(found: &Value, expected: &Value) -> bool {
    match (found.as_f64(), expected.as_f64()) {
        (Some(found), Some(expected)) => found as f32 == expected as f32,
        _ => found == expected,
    }
}

/// The files of a state dict in two shards: their names in a model's folder, and their bytes.
#[allow(dead_code, reason = "not every test file reads them")]
pub(crate) fn torch_shards() -> Vec<(String, Vec<u8>)> {
    ["-00001-of-00002.bin", "-00002-of-00002.bin", ".bin.index.json"]
        .map(|end| (format!("pytorch_model{end}"), std::fs::read(fixture(&format!("torch{end}"))).unwrap()))
        .to_vec()
}
