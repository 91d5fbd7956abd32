//! Every site of the golden models against Hugging Face's eager float32 forward, with both kernels.
//!
//! `tests/golden` of the workspace has a folder for each model, and says there how it was made.

#![allow(clippy::unwrap_used, reason = "a test stops where something fails")]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use patchbay_checkpoint::{HubSettings, Source, open};
use patchbay_graph::{Packing, Site};
use patchbay_model::{
    Caches, Decoder, KeyCache, LoadOptions, NoTap, Run, Segments, Tap, parameters, run_checks, supported_model_types,
};
use serde_json::Value;

/// Largest difference allowed, relative to the site's largest value.
const TOLERANCE: f32 = 1e-4;

/// Keeps every site's packed value.
#[derive(Default)]
struct Record(BTreeMap<Site, Tensor>);

impl Tap for Record {
    fn wants(&self, _: Site) -> bool {
        true
    }

    fn visit(&mut self, site: Site, value: Tensor) -> candle_core::Result<Tensor> {
        self.0.insert(site, value.clone());
        Ok(value)
    }
}

/// The golden folders that hold a model.
fn models() -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let folders = std::fs::read_dir(golden).unwrap().map(|entry| entry.unwrap().path());
    let models: Vec<_> = folders.filter(|folder| folder.join("config.json").is_file()).collect();
    assert!(models.len() >= 6, "golden models are missing: {models:?}");
    models
}

fn load(folder: &Path) -> Decoder {
    let checkpoint = open(&Source::Folder(folder.to_path_buf()), &HubSettings::default(), &|_| ()).unwrap();
    let decoder = Decoder::load(&checkpoint, &LoadOptions::default(), &|_| ()).unwrap();
    assert_eq!(parameters(decoder.spec(), &checkpoint.weights), decoder.parameters(), "{folder:?}");
    decoder
}

#[test]
fn every_site_equals_hugging_faces() {
    for folder in models() {
        let decoder = load(&folder);
        for decoder in [decoder.differentiable(), decoder] {
            compare(&folder, &decoder);
        }
    }
}

#[test]
fn every_check_passes_on_the_golden_models() {
    for folder in models() {
        let report = run_checks(&load(&folder), None);
        assert_eq!(report.checks.len(), 6);
        assert!(report.checks.iter().all(|check| check.passed), "{folder:?}: {report:?}");
    }
}

/// The last row's logits of a pass over these tokens, which come after those in the cache.
fn next_logits(decoder: &Decoder, cache: &mut KeyCache, ids: &[u32]) -> Vec<f32> {
    let mut pass = Caches::new(vec![cache], &[ids.len()]);
    let segments = pass.segments();
    let mut x = decoder.embed(ids, &segments, &mut NoTap).unwrap();
    for layer in 0..decoder.tree().layers.len() {
        let mut run = Run::whole(&segments, &mut pass);
        x = decoder.block(layer, x, &mut run, &mut NoTap).unwrap();
    }
    pass.finish();
    let last = x.narrow(0, ids.len() - 1, 1).unwrap();
    decoder.project_on_vocab(&last, true).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn greedy_decoding_with_a_cache_is_hugging_faces_and_equals_recomputation() {
    for folder in models() {
        let golden: Value = serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
        let recorded = |key: &str| -> Vec<u32> { serde_json::from_value(golden["greedy"][key].clone()).unwrap() };
        let (mut ids, expected) = (recorded("prompt"), recorded("ids"));
        assert_eq!(expected.len(), 16, "{folder:?}");
        let (decoder, mut cache) = (load(&folder), KeyCache::default());
        for next in expected {
            if !decoder.keys_stay(cache.tokens(), ids.len()) {
                cache.truncate(0);
            }
            let new = &ids[cache.tokens()..];
            let logits = next_logits(&decoder, &mut cache, new);
            let anew = next_logits(&decoder, &mut KeyCache::default(), &ids);
            let apart = logits.iter().zip(&anew).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let most = if decoder.depends_on_length() { 1e-5 } else { 0.0 };
            assert!(apart <= most, "{folder:?} at {}: {apart}", ids.len());
            let best = (0u32..).zip(&logits).max_by(|(_, a), (_, b)| a.total_cmp(b)).unwrap().0;
            assert_eq!(best, next, "{folder:?} after {ids:?}");
            ids.push(next);
        }
    }
}

/// `tests/golden/longest.py` recorded what transformers says after a row as long as the configuration's context.
#[test]
fn the_longest_sequence_is_hugging_faces_whole_and_in_two_passes() {
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/longest.safetensors");
    let recorded = candle_core::safetensors::load(recorded, &Device::Cpu).unwrap();
    for folder in models() {
        let name = folder.file_name().unwrap().to_str().unwrap();
        let ids: Vec<i32> = recorded[&format!("{name}.ids")].to_vec1().unwrap();
        let ids: Vec<u32> = ids.into_iter().map(|id| u32::try_from(id).unwrap()).collect();
        let expected: Vec<f32> = recorded[name].to_vec1().unwrap();
        let decoder = load(&folder);
        assert!(ids.len() <= decoder.spec().context, "{name}: {} of {}", ids.len(), decoder.spec().context);
        let mut cache = KeyCache::default();
        let first = ids.len() / 3;
        if decoder.keys_stay(first, ids.len()) {
            next_logits(&decoder, &mut cache, &ids[..first]);
        }
        let done = cache.tokens();
        let in_two = next_logits(&decoder, &mut cache, &ids[done..]);
        let whole = next_logits(&decoder.differentiable(), &mut KeyCache::default(), &ids);
        let largest = expected.iter().fold(0.0, |largest: f32, x| largest.max(x.abs()));
        for (way, found) in [("in two passes", in_two), ("whole", whole)] {
            assert_eq!(found.len(), expected.len(), "{name}");
            for (at, (a, b)) in found.iter().zip(&expected).enumerate() {
                assert!((a - b).abs() <= TOLERANCE * largest, "{name}, {way}, logit {at}: {a}, not {b}");
            }
        }
    }
}

#[test]
fn the_docs_name_every_architecture_and_its_recordings() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/architectures.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let row = |model_type: &str| docs.lines().find(|line| line.starts_with(&format!("| `{model_type}` |")));
    for model_type in supported_model_types() {
        assert!(row(model_type).is_some(), "{model_type} has no row");
    }
    for folder in models() {
        let config: Value = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
        let name = format!("`{}`", folder.file_name().unwrap().to_str().unwrap());
        let row = row(config["model_type"].as_str().unwrap()).unwrap();
        assert!(row.rsplit('|').nth(1).unwrap().contains(&name), "{name} is missing from: {row}");
    }
}

fn compare(folder: &Path, decoder: &Decoder) {
    let golden: Value = serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
    let expected = candle_core::safetensors::load(folder.join("golden.safetensors"), &Device::Cpu).unwrap();
    let case = golden["cases"].as_array().unwrap().iter().find(|case| case["name"] == "sites").unwrap();
    let rows: Vec<Vec<u32>> = serde_json::from_value(case["request"]["input"].clone()).unwrap();
    let lengths: Vec<_> = rows.iter().map(Vec::len).collect();
    let mut record = Record::default();
    decoder.forward(&rows.concat(), &Segments::from_lengths(&lengths), &mut record).unwrap();

    let names: HashMap<String, String> = serde_json::from_value(case["expect"].clone()).unwrap();
    let sites: Vec<_> = decoder.tree().sites().collect();
    assert_eq!(record.0.keys().copied().collect::<Vec<_>>(), sites);
    for site in sites {
        let Some(key) = names.get(&site.to_string()) else { panic!("{folder:?} has no golden value of {site}") };
        let packing = decoder.tree().packing(site).unwrap();
        let dense = dense(&expected[key], packing, &lengths);
        let found: Vec<f32> = record.0[&site].flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(found.len(), dense.len(), "{folder:?} {site}");
        let largest = dense.iter().filter(|x| x.is_finite()).fold(0.0f32, |largest, x| largest.max(x.abs()));
        for (at, (found, expected)) in found.iter().zip(&dense).enumerate() {
            let same = found == expected || (found - expected).abs() <= TOLERANCE * largest;
            assert!(same, "{folder:?} {site}[{at}] is {found}, not {expected}");
        }
    }
}

/// A left-padded golden value as the packed floats that the decoder has.
fn dense(golden: &Tensor, packing: Packing, lengths: &[usize]) -> Vec<f32> {
    let longest = *lengths.iter().max().unwrap();
    let mut packed = Vec::new();
    for (row, len) in lengths.iter().enumerate() {
        let row = golden.get(row).unwrap();
        let last = |value: &Tensor, axis| value.narrow(axis, longest - len, *len).unwrap();
        let value = match packing {
            Packing::Channels { .. } => last(&row, 0),
            Packing::Heads { .. } => last(&row, 1).transpose(0, 1).unwrap(),
            Packing::Pairs { .. } => last(&last(&row, 1), 2),
        };
        packed.extend(value.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    }
    packed
}
