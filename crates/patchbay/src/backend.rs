//! Who does the work of a command: this process, or a running server.

use patchbay_graph::Encoding;
use patchbay_server::loader::FAILED_LOAD;
use serde_json::Value;

use crate::against::Reference;
use crate::cli::{CheckCommand, LookCommand, ModelsCommand, Place, TraceCommand};
use crate::local::Local;
use crate::remote::Remote;
use crate::source::NamedSource;
use crate::{print, request};

/// Both give the same answers.
pub(crate) enum Backend {
    Here(Local),
    There(Remote),
}

impl Backend {
    /// Loads the models here, or takes them as names of the server's. Returns the names to ask for.
    async fn open(place: &Place, models: &[String]) -> anyhow::Result<(Self, Vec<String>)> {
        // Why a load failed is what the command ends with.
        place.options.start_logging(&format!("warn,{FAILED_LOAD}=off"))?;
        if let Some(server) = &place.server {
            return Ok((Self::There(Remote::new(server)?), models.to_vec()));
        }
        let sources = NamedSource::parse_all(models)?;
        let names = sources.iter().map(|model| model.name.clone()).collect();
        Ok((Self::Here(Local::load(place.options.settings()?, sources).await?), names))
    }

    /// The same for a body, which then asks for the model, if one is given.
    pub(crate) async fn open_for(place: &Place, model: Option<&String>, body: &mut Value) -> anyhow::Result<Self> {
        if model.is_none() && place.server.is_none() {
            let named = body.get("model").and_then(Value::as_str);
            let hint =
                named.map_or_else(String::new, |name| format!(" --model {name}=SOURCE loads what it calls `{name}`."));
            anyhow::bail!(
                "no model is given.{hint} --model SOURCE takes a folder, a .gguf file or a Hub id; with --server URL a \
                 running server does the work"
            );
        }
        let (backend, names) = Self::open(place, model.map(std::slice::from_ref).unwrap_or_default()).await?;
        if let Some(name) = names.first() {
            body["model"] = name.as_str().into();
        }
        Ok(backend)
    }

    pub(crate) async fn trace(&self, body: Value, accept: Encoding) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::Here(local) => local.trace(body, accept).await,
            Self::There(remote) => remote.trace(&body, accept).await,
        }
    }

    /// Runs a recipe, whose answer is safetensors.
    pub(crate) async fn recipe(&self, name: &str, body: Value) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::Here(local) => local.recipe(name, body).await,
            Self::There(remote) => remote.recipe(name, &body).await,
        }
    }

    async fn validate(&self, body: Value) -> anyhow::Result<Value> {
        match self {
            Self::Here(local) => local.validate(body).await,
            Self::There(remote) => remote.post(&["validate"], &body).await,
        }
    }

    async fn models(&self) -> anyhow::Result<Value> {
        match self {
            Self::Here(local) => local.models(),
            Self::There(remote) => remote.get(&["models"]).await,
        }
    }

    async fn tree(&self, model: &str) -> anyhow::Result<Value> {
        match self {
            Self::Here(local) => local.tree(model),
            Self::There(remote) => remote.get(&["models", model, "tree"]).await,
        }
    }

    async fn checks(&self, model: &str) -> anyhow::Result<Value> {
        match self {
            Self::Here(local) => local.checks(model),
            Self::There(remote) => remote.get(&["models", model, "checks"]).await,
        }
    }

    async fn keep(&self, name: &str, file: &std::path::Path) -> anyhow::Result<()> {
        match self {
            Self::Here(local) => local.keep(name, file),
            Self::There(remote) => remote.keep(name, file).await,
        }
    }
}

impl TraceCommand {
    /// The one to do the work, and the body.
    async fn prepare(&self) -> anyhow::Result<(Backend, Value)> {
        let mut body = request::read(&self.file, &self.input)?;
        let backend = Backend::open_for(&self.place, self.model.as_ref(), &mut body).await?;
        for given in &self.tensor {
            let (name, file) =
                given.split_once('=').ok_or_else(|| anyhow::anyhow!("--tensor takes NAME=FILE, found `{given}`"))?;
            backend.keep(name, file.as_ref()).await?;
        }
        Ok((backend, body))
    }

    /// Runs it, and writes the answer.
    pub(crate) async fn trace(&self) -> anyhow::Result<()> {
        let to_safetensors =
            self.output.as_ref().and_then(|file| file.extension()).is_some_and(|extension| extension == "safetensors");
        let (backend, mut body) = self.prepare().await?;
        // The name of the file decides before what the body says.
        if to_safetensors {
            request::as_safetensors(&mut body);
        }
        let binary = body["output"]["encoding"] == "safetensors";
        let answer = backend.trace(body, Encoding::Json).await?;
        match &self.output {
            // A newline at its end would make it another file.
            None if binary => print::bytes(&answer),
            file => print::answer(&answer, file.as_deref()),
        }
    }

    /// Says what it would do.
    pub(crate) async fn validate(&self) -> anyhow::Result<()> {
        let (backend, body) = self.prepare().await?;
        let answer = backend.validate(body).await?;
        print::answer(&serde_json::to_vec_pretty(&answer)?, self.output.as_deref())
    }
}

impl ModelsCommand {
    /// Describes them.
    pub(crate) async fn models(&self) -> anyhow::Result<()> {
        if self.place.server.is_none() && self.models.is_empty() {
            anyhow::bail!("give the models to load and describe, or --server URL for those of a running server");
        }
        let (backend, names) = Backend::open(&self.place, &self.models).await?;
        let mut list = backend.models().await?;
        if let Some(data) = list["data"].as_array_mut().filter(|_| !names.is_empty()) {
            data.retain(|model| names.iter().any(|name| model["id"] == name.as_str()));
        }
        if self.json { print::json(&list) } else { print::models(&list) }
    }
}

impl LookCommand {
    async fn open(&self) -> anyhow::Result<(Backend, String)> {
        let (backend, mut names) = Backend::open(&self.place, std::slice::from_ref(&self.model)).await?;
        Ok((backend, names.remove(0)))
    }

    /// Lists its sites.
    pub(crate) async fn tree(&self) -> anyhow::Result<()> {
        let (backend, name) = self.open().await?;
        let tree = backend.tree(&name).await?;
        if self.json { print::json(&tree) } else { print::tree(&tree) }
    }
}

impl CheckCommand {
    /// Shows what its checks found, and how far it is from what was recorded.
    pub(crate) async fn check(&self) -> anyhow::Result<()> {
        let reference = self.against.as_deref().map(Reference::read).transpose()?;
        let (backend, name) = self.look.open().await?;
        let mut checks = backend.checks(&name).await?;
        let mut passed = checks["passed"] == true;
        if let Some(reference) = reference {
            let answer = backend.trace(reference.request(&name), Encoding::Safetensors).await?;
            let compared = reference.compare(&answer, self.tolerance)?;
            passed &= compared.iter().all(|site| site.passed);
            checks["against"] = serde_json::to_value(compared)?;
        }
        if self.look.json { print::json(&checks) } else { print::checks(&checks) }?;
        anyhow::ensure!(passed, "a check failed");
        Ok(())
    }
}
