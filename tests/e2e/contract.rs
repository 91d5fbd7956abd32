//! The contract in the repository is the one that the program serves.

use serde_json::Value;

use crate::server::{Server, patchbay};

#[tokio::test]
async fn the_contract_is_the_one_in_the_repository() {
    let written = include_str!("../../openapi/patchbay.json");
    let output = patchbay().arg("openapi").output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(
        printed == written,
        "openapi/patchbay.json is not what the code says; write it anew with: cargo run -p patchbay -- openapi > \
         openapi/patchbay.json"
    );
    let server = Server::start(&[]);
    let served: Value = server.get("/openapi.json").await.json().await.unwrap();
    assert_eq!(served, serde_json::from_str::<Value>(written).unwrap());
}

#[tokio::test]
async fn the_docs_page_asks_no_other_host() {
    let server = Server::start(&[]);
    let page = server.get("/docs/").await.text().await.unwrap();
    assert!(page.contains("swagger-ui"), "{page}");
    let elsewhere: Vec<&str> = page.split(['"', '\'']).filter(|text| text.contains("://")).collect();
    assert!(elsewhere.is_empty(), "the page refers to {elsewhere:?}");
    for part in page.split('"').filter(|text| text.starts_with("./") && !text.contains(' ')) {
        let response = server.get(&format!("/docs/{}", part.trim_start_matches("./"))).await;
        assert_eq!(response.status(), 200, "{part}");
    }
}
