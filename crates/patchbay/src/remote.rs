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
        let base = Url::parse(server)
            .with_context(|| format!("--server takes a URL such as http://127.0.0.1:8420, found `{server}`"))?;
        // A server on this machine is not reached through a proxy.
        Ok(Self { client: Client::builder().no_proxy().build()?, base })
    }

    pub(crate) async fn trace(&self, body: &Value, accept: Encoding) -> anyhow::Result<Vec<u8>> {
        let accept = if accept == Encoding::Safetensors { SAFETENSORS } else { JSON };
        self.send(self.client.post(self.at("/v1/trace")?).header(ACCEPT, accept).json(body)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let answer = self.send(self.client.post(self.at(path)?).json(body)).await?;
        Ok(serde_json::from_slice(&answer)?)
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.send(self.client.get(self.at(path)?)).await?;
        Ok(serde_json::from_slice(&answer)?)
    }

    pub(crate) async fn keep(&self, name: &str, file: &Path) -> anyhow::Result<()> {
        let bytes = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
        let json = file.extension().is_some_and(|extension| extension == "json");
        let put = self.client.put(self.at(&format!("/v1/tensors/{name}"))?);
        self.send(put.header(CONTENT_TYPE, if json { JSON } else { SAFETENSORS }).body(bytes)).await.map(drop)
    }

    fn at(&self, path: &str) -> anyhow::Result<Url> {
        Ok(self.base.join(path)?)
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
