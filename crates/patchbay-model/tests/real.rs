//! Real models, from their GGUF files and as float32 folders, against what transformers wrote: 128 greedy tokens, with a cache.
//!
//! `PATCHBAY_TEST_MODELS` names the folder that holds them; `tests/golden/real_text.py` made the recordings.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops where something fails, and says what it skips"
)]

use std::path::{Path, PathBuf};

use patchbay_checkpoint::{HubSettings, Source, open};
use patchbay_model::{Caches, Decoder, KeyCache, LoadOptions, NoTap, Run};
use serde_json::Value;

/// The likeliest token after these, which come after those in the cache.
fn next(decoder: &Decoder, cache: &mut KeyCache, ids: &[u32]) -> u32 {
    let mut pass = Caches::new(vec![cache], &[ids.len()]);
    let segments = pass.segments();
    let mut x = decoder.embed(ids, &segments, &mut NoTap).unwrap();
    for layer in 0..decoder.tree().layers.len() {
        let mut run = Run::whole(&segments, &mut pass);
        x = decoder.block(layer, x, &mut run, &mut NoTap).unwrap();
    }
    pass.finish();
    let last = x.narrow(0, ids.len() - 1, 1).unwrap();
    let logits: Vec<f32> = decoder.project_on_vocab(&last, true).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    (0u32..).zip(&logits).max_by(|(_, a), (_, b)| a.total_cmp(b)).unwrap().0
}

fn check(recorded: &str, source: &str) {
    let models = std::env::var_os("PATCHBAY_TEST_MODELS").map(PathBuf::from);
    let Some(path) = models.map(|models| models.join(source)).filter(|path| path.exists()) else {
        println!("skipped: there is no {source} in the folder PATCHBAY_TEST_MODELS");
        return;
    };
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(recorded).join("golden.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(golden).unwrap()).unwrap();
    let ids = |key: &str| -> Vec<u32> { serde_json::from_value(golden["greedy"][key].clone()).unwrap() };
    let text = |key: &str| golden["greedy"][key].as_str().unwrap();

    let checkpoint = open(&Source::parse(path.to_str().unwrap()).unwrap(), &HubSettings::default(), &|_| ()).unwrap();
    let tokenizer = checkpoint.tokenizer.as_ref().unwrap();
    assert_eq!(tokenizer.encode(text("text"), true).unwrap().ids, ids("prompt"), "{source}");
    let decoder = Decoder::load(&checkpoint, &LoadOptions::default(), &|_| ()).unwrap();
    let mut cache = KeyCache::default();
    let (mut new, mut written) = (ids("prompt"), Vec::new());
    while written.len() < 128 {
        let id = next(&decoder, &mut cache, &new);
        written.push(id);
        new = vec![id];
    }
    assert_eq!(written, ids("ids"), "{source}");
    assert_eq!(tokenizer.decode(&written, false).unwrap(), text("continuation"), "{source}");
}

#[test]
fn smollm2_writes_what_transformers_writes() {
    check("smollm2-135m", "smollm2-135m");
}

#[test]
fn smollm2_from_gguf_writes_what_transformers_writes() {
    check("smollm2-135m", "SmolLM2-135M-Instruct.Q4_1.gguf");
}

#[test]
fn gemma3_writes_what_transformers_writes() {
    check("gemma3-270m", "gemma3-270m");
}

#[test]
fn gemma3_from_gguf_writes_what_transformers_writes() {
    check("gemma3-270m", "gemma-3-270m-q4_k_m.gguf");
}
