//! What a generation takes of earlier texts changes nothing but how much is computed.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::again::{MODELS, saves};
use super::sessions::ids;
use crate::common::Random;
use crate::server::Server;

/// One that goes on with a part of an earlier text, or begins a new one, with a few edits and reads.
fn random_body(random: &mut Random, texts: &[Vec<u32>], facts: &Value) -> Value {
    let [vocab, context] = ["vocab", "context"].map(|fact| facts[fact].as_u64().unwrap() as usize);
    let new = 6 + random.below(10);
    let mut row = || -> Vec<u32> {
        let begin = match texts {
            [_, ..] if random.below(6) > 0 => {
                let text = random.of(texts);
                text[..text.len().min(10 + random.below(context.min(64) - new - 13))].to_vec()
            }
            _ => (0..10 + random.below(4)).map(|_| random.below(vocab) as u32).collect(),
        };
        begin.into_iter().chain((0..random.below(4)).map(|_| random.below(vocab) as u32)).collect()
    };
    let rows = [row(), row()];
    let rows = &rows[..1 + random.below(2)];
    let mut graph = Vec::new();
    if random.once_in(3) {
        let shortest = rows.iter().map(Vec::len).min().unwrap();
        let tokens = if random.once_in(2) { "-1".to_owned() } else { format!("{}:", random.below(shortest)) };
        let site = format!("layers.0.output[{}, {tokens}]", random.of(&[":", "0"]));
        let steps = random.of(&["prompt", "all", "new"]);
        let tokens_of_new = *steps == "new" && tokens != "-1";
        let site = if tokens_of_new { "layers.0.output".to_owned() } else { site };
        graph.push(json!({"op": "set", "target": site, "value": {"op": "mul", "args": [site, 1.7]}, "steps": steps}));
    }
    match random.below(4) {
        0 => graph.extend(saves()),
        1 => graph.push(json!({"op": "save", "value": "layers[-1].input[:, 8]", "as": "eighth", "steps": "prompt"})),
        2 => graph.push(json!({"op": "save", "value": "layers.0.mlp.output[:, -1]", "as": "newest"})),
        _ => {}
    }
    json!({
        "input": rows, "graph": graph, "max_new_tokens": new, "ignore_eos": true, "n": 1 + random.below(2),
        "temperature": random.below(2), "seed": random.below(100),
    })
}

/// Everything of an answer that is not of its own run.
fn told(answer: &Value) -> [&Value; 3] {
    ["outputs", "results", "receipts"].map(|field| &answer[field])
}

#[tokio::test]
async fn the_same_is_written() {
    for (number, model) in MODELS.iter().enumerate() {
        let [keeping, forgetting] =
            [Server::with(model).await, Server::with_flags(model, &["--prefix-cache", "0"]).await];
        let facts: Value = keeping.get(&format!("/v1/models/{model}")).await.json().await.unwrap();
        let mut random = Random(4000 + number as u64);
        let (mut texts, mut took, mut ran): (Vec<Vec<u32>>, usize, usize) = (Vec::new(), 0, 0);
        for _ in 0..24 {
            let body = random_body(&mut random, &texts, &facts);
            // an edit may name tokens that a row does not have
            let there = forgetting.post("/v1/generate", &body).await;
            if there.status() != 200 {
                continue;
            }
            let (fresh, kept) = (there.json::<Value>().await.unwrap(), keeping.generate(&body).await);
            assert!(told(&kept) == told(&fresh), "{model}: {body}\n{kept}\nis not\n{fresh}");
            let usage = |answer: &Value, name: &str| answer["usage"][name].as_u64().unwrap_or(0);
            let cached = usage(&kept, "cached_tokens");
            assert!(cached < usage(&kept, "prompt_tokens") && usage(&fresh, "cached_tokens") == 0, "{kept}");
            assert_eq!(cached > 0, usage(&kept, "token_layers") < usage(&fresh, "token_layers"), "{body}: {kept}");
            (took, ran) = (took + usize::from(cached > 0), ran + 1);
            let samples = body["n"].as_u64().unwrap() as usize;
            let outputs = kept["outputs"].as_array().unwrap().iter().step_by(samples);
            let rows = body["input"].as_array().unwrap().iter().zip(outputs);
            texts.extend(rows.map(|(row, output)| [ids(row), ids(&output["ids"])].concat()));
        }
        eprintln!("{model}: {took} of {ran} took what was left");
        assert!(ran > 16 && took > ran / 3, "{model}: {took} of {ran} took what was left");
    }
}

/// A conversation is computed once: what was read, and what was written.
#[tokio::test]
async fn what_was_written_is_known_too() {
    let server = Server::with("llama-gqa-tied").await;
    let cached = |answer: &Value| answer["usage"]["cached_tokens"].as_u64();
    let ask = async |text: &[u32], graph: Value| {
        let body = json!({"input": [text], "max_new_tokens": 12, "ignore_eos": true, "graph": graph});
        server.generate(&body).await
    };
    let prompt: Vec<u32> = (0..20).map(|token| (token * 7 + 1) % 90).collect();
    let first = ask(&prompt, json!([])).await;
    assert_eq!(cached(&first), None);
    let mut text = [&prompt[..], &ids(&first["outputs"][0]["ids"]), &[3, 4, 5]].concat();
    let second = ask(&text, json!([])).await;
    // the newest token was not computed
    assert_eq!((cached(&second), second["usage"]["prompt_tokens"].as_u64()), (Some(31), Some(35)));
    text.extend(ids(&second["outputs"][0]["ids"]));
    text.push(8);
    let trace = json!({"input": [text], "graph": [{"op": "save", "value": "logits[:, -1]", "as": "x"}]});
    assert_eq!(cached(&server.trace(&trace).await), Some(46));
    // what is written under an edit is not what the model makes of it, but the prompt was before it
    let edit = json!([{"op": "set", "target": "layers.1.output[:, -1]", "value": 0.5}]);
    let other: Vec<u32> = prompt.iter().map(|id| id + 3).collect();
    let steered = ask(&other, edit).await;
    let text = [&other[..], &ids(&steered["outputs"][0]["ids"]), &[1]].concat();
    assert_eq!(cached(&ask(&text, json!([])).await), Some(19));
    // samples have their prompt in common, which is counted once
    let samples = json!({"input": [&text[..30]], "n": 5, "max_new_tokens": 2, "ignore_eos": true, "temperature": 1.0});
    let samples = server.generate(&samples).await;
    assert_eq!((cached(&samples), samples["usage"]["prompt_tokens"].as_u64()), (Some(29), Some(30)));
}

/// Conversations of many at once, each of whose turns begins with the one before it: none depends on who has left what.
#[tokio::test]
async fn many_conversations_at_once() {
    let [keeping, forgetting] =
        [Server::with("gemma3").await, Server::with_flags("gemma3", &["--prefix-cache", "0"]).await];
    let talk = async |server: &Server, number: u32| {
        let mut text: Vec<u32> = (0..16).map(|token| (token * 5 + number % 3) % 60).chain([number]).collect();
        let mut cached = 0;
        for turn in 0..4 {
            let body =
                json!({"input": [text], "max_new_tokens": 10, "ignore_eos": true, "temperature": 1.0, "seed": number});
            let answer = server.generate(&body).await;
            text.extend(ids(&answer["outputs"][0]["ids"]));
            text.push(turn);
            cached += answer["usage"]["cached_tokens"].as_u64().unwrap_or(0);
        }
        (text, cached)
    };
    let kept = join_all((0..24).map(|number| talk(&keeping, number))).await;
    let fresh = join_all((0..24).map(|number| talk(&forgetting, number))).await;
    assert!(kept.iter().zip(&fresh).all(|((kept, _), (fresh, _))| kept == fresh));
    let cached = |all: &[(Vec<u32>, u64)]| all.iter().map(|(_, cached)| cached).sum::<u64>();
    assert!(cached(&kept) > 24 * 60 && cached(&fresh) == 0, "{}", cached(&kept));
}
