//! What the server does, whatever carries the requests: HTTP and the command line both stand on this.
//!
//! The way of a trace: the body is parsed, its model found, its inputs tokenized, its graph checked against all of these,
//! and only then queued; the outcome is what the answer is written from, in the form that was asked for. What may take long runs
//! where it holds up nobody else (see `blocking`). Dropping the future of a trace stops its job.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use patchbay_engine::{Memory, Order};
use patchbay_graph::{Code, Context, Encoding, Input, Request, timeout_ms};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::Failure;
use crate::blocking::{blocking, understand};
use crate::caller::Caller;
use crate::deadline::{Deadline, Timeouts};
use crate::edits::EditStore;
use crate::inputs::{InputReader, Tokenized};
use crate::jobs::JobStore;
use crate::loader::LoadPlan;
use crate::memory::Budget;
use crate::model::{Loaded, Model, State};
use crate::progress::Progress;
use crate::registry::{Placed, Registry};
use crate::sessions::SessionStore;
use crate::settings::Settings;
use crate::store::{Shelf, StoredTensor, TensorStore};
use crate::trace::{Checked, Finished, Frame, Planned, Running, StopOnDrop, Work};
use crate::wire::json::read;
use crate::wire::model::LoadRequest;
use crate::wire::tokens::{DetokenizeRequest, DetokenizeResponse, TokenizeRequest, TokenizeResponse};
use crate::wire::trace::{ReceiptBody, TraceAnswer, TraceResponse};
use crate::wire::validation::ValidateResponse;

/// The models, the callers' tensors, and what may be asked of them.
#[derive(Debug)]
pub struct Service {
    pub(crate) settings: Settings,
    registry: Registry,
    pub(crate) store: TensorStore,
    pub(crate) edits: EditStore,
    pub(crate) sessions: SessionStore,
    pub(crate) jobs: JobStore,
    pub(crate) budget: Budget,
    /// Names of the models that the server was started with.
    first: Mutex<BTreeSet<String>>,
}

impl Service {
    /// A service without models.
    pub fn new(settings: Settings) -> Arc<Self> {
        let store = TensorStore::new(settings.store.clone());
        let budget = Budget::new(settings.memory);
        let (registry, edits, sessions, jobs) = Default::default();
        Arc::new(Self { settings, registry, store, edits, sessions, jobs, budget, first: Mutex::default() })
    }

    /// What the operator decided.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The models.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The callers' tensors.
    pub fn store(&self) -> &TensorStore {
        &self.store
    }

    /// Begins to load a model under a name.
    ///
    /// # Errors
    /// Status 422 for a name, source, device or type that cannot be, 409 where the name is taken by another.
    pub fn load(&self, name: &str, request: &LoadRequest) -> Result<Placed, Failure> {
        self.registry.put(name, LoadPlan::new(request, &self.settings)?, &self.settings, &self.budget)
    }

    /// Begins to load a model that the server is started with: before it is ready, the server is not.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_first(&self, name: &str, request: &LoadRequest) -> Result<Placed, Failure> {
        let placed = self.load(name, request)?;
        self.first.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        Ok(placed)
    }

    /// Whether every model that the server was started with takes requests, those aside that were unloaded since.
    ///
    /// # Errors
    /// Status 503, with the first one that does not.
    pub fn ready(&self) -> Result<(), Failure> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        let models = self.registry.all();
        models.iter().filter(|model| first.contains(&model.name)).try_for_each(|model| model.ready().map(drop))
    }

    /// Waits until a model is ready.
    ///
    /// # Errors
    /// When its load fails.
    pub async fn wait(&self, model: &Model) -> Result<Arc<Loaded>, Failure> {
        let mut states = model.watch();
        let settled = states.wait_for(|state| !matches!(state, State::Loading(_))).await.map(drop);
        settled.map_err(Failure::internal)?;
        model.ready()
    }

    /// Runs a graph. The answer will be written as the body says, or else as `accept` does.
    ///
    /// # Errors
    /// Everything that a request can get wrong, before anything runs; the executor's failures; its time is over.
    pub async fn trace(
        self: &Arc<Self>,
        body: Value,
        accept: Option<Encoding>,
        caller: &Caller,
    ) -> Result<TraceAnswer, Failure> {
        self.trace_told(body, accept, caller, &Progress::default()).await
    }

    /// The same, and tells how far it is.
    pub(crate) async fn trace_told(
        self: &Arc<Self>,
        body: Value,
        accept: Option<Encoding>,
        caller: &Caller,
        progress: &Progress,
    ) -> Result<TraceAnswer, Failure> {
        let deadline = self.deadline(&body, progress)?;
        let (frame, finished) = deadline.bound(self.run(body, accept, caller, deadline, progress)).await?;
        if finished.kept.is_empty() {
            return self.finish(frame, finished, caller);
        }
        let (service, owner) = (Arc::clone(self), caller.clone());
        blocking(move || service.finish(frame, finished, &owner)).await
    }

    /// When a request has to be done that comes now. Nobody waits for a job: without a time of its own it has no end.
    pub(crate) fn deadline(&self, body: &Value, progress: &Progress) -> Result<Deadline, Failure> {
        let timeouts = self.settings.timeouts;
        let default = timeouts.default.filter(|_| !progress.is_heard());
        Timeouts { default, ..timeouts }.deadline(Instant::now(), timeout_ms(body)?)
    }

    /// Checks a request, and runs it.
    pub(crate) async fn run(
        self: &Arc<Self>,
        body: Value,
        accept: Option<Encoding>,
        caller: &Caller,
        deadline: Deadline,
        progress: &Progress,
    ) -> Result<(Frame, Finished), Failure> {
        let (service, owner) = (Arc::clone(self), caller.clone());
        let order = Order { deadline: deadline.at, ..Order::new(caller.turns()) };
        let (_stop, gone) = StopOnDrop::new();
        let (frame, work) = understand(body, move |body| {
            let checked = service.check(body, &owner, &|| !gone.is_cancelled())?;
            Ok((checked.frame(accept)?, Work::new(checked, order)?))
        })
        .await?;
        let finished = match work {
            Work::Once(model, job) => {
                let running = Running::submit(&model, job)?;
                progress.begun(1);
                let outcome = running.outcome().await?;
                Finished::new(outcome, &frame.style)?
            }
            Work::Several(checked, order) => self.several(checked, frame.style.clone(), order, progress).await?,
        };
        Ok((frame, finished))
    }

    /// Says what a trace would return, how it would run and what it would cost.
    ///
    /// # Errors
    /// Everything that a request can get wrong.
    pub async fn validate(self: &Arc<Self>, body: Value, caller: &Caller) -> Result<ValidateResponse, Failure> {
        let (service, owner) = (Arc::clone(self), caller.clone());
        self.deadline(&body, &Progress::default())?;
        let (_stop, gone) = StopOnDrop::new();
        understand(body, move |body| {
            let checked = service.check(body, &owner, &|| !gone.is_cancelled())?;
            let warnings = checked.warnings();
            let Checked { model, name, tokenized, planned, .. } = checked;
            let response = match &planned {
                Planned::Once(plan) => {
                    let left = model.engine.prefix_bytes(plan, &tokenized.ids);
                    ValidateResponse::new(name, tokenized.shown, plan, model.tree()).leaving(left)
                }
                Planned::Sweep(plan) => ValidateResponse::of_sweep(name, tokenized.shown, plan, model.tree()),
                Planned::Parts(parts) => ValidateResponse::of_parts(name, tokenized.shown, parts, model.tree()),
            };
            Ok(ValidateResponse { warnings, ..response })
        })
        .await
    }

    /// Turns text into tokens.
    ///
    /// # Errors
    /// No such model, or no text that it takes.
    pub async fn tokenize(self: &Arc<Self>, body: Value, caller: &Caller) -> Result<TokenizeResponse, Failure> {
        let (service, caller) = (Arc::clone(self), caller.clone());
        blocking(move || {
            let TokenizeRequest { model, input } = read(body)?;
            let chosen = service.choose(model.as_deref(), &caller)?;
            let model = &chosen.model;
            // A trace of nothing has the same inputs, read by the same grammar.
            let request = Request::parse(&json!({"input": input, "graph": []}))?;
            let mut tokenized = service.read_inputs(&*model.ready()?, &request.inputs)?;
            let (_, rows) = tokenized.shown.pop().ok_or_else(|| Failure::internal("an input vanished"))?;
            Ok(TokenizeResponse { model: chosen.name, rows })
        })
        .await
    }

    /// Turns tokens into text.
    ///
    /// # Errors
    /// No such model, no tokenizer, no such token.
    pub async fn detokenize(self: &Arc<Self>, body: Value, caller: &Caller) -> Result<DetokenizeResponse, Failure> {
        let (service, caller) = (Arc::clone(self), caller.clone());
        blocking(move || {
            let DetokenizeRequest { model, ids, skip_special_tokens } = read(body)?;
            let chosen = service.choose(model.as_deref(), &caller)?;
            let loaded = chosen.model.ready()?;
            let tokenizer = loaded
                .tokenizer
                .as_deref()
                .ok_or_else(|| Failure::new(422, "unsupported", "this model came without a tokenizer").at("/model"))?;
            let vocab = loaded.tree().vocab;
            let decode = |(row, ids): (usize, &Vec<u32>)| {
                if let Some(i) = ids.iter().position(|id| *id as usize >= vocab) {
                    let failure = Failure::new(422, "index_out_of_range", format!("there is no token {}", ids[i]));
                    let hint = format!("the vocabulary has ids 0 to {}", vocab - 1);
                    return Err(failure.hint(hint).at(format!("/ids/{row}/{i}")));
                }
                tokenizer.decode(ids, skip_special_tokens).map_err(|error| {
                    Failure::new(422, "index_out_of_range", error.to_string()).at(format!("/ids/{row}"))
                })
            };
            let text = ids.iter().enumerate().map(decode).collect::<Result<_, _>>()?;
            let tokens = ids.iter().map(|ids| ids.iter().map(|id| tokenizer.token_text(*id)).collect()).collect();
            Ok(DetokenizeResponse { model: chosen.name, text, tokens })
        })
        .await
    }

    /// The model that a body names.
    pub(crate) fn model(&self, name: Option<&str>) -> Result<Arc<Model>, Failure> {
        self.registry.find(name).map_err(|failure| failure.at("/model"))
    }

    pub(crate) fn read_inputs(&self, model: &Loaded, inputs: &[Input]) -> Result<Tokenized, Failure> {
        Ok(self.reader(model, false).read(inputs)?)
    }

    /// Reads inputs, or what comes after what is there already.
    pub(crate) fn reader<'a>(&'a self, model: &'a Loaded, goes_on: bool) -> InputReader<'a> {
        let tokenizer = model.tokenizer.as_deref();
        InputReader { tokenizer, tree: model.tree(), limits: &self.settings.limits, goes_on }
    }

    /// Understands a request, as long as it is `wanted`.
    fn check(&self, body: &Value, caller: &Caller, wanted: &dyn Fn() -> bool) -> Result<Checked, Failure> {
        let mut request = Request::parse(body)?;
        let chosen = self.choose(request.model.as_deref(), caller)?;
        chosen.edit(&mut request)?;
        let model = chosen.model.ready()?;
        let tokenized = self.read_inputs(&model, &request.inputs)?;
        let shelf = self.store.shelf(caller);
        let limits = &self.settings.limits;
        let context = Context { tree: model.tree(), inputs: &tokenized.rows, store: &shelf, limits };
        let memory = model.engine.memory();
        let planned = match &request.sweep {
            None => patchbay_graph::check(&request, &context).map(Planned::Once),
            Some(sweep) => patchbay_graph::check_sweep_while(wanted, &request, sweep, &context).map(Planned::Sweep),
        };
        let planned = match planned.map_err(|problem| chosen.placed(problem)) {
            Ok(planned) => self.budget.admit(memory, planned.peak_bytes()).map(|()| planned),
            Err(problem) => Err(problem.into()),
        };
        let planned = planned.or_else(|failure| in_parts(failure, wanted, &request, &context, memory))?;
        let name = chosen.name;
        let checked = Checked { model, name, request, tokenized, planned, shelf };
        let kept = checked.planned.kept();
        self.check_kept(
            &checked.shelf,
            kept.iter().map(|saved| (saved.name.as_str(), saved.at.as_str(), saved.bytes())),
        )?;
        Ok(checked)
    }

    /// What a graph keeps must fit into the store before the graph runs.
    /// Of each tensor it is the name, where it stands in the body, and its bytes.
    pub(crate) fn check_kept<'a>(
        &self,
        shelf: &Shelf,
        kept: impl Iterator<Item = (&'a str, &'a str, u64)>,
    ) -> Result<(), Failure> {
        let wanted = kept.map(|(name, at, bytes)| {
            crate::name::check_tensor(name).map_err(|failure| failure.at(at))?;
            Ok((name, bytes))
        });
        let wanted: Vec<(&str, u64)> = wanted.collect::<Result<_, Failure>>()?;
        if wanted.is_empty() { Ok(()) } else { self.store.fits(shelf, &wanted) }
    }

    /// Keeps what is to be kept, and has the rest ready to be written.
    pub(crate) fn finish(&self, frame: Frame, finished: Finished, caller: &Caller) -> Result<TraceAnswer, Failure> {
        let Frame { model, edits, warnings, style, inputs, kept } = frame;
        let Finished { results, kept: tensors, receipts, usage, held } = finished;
        for (name, tensor) in tensors {
            let dtype = kept.get(&name).copied().ok_or_else(|| Failure::internal("a kept tensor was not planned"))?;
            self.store.put(caller, &name, [(name.clone(), StoredTensor { dtype, tensor })].into())?;
        }
        let id = format!("trace-{}", Uuid::new_v4().simple());
        let receipts = receipts.into_iter().map(|receipt| ReceiptBody::new(receipt, &edits)).collect();
        let (outputs, seed, session, notes) = Default::default();
        let response =
            TraceResponse { id, model, outputs, results, inputs, receipts, usage, seed, session, warnings, notes };
        Ok(TraceAnswer { response, encoding: style.encoding, held, picture: None })
    }
}

/// Runs a request in parts which `failure` refuses because all its rows together would hold too much.
///
/// # Errors
/// The same failure, with what takes the rows together.
fn in_parts(
    failure: Failure,
    wanted: &dyn Fn() -> bool,
    request: &Request,
    context: &Context<'_>,
    memory: &Memory,
) -> Result<Planned, Failure> {
    if failure.code != Code::TooLarge.name() || request.sweep.is_some() {
        return Err(failure);
    }
    let most = memory.limit().min(context.limits.max_peak_bytes);
    match patchbay_graph::check_parts(wanted, request, context, most) {
        Ok(parts) => Ok(Planned::Parts(parts)),
        // it is refused for something else than the memory that it holds
        Err(problem) if problem.detail == failure.detail => Err(failure),
        Err(problem) => {
            let place = if problem.pointer.is_empty() { String::new() } else { format!(" at {}", problem.pointer) };
            let detail = format!("{}; its rows cannot run in parts: {}{place}", failure.detail, problem.detail);
            Err(Failure { detail, ..failure })
        }
    }
}
