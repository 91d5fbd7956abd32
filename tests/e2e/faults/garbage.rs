//! Bodies made by chance: whatever they are, the answer is a result or a refusal, and never a fault of the server.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{Calm, soup};

/// How many bodies of each kind; `PROPTEST_CASES` asks for more.
const CASES: u32 = 400;

fn runner() -> TestRunner {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let config = Config { cases: asked.unwrap_or(CASES), failure_persistence: None, ..Config::default() };
    // the same garbage every time, so that a count of what ran is one too
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// Sends a body, and fails where the answer is none that a client can cause.
async fn send(calm: &Calm, method: Method, path: &str, body: Vec<u8>) -> Result<(u16, Value), TestCaseError> {
    let request = calm.server.request(method, path).header("content-type", "application/json").body(body);
    let response = request.send().await.map_err(|error| TestCaseError::fail(format!("{path}: {error:?}")))?;
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    let answer: Value =
        serde_json::from_str(&text).map_err(|_| TestCaseError::fail(format!("{path}: {status} {text}")))?;
    prop_assert!(status < 500, "{path}: {status} {answer}");
    prop_assert!(status < 300 || answer["code"].is_string(), "{path}: {status} {answer}");
    Ok((status, answer))
}

#[test]
fn bytes() {
    let runtime = Runtime::new().unwrap();
    let calm = runtime.block_on(Calm::start(&[]));
    let good = calm.recorded.cases[0]["request"].to_string().into_bytes();
    let change = (any::<prop::sample::Index>(), any::<u8>(), any::<prop::sample::Index>());
    let changed = change.prop_map(move |(at, byte, cut)| {
        let mut bytes = good.clone();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(cut.index(bytes.len()).max(at + 1));
        bytes
    });
    let any_bytes = prop::collection::vec(any::<u8>(), 0..200);
    let outcome = runner().run(&prop_oneof![any_bytes, changed], |bytes| {
        runtime.block_on(async {
            for (method, path) in [
                (Method::POST, "/v1/trace"),
                (Method::POST, "/v1/tokenize"),
                (Method::POST, "/v1/detokenize"),
                (Method::PUT, "/v1/tensors/a"),
                (Method::PUT, "/v1/models/a+b"),
            ] {
                send(&calm, method, path, bytes.clone()).await?;
            }
            let put = calm.server.request(Method::PUT, "/v1/tensors/a");
            let put = put.header("content-type", "application/vnd.safetensors").body(bytes);
            prop_assert!(put.send().await.unwrap().status().as_u16() < 500);
            Ok(())
        })
    });
    outcome.unwrap();
    runtime.block_on(calm.still());
}

/// Validates a body and runs it: both refuse alike, or what was promised is what comes. Returns whether it ran.
async fn run_as_promised(calm: &Calm, body: &Value) -> Result<bool, TestCaseError> {
    let bytes = body.to_string().into_bytes();
    let (status, promised) = send(calm, Method::POST, "/v1/validate", bytes.clone()).await?;
    let (ran, found) = send(calm, Method::POST, "/v1/trace", bytes).await?;
    if std::env::var_os("PATCHBAY_SHOW").is_some() {
        eprintln!("{ran} {} {}", found["code"], found["detail"]);
    }
    // only the forward pass knows which places and tokens a computed index means
    if (status, ran) == (200, 422) && found["code"] == "index_out_of_range" {
        return Ok(false);
    }
    prop_assert_eq!(status, ran, "trace and validate differ: {} and {}", promised, found);
    if ran != 200 {
        prop_assert_eq!(promised, found, "trace and validate refuse alike");
        return Ok(false);
    }
    for (name, planned) in promised["results"].as_object().unwrap() {
        let result = &found["results"][name];
        let same = planned.get("top_tokens").is_some()
            || (&planned["shape"], &planned["dtype"], planned.get("lengths"))
                == (&result["shape"], &result["dtype"], result.get("lengths"));
        prop_assert!(same, "{}: promised {}, found {}", name, planned, result);
    }
    for field in ["passes", "layers_run"] {
        prop_assert_eq!(&promised["plan"][field], &found["usage"][field], "{}", field);
    }
    Ok(true)
}

#[test]
fn graphs() {
    let runtime = Runtime::new().unwrap();
    let calm = runtime.block_on(Calm::start(&["--max-peak-bytes", "100000000"]));
    runtime.block_on(calm.server.put("/v1/tensors/joy", &json!(vec![0.25; 24])));
    runtime.block_on(calm.server.put("/v1/tensors/many", &json!({"k": [[1.0, 2.0]], "l": 3})));
    let ran = Cell::new(0);
    let outcome = runner().run(&soup::body(), |body| {
        if runtime.block_on(run_as_promised(&calm, &body))? {
            ran.set(ran.get() + 1);
        }
        Ok(())
    });
    outcome.unwrap();
    eprintln!("{} graphs ran", ran.get());
    assert!(ran.get() > 10, "hardly one of the graphs was right");
    runtime.block_on(calm.still());
}
