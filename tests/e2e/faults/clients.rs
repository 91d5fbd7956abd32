//! One client at a time, over a plain socket, that does not keep to HTTP or goes away.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Calm, MODEL, quick, slow};
use crate::server::Server;

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.url().trim_start_matches("http://")).await.unwrap()
}

fn head(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

fn post(body: &str) -> String {
    let headers = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    head("POST", "/v1/trace", &headers) + body
}

/// Sends text, and reads until the server closes the connection or has been silent for a while.
async fn talk(server: &Server, sent: impl AsRef<[u8]>) -> String {
    let mut socket = connect(server).await;
    // the server may close while it is still being sent to
    let _ = socket.write_all(sent.as_ref()).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_millis(400), socket.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn statuses(answer: &str) -> Vec<&str> {
    answer.split("HTTP/1.1 ").skip(1).map(|rest| &rest[..3]).collect()
}

#[tokio::test]
async fn clients_that_hang_up() {
    let calm = Calm::start(&[]).await;
    let body = slow().to_string();
    let whole = post(&body);
    // in the head, in the body, before the answer
    for length in [3, 40, whole.len() - body.len() / 2, whole.len() - 1, whole.len()] {
        for _ in 0..4 {
            let mut socket = connect(&calm.server).await;
            socket.write_all(&whole.as_bytes()[..length]).await.unwrap();
        }
    }
    // in the middle of an answer of megabytes
    let long =
        serde_json::json!({"input": vec![vec![7; 120]; 20], "graph": [{"op": "save", "value": "logits", "as": "x"}]});
    for read in [1, 1 << 10, 1 << 16] {
        let mut socket = connect(&calm.server).await;
        socket.write_all(post(&long.to_string()).as_bytes()).await.unwrap();
        let mut some = vec![0; read];
        socket.read_exact(&mut some).await.unwrap();
    }
    // the jobs of those who went away do not hold up those who stay
    let begin = std::time::Instant::now();
    calm.server.trace(&quick(1)).await;
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    calm.still().await;
}

#[tokio::test]
async fn clients_that_take_their_time() {
    let calm = Calm::start(&[]).await;
    let whole = post(&quick(5).to_string());
    let mut dripping = Vec::new();
    for _ in 0..50 {
        dripping.push(connect(&calm.server).await);
    }
    for byte in whole.as_bytes().chunks(8) {
        for socket in &mut dripping {
            socket.write_all(byte).await.unwrap();
        }
        assert_eq!(calm.server.get("/healthz").await.status(), 200, "others are answered meanwhile");
    }
    for mut socket in dripping {
        let mut start = [0; 12];
        socket.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 200");
    }
    let _silent = connect(&calm.server).await;
    calm.still().await;
}

#[tokio::test]
async fn clients_that_do_not_keep_to_http() {
    let calm = Calm::start(&[]).await;
    let server = &calm.server;
    let json = "Content-Type: application/json\r\n";
    for (what, sent, expected) in [
        ("not HTTP", "hello\r\n\r\n".to_owned(), vec!["400"]),
        ("TLS", "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}".to_owned(), vec!["400"]),
        ("an empty line", "\r\n\r\n".to_owned(), vec![]),
        ("a method nobody has", head("BREW", "/v1/trace", ""), vec!["405"]),
        ("a path with a space", head("GET", "/v1/ models", ""), vec!["400"]),
        ("a header without a colon", head("GET", "/healthz", "nonsense\r\n"), vec!["400"]),
        ("a length in words", head("POST", "/v1/trace", &format!("{json}Content-Length: many\r\n")), vec!["400"]),
        ("a negative length", head("POST", "/v1/trace", &format!("{json}Content-Length: -1\r\n")), vec!["400"]),
        (
            "two lengths",
            head("POST", "/v1/trace", &format!("{json}Content-Length: 2\r\nContent-Length: 3\r\n")),
            vec!["400"],
        ),
        (
            "chunks that are none",
            head("POST", "/v1/trace", &format!("{json}Transfer-Encoding: chunked\r\n")) + "zz\r\n",
            vec!["400"],
        ),
        (
            "a length beyond every limit",
            head("POST", "/v1/trace", &format!("{json}Content-Length: 9000000000000000000\r\n")),
            vec!["413"],
        ),
        (
            "a tensor of that length",
            head("PUT", "/v1/tensors/a", &format!("{json}Content-Length: 9000000000000000000\r\n")),
            vec!["413"],
        ),
        ("a hundred and more headers", head("GET", "/healthz", &"X-A: b\r\n".repeat(200)), vec!["431"]),
        ("a header of a megabyte", head("GET", "/healthz", &format!("X-A: {}\r\n", "b".repeat(1 << 20))), vec!["431"]),
        ("a path of a megabyte", head("GET", &format!("/{}", "a".repeat(1 << 20)), ""), vec!["431"]),
        ("HEAD", head("HEAD", "/v1/models", ""), vec!["200"]),
        ("HEAD where nothing is to be got", head("HEAD", "/v1/trace", ""), vec!["405"]),
        ("OPTIONS", head("OPTIONS", "*", ""), vec!["404"]),
        ("CONNECT", head("CONNECT", "localhost:80", ""), vec!["404"]),
        ("another host", "GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), vec!["403"]),
        (
            "several at once",
            head("GET", "/healthz", "") + &post(&quick(1).to_string()) + &head("GET", "/v1/nothing", ""),
            vec!["200", "200", "404"],
        ),
        ("one of them wrong", post("{") + &head("GET", "/healthz", ""), vec!["400", "200"]),
        ("an upgrade", head("GET", "/healthz", "Connection: Upgrade\r\nUpgrade: websocket\r\n"), vec!["200"]),
        ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned() + &"\0".repeat(100), vec![]),
        ("no host at all", "GET /healthz HTTP/1.0\r\n\r\n".to_owned(), vec![]),
    ] {
        let answer = talk(server, &sent).await;
        let found = statuses(&answer);
        eprintln!("{what}: {found:?}");
        let short: String = answer.chars().take(300).collect();
        assert!(expected.is_empty() || found == expected, "{what}: {found:?} in place of {expected:?}: {short}");
        assert_eq!(server.get("/healthz").await.status(), 200, "{what}");
    }
    let bodiless = talk(server, head("HEAD", "/v1/trace", "")).await;
    assert!(bodiless.ends_with("\r\n\r\n"), "{bodiless:?}");
    calm.still().await;
}

/// As Python's `http.client` does it: everything is sent before the answer is looked at.
#[tokio::test]
async fn a_refusal_reaches_those_who_send_everything_first() {
    let calm = Calm::start(&["--max-body-bytes", "100000"]).await;
    let megabytes = "x".repeat(20 << 20);
    for (path, media, status) in [
        ("/v1/trace", "application/json", "413"),
        ("/v1/trace", "text/plain", "415"),
        ("/v1/nothing", "text/plain", "404"),
    ] {
        for framing in [format!("Content-Length: {}\r\n", megabytes.len()), "Transfer-Encoding: chunked\r\n".to_owned()]
        {
            let mut socket = connect(&calm.server).await;
            let chunked = framing.starts_with('T');
            let head = head("POST", path, &format!("Content-Type: {media}\r\n{framing}"));
            socket.write_all(head.as_bytes()).await.unwrap();
            if chunked {
                socket.write_all(format!("{:x}\r\n", megabytes.len()).as_bytes()).await.unwrap();
            }
            socket.write_all(megabytes.as_bytes()).await.unwrap_or_else(|error| panic!("{status}: {error}"));
            let ending = if chunked { "\r\n0\r\n\r\n" } else { "" };
            // the connection goes on
            socket
                .write_all((ending.to_owned() + &super::clients::head("GET", "/healthz", "")).as_bytes())
                .await
                .unwrap();
            let mut answer = Vec::new();
            let _ = tokio::time::timeout(Duration::from_millis(500), socket.read_to_end(&mut answer)).await;
            assert_eq!(statuses(&String::from_utf8_lossy(&answer)), [status, "200"], "{path} {media}");
        }
    }
    calm.still().await;
}

#[tokio::test]
async fn truncated_json() {
    let calm = Calm::start(&[]).await;
    let body = calm.recorded.cases.last().unwrap()["request"].to_string();
    for length in (0..body.len()).filter(|length| body.is_char_boundary(*length)).step_by(body.len() / 200 + 1) {
        let request =
            calm.server.request(reqwest::Method::POST, "/v1/trace").header("content-type", "application/json");
        let response = request.body(body[..length].to_owned()).send().await.unwrap();
        assert_eq!(response.status(), 400);
        assert_eq!(response.json::<Value>().await.unwrap()["code"], "malformed");
    }
    assert_eq!(calm.server.get(&format!("/v1/models/{MODEL}")).await.status(), 200);
    calm.still().await;
}
