//! The Hub, against a stand-in of its HTTP API on a loopback socket: the same requests, headers and error codes.

#![allow(clippy::unwrap_used, reason = "helpers of tests stop the test, as tests do")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path as Route, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use common::fixture;
use patchbay_checkpoint::{Checkpoint, CheckpointError, HubSettings, Source, open};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TAGGED: &str = "89abcdef0123456789abcdef0123456789abcdef";

/// One repository, `org/tiny`: what each commit holds, and who may read it.
struct Hub {
    commits: BTreeMap<&'static str, BTreeMap<String, Vec<u8>>>,
    token: Option<&'static str>,
    refusal: StatusCode,
    downloads: AtomicUsize,
    /// Whether it says which files there are, as not all mirrors do.
    lists: bool,
}

impl Hub {
    fn serve(self) -> Stand {
        let hub = Arc::new(self);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new()
            .route("/{org}/{name}/resolve/{revision}/{*file}", axum::routing::any(resolve))
            .route("/api/models/{org}/{name}", axum::routing::get(describe))
            .route("/api/models/{org}/{name}/revision/{revision}", axum::routing::get(describe))
            .with_state(hub.clone());
        runtime.spawn(async move { axum::serve(listener, routes).await });
        Stand { hub, endpoint, cache: tempfile::tempdir().unwrap(), runtime: Some(runtime) }
    }
}

/// A hub that runs, and a cache of its own.
struct Stand {
    hub: Arc<Hub>,
    endpoint: String,
    cache: tempfile::TempDir,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Stand {
    fn settings(&self) -> HubSettings {
        HubSettings {
            endpoint: Some(self.endpoint.clone()),
            cache: Some(self.cache.path().to_path_buf()),
            token: Some("read-me".to_owned()),
            offline: false,
        }
    }

    fn stop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    fn downloads(&self) -> usize {
        self.hub.downloads.load(Ordering::SeqCst)
    }
}

fn refuse(status: StatusCode, code: &'static str) -> Response {
    (status, [("x-error-code", code)]).into_response()
}

/// The commit that a revision is.
fn commit(org: &str, name: &str, revision: &str) -> Result<&'static str, Box<Response>> {
    match (format!("{org}/{name}").as_str(), revision) {
        ("org/tiny", "main" | COMMIT) => Ok(COMMIT),
        ("org/tiny", "v1" | TAGGED) => Ok(TAGGED),
        ("org/tiny", _) => Err(refuse(StatusCode::NOT_FOUND, "RevisionNotFound").into()),
        _ => Err(refuse(StatusCode::NOT_FOUND, "RepoNotFound").into()),
    }
}

async fn describe(State(hub): State<Arc<Hub>>, Route(route): Route<BTreeMap<String, String>>) -> Response {
    let revision = route.get("revision").map_or("main", String::as_str);
    match commit(&route["org"], &route["name"], revision) {
        Ok(sha) if hub.lists => {
            let name = |name| serde_json::json!({"rfilename": name});
            let siblings: Vec<_> = hub.commits[sha].keys().map(name).collect();
            axum::Json(serde_json::json!({"id": "org/tiny", "sha": sha, "siblings": siblings})).into_response()
        }
        Ok(sha) => axum::Json(serde_json::json!({"id": "org/tiny", "sha": sha})).into_response(),
        Err(refusal) => *refusal,
    }
}

async fn resolve(
    State(hub): State<Arc<Hub>>,
    Route((org, name, revision, file)): Route<(String, String, String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if hub.token.is_some_and(|token| authorization != Some(&format!("Bearer {token}"))) {
        return refuse(hub.refusal, "GatedRepo");
    }
    let commit = match commit(&org, &name, &revision) {
        Ok(commit) => commit,
        Err(refusal) => return *refusal,
    };
    let Some(bytes) = hub.commits[commit].get(&file) else {
        let found = [("x-error-code", "EntryNotFound"), ("x-repo-commit", commit)];
        return (StatusCode::NOT_FOUND, found).into_response();
    };
    let etag = format!("\"{commit}-{}-{}\"", file.replace(|c: char| !c.is_ascii_alphanumeric(), "-"), bytes.len());
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, [("x-repo-commit", commit)]).into_response();
    }
    if method == Method::GET {
        hub.downloads.fetch_add(1, Ordering::SeqCst);
    }
    let described = [("etag", etag), ("x-repo-commit", commit.to_owned())];
    (described, bytes.clone()).into_response()
}

/// The files of a tiny Llama whose `config.json` says which commit it is of.
fn files(mark: &str) -> BTreeMap<String, Vec<u8>> {
    BTreeMap::from([
        ("config.json".to_owned(), format!(r#"{{"model_type": "llama", "mark": "{mark}"}}"#).into_bytes()),
        ("model.safetensors".to_owned(), std::fs::read(fixture("tiny-llama.safetensors")).unwrap()),
    ])
}

fn hub() -> Hub {
    Hub {
        commits: BTreeMap::from([(COMMIT, files("main")), (TAGGED, files("tagged"))]),
        token: None,
        refusal: StatusCode::UNAUTHORIZED,
        downloads: AtomicUsize::new(0),
        lists: true,
    }
}

fn load(source: &str, settings: &HubSettings) -> Result<Checkpoint, CheckpointError> {
    open(&Source::parse(source).unwrap(), settings, &|_| ())
}

fn mark(checkpoint: &Checkpoint) -> &str {
    checkpoint.config.opt_str("mark").unwrap().unwrap()
}

#[test]
fn a_model_is_downloaded_once_and_then_found_in_the_cache() {
    let mut stand = hub().serve();
    let events = Mutex::new(Vec::new());
    let watch = |event| events.lock().unwrap().push(event);
    let first = open(&Source::parse("org/tiny").unwrap(), &stand.settings(), &watch).unwrap();
    assert_eq!((mark(&first), stand.downloads()), ("main", 2));
    assert!(first.weights.contains("model.norm.weight"));
    assert!(first.tokenizer.is_none());
    assert!(first.origin.starts_with(stand.cache.path()) && first.origin.ends_with(Path::new(COMMIT)));
    let events = events.into_inner().unwrap();
    let size = std::fs::metadata(fixture("tiny-llama.safetensors")).unwrap().len();
    let whole = |event: &patchbay_checkpoint::ProgressEvent| {
        event.stage == "download" && event.what == "model.safetensors" && (event.done, event.total) == (size, size)
    };
    assert!(events.iter().any(whole), "{events:?}");

    load("org/tiny", &stand.settings()).unwrap();
    assert_eq!(stand.downloads(), 2);

    stand.stop();
    let offline = HubSettings { offline: true, ..stand.settings() };
    assert_eq!(mark(&load("org/tiny", &offline).unwrap()), "main");
    assert_eq!(mark(&load(&format!("org/tiny@{COMMIT}"), &offline).unwrap()), "main");
}

#[test]
fn a_revision_is_a_branch_a_tag_or_a_commit() {
    let stand = hub().serve();
    assert_eq!(mark(&load("org/tiny@v1", &stand.settings()).unwrap()), "tagged");
    assert_eq!(mark(&load(&format!("org/tiny@{TAGGED}"), &stand.settings()).unwrap()), "tagged");
    assert_eq!(mark(&load("org/tiny", &stand.settings()).unwrap()), "main");
    let error = load("org/tiny@v2", &stand.settings()).unwrap_err().to_string();
    assert!(error.contains("org/tiny@v2") && error.contains("no such revision"), "{error}");
}

#[test]
fn shards_and_the_tokenizers_files_come_along() {
    let mut hub = hub();
    let files = hub.commits.get_mut(COMMIT).unwrap();
    let weights = files.remove("model.safetensors").unwrap();
    files.insert("model-00001-of-00001.safetensors".to_owned(), weights);
    let index = br#"{"weight_map": {"model.norm.weight": "model-00001-of-00001.safetensors"}}"#;
    files.insert("model.safetensors.index.json".to_owned(), index.to_vec());
    files.insert("generation_config.json".to_owned(), br#"{"eos_token_id": [1]}"#.to_vec());
    let stand = hub.serve();
    let checkpoint = load("org/tiny", &stand.settings()).unwrap();
    assert!(checkpoint.weights.contains("model.layers.1.mlp.up_proj.weight"));
    assert!(checkpoint.origin.join("generation_config.json").exists());
}

#[test]
fn all_additional_chat_templates_come_along() {
    let mut hub = hub();
    let templates = ["tool_use", "rag", "Ünï code"].map(|name| format!("additional_chat_templates/{name}.jinja"));
    let others = ["additional_chat_templates/notes.txt", "additional_chat_templates/deep/x.jinja", "unread.jinja"];
    let files = hub.commits.get_mut(COMMIT).unwrap();
    let named = |name: &str| (name.to_owned(), name.as_bytes().to_vec());
    files.extend(templates.iter().map(String::as_str).chain(others).map(named));
    let mut mirror = Hub { lists: false, commits: hub.commits.clone(), ..self::hub() }.serve();
    let mut stand = hub.serve();
    let origin = load("org/tiny", &stand.settings()).unwrap().origin;
    for name in &templates {
        assert_eq!(std::fs::read_to_string(origin.join(name)).unwrap(), *name);
    }
    assert!(others.iter().all(|name| !origin.join(name).exists()));
    stand.stop();
    let offline = HubSettings { offline: true, ..stand.settings() };
    load("org/tiny", &offline).unwrap();
    let origin = load("org/tiny", &mirror.settings()).unwrap().origin;
    assert_eq!(templates.map(|name| origin.join(name).exists()), [true, false, false], "what is always asked for");
    mirror.stop();
}

#[test]
fn two_shards_of_pytorch_come_along() {
    let mut hub = hub();
    let files = hub.commits.get_mut(COMMIT).unwrap();
    files.remove("model.safetensors");
    files.extend(common::torch_shards());
    let stand = hub.serve();
    let weights = load("org/tiny", &stand.settings()).unwrap().weights;
    assert_eq!(stand.downloads(), 4);
    let expected = candle_core::safetensors::load(fixture("torch.safetensors"), &candle_core::Device::Cpu).unwrap();
    for (name, expected) in &expected {
        let found = weights.get(name, expected.dims(), candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
        let numbers = |tensor: &candle_core::Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(numbers(&found), numbers(expected), "{name}");
    }
}

#[test]
fn pytorch_weights_are_the_second_choice() {
    let mut hub = hub();
    let files = hub.commits.get_mut(COMMIT).unwrap();
    files.insert("pytorch_model.bin".to_owned(), std::fs::read(fixture("torch.bin")).unwrap());
    let mut without = files.clone();
    without.remove("model.safetensors");
    hub.commits.insert(TAGGED, without);
    let stand = hub.serve();
    assert!(load("org/tiny", &stand.settings()).unwrap().weights.contains("model.norm.weight"));
    assert_eq!(stand.downloads(), 2);
    assert!(load("org/tiny@v1", &stand.settings()).unwrap().weights.contains("linear.weight"));
}

#[test]
fn a_sentencepiece_model_comes_along_where_there_is_no_tokenizer_json() {
    let mut hub = hub();
    let files = hub.commits.get_mut(COMMIT).unwrap();
    let model = std::fs::read(fixture("sentencepiece/llama.model")).unwrap();
    files.insert("tokenizer.model".to_owned(), model);
    files.insert("added_tokens.json".to_owned(), br#"{"<fim>": 420}"#.to_vec());
    let mut both = files.clone();
    both.insert(
        "tokenizer.json".to_owned(),
        br#"{"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}"#.to_vec(),
    );
    hub.commits.insert(TAGGED, both);
    let stand = hub.serve();
    let tokenizer = load("org/tiny", &stand.settings()).unwrap().tokenizer.unwrap();
    assert_eq!((tokenizer.id("<s>"), tokenizer.id("<fim>")), (Some(1), Some(420)));
    let checkpoint = load("org/tiny@v1", &stand.settings()).unwrap();
    assert_eq!(checkpoint.tokenizer.unwrap().vocab_size(), 1);
    assert!(!checkpoint.origin.join("tokenizer.model").exists());
}

#[test]
fn weights_that_are_not_read_are_not_fetched() {
    let mut hub = hub();
    let config = br#"{"model_type": "llama", "quantization_config": {"quant_method": "gptq", "bits": 4}}"#;
    hub.commits.get_mut(COMMIT).unwrap().insert("config.json".to_owned(), config.to_vec());
    let stand = hub.serve();
    let error = load("org/tiny", &stand.settings()).unwrap_err().to_string();
    assert!(error.contains("\"gptq\" (4 bits)"), "{error}");
    assert_eq!(stand.downloads(), 1);
}

#[test]
fn a_token_is_sent_and_a_refusal_says_what_to_do() {
    let stand = Hub { token: Some("read-me"), ..hub() }.serve();
    load("org/tiny", &stand.settings()).unwrap();
    for (refusal, expected) in [(StatusCode::UNAUTHORIZED, "401"), (StatusCode::FORBIDDEN, "accept its terms")] {
        let stand = Hub { token: Some("another"), refusal, ..hub() }.serve();
        let error = load("org/tiny", &stand.settings()).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("HF_TOKEN"), "{error}");
        assert!(!error.contains("read-me") && !format!("{:?}", stand.settings()).contains("read-me"));
    }
}

#[test]
fn what_is_not_there_is_said() {
    let mut hub = hub();
    hub.commits.get_mut(COMMIT).unwrap().remove("model.safetensors");
    let stand = hub.serve();
    let error = load("org/tiny", &stand.settings()).unwrap_err().to_string();
    assert!(error.contains("it has no model.safetensors"), "{error}");
    let error = load("org/other", &stand.settings()).unwrap_err().to_string();
    assert!(error.contains("no such model"), "{error}");
}

#[test]
fn neither_network_nor_cache_is_an_error_with_both_ways_out() {
    let mut stand = hub().serve();
    stand.stop();
    let error = load("org/tiny", &HubSettings { offline: true, ..stand.settings() }).unwrap_err().to_string();
    assert!(error.contains("config.json is not in the cache") && error.contains("HF_HUB_OFFLINE"), "{error}");
    let error = load("org/tiny", &stand.settings()).unwrap_err().to_string();
    assert!(error.contains("cannot be reached") && error.contains("HF_ENDPOINT"), "{error}");
}

#[test]
fn a_load_may_start_inside_a_runtime() {
    let stand = hub().serve();
    let settings = stand.settings();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let checkpoint = runtime.block_on(async { load("org/tiny", &settings) }).unwrap();
    assert_eq!(mark(&checkpoint), "main");
}
