//! The work done in this process, by the service that the server stands on too.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use patchbay_graph::Encoding;
use patchbay_server::model::State;
use patchbay_server::wire::json;
use patchbay_server::wire::model::LoadRequest;
use patchbay_server::wire::stored::{from_json, from_safetensors};
use patchbay_server::{Caller, Service, Settings};
use serde_json::Value;

use crate::progress;
use crate::source::NamedSource;

/// Models in this process.
pub(crate) struct Local(Arc<Service>);

impl Local {
    /// Loads models, and waits until all of them are there.
    pub(crate) async fn load(settings: Settings, models: Vec<NamedSource>) -> anyhow::Result<Self> {
        let service = Service::new(settings);
        for NamedSource { name, source } in models {
            let placed = service.load_first(&name, &LoadRequest { source, dtype: None, device: None })?;
            progress::show(placed.model());
        }
        for model in service.registry().all() {
            let waited = service.wait(&model).await;
            if let State::Failed(reason) = model.state() {
                anyhow::bail!("model `{}` could not be loaded: {reason}", model.name);
            }
            waited?;
        }
        Ok(Self(service))
    }

    pub(crate) async fn trace(&self, body: Value, accept: Encoding) -> anyhow::Result<Vec<u8>> {
        Ok(self.0.trace(body, Some(accept), &Caller::local()).await?.bytes()?)
    }

    pub(crate) async fn recipe(&self, name: &str, body: Value) -> anyhow::Result<Vec<u8>> {
        Ok(self.0.analyse(name, body, Some(Encoding::Safetensors), &Caller::local()).await?.bytes()?)
    }

    pub(crate) async fn validate(&self, body: Value) -> anyhow::Result<Value> {
        Ok(serde_json::to_value(self.0.validate(body, &Caller::local()).await?)?)
    }

    pub(crate) fn models(&self) -> anyhow::Result<Value> {
        Ok(serde_json::to_value(self.0.registry().list())?)
    }

    pub(crate) fn tree(&self, model: &str) -> anyhow::Result<Value> {
        Ok(serde_json::to_value(self.0.registry().find(Some(model))?.tree()?)?)
    }

    pub(crate) fn checks(&self, model: &str) -> anyhow::Result<Value> {
        Ok(serde_json::to_value(self.0.registry().find(Some(model))?.checks()?)?)
    }

    pub(crate) fn keep(&self, name: &str, file: &Path) -> anyhow::Result<()> {
        let bytes = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
        let tensors = match file.extension().is_some_and(|extension| extension == "json") {
            true => json::parse(&bytes).and_then(|value| from_json(name, &value)),
            false => from_safetensors(&bytes),
        };
        self.0.store().put(&Caller::local(), name, tensors.with_context(|| file.display().to_string())?)?;
        Ok(())
    }
}
