//! Models on the Hugging Face Hub, through the `hf-hub` crate and the cache it shares with Python's `huggingface_hub`.
//!
//! The configuration is fetched first, at the revision asked for; the cache then says which commit that is, and every
//! other file is fetched at that commit. So a model is never put together from two commits, and a revision that is
//! already here is found without the network.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use hf_hub::progress::{DownloadEvent, ProgressEvent as HubEvent, ProgressHandler};
use hf_hub::repository::{HFRepository, RepoTypeModel};
use hf_hub::{HFClient, HFError};

use crate::chat::ADDITIONAL;
use crate::progress::{Progress, ProgressEvent};
use crate::quantization::Quantization;
use crate::weights::FORMATS;
use crate::{CheckpointError, Config};

/// How the Hub is reached. The default reads the variables that `huggingface_hub` reads.
#[derive(Clone)]
pub struct HubSettings {
    /// Base URL (`HF_ENDPOINT`); the public Hub's where absent.
    pub endpoint: Option<String>,
    /// Cache folder (`HF_HUB_CACHE`, or `hub` in `HF_HOME`); the user's shared one where absent.
    pub cache: Option<PathBuf>,
    /// Access token (`HF_TOKEN`); where absent, the one that `hf auth login` stored.
    pub token: Option<String>,
    /// Whether only the cache is looked at (`HF_HUB_OFFLINE`).
    pub offline: bool,
}

impl Default for HubSettings {
    fn default() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let is_true = |value: String| matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE");
        let home = || variable("HF_HOME").map(|home| Path::new(&home).join("hub"));
        Self {
            endpoint: variable("HF_ENDPOINT"),
            cache: variable("HF_HUB_CACHE").map(PathBuf::from).or_else(home),
            token: variable("HF_TOKEN"),
            offline: variable("HF_HUB_OFFLINE").is_some_and(is_true),
        }
    }
}

/// Never shows the token.
impl std::fmt::Debug for HubSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubSettings")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("offline", &self.offline)
            .finish()
    }
}

/// Files that a model may come with.
const OPTIONAL: [&str; 6] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "additional_chat_templates/tool_use.jinja",
];

/// What takes the place of a `tokenizer.json`.
const SENTENCEPIECE: [&str; 2] = ["tokenizer.model", "added_tokens.json"];

/// Fetches what is needed of a repository, and gives the folder it lies in.
pub(crate) fn fetch(
    id: &str,
    revision: Option<&str>,
    settings: &HubSettings,
    progress: Progress<'_>,
) -> Result<PathBuf, CheckpointError> {
    let (sender, events) = mpsc::channel();
    // hf-hub is asynchronous and its handlers must own what they touch, while `open` may be called from anywhere, a
    // runtime's thread included. So the download has a thread and a runtime of its own, and sends its events here.
    std::thread::scope(|scope| {
        let download = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            let runtime = runtime.map_err(CheckpointError::io(Path::new(id), "download"))?;
            runtime.block_on(Fetch::new(id, revision, settings, sender)?.run())
        });
        for event in events {
            progress(event);
        }
        download.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// One repository being fetched.
struct Fetch<'a> {
    id: &'a str,
    revision: Option<&'a str>,
    settings: &'a HubSettings,
    repository: HFRepository<RepoTypeModel>,
    cache: PathBuf,
    events: mpsc::Sender<ProgressEvent>,
}

impl<'a> Fetch<'a> {
    fn new(
        id: &'a str,
        revision: Option<&'a str>,
        settings: &'a HubSettings,
        events: mpsc::Sender<ProgressEvent>,
    ) -> Result<Self, CheckpointError> {
        let mut builder = HFClient::builder().user_agent(concat!("patchbay/", env!("CARGO_PKG_VERSION")));
        if let Some(endpoint) = &settings.endpoint {
            builder = builder.endpoint(endpoint);
        }
        if let Some(cache) = &settings.cache {
            builder = builder.cache_dir(cache);
        }
        if let Some(token) = &settings.token {
            builder = builder.token(token);
        }
        let client = builder.build().map_err(|error| CheckpointError::Hub {
            id: id.to_owned(),
            revision: revision.map(str::to_owned),
            detail: error.to_string(),
            hint: "Check HF_ENDPOINT: it must be a URL such as https://huggingface.co".to_owned(),
        })?;
        let (owner, name) = hf_hub::split_id(id);
        let cache = client.cache_dir().to_path_buf();
        Ok(Self { id, revision, settings, repository: client.model(owner, name), cache, events })
    }

    async fn run(self) -> Result<PathBuf, CheckpointError> {
        let config = match self.download("config.json", self.revision).await {
            Err(HFError::EntryNotFound { .. }) if !self.settings.offline => Err(self.find_reason().await),
            other => other.map_err(|error| self.explain("config.json", &error)),
        }?;
        Quantization::read(&Config::from_file(&config)?)?;
        let folder = config.parent().map(Path::to_path_buf).unwrap_or_default();
        let commit = folder.file_name().map(|name| name.to_string_lossy().into_owned());
        let commit = commit.as_deref();
        for file in OPTIONAL {
            self.optional(file, commit).await?;
        }
        for file in self.chat_templates(commit).await {
            self.optional(&file, commit).await?;
        }
        if !folder.join("tokenizer.json").is_file() {
            for file in SENTENCEPIECE {
                self.optional(file, commit).await?;
            }
        }
        self.weights(commit).await?;
        Ok(folder)
    }

    /// The files of the folder of named chat templates. Where the Hub, or what stands in its place, does not list its files,
    /// only those that are asked for anyway are known.
    async fn chat_templates(&self, commit: Option<&str>) -> Vec<String> {
        if self.settings.offline {
            return Vec::new();
        }
        let listed = self.repository.info().maybe_revision(commit).send().await;
        let files = listed.ok().and_then(|info| info.siblings).unwrap_or_default();
        let is_template = |file: &String| {
            let name = file.strip_prefix(ADDITIONAL).and_then(|name| name.strip_prefix('/'));
            name.and_then(|name| name.strip_suffix(".jinja")).is_some_and(|name| !name.contains(['/', '\\', ':', '\0']))
        };
        files.into_iter().map(|file| file.rfilename).filter(is_template).collect()
    }

    /// Fetches the weights in the first form that the repository has.
    async fn weights(&self, commit: Option<&str>) -> Result<(), CheckpointError> {
        for format in &FORMATS {
            if let Some(index) = self.optional(format.index, commit).await? {
                let shards: BTreeSet<String> = format.read_index(&index)?.into_values().collect();
                for shard in &shards {
                    self.required(shard, commit).await?;
                }
                return Ok(());
            }
            if self.optional(format.single, commit).await?.is_some() {
                return Ok(());
            }
        }
        self.required(FORMATS[0].single, commit).await.map(drop)
    }

    /// Why there is no config.json. hf-hub gives one answer whether model, revision or file is missing, so the Hub is
    /// asked about each in turn.
    async fn find_reason(&self) -> CheckpointError {
        let missing = HFError::EntryNotFound { path: String::new(), repo_id: String::new(), context: None };
        let repository = self.repository.info().send().await.err();
        let error = match (repository, self.revision) {
            (Some(error), _) => error,
            (None, None) => missing,
            (None, Some(revision)) => self.repository.info().revision(revision).send().await.err().unwrap_or(missing),
        };
        self.explain("config.json", &error)
    }

    async fn required(&self, file: &str, revision: Option<&str>) -> Result<PathBuf, CheckpointError> {
        self.download(file, revision).await.map_err(|error| self.explain(file, &error))
    }

    async fn optional(&self, file: &str, revision: Option<&str>) -> Result<Option<PathBuf>, CheckpointError> {
        match self.download(file, revision).await {
            Ok(path) => Ok(Some(path)),
            Err(HFError::EntryNotFound { .. }) => Ok(None),
            Err(HFError::LocalEntryNotFound { .. }) if self.settings.offline => Ok(None),
            Err(error) => Err(self.explain(file, &error)),
        }
    }

    async fn download(&self, file: &str, revision: Option<&str>) -> Result<PathBuf, HFError> {
        self.repository
            .download_file()
            .filename(file)
            .maybe_revision(revision)
            .local_files_only(self.settings.offline)
            .progress(Events { file: file.to_owned(), sender: self.events.clone() })
            .send()
            .await
    }

    /// The Hub's answer in the user's terms, and what to do about it.
    fn explain(&self, file: &str, error: &HFError) -> CheckpointError {
        let token = if self.settings.token.is_some() { "the token given" } else { "no token from HF_TOKEN" };
        let (detail, hint) = match error {
            HFError::RepoNotFound { .. } => (
                "there is no such model, or it is private".to_owned(),
                "Check the spelling; for a private model set HF_TOKEN".to_owned(),
            ),
            HFError::RevisionNotFound { .. } => (
                "the model has no such revision".to_owned(),
                "Give a branch, a tag or a full commit after the @".to_owned(),
            ),
            HFError::AuthRequired { .. } => (
                format!("the Hub wants a token (401, with {token})"),
                "The model is private, gated or does not exist: set HF_TOKEN to a token that may read it".to_owned(),
            ),
            HFError::Forbidden { .. } => (
                format!("access is refused (403, with {token})"),
                "The model is gated: accept its terms on its page, and set HF_TOKEN to a token of that account"
                    .to_owned(),
            ),
            HFError::EntryNotFound { .. } => (
                format!("it has no {file}"),
                "A model is read from config.json and model.safetensors or pytorch_model.bin; a GGUF file is given by its path".to_owned(),
            ),
            HFError::LocalEntryNotFound { .. } => (
                format!("{file} is not in the cache {} and the network is not used", self.cache.display()),
                "Load it once with HF_HUB_OFFLINE unset, or give another cache with HF_HUB_CACHE".to_owned(),
            ),
            HFError::Request { .. } => (
                format!("{file} is not in the cache {}, and the Hub cannot be reached ({error})", self.cache.display()),
                "Check the network and HF_ENDPOINT, or give the model as a folder or a .gguf file".to_owned(),
            ),
            other => (format!("{file} could not be fetched ({other})"), "Try again later".to_owned()),
        };
        CheckpointError::Hub { id: self.id.to_owned(), revision: self.revision.map(str::to_owned), detail, hint }
    }
}

/// Sends hf-hub's progress to the thread that waits.
struct Events {
    file: String,
    sender: mpsc::Sender<ProgressEvent>,
}

impl ProgressHandler for Events {
    fn on_progress(&self, event: &HubEvent) {
        let HubEvent::Download(event) = event else { return };
        let (done, total) = match event {
            DownloadEvent::Start { total_bytes, .. } => (0, *total_bytes),
            DownloadEvent::Progress { files } => match files.last() {
                Some(file) => (file.bytes_completed, file.total_bytes),
                None => return,
            },
            DownloadEvent::AggregateProgress { bytes_completed, total_bytes, .. } => (*bytes_completed, *total_bytes),
            DownloadEvent::Complete => return,
        };
        // Nobody listens any more only when the load has ended.
        let _ = self.sender.send(ProgressEvent { stage: "download", what: self.file.clone(), done, total });
    }
}
