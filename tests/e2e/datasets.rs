//! `patchbay dataset`: requests over the rows of a file, here and by a server, stopped and gone on with.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;

use serde_json::json;

use crate::server::{Server, golden, patchbay};

const ROWS: &str = "{\"text\": \"the cat\", \"id\": 1}\n\n{\"text\": \"a\"}\n{\"text\": \"the\"}\n{\"text\": \"cat a\"}\n{\"text\": \"a a\"}\n";

fn run(folder: &Path, rows: &str, request: &str, into: &str, more: &[&str]) -> Output {
    let mut command = patchbay();
    command.current_dir(folder).args(["dataset", rows, request, "--into", into, "--batch-size", "2"]).args(more);
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A tensor's shape and its bytes.
type Stored = (Vec<usize>, Vec<u8>);

/// The tensors of each part.
fn parts(folder: &Path) -> Vec<BTreeMap<String, Stored>> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "safetensors"));
    files.sort();
    let read = |file: &std::path::PathBuf| {
        let bytes = std::fs::read(file).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let owned = tensors.tensors().into_iter();
        owned.map(|(name, view)| (name, (view.shape().to_vec(), view.data().to_vec()))).collect()
    };
    files.iter().map(read).collect()
}

#[tokio::test]
async fn rows_run_in_parts_and_go_on_where_they_stopped() {
    let desk = tempfile::tempdir().unwrap();
    let folder = desk.path();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write("rows.jsonl", ROWS);
    let graph = json!([{"op": "save", "value": "layers.1.output[:, -1]", "as": "h"}]);
    write("trace.json", &json!({"input": "{text}", "graph": graph}).to_string());
    write("recipe.json", &json!({"recipe": "activations", "input": "{text}", "layers": [1]}).to_string());
    let source = format!("tiny={}", golden("llama-rope3").display());
    let here = ["--model", source.as_str()];

    let made = run(folder, "rows.jsonl", "trace.json", "traced", &here);
    assert!(made.status.success() && said(&made).contains("3 parts written, 0 were there"), "{}", said(&made));
    let traced = parts(&folder.join("traced"));
    assert_eq!(traced.iter().map(|part| part["h"].0[0]).collect::<Vec<_>>(), [2, 2, 1]);

    // a server gives the same numbers, and so does the recipe, which has layers in front
    let server = Server::with("llama-rope3").await;
    let there = ["--server", server.url()];
    for (request, into) in [("trace.json", "there"), ("recipe.json", "cooked")] {
        let made = run(folder, "rows.jsonl", request, into, &there);
        assert!(made.status.success(), "{}", said(&made));
    }
    assert_eq!(parts(&folder.join("there")), traced);
    let cooked = parts(&folder.join("cooked"));
    for (part, traced) in cooked.iter().zip(&traced) {
        assert_eq!(part["activations"].1, traced["h"].1);
    }
    let made = run(folder, "rows.jsonl", "recipe.json", "cooked here", &here);
    assert!(made.status.success(), "{}", said(&made));
    assert_eq!(parts(&folder.join("cooked here")), cooked);

    // what is there stays, and what is missing is made
    let second = folder.join("traced/part-00001.safetensors");
    std::fs::remove_file(&second).unwrap();
    std::fs::write(folder.join("traced/part-00002.safetensors"), "as it is").unwrap();
    let again = run(folder, "rows.jsonl", "trace.json", "traced", &here);
    assert!(said(&again).contains("1 parts written, 2 were there"), "{}", said(&again));
    assert!(second.exists());
    assert_eq!(std::fs::read(folder.join("traced/part-00002.safetensors")).unwrap(), b"as it is");
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let desk = tempfile::tempdir().unwrap();
    let folder = desk.path();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write("rows.jsonl", ROWS);
    write("trace.json", &json!({"input": "{text}", "graph": "save layers.99.output as h"}).to_string());
    let source = format!("tiny={}", golden("llama-rope3").display());
    let here = ["--model", source.as_str()];
    let refused = |rows: &str, request: &str, into: &str, expected: &[&str]| {
        let output = run(folder, rows, request, into, &here);
        assert!(!output.status.success(), "{}", said(&output));
        for part in expected {
            assert!(said(&output).contains(part), "{part}: {}", said(&output));
        }
    };
    refused("rows.jsonl", "trace.json", "out", &["line 3 of rows.jsonl", "layers.99", "0 to 2"]);
    write("other.json", &json!({"input": "{word}", "graph": []}).to_string());
    refused("rows.jsonl", "other.json", "out", &["another request", "take another folder"]);
    let other = run(folder, "rows.jsonl", "trace.json", "out", &["--model", "else=nowhere"]);
    assert!(said(&other).contains("another model"), "{}", said(&other));
    let none = run(folder, "rows.jsonl", "trace.json", "none", &[]);
    assert!(said(&none).contains("no model is given"), "{}", said(&none));
    for (fields, said) in [
        (json!({"async": true}), "leave `async` out"),
        (json!({"explain": true}), "leave `explain` out"),
        (json!({"output": 5}), "/output"),
    ] {
        let mut body = json!({"input": "{text}", "graph": "save logits as x"});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        write("odd.json", &body.to_string());
        refused("rows.jsonl", "odd.json", &format!("odd {said}").replace('/', " "), &[said]);
    }
    refused("rows.jsonl", "other.json", "other", &["no column `word`", "`text`"]);
    write("broken.jsonl", "{\"text\": \"a\"}\n{\"text\": \n");
    refused("broken.jsonl", "trace.json", "broken", &["line 2 of broken.jsonl"]);
    refused("missing.jsonl", "trace.json", "missing", &["missing.jsonl cannot be read"]);
    refused("rows.parquet", "trace.json", "parquet", &["JSONL"]);
    assert_eq!(parts(&folder.join("out")).len(), 0);
}
