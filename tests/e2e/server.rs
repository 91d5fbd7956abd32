//! A patchbay of its own for each test.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;

/// How long a load may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running server; it is killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    url: String,
    client: Client,
}

/// The program, without the settings of whoever runs the tests.
pub(crate) fn patchbay() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchbay"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PATCHBAY_") {
            command.env_remove(name);
        }
    }
    command
}

/// The folder of a golden model.
pub(crate) fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

/// A file or folder of the folder that `PATCHBAY_TEST_MODELS` names, where it is there.
pub(crate) fn real_model(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("PATCHBAY_TEST_MODELS").map(PathBuf::from);
    let found = folder.map(|folder| folder.join(name)).filter(|path| path.exists());
    if found.is_none() {
        eprintln!("skipped: there is no {name} in the folder PATCHBAY_TEST_MODELS; ./test fetches SmolLM2's GGUF file");
    }
    found
}

impl Server {
    /// Starts a server with these arguments on a free port, and waits until it listens.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::spawn(patchbay().args(["serve", "--port", "0"]).args(arguments))
    }

    /// Starts a server by this command, and waits until it listens.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}")).to_owned();
        Self { child, url, client: Client::builder().no_proxy().build().unwrap() }
    }

    /// A server with one golden model, ready.
    pub(crate) async fn with(model: &str) -> Self {
        let source = format!("{model}={}", golden(model).display());
        let server = Self::start(&["--model", &source]);
        server.ready().await;
        server
    }

    /// The same, started with these flags.
    pub(crate) async fn with_flags(model: &str, flags: &[&str]) -> Self {
        let source = format!("{model}={}", golden(model).display());
        let server = Self::start(&[&["--model", &source], flags].concat());
        server.ready().await;
        server
    }

    /// Whether the process comes to rest: it does hardly anything for a while.
    pub(crate) async fn is_idle(&self) -> bool {
        for _ in 0..50 {
            let before = self.ticks();
            tokio::time::sleep(Duration::from_millis(300)).await;
            if self.ticks() - before <= 3 {
                return true;
            }
        }
        false
    }

    /// Hundredths of a second that the process has computed; 0 where the system does not say.
    fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
    }

    /// Waits until every model is ready.
    pub(crate) async fn ready(&self) {
        let begin = Instant::now();
        loop {
            let response = self.get("/readyz").await;
            match response.status() {
                StatusCode::OK => return,
                status => assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE),
            }
            let problem: Value = response.json().await.unwrap();
            assert!(begin.elapsed() < PATIENCE && problem["code"] != "model_failed", "{problem}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// `http://HOST:PORT`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The process's number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Bytes of memory by a line of the system's account of the process (`VmRSS` now, `VmHWM` at most so far); 0 where it gives none.
    pub(crate) fn memory(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let kib =
            status.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':')?.trim().strip_suffix(" kB"));
        kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10
    }

    /// Asks the process to end, as a service manager does.
    pub(crate) fn terminate(&self) {
        assert!(Command::new("kill").args(["-TERM", &self.id().to_string()]).status().unwrap().success());
    }

    /// Waits until the process has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// A request.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    /// Gets a path.
    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    /// Posts a body.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Response {
        self.request(Method::POST, path).json(body).send().await.unwrap()
    }

    /// Puts a body.
    pub(crate) async fn put(&self, path: &str, body: &Value) -> Response {
        self.request(Method::PUT, path).json(body).send().await.unwrap()
    }

    /// Runs a trace that has to succeed.
    pub(crate) async fn trace(&self, body: &Value) -> Value {
        let response = self.post("/v1/trace", body).await;
        let status = response.status();
        let answer: Value = response.json().await.unwrap();
        assert_eq!(status, StatusCode::OK, "{body}\n{answer}");
        answer
    }

    /// Runs a generation that has to succeed.
    pub(crate) async fn generate(&self, body: &Value) -> Value {
        let response = self.post("/v1/generate", body).await;
        let status = response.status();
        let answer: Value = response.json().await.unwrap();
        assert_eq!(status, StatusCode::OK, "{body}\n{answer}");
        answer
    }

    /// Posts a body that has to be refused with this status, and gives the problem.
    pub(crate) async fn refused(&self, path: &str, body: &Value, status: u16) -> Value {
        let response = self.post(path, body).await;
        let (found, media) = (response.status(), response.headers()["content-type"].clone());
        let problem: Value = response.json().await.unwrap();
        assert_eq!(found, status, "{body}\n{problem}");
        assert_eq!(media, "application/problem+json");
        assert_eq!(problem["status"], status);
        problem
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which a test that cares about it has seen.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
