//! The work done by a running server.

use std::path::Path;

use anyhow::Context;
use patchbay_graph::Encoding;
use patchbay_server::wire::{JSON, PROBLEM, SAFETENSORS};
use patchbay_server::{Failure, ProblemDetails};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Client, RequestBuilder, Url};
use serde_json::Value;

/// A server by its address.
pub(crate) struct Remote {
    client: Client,
    base: Url,
}

impl Remote {
    pub(crate) fn new(server: &str) -> anyhow::Result<Self> {
        let base = Url::parse(server).ok().filter(|url| url.has_host() && ["http", "https"].contains(&url.scheme()));
        let base =
            base.with_context(|| format!("--server takes a URL such as http://127.0.0.1:8420, found `{server}`"))?;
        // A server on this machine is not reached through a proxy.
        Ok(Self { client: Client::builder().no_proxy().build()?, base })
    }

    pub(crate) async fn trace(&self, body: &Value, accept: Encoding) -> anyhow::Result<Vec<u8>> {
        let accept = if accept == Encoding::Safetensors { SAFETENSORS } else { JSON };
        self.send(self.client.post(self.at(&["trace"])).header(ACCEPT, accept).json(body)).await
    }

    pub(crate) async fn recipe(&self, name: &str, body: &Value) -> anyhow::Result<Vec<u8>> {
        self.send(self.client.post(self.at(&["recipes", name])).header(ACCEPT, SAFETENSORS).json(body)).await
    }

    pub(crate) async fn post(&self, path: &[&str], body: &Value) -> anyhow::Result<Value> {
        let answer = self.send(self.client.post(self.at(path)).json(body)).await?;
        Ok(serde_json::from_slice(&answer)?)
    }

    pub(crate) async fn get(&self, path: &[&str]) -> anyhow::Result<Value> {
        let answer = self.send(self.client.get(self.at(path))).await?;
        Ok(serde_json::from_slice(&answer)?)
    }

    pub(crate) async fn keep(&self, name: &str, file: &Path) -> anyhow::Result<()> {
        let bytes = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
        let json = file.extension().is_some_and(|extension| extension == "json");
        let put = self.client.put(self.at(&["tensors", name]));
        self.send(put.header(CONTENT_TYPE, if json { JSON } else { SAFETENSORS }).body(bytes)).await.map(drop)
    }

    /// The address of `/v1/…` below the server's own, each part of it escaped.
    fn at(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        // Only addresses without a host have no path, and `new` takes none of them.
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().push("v1").extend(path);
        }
        url
    }

    /// The answer's body; a problem is a failure as the server meant it.
    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Vec<u8>> {
        let response = request.send().await.with_context(|| format!("no answer from {}", self.base))?;
        let status = response.status();
        let problem = response.headers().get(CONTENT_TYPE).is_some_and(|media| media.as_bytes() == PROBLEM.as_bytes());
        let body = response.bytes().await.with_context(|| format!("the answer of {} broke off", self.base))?;
        if problem {
            return Err(Failure::from(serde_json::from_slice::<ProblemDetails>(&body)?).into());
        }
        anyhow::ensure!(status.is_success(), "{} answered {status}; is it a patchbay server?", self.base);
        Ok(body.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_lead_elsewhere() {
        let at = |server: &str, name: &str| Remote::new(server).unwrap().at(&["models", name, "tree"]).to_string();
        assert_eq!(at("http://127.0.0.1:8420", "a.b-c"), "http://127.0.0.1:8420/v1/models/a.b-c/tree");
        assert_eq!(at("http://lab.example/patchbay/", "a?b/c"), "http://lab.example/patchbay/v1/models/a%3Fb%2Fc/tree");
        for server in ["localhost:8420", "127.0.0.1:8420", "ftp://x", "", "http://"] {
            assert!(Remote::new(server).is_err(), "{server}");
        }
    }
}
