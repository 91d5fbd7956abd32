//! Models from a stand-in of the Hub's HTTP API, through the command line and through a server.

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::server::{Server, golden, patchbay};

const MAIN: &str = "0123456789abcdef0123456789abcdef01234567";
const TAGGED: &str = "89abcdef0123456789abcdef0123456789abcdef";

/// One repository, `org/tiny`, for those who have its token: `main` is a Llama, the tag `v1` a GPT-2.
struct Hub {
    endpoint: String,
    cache: TempDir,
    downloads: Arc<AtomicUsize>,
    runtime: Option<Runtime>,
}

impl Hub {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let downloads = Arc::new(AtomicUsize::new(0));
        let routes = Router::new()
            .route("/{org}/{name}/resolve/{revision}/{*file}", any(resolve))
            .route("/api/models/{org}/{name}", get(describe))
            .route("/api/models/{org}/{name}/revision/{revision}", get(describe))
            .with_state(Arc::clone(&downloads));
        runtime.spawn(async move { axum::serve(listener, routes).await });
        Self { endpoint, cache: tempfile::tempdir().unwrap(), downloads, runtime: Some(runtime) }
    }

    fn stop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    /// A command that uses this hub and its cache.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = patchbay();
        for name in ["HF_TOKEN", "HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE"] {
            command.env_remove(name);
        }
        command.args(arguments).args(["--hub-endpoint", &self.endpoint, "--hub-cache"]).arg(self.cache.path());
        command
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn refuse(status: StatusCode, code: &'static str) -> Response {
    (status, [("x-error-code", code)]).into_response()
}

/// The commit that a revision is, and the golden model that it holds.
fn commit(id: &str, revision: &str) -> Result<(&'static str, &'static str), Box<Response>> {
    match (id, revision) {
        ("org/tiny", "main" | MAIN) => Ok((MAIN, "llama-rope3")),
        ("org/tiny", "v1" | TAGGED) => Ok((TAGGED, "gpt2")),
        ("org/tiny", _) => Err(refuse(StatusCode::NOT_FOUND, "RevisionNotFound").into()),
        _ => Err(refuse(StatusCode::NOT_FOUND, "RepoNotFound").into()),
    }
}

async fn describe(Path(route): Path<BTreeMap<String, String>>) -> Response {
    let revision = route.get("revision").map_or("main", String::as_str);
    match commit(&format!("{}/{}", route["org"], route["name"]), revision) {
        Ok((sha, _)) => axum::Json(json!({"id": "org/tiny", "sha": sha})).into_response(),
        Err(refusal) => *refusal,
    }
}

async fn resolve(
    State(downloads): State<Arc<AtomicUsize>>,
    Path((org, name, revision, file)): Path<(String, String, String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    if headers.get(header::AUTHORIZATION).is_none_or(|found| found != "Bearer open-sesame") {
        return refuse(StatusCode::UNAUTHORIZED, "GatedRepo");
    }
    let (commit, model) = match commit(&format!("{org}/{name}"), &revision) {
        Ok(found) => found,
        Err(refusal) => return *refusal,
    };
    let Ok(bytes) = std::fs::read(golden(model).join(&file)) else {
        return (StatusCode::NOT_FOUND, [("x-error-code", "EntryNotFound"), ("x-repo-commit", commit)]).into_response();
    };
    if method == Method::GET {
        downloads.fetch_add(1, Ordering::SeqCst);
    }
    ([("etag", format!("\"{commit}-{file}-{}\"", bytes.len())), ("x-repo-commit", commit.to_owned())], bytes)
        .into_response()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn models(output: &Output) -> Value {
    assert!(output.status.success(), "{}", said(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_hub_id_is_downloaded_once_and_found_in_the_cache_without_a_network() {
    let mut hub = Hub::start();
    let list = |hub: &Hub, source: &str, more: &[&str]| {
        let arguments: Vec<&str> = ["models", source, "--json"].iter().chain(more).copied().collect();
        hub.command(&arguments).env("PATCHBAY_HUB_TOKEN", "open-sesame").output().unwrap()
    };
    let first = models(&list(&hub, "org/tiny", &[]));
    let model = &first["data"][0];
    assert_eq!((&model["id"], &model["source"]), (&json!("tiny"), &json!("org/tiny")));
    assert_eq!((&model["architecture"], &model["tokenizer"]), (&json!("llama"), &json!(true)));
    let downloads = hub.downloads.load(Ordering::SeqCst);
    assert!(downloads >= 3, "{downloads}");
    models(&list(&hub, "org/tiny", &[]));
    assert_eq!(hub.downloads.load(Ordering::SeqCst), downloads, "the second time it is there");

    for revision in ["v1", TAGGED] {
        let tagged = models(&list(&hub, &format!("old=org/tiny@{revision}"), &[]));
        assert_eq!((&tagged["data"][0]["id"], &tagged["data"][0]["architecture"]), (&json!("old"), &json!("gpt2")));
    }
    for (source, expected) in [("org/tiny@v2", "no such revision"), ("org/other", "no such model")] {
        let refused = list(&hub, source, &[]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(said(&refused).contains(expected) && said(&refused).contains(source), "{}", said(&refused));
    }

    hub.stop();
    let offline = models(&list(&hub, "org/tiny", &["--hub-offline"]));
    assert_eq!(offline["data"][0]["architecture"], "llama");
    let elsewhere = list(&hub, "org/other", &["--hub-offline"]);
    assert_eq!(elsewhere.status.code(), Some(1));
    assert!(said(&elsewhere).contains("not in the cache"), "{}", said(&elsewhere));
}

#[test]
fn a_token_is_asked_for_and_never_shown() {
    let hub = Hub::start();
    for token in [None, Some("wrong-token")] {
        let arguments = ["check", "org/tiny", "--log", "debug"];
        let token = token.map_or(vec![], |token| vec!["--hub-token", token]);
        let refused = hub.command(&arguments).args(token).output().unwrap();
        assert_eq!(refused.status.code(), Some(1));
        let said = said(&refused);
        assert!(said.contains("org/tiny") && said.contains("HF_TOKEN") && !said.contains("wrong-token"), "{said}");
    }
    let flag = hub.command(&["check", "org/tiny", "--hub-token", "open-sesame"]).output().unwrap();
    assert!(flag.status.success(), "{}", said(&flag));
    assert!(String::from_utf8(flag.stdout).unwrap().contains("passed"));
}

#[tokio::test]
async fn a_server_loads_a_hub_id_and_says_why_it_could_not() {
    let hub = tokio::task::spawn_blocking(Hub::start).await.unwrap();
    let cache = hub.cache.path().display().to_string();
    let hub_flags = ["--hub-endpoint", &hub.endpoint, "--hub-cache", &cache, "--hub-token", "open-sesame"];
    let server = Server::start(&[["--model", "org/tiny@v1"].as_slice(), &hub_flags].concat());
    server.ready().await;
    let view: Value = server.get("/v1/models/tiny").await.json().await.unwrap();
    assert_eq!((&view["source"], &view["architecture"]), (&json!("org/tiny@v1"), &json!("gpt2")));
    server.put("/v1/models/none", &json!({"source": "org/none"})).await;
    let error = loop {
        let view: Value = server.get("/v1/models/none").await.json().await.unwrap();
        if let Some(error) = view["error"].as_str() {
            break error.to_owned();
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert!(error.contains("org/none") && error.contains("no such model"), "{error}");
}
