//! One model of the registry: being loaded, ready, or failed.

use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use patchbay_checkpoint::Tokenizer;
use patchbay_engine::Engine;
use patchbay_generate::{Constraint, Form, Vocabulary};
use patchbay_graph::{Code, Problem, Tree};
use patchbay_model::CheckReport;
use tokio::sync::watch;

use crate::Failure;
use crate::loader::LoadPlan;
use crate::wire::model::{CheckView, ChecksResponse, LoadProgress, ModelFacts, ModelView, Status};
use crate::wire::proof::ProofView;
use crate::wire::tree::TreeResponse;

/// A model by its name. What is asked of it goes by its [`State`], which changes from `Loading` to one of the others once.
#[derive(Debug)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// What to load, and how.
    pub plan: LoadPlan,
    created: u64,
    state: watch::Sender<State>,
}

/// Where a model stands.
#[derive(Clone, Debug)]
pub enum State {
    /// Being read.
    Loading(LoadProgress),
    /// Taking requests.
    Ready(Arc<Loaded>),
    /// Not to be had, for this reason.
    Failed(String),
}

/// A model that takes requests.
pub struct Loaded {
    /// The worker that runs it.
    pub engine: Engine,
    /// Its tokenizer, if it has one.
    pub tokenizer: Option<Arc<Tokenizer>>,
    /// Tokens that end a text.
    pub stop_ids: Vec<u32>,
    /// What its tokens spell, for constraints; read where the first one comes.
    pub vocabulary: OnceLock<Result<Vocabulary, String>>,
    /// What the checks at the load found.
    pub checks: CheckReport,
    /// What is proven of its architecture.
    pub proof: ProofView,
    /// What every answer warns of.
    pub warnings: Vec<String>,
    /// What the list of models shows.
    pub facts: ModelFacts,
}

impl Loaded {
    /// Its tree.
    pub fn tree(&self) -> &Arc<Tree> {
        self.engine.decoder().tree()
    }

    /// What holds a text to a form.
    ///
    /// # Errors
    /// No text of this model can have it.
    pub fn constraint(&self, form: &Form) -> Result<Constraint, Problem> {
        let unsupported = |detail: &str| Problem::new(Code::Unsupported, detail).at("/constraint");
        let tokenizer = self.tokenizer.as_ref().ok_or_else(|| {
            unsupported("this model came without a tokenizer, so that nothing is known of its tokens' text")
        })?;
        let read = || Vocabulary::new(tokenizer, self.tree().vocab, &self.stop_ids);
        match self.vocabulary.get_or_init(read) {
            Ok(vocabulary) => vocabulary.constraint(form),
            Err(detail) => Err(unsupported(&format!("this model's tokens cannot be held to a form: {detail}"))),
        }
    }
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl Model {
    /// A model whose load is about to begin.
    pub(crate) fn new(name: String, plan: LoadPlan) -> Self {
        let waiting = LoadProgress { stage: "start", what: plan.source.to_string(), done: 0, total: 0 };
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { name, plan, created, state: watch::Sender::new(State::Loading(waiting)) }
    }

    /// Where it stands now.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub(crate) fn set(&self, state: State) {
        self.state.send_replace(state);
    }

    /// Watches it.
    pub fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// The model, if it takes requests.
    ///
    /// # Errors
    /// Status 503 while it is loading, with a time to come back, and when its load failed.
    pub fn ready(&self) -> Result<Arc<Loaded>, Failure> {
        let name = &self.name;
        match self.state() {
            State::Ready(loaded) => Ok(loaded),
            State::Loading(LoadProgress { stage, done, total, .. }) => {
                let detail = format!("model `{name}` is loading ({stage}: {done} of {total})");
                Err(Failure::new(503, "model_loading", detail)
                    .hint(format!("GET /v1/models/{name} shows how far it is"))
                    .retry_after(2))
            }
            State::Failed(reason) => {
                Err(Failure::new(503, "model_failed", format!("model `{name}` could not be loaded: {reason}"))
                    .hint(format!("mend the cause, then PUT /v1/models/{name} loads it again")))
            }
        }
    }

    /// Its description.
    pub fn view(&self) -> ModelView {
        let (status, progress, error, facts) = match self.state() {
            State::Loading(progress) => (Status::Loading, Some(progress), None, None),
            State::Ready(loaded) => (Status::Ready, None, None, Some(loaded.facts.clone())),
            State::Failed(reason) => (Status::Failed, None, Some(reason), None),
        };
        ModelView {
            id: self.name.clone(),
            object: "model",
            created: self.created,
            owned_by: "patchbay",
            status,
            source: self.plan.source.to_string(),
            progress,
            error,
            facts,
        }
    }

    /// Every site.
    ///
    /// # Errors
    /// As [`ready`](Self::ready).
    pub fn tree(&self) -> Result<TreeResponse, Failure> {
        Ok(TreeResponse::new(self.name.clone(), self.ready()?.tree()))
    }

    /// What the checks at the load found.
    ///
    /// # Errors
    /// As [`ready`](Self::ready).
    pub fn checks(&self) -> Result<ChecksResponse, Failure> {
        let loaded = self.ready()?;
        let checks: Vec<CheckView> = loaded
            .checks
            .checks
            .iter()
            .map(|check| CheckView { name: check.name.clone(), passed: check.passed, detail: check.detail.clone() })
            .collect();
        let passed = checks.iter().all(|check| check.passed);
        let (proof, warnings) = (loaded.proof.clone(), loaded.warnings.clone());
        Ok(ChecksResponse { model: self.name.clone(), passed, checks, proof, warnings })
    }
}
