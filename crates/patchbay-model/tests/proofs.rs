//! `proofs.json` and the table in `docs/proofs.md` say what the golden data prove, no more and no less.
//!
//! `PATCHBAY_BLESS=1 cargo nextest run --workspace -E 'binary(proofs)'` writes both.

#![allow(clippy::unwrap_used, reason = "a test stops where something fails")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use patchbay_graph::{LayerSite, Site};
use patchbay_model::{Proof, proofs, supported_model_types};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every site's general name, in the order of the forward pass.
fn sites() -> Vec<String> {
    let inner = LayerSite::ALL.into_iter().map(|site| general(&Site::Layer(0, site).to_string()));
    let last = [Site::LnFinalInput, Site::LnFinalOutput, Site::LmHead, Site::Logits];
    [Site::EmbedTokens.to_string()].into_iter().chain(inner).chain(last.map(|site| site.to_string())).collect()
}

/// `layers.3.output` as `layers.i.output`.
fn general(site: &str) -> String {
    match site.strip_prefix("layers.").and_then(|rest| rest.split_once('.')) {
        Some((layer, rest)) if layer.parse::<usize>().is_ok() => format!("layers.i.{rest}"),
        _ => site.to_owned(),
    }
}

/// What the golden folders with a model of their own record.
fn recorded() -> BTreeMap<String, Proof> {
    let mut found: BTreeMap<String, Proof> = BTreeMap::new();
    let mut folders: Vec<_> =
        std::fs::read_dir(root().join("tests/golden")).unwrap().map(|e| e.unwrap().path()).collect();
    folders.sort();
    for folder in folders.iter().filter(|folder| folder.join("config.json").is_file()) {
        let golden: Value = serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
        let cases = golden["cases"].as_array().unwrap().iter();
        let plain = |case: &Value| case["request"]["inputs"].is_null();
        let nodes = cases.filter(|case| plain(case)).flat_map(|case| {
            let expected = |node: &&Value| case["expect"].get(node["as"].as_str().unwrap_or_default()).is_some();
            case["request"]["graph"].as_array().unwrap().iter().filter(expected).collect::<Vec<_>>()
        });
        let saved: Vec<String> = nodes.filter_map(|node| node["value"].as_str()).map(general).collect();
        let proof = found.entry(golden["model_type"].as_str().unwrap().to_owned()).or_default();
        proof.goldens.push(folder.file_name().unwrap().to_str().unwrap().to_owned());
        let known = std::mem::take(&mut proof.sites);
        proof.sites = sites().into_iter().filter(|site| known.contains(site) || saved.contains(site)).collect();
    }
    found
}

/// The table of architecture by site.
fn table(proofs: &BTreeMap<String, Proof>) -> String {
    let sites = sites();
    let mut lines = vec![
        "# What is proven".to_owned(),
        String::new(),
        "Sites whose every value was recorded from Hugging Face transformers on a tiny model of the architecture, and which".into(),
        "the tests hold to it within 1e-4 of the site's largest value. A site without a mark is one that the architecture".into(),
        "lacks, or that is not recorded. `GET /v1/models/{id}/checks` says the same of a loaded model. Made from the golden".into(),
        "data by `crates/patchbay-model/tests/proofs.rs`.".into(),
        String::new(),
    ];
    let short = |site: &String| format!("`{}`", site.strip_prefix("layers.i.").unwrap_or(site));
    lines.push(format!(
        "| architecture | golden models | {} |",
        sites.iter().map(short).collect::<Vec<_>>().join(" | ")
    ));
    lines.push(format!("|{}", "---|".repeat(sites.len() + 2)));
    for (name, proof) in proofs {
        let marks: Vec<&str> = sites.iter().map(|site| if proof.sites.contains(site) { "●" } else { "" }).collect();
        lines.push(format!("| `{name}` | {} | {} |", proof.goldens.join(", "), marks.join(" | ")));
    }
    lines.join("\n") + "\n"
}

#[test]
fn proofs_are_what_the_golden_data_hold() {
    let recorded = recorded();
    let (list, page) = (root().join("crates/patchbay-model/proofs.json"), root().join("docs/proofs.md"));
    let json = serde_json::to_string_pretty(&recorded).unwrap() + "\n";
    if std::env::var_os("PATCHBAY_BLESS").is_some() {
        std::fs::write(&list, &json).unwrap();
        std::fs::write(&page, table(&recorded)).unwrap();
    }
    let found = std::fs::read_to_string(&list).unwrap();
    assert!(found == json, "proofs.json is not what the golden data hold; PATCHBAY_BLESS=1 writes it anew");
    let found = std::fs::read_to_string(&page).unwrap();
    assert!(found == table(&recorded), "docs/proofs.md is not what the golden data hold");
}

#[test]
fn every_proof_is_of_an_architecture_and_has_what_all_have() {
    assert!(!proofs().is_empty());
    for (name, proof) in proofs() {
        assert!(supported_model_types().contains(&name.as_str()), "{name}");
        for site in ["layers.i.self_attn.probs", "layers.i.self_attn.heads", "layers.i.mlp.output", "logits"] {
            assert!(proof.sites.iter().any(|known| known == site), "{name} lacks {site}");
        }
    }
}
