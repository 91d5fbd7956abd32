//! The documentation's examples, run as they stand.
//!
//! Every `curl` command in a fenced `sh` block of the README and of `docs/` is sent to a server with SmolLM2, with the header
//! and the body that it has, also from a file; what stands in the `json` block after it has to be in the answer. There `"…"` stands for anything, a list that ends in it may go on, an object
//! may have more fields, and numbers may differ by a thousandth.

use std::path::{Path, PathBuf};

use reqwest::Method;
use serde_json::{Value, json};

use crate::server::Server;
use crate::smollm2::smollm2;

/// One command, and what is shown of its answer.
struct Example {
    place: String,
    method: Method,
    path: String,
    body: Option<Body>,
    shown: Option<Value>,
}

/// What a command sends.
struct Body {
    media: String,
    bytes: Vec<u8>,
}

/// The repository, where every command is run.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn pages() -> Vec<PathBuf> {
    let root = root();
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<PathBuf> = docs.filter(|path| path.extension().is_some_and(|kind| kind == "md")).collect();
    pages.sort();
    pages.insert(0, root.join("README.md"));
    pages
}

/// The fenced blocks of a page: language, text, line.
fn blocks(text: &str) -> Vec<(String, String, usize)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String, usize)> = None;
    for (number, line) in text.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some((language.trim().to_owned(), String::new(), number + 1)),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, text, _))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

fn examples(page: &Path) -> Vec<Example> {
    let text = std::fs::read_to_string(page).unwrap();
    let blocks = blocks(&text);
    let mut examples = Vec::new();
    for (i, (language, text, line)) in blocks.iter().enumerate() {
        if language != "sh" || !text.contains("localhost:8420/") {
            continue;
        }
        let place = format!("{}:{line}", page.file_name().unwrap().to_string_lossy());
        let mut found: Vec<Example> = text.split("curl ").skip(1).map(|command| command_of(command, &place)).collect();
        if let (Some((_, shown, _)), Some(last)) =
            (blocks.get(i + 1).filter(|(language, ..)| language == "json"), found.last_mut())
        {
            last.shown = Some(serde_json::from_str(shown).unwrap_or_else(|error| panic!("{place}: {error}")));
        }
        examples.append(&mut found);
    }
    examples
}

/// Reads a curl command as a shell would, as far as the documentation needs it.
fn command_of(command: &str, place: &str) -> Example {
    let after = |flag: &str| command.split_once(flag).map(|(_, rest)| rest.trim_start());
    let url = after("localhost:8420").unwrap_or_else(|| panic!("{place}: {command}"));
    let path = url.split([' ', '\n', '\'', '"']).next().unwrap().to_owned();
    let quoted = |flag: &str| after(flag).map(|rest| rest.split_once('\'').map_or(rest, |(text, _)| text));
    let media = quoted("-H 'content-type: ").unwrap_or("application/x-www-form-urlencoded").to_owned();
    let json = quoted("-d '").map(|text| {
        let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{place}: {error}: {text}"));
        value.to_string().into_bytes()
    });
    let file = after("--data-binary @").map(|rest| {
        let file = root().join(rest.split_whitespace().next().unwrap());
        std::fs::read(&file).unwrap_or_else(|error| panic!("{place}: {}: {error}", file.display()))
    });
    let body = json.or(file).map(|bytes| Body { media, bytes });
    let method = match after("-X ") {
        Some(rest) => rest.split_whitespace().next().unwrap().parse().unwrap(),
        None if body.is_some() => Method::POST,
        None => Method::GET,
    };
    Example { place: place.to_owned(), method, path, body, shown: None }
}

/// Whether an answer has in it what is shown of it; the place of the first difference if not.
fn differs(shown: &Value, found: &Value, at: &str) -> Option<String> {
    let wrong = || Some(format!("{at}: shown is {shown}, the answer has {found}"));
    match (shown, found) {
        (Value::String(text), _) if text == "…" => None,
        (Value::Object(shown), Value::Object(found)) => shown.iter().find_map(|(key, value)| {
            let Some(there) = found.get(key) else {
                return Some(format!("{at}/{key} is not in the answer: {found:?}"));
            };
            differs(value, there, &format!("{at}/{key}"))
        }),
        (Value::Array(shown), Value::Array(found)) => {
            let open = shown.last().is_some_and(|last| last == "…");
            let fixed = &shown[..shown.len() - usize::from(open)];
            if found.len() < fixed.len() || (!open && found.len() != fixed.len()) {
                return wrong();
            }
            fixed
                .iter()
                .zip(found)
                .enumerate()
                .find_map(|(i, (shown, found))| differs(shown, found, &format!("{at}/{i}")))
        }
        (Value::Number(a), Value::Number(b)) if !at.contains("_ms") => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            if (a - b).abs() <= 1e-3 * a.abs().max(1.0) { None } else { wrong() }
        }
        (Value::Number(_), Value::Number(_)) => None,
        (shown, found) if shown == found => None,
        _ => wrong(),
    }
}

#[tokio::test]
async fn every_example_answers_as_the_page_shows() {
    let Some(file) = smollm2() else { return };
    let server = Server::start(&["--hub-offline", "--model", &format!("smollm2={}", file.display())]);
    server.ready().await;
    keep_joy(&server).await;
    let mut ran = 0;
    for page in pages() {
        for example in examples(&page) {
            let mut request = server.request(example.method.clone(), &example.path);
            if let Some(Body { media, bytes }) = &example.body {
                request = request.header("content-type", media).body(bytes.clone());
            }
            let response = request.send().await.unwrap();
            let status = response.status();
            let text = response.text().await.unwrap();
            let answer: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
            let place = &example.place;
            match &example.shown {
                Some(shown) => assert_eq!(differs(shown, &answer, ""), None, "{place}"),
                None => assert!(status.is_success(), "{place}: {answer}"),
            }
            ran += 1;
        }
    }
    assert!(ran >= 29, "only {ran} examples were found");
}

/// `@joy`, as `./try` makes it.
async fn keep_joy(server: &Server) {
    let script = include_str!("../../try");
    let body = script.split_once("ask POST /v1/trace '").and_then(|(_, rest)| rest.split_once('\'')).unwrap().0;
    server.trace(&serde_json::from_str(body).unwrap()).await;
    let list: Value = server.get("/v1/tensors").await.json().await.unwrap();
    assert_eq!(list["data"][0]["tensors"]["joy"], json!({"dtype": "f32", "shape": [576]}));
}
