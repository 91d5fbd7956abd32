//! The command line: the same work in this process and by a server, and how a server is started and stopped.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::{Server, golden, patchbay};

/// Files for commands to read and write.
struct Desk {
    folder: TempDir,
    model: String,
}

impl Desk {
    fn new() -> Self {
        let model = format!("tiny={}", golden("llama-rope3").display());
        Self { folder: tempfile::tempdir().unwrap(), model }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name).display().to_string()
    }

    /// A trace on text, steered by `@joy`.
    fn trace(&self) -> String {
        let body = json!({"model": "tiny", "input": ["the cat", "a"], "graph": [
            {"op": "steer", "layers": 1, "vector": "@joy"},
            {"op": "save", "value": "layers.*.output[:, -1]", "as": "h"},
            {"op": "top_tokens", "value": "logits[:, -1]", "k": 2, "as": "next"},
        ]});
        self.write("trace.json", body.to_string())
    }

    fn joy(&self) -> String {
        format!("joy={}", self.write("joy.json", json!(vec![0.25; 24]).to_string()))
    }
}

fn run(arguments: &[&str]) -> Output {
    patchbay().args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What a command printed, without what differs from run to run.
fn printed(arguments: &[&str]) -> Value {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    settle(serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}")))
}

fn settle(mut answer: Value) -> Value {
    let mut drop_from = |place: &str, fields: &[&str]| {
        if let Some(object) = answer.pointer_mut(place).and_then(Value::as_object_mut) {
            fields.iter().for_each(|field| drop(object.remove(*field)));
        }
    };
    drop_from("", &["id"]);
    drop_from("/usage", &["queue_ms", "compute_ms"]);
    drop_from("/data/0", &["created", "load_ms"]);
    answer
}

#[tokio::test]
async fn here_and_there_give_the_same() {
    let desk = Desk::new();
    let server = Server::start(&["--model", &desk.model]);
    server.ready().await;
    let (file, joy) = (desk.trace(), desk.joy());
    let here = ["--model", desk.model.as_str()];
    let there = ["--server", server.url()];
    let named = ["--server", server.url(), "--model", "tiny"];
    let with = |command: &str, place: &[&str], more: &[&str]| {
        printed(&[&[command, &file], place, &["--tensor", &joy], more].concat())
    };
    for (command, more) in [("trace", &[][..]), ("validate", &[]), ("trace", &["--input", "he"])] {
        let answer = with(command, &here, more);
        assert!(answer["results"]["h"]["shape"] == json!([3, if more.is_empty() { 2 } else { 1 }, 24]), "{answer}");
        assert!(answer == with(command, &there, more), "{command} by a server");
        assert!(answer == with(command, &named, more), "{command} by a server and a name");
    }
    let look = |command: &str, place: [&str; 2]| printed(&[command, "--json", place[0], place[1]]);
    let by_server = |command: &str, model: &str| printed(&[command, "--json", model, "--server", server.url()]);
    for command in ["tree", "check"] {
        assert_eq!(printed(&[command, "--json", &desk.model]), by_server(command, "tiny"), "{command}");
    }
    let models = printed(&["models", "--json", &desk.model]);
    assert_eq!(models, look("models", there));
    assert_eq!(models, by_server("models", "tiny"));
    for (arguments, part) in [
        (["tree", &desk.model], "layers.i.self_attn.probs"),
        (["check", &desk.model], "attention_rows"),
        (["models", &desk.model], "llama"),
    ] {
        let table = String::from_utf8(run(&arguments).stdout).unwrap();
        assert!(table.contains(part) && table.lines().count() > 1, "{table}");
    }
}

#[tokio::test]
async fn refusals_are_the_same_too() {
    let desk = Desk::new();
    let server = Server::start(&["--model", &desk.model]);
    server.ready().await;
    let bad =
        desk.write("bad.json", r#"{"input": "x", "graph": [{"op": "save", "value": "layers.9.output", "as": "x"}]}"#);
    for place in [["--model", desk.model.as_str()], ["--server", server.url()]] {
        for command in ["trace", "validate"] {
            let output = run(&[&[command, &bad], place.as_slice()].concat());
            assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), b"".as_slice()));
            let said = said(&output);
            let expected = "there is no layer 9\n   at: /graph/0/value\n hint: this model has layers 0 to 2\n";
            assert!(said.ends_with(expected) && said.starts_with("error: "), "{said}");
        }
    }
    let gone = run(&["models", "--server", "http://127.0.0.1:1"]);
    assert!(gone.status.code() == Some(1) && said(&gone).contains("http://127.0.0.1:1"), "{}", said(&gone));
    let other = run(&["tree", "nope", "--server", server.url()]);
    assert!(other.status.code() == Some(1) && said(&other).contains("`tiny`"), "{}", said(&other));
}

#[test]
fn files_in_and_out() {
    let desk = Desk::new();
    let (file, joy) = (desk.trace(), desk.joy());
    let from_file = printed(&["trace", &file, "--model", &desk.model, "--tensor", &joy]);
    // from standard input
    let mut child = patchbay()
        .args(["trace", "-", "--model", &desk.model, "--tensor", &joy])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&std::fs::read(&file).unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(settle(serde_json::from_slice(&output.stdout).unwrap()) == from_file);
    // to files
    let (out, tensors) =
        (desk.path("out.json").display().to_string(), desk.path("out.safetensors").display().to_string());
    for to in [&out, &tensors] {
        let output = run(&["trace", &file, "--model", &desk.model, "--tensor", &joy, "-o", to]);
        assert!(output.status.success() && output.stdout.is_empty(), "{}", said(&output));
    }
    assert!(settle(serde_json::from_slice(&std::fs::read(out).unwrap()).unwrap()) == from_file);
    let bytes = std::fs::read(&tensors).unwrap();
    let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(read.tensor("h").unwrap().shape(), [3, 2, 24]);
    // the name of the file decides, and nothing is added to what is printed
    let lists = json!({"input": [[1]], "output": {"encoding": "json", "dtype": "f16"}, "graph": [
        {"op": "save", "value": "layers.0.output", "as": "h"}]});
    let lists = desk.write("lists.json", lists.to_string());
    assert!(run(&["trace", &lists, "--model", &desk.model, "-o", &tensors]).status.success());
    let file = std::fs::read(&tensors).unwrap();
    assert_eq!(
        safetensors::SafeTensors::deserialize(&file).unwrap().tensor("h").unwrap().dtype(),
        safetensors::Dtype::F16
    );
    let binary =
        desk.write("binary.json", std::fs::read_to_string(&lists).unwrap().replace("\"json\"", "\"safetensors\""));
    let printed_file = run(&["trace", &binary, "--model", &desk.model]).stdout;
    assert!(safetensors::SafeTensors::deserialize(&printed_file).is_ok());
    std::fs::write(&tensors, bytes).unwrap();
    // the tensors of an answer are tensors for another trace; a graph alone needs an input
    let graph = desk.write("graph.json", r#"[{"op": "save", "value": "@mine.h[0, 0]", "as": "x"}]"#);
    let mine = format!("mine={tensors}");
    let again = printed(&["trace", &graph, "--model", &desk.model, "--tensor", &mine, "--input", "a", "--input", "he"]);
    assert_eq!(again["results"]["x"]["data"], from_file["results"]["h"]["data"][0][0]);
    assert_eq!(again["inputs"]["input"]["lengths"].as_array().unwrap().len(), 2);
}

#[test]
fn mistakes_name_the_file_or_the_flag() {
    let desk = Desk::new();
    let (file, model) = (desk.trace(), desk.model.as_str());
    let broken = desk.write("broken.json", "{\"input\": ");
    let number = desk.write("number.json", "7");
    let graph = desk.write("graph.json", "[]");
    let nonsense = format!("x={}", desk.write("x.safetensors", "nonsense"));
    let missing = desk.path("missing.json").display().to_string();
    let into_nowhere = desk.path("no/such/folder.json").display().to_string();
    for (arguments, says) in [
        (vec!["trace", &missing, "--model", model], vec!["missing.json", "cannot be read"]),
        (vec!["trace", &broken, "--model", model], vec!["broken.json", "not valid JSON", "line 1"]),
        (vec!["trace", &number, "--model", model], vec!["number.json"]),
        (vec!["trace", &graph, "--model", model], vec!["graph.json", "--input"]),
        (vec!["trace", &file], vec!["--model tiny=SOURCE"]),
        (vec!["trace", &file, "--model", model], vec!["`@joy`", "/graph/0/vector"]),
        (vec!["trace", &file, "--model", model, "--tensor", "joy"], vec!["NAME=FILE"]),
        (vec!["trace", &file, "--model", model, "--tensor", "joy=/no/file"], vec!["/no/file"]),
        (vec!["trace", &file, "--model", model, "--tensor", &nonsense], vec!["x.safetensors", "safetensors"]),
        (vec!["trace", &file, "--model", model, "--tensor", "a.b=x"], vec![""]),
        (vec!["trace", &file, "--model", "/no/such/folder"], vec!["/no/such/folder", "org/name"]),
        (vec!["trace", &file, "--server", "localhost:8420"], vec!["--server", "http://127.0.0.1:8420"]),
        (
            vec!["trace", &file, "--model", model, "--input", "a", "--output", &into_nowhere, "--tensor", "j=y"],
            vec![""],
        ),
        (vec!["tree", model, "--dtype", "q4"], vec!["q4", "`bf16`"]),
        (vec!["tree", model, "--device", "tpu"], vec!["tpu", "`cpu`"]),
        (vec!["tree", model, "--log", "=="], vec!["=="]),
        (vec!["models"], vec!["--server URL"]),
        (vec!["serve", "--model", "a=x/y", "--model", "a=x/z"], vec!["two models are named `a`", "NAME=SOURCE"]),
        (vec!["serve", "--model", "a+b=x/y"], vec!["\"a+b\"", "letters"]),
        (vec!["serve", "--host", "0.0.0.0"], vec!["0.0.0.0", "no keys are configured"]),
        (vec!["serve", "--host", "::"], vec!["no keys are configured"]),
        (vec!["serve", "--host", "lab-box"], vec!["lab-box", "IP address"]),
        (vec!["serve", "--config", "/no/file.toml"], vec!["/no/file.toml"]),
    ] {
        let output = run(&arguments);
        let said = said(&output);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{arguments:?}: {said}");
        assert!(said.starts_with("error: "), "{arguments:?}: {said}");
        assert!(says.iter().all(|part| said.contains(part)), "{arguments:?}: {says:?} is not in: {said}");
    }
    for arguments in [vec!["trace"], vec!["serve", "--port", "x"], vec!["serve", "--max-rows", "-1"], vec!["dance"]] {
        assert_eq!(run(&arguments).status.code(), Some(2), "{arguments:?}");
    }
}

/// Starts a server and reads what it prints until it is told to end.
fn output_of(arguments: &[&str]) -> (String, Option<i32>) {
    let mut child =
        patchbay().arg("serve").args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    out.read_line(&mut text).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    out.read_to_string(&mut text).unwrap();
    (text, child.wait().unwrap().code())
}

#[test]
fn one_line_says_where_it_listens() {
    for host in ["127.0.0.1", "::1", "localhost"] {
        if host == "::1" && TcpListener::bind("[::1]:0").is_err() {
            continue; // a machine without IPv6
        }
        let (text, code) = output_of(&["--port", "0", "--host", host]);
        let shown = if host == "::1" { "[::1]" } else { "127.0.0.1" };
        let port = text.strip_prefix(&format!("listening on http://{shown}:")).and_then(|rest| rest.strip_suffix('\n'));
        assert!(port.is_some_and(|port| port.parse::<u16>().unwrap() > 0), "{text:?}");
        assert_eq!(code, Some(0), "told to end, it ends well");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_said() {
    let server = Server::start(&[]);
    let port = server.url().rsplit(':').next().unwrap().to_owned();
    let output = run(&["serve", "--port", &port]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    assert!(said(&output).contains("--port") && said(&output).contains(&port), "{}", said(&output));
}

#[tokio::test]
async fn flags_before_variables_before_the_file() {
    let desk = Desk::new();
    let text = format!("port = 1\nmodel = [{:?}]\nmax_rows = 3\nmax_tokens = 30\nqueue = 5\n", desk.model);
    let config = desk.write("patchbay.toml", text);
    let start = |set: &[(&str, &str)], flags: &[&str]| {
        Server::spawn(
            patchbay().args(["serve", "--config", &config, "--port", "0"]).args(flags).envs(set.iter().copied()),
        )
    };
    let limit = async |server: &Server| {
        server.ready().await;
        let body = json!({"input": vec![vec![1]; 9], "graph": []});
        server.refused("/v1/trace", &body, 413).await["detail"].as_str().unwrap().to_owned()
    };
    assert!(limit(&start(&[], &[])).await.contains("max_rows is 3"));
    let variable = [("PATCHBAY_MAX_ROWS", "4")];
    assert!(limit(&start(&variable, &[])).await.contains("max_rows is 4"));
    assert!(limit(&start(&variable, &["--max-rows", "5"])).await.contains("max_rows is 5"));
    let model = format!("other={}", golden("gpt2").display());
    let server = start(&[("PATCHBAY_MODEL", &model)], &[]);
    server.ready().await;
    let list: Value = server.get("/v1/models").await.json().await.unwrap();
    let names: Vec<&str> = list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["other"]);
    let unknown = desk.write("unknown.toml", "prot = 1");
    let output = run(&["serve", "--config", &unknown]);
    assert!(output.status.code() == Some(1) && said(&output).contains("`prot`"), "{}", said(&output));
    assert!(Path::new(&config).exists());
}

#[tokio::test]
async fn told_to_end_it_answers_what_is_under_way() {
    let desk = Desk::new();
    let mut server = Server::start(&["--model", &desk.model]);
    server.ready().await;
    let body = json!({"input": [[1]], "graph": [{"op": "save", "value": 2.5, "as": "x"}]}).to_string();
    let head = format!(
        "POST /v1/trace HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let address = server.url().trim_start_matches("http://").to_owned();
    let mut socket = TcpStream::connect(&address).unwrap();
    socket.write_all(head.as_bytes()).unwrap();
    socket.write_all(&body.as_bytes()[..20]).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    server.terminate();
    let begin = Instant::now();
    while TcpStream::connect(&address).is_ok() {
        assert!(begin.elapsed() < Duration::from_secs(10), "it still takes connections");
        std::thread::sleep(Duration::from_millis(20));
    }
    socket.write_all(&body.as_bytes()[20..]).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"data\":2.5"), "{answer}");
    assert_eq!(server.wait().code(), Some(0));
}

/// Hugging Face's own activations of a golden model, and the same with one number changed.
#[test]
fn a_model_is_held_against_recorded_activations() {
    let folder = golden("mistral");
    let recorded =
        candle_core::safetensors::load(folder.join("golden.safetensors"), &candle_core::Device::Cpu).unwrap();
    let about: Value = serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
    let case = &about["cases"][0];
    let ids: Vec<i64> = serde_json::from_value(case["request"]["input"][1].clone()).unwrap();
    let mut file = std::collections::HashMap::new();
    file.insert("input_ids".to_owned(), candle_core::Tensor::new(vec![ids], &candle_core::Device::Cpu).unwrap());
    for (site, key) in case["expect"].as_object().unwrap() {
        // the second row, which is the longer one and not padded
        file.insert(site.clone(), recorded[key.as_str().unwrap()].narrow(0, 1, 1).unwrap());
    }
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("reference.safetensors");
    let check = |file: &std::collections::HashMap<String, candle_core::Tensor>, more: &[&str]| {
        candle_core::safetensors::save(file, &path).unwrap();
        let (model, path) = (folder.display().to_string(), path.display().to_string());
        run(&[&["check", model.as_str(), "--against", &path], more].concat())
    };
    let output = check(&file, &["--tolerance", "1e-4"]);
    assert!(output.status.success(), "{}", said(&output));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("layers.2.self_attn.scores") && table.contains("architecture mistral: proven"), "{table}");

    let moved = (&file["layers.1.mlp.output"] * 1.01).unwrap();
    file.insert("layers.1.mlp.output".to_owned(), moved);
    let output = check(&file, &["--json"]);
    assert!(!output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let failed: Vec<&Value> = report["against"].as_array().unwrap().iter().filter(|s| s["passed"] == false).collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0]["site"], "layers.1.mlp.output");

    file.insert("layers.9.output".to_owned(), file["logits"].clone());
    assert!(said(&check(&file, &[])).contains("layers 0 to 2"), "the site is refused as in a trace");
    file.remove("input_ids");
    assert!(said(&check(&file, &[])).contains("input_ids"));
}
