//! The text part of a checkpoint that sees images as well.

#![allow(clippy::unwrap_used, reason = "a test stops where something fails")]

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use patchbay_checkpoint::{HubSettings, Source, open};
use patchbay_graph::Site;
use patchbay_model::{Decoder, LoadOptions, Segments, Tap, describe, parameters};
use serde_json::Value;

/// Keeps the logits.
struct Logits(Vec<f32>);

impl Tap for Logits {
    fn wants(&self, site: Site) -> bool {
        site == Site::Logits
    }

    fn visit(&mut self, _: Site, value: Tensor) -> candle_core::Result<Tensor> {
        self.0 = value.flatten_all()?.to_vec1()?;
        Ok(value)
    }
}

fn logits(decoder: &Decoder) -> Vec<f32> {
    let mut logits = Logits(Vec::new());
    decoder.forward(&[3, 1, 4, 1, 5], &Segments::from_lengths(&[3, 2]), &mut logits).unwrap();
    logits.0
}

/// The recorded model: its settings, and its tensors without the vision part, as transformers wrote them.
fn recorded() -> (Value, HashMap<String, Tensor>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/gemma3-vision");
    let config = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    let tensors = candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu).unwrap();
    (config, tensors.into_iter().filter(|(name, _)| name.starts_with("language_model.")).collect())
}

/// The decoder of these files, and how many numbers it was said to have before it was read.
fn load(config: &Value, tensors: &HashMap<String, Tensor>) -> Result<(Decoder, u64), String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    candle_core::safetensors::save(tensors, folder.path().join("model.safetensors")).unwrap();
    let source = Source::Folder(folder.path().to_path_buf());
    let checkpoint = open(&source, &HubSettings::default(), &|_| ()).unwrap();
    let said = parameters(&describe(&checkpoint.config).unwrap(), &checkpoint.weights);
    let decoder = Decoder::load(&checkpoint, &LoadOptions::default(), &|_| ());
    decoder.map(|decoder| (decoder, said)).map_err(|error| error.to_string())
}

/// What transformers wrote is `language_model.model.…` and `language_model.lm_head.weight`.
const LAYOUTS: [(&str, &str); 4] = [
    ("language_model.model.", "language_model.lm_head.weight"),
    ("model.language_model.", "lm_head.weight"),
    ("language_model.model.", "lm_head.weight"),
    ("language_model.", "lm_head.weight"),
];

#[test]
fn every_layout_of_names_is_the_same_model_and_what_is_left_out_is_said() {
    let (config, tensors) = recorded();
    let (plain, said) = load(&config, &tensors).unwrap();
    assert_eq!((plain.warnings().len(), plain.parameters()), (0, said));
    for (prefix, head) in LAYOUTS {
        let renamed = |name: &str| match name.strip_prefix("language_model.model.") {
            Some(rest) => format!("{prefix}{rest}"),
            None => head.to_owned(),
        };
        let vision =
            ("vision_tower.conv.weight".to_owned(), Tensor::ones((5, 7), plain.dtype(), &Device::Cpu).unwrap());
        let tensors = tensors.iter().map(|(name, tensor)| (renamed(name), tensor.clone())).chain([vision]).collect();
        let (decoder, counted) = load(&config, &tensors).unwrap();
        assert_eq!(logits(&decoder), logits(&plain), "{prefix}");
        assert_eq!((decoder.parameters(), counted), (said, said), "{prefix}");
        let [warning] = decoder.warnings() else { panic!("{:?}", decoder.warnings()) };
        assert!(warning.contains("`gemma3`") && warning.contains("vision part (1 tensors of 35 numbers)"), "{warning}");
    }
}

#[test]
fn tied_weights_are_those_that_the_checkpoint_has() {
    let (mut config, mut tensors) = recorded();
    let (embedding, head) = ("language_model.model.embed_tokens.weight", "language_model.lm_head.weight");
    let (untied, _) = load(&config, &tensors).unwrap();
    // Tied where nothing is said, but for a head that differs.
    config.as_object_mut().unwrap().remove("tie_word_embeddings");
    assert_eq!(logits(&load(&config, &tensors).unwrap().0), logits(&untied));
    let own = tensors.remove(head).unwrap();
    let (tied, counted) = load(&config, &tensors).unwrap();
    assert_ne!(logits(&tied), logits(&untied));
    assert_eq!(counted, tied.parameters());
    // A copy of the embedding's is no other head.
    tensors.insert(head.to_owned(), tensors[embedding].clone());
    let (copied, _) = load(&config, &tensors).unwrap();
    assert_eq!((logits(&copied), copied.parameters()), (logits(&tied), counted));
    // The one that is there stands in for the other.
    let table = tensors.remove(embedding).unwrap();
    assert_eq!(logits(&load(&config, &tensors).unwrap().0), logits(&tied));
    // Untied, both have to be there.
    tensors.insert(embedding.to_owned(), table);
    tensors.remove(head);
    config["tie_word_embeddings"] = false.into();
    let message = load(&config, &tensors).unwrap_err();
    assert!(message.contains("no tensor `lm_head.weight`"), "{message}");
    tensors.insert(head.to_owned(), own);
    assert_eq!(logits(&load(&config, &tensors).unwrap().0), logits(&untied));
}
