//! Recipes' results as SVG.

use reqwest::Method;
use serde_json::{Value, json};

use super::cook;
use super::hands::{bodies, server};
use crate::server::Server;

async fn picture(server: &Server, name: &str, body: &Value) -> Result<String, u16> {
    let response = server.post(&format!("/v1/recipes/{name}?format=svg"), body).await;
    match response.status().as_u16() {
        200 => {
            assert_eq!(response.headers()["content-type"], "image/svg+xml");
            Ok(response.text().await.unwrap())
        }
        status => {
            assert_eq!(response.json::<Value>().await.unwrap()["code"], "unsupported");
            Err(status)
        }
    }
}

#[tokio::test]
async fn every_recipe_has_a_picture_or_says_that_it_has_none() {
    let server = server().await;
    for (name, body) in bodies() {
        let none = match name {
            "activations" | "patchscope-generate" => true,
            "sae" => body["action"] != "clamp",
            "attention-patterns" => body["patterns"] == json!(false),
            _ => false,
        };
        match picture(&server, name, &body).await {
            Ok(svg) => {
                assert!(!none, "{name} {body}");
                let read = roxmltree::Document::parse(&svg).unwrap_or_else(|error| panic!("{name}: {error}\n{svg}"));
                let rectangles = read.descendants().filter(|node| node.has_tag_name("rect")).count();
                assert!(rectangles > 1 && !svg.contains("NaN\""), "{name} {body}\n{svg}");
            }
            Err(status) => assert!(none && status == 422, "{name} {body}: {status}"),
        }
    }
}

#[tokio::test]
async fn a_picture_tells_the_values_and_a_job_has_one() {
    let server = Server::with("llama-rope3").await;
    let body = json!({
        "clean": [[1, 2, 3, 4]], "corrupt": [[1, 9, 3, 4]], "layers": [0, 2], "positions": [1, -1], "metric": {"logit_diff": [7, 9]}
    });
    let grid = cook(&server, "patching-sweep", &body).await["results"]["grid"]["data"].clone();
    let svg = picture(&server, "patching-sweep", &body).await.unwrap();
    let read = roxmltree::Document::parse(&svg).unwrap();
    let told: Vec<&str> =
        read.descendants().filter(|node| node.has_tag_name("title")).filter_map(|node| node.text()).collect();
    assert_eq!(told.len(), 4);
    for (told, (row, column)) in told.iter().zip([(0, 0), (0, 1), (1, 0), (1, 1)]) {
        let value: f64 = told.rsplit(' ').next().unwrap().parse().unwrap();
        assert!((value - grid[row][column].as_f64().unwrap()).abs() < 1e-3, "{told} is not {grid}");
        assert!(told.starts_with(["layer 0", "layer 2"][row]), "{told}");
    }
    let mut job = body.clone();
    job["async"] = json!(true);
    let job: Value = server.post("/v1/recipes/patching-sweep", &job).await.json().await.unwrap();
    let at = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
    server.get(&format!("{at}/events")).await.text().await.unwrap();
    assert_eq!(server.get(&format!("{at}/result?format=svg")).await.text().await.unwrap(), svg);
    let accepted = server.request(Method::GET, &format!("{at}/result")).header("accept", "image/svg+xml");
    assert_eq!(accepted.send().await.unwrap().text().await.unwrap(), svg);
    assert_eq!(server.get(&format!("{at}/result?format=png")).await.status(), 422);
    // probabilities of all tokens are drawn as their likeliest ones
    let lens = json!({"input": [[1, 2, 3]], "layers": [1]});
    let top = cook(&server, "logit-lens", &json!({"input": [[1, 2, 3]], "layers": [1], "k": 5})).await;
    let svg = picture(&server, "logit-lens", &lens).await.unwrap();
    for token in top["results"]["top"]["tokens"][0][0].as_array().unwrap() {
        let prob = format!("{:.4}", token["prob"].as_f64().unwrap());
        assert!(svg.contains(prob.trim_end_matches('0')), "{token} in {svg}");
    }
}
