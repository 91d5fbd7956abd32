//! What fuzzing starts from: the requests of the golden data and of the book.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use patchbay_graph::text::{TextGraph, print};
use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The requests of the golden data.
fn golden() -> Vec<Value> {
    let golden = std::fs::read_dir(root().join("tests/golden")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        golden.map(|folder| folder.join("golden.json")).filter(|file| file.is_file()).collect();
    files.sort();
    let mut requests = Vec::new();
    for file in files {
        let recorded: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let cases = recorded["cases"].as_array().unwrap();
        requests.extend(cases.iter().map(|case| case["request"].clone()));
    }
    requests
}

/// Bodies of traces. Golden ones come with short lists only, which is where a mutation does something.
pub(crate) fn requests() -> Vec<Value> {
    let mut requests = golden();
    for text in blocks("sh") {
        requests
            .extend(text.split("-d '").skip(1).filter_map(|rest| serde_json::from_str(rest.split('\'').next()?).ok()));
    }
    requests.extend(lists_of_nodes().into_iter().map(|graph| json!({"input": "The capital is", "graph": graph})));
    requests.extend(texts().into_iter().map(|graph| json!({"input": ["The capital is", "it"], "graph": graph})));
    let mut seen = HashSet::new();
    requests.retain(|request| seen.insert(request.to_string()) && request.to_string().len() < 4096);
    assert!(requests.len() > 100, "{} requests were found", requests.len());
    requests
}

/// Graphs in the text form.
pub(crate) fn texts() -> Vec<String> {
    let mut texts: Vec<String> = ["text", "also", "refused"].into_iter().flat_map(blocks).collect();
    texts.retain(|text| TextGraph::parse(text).is_ok() || text.contains("---"));
    let golden = golden();
    let graphs = golden.iter().map(|request| &request["graph"]);
    let lists = lists_of_nodes();
    texts.extend(lists.iter().chain(graphs).filter_map(|nodes| print(nodes.as_array()?).ok()));
    let mut seen = HashSet::new();
    texts.retain(|text| text.len() < 2048 && seen.insert(text.clone()));
    assert!(texts.len() > 10, "{} texts were found", texts.len());
    texts
}

fn lists_of_nodes() -> Vec<Value> {
    let lists = blocks("json").into_iter().filter_map(|text| serde_json::from_str(&text).ok());
    lists.filter(|list: &Value| list.is_array()).collect()
}

/// The fenced blocks of the book in one language.
fn blocks(language: &str) -> Vec<String> {
    let mut pages: Vec<PathBuf> =
        std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.sort();
    let pages = pages.iter().filter(|page| page.extension().is_some_and(|kind| kind == "md"));
    let fence = format!("```{language}\n");
    let of_page = |page: &PathBuf| {
        let text = std::fs::read_to_string(page).unwrap();
        let blocks: Vec<String> =
            text.split(&fence).skip(1).filter_map(|rest| Some(rest.split("```").next()?.to_owned())).collect();
        blocks
    };
    pages.flat_map(of_page).collect()
}
