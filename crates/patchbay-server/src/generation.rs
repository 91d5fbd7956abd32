//! A generation on its way: understood, queued, told while it runs, answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use patchbay_engine::{Answer, EngineError, History, Memory, Order};
use patchbay_generate::{Begin, Event, Generated, Ground, Planner, Run, Settings as Wanted, Tensors, history_bytes};
use patchbay_graph::problem::Code;
use patchbay_graph::{Encoding, Generation, NEXT_LOGITS, Problem, Request, TokenRows, timeout_ms};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;
use uuid::Uuid;

use crate::blocking::blocking;
use crate::caller::Caller;
use crate::deadline::Deadline;
use crate::inputs::Tokenized;
use crate::model::Loaded;
use crate::openai::answered::Writer;
use crate::store::StoredTensor;
use crate::trace::{Frame, StopOnDrop, check_result_names, stored_tensors};
use crate::wire::generation::{OutputBody, TokenEvent};
use crate::wire::result::{HandleBody, NamedResults, ResultBody, Style};
use crate::wire::trace::{ReceiptBody, TraceAnswer, TraceResponse};
use crate::{Failure, Service};

/// How often it is looked whether memory was let go, where a generation waits for it.
const LOOK: Duration = Duration::from_millis(20);
/// Bytes of a tensor's elements that an event tells; larger ones are kept in the caller's store.
const INLINE: usize = 16 << 10;

/// A generation as it was asked for.
struct Asked {
    request: Request,
    wanted: Wanted,
    streams: bool,
}

/// A generation that was understood: all but the memory that it keeps.
struct Understood {
    model: Arc<Loaded>,
    frame: Frame,
    planner: Planner,
    tensors: Tensors,
    prompts: Vec<Vec<u32>>,
    wanted: Wanted,
    new_tokens: usize,
    seed: u64,
    streams: bool,
}

/// A generation that runs.
pub(crate) struct Generating {
    about: Arc<About>,
    deadline: Deadline,
    events: UnboundedReceiver<Event>,
    pub(crate) streams: bool,
    /// Stops it when the caller goes away.
    _stop: StopOnDrop,
}

/// What an answer is written with.
struct About {
    service: Arc<Service>,
    caller: Caller,
    model: Arc<Loaded>,
    frame: Frame,
    id: String,
    seed: u64,
    with_logprobs: bool,
}

/// What a stream tells.
pub(crate) enum Told {
    /// A row has one more token.
    Token(TokenEvent),
    /// What a step saved.
    Saved(usize, NamedResults),
    /// The whole answer.
    Done(Box<TraceResponse>),
}

impl Asked {
    fn parse(body: &Value) -> Result<Self, Problem> {
        let more = |fields: &mut patchbay_graph::fields::Fields<'_>| {
            let streams = fields.flag("stream")?.unwrap_or(false);
            Ok((Wanted::parse(fields)?, streams))
        };
        let (request, (wanted, streams)) = Request::parse_as("a generation", body, more)?;
        if request.sweep.is_some() {
            let problem = Problem::new(Code::Unsupported, "a generation has no sweep").at("/sweep");
            return Err(problem.hint("send one generation for each combination"));
        }
        if request.inputs.len() > 1 {
            let problem = Problem::new(Code::Unsupported, "a generation has one input").at("/inputs");
            return Err(
                problem.hint("save what another input has with a trace, `\"to\": \"@name\"`, and use `@name` here")
            );
        }
        if streams && request.output.encoding == Some(Encoding::Safetensors) {
            let problem = Problem::new(Code::Unsupported, "a stream has no safetensors").at("/output/encoding");
            return Err(problem.hint("take `base64`, or no stream"));
        }
        Ok(Self { request, wanted, streams })
    }
}

impl Service {
    /// Begins to generate text. Where it `fills`, rows that do not say how many new tokens they want have as many as there is room for.
    /// Dropping what is returned stops it.
    ///
    /// # Errors
    /// Everything that a request can get wrong, before anything runs; its time is over.
    pub(crate) async fn generate(
        self: &Arc<Self>,
        body: Value,
        fills: bool,
        accept: Option<Encoding>,
        caller: &Caller,
    ) -> Result<Generating, Failure> {
        let deadline = self.settings.timeouts.deadline(Instant::now(), timeout_ms(&body)?)?;
        deadline.bound(self.begin(body, fills, accept, caller, deadline)).await
    }

    async fn begin(
        self: &Arc<Self>,
        body: Value,
        fills: bool,
        accept: Option<Encoding>,
        caller: &Caller,
        deadline: Deadline,
    ) -> Result<Generating, Failure> {
        let (service, owner) = (Arc::clone(self), caller.clone());
        let understood = blocking(move || service.understand(&body, fills, accept, &owner)).await?;
        let Understood { model, frame, planner, tensors, prompts, wanted, new_tokens, seed, streams } = understood;
        let memory = model.engine.memory().clone();
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0) + new_tokens;
        let size = model.engine.decoder().dtype().size_in_bytes();
        let keys = history_bytes(model.tree(), longest, size).saturating_mul(prompts.len() as u64);
        let cost = planner.cost();
        self.budget.admit(&memory, cost.peak_bytes)?;
        let keys_held = kept(&memory, keys).await?;
        let (stop, cancel) = StopOnDrop::new();
        let begin = Begin {
            decoder: Arc::clone(model.engine.decoder()),
            tokenizer: model.tokenizer.clone(),
            planner,
            tensors,
            histories: prompts.iter().map(|_| History::default()).collect(),
            prompts,
            new_tokens,
            seed,
            eos: model.stop_ids.clone(),
            order: Order { deadline: deadline.at, ..Order::new(caller.turns()) },
            cancel,
            keys_held,
            // what is joined is there twice for a moment
            results_held: Arc::new(memory.hold(cost.result_bytes.saturating_mul(2))),
            tells_steps: streams,
            settings: wanted,
        };
        let with_logprobs = begin.settings.logprobs.is_some();
        let events = Run::start(&model.engine, begin)?;
        let id = format!("generate-{}", Uuid::new_v4().simple());
        let (service, caller) = (Arc::clone(self), caller.clone());
        let about = Arc::new(About { service, caller, model, frame, id, seed, with_logprobs });
        Ok(Generating { about, deadline, events, streams, _stop: stop })
    }

    /// Understands a request for a generation.
    fn understand(
        &self,
        body: &Value,
        fills: bool,
        accept: Option<Encoding>,
        caller: &Caller,
    ) -> Result<Understood, Failure> {
        let Asked { mut request, mut wanted, streams } = Asked::parse(body)?;
        wanted.fills = fills;
        let chosen = self.choose(request.model.as_deref(), caller)?;
        chosen.edit(&mut request)?;
        let model = chosen.model.ready()?;
        wanted.check(model.tree().vocab)?;
        let tokenized = self.read_inputs(&model, &request.inputs)?;
        let shown = tokenized.shown.clone();
        let (rows, prompts) = samples(tokenized, wanted.samples, self.settings.limits.max_rows)?;
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let limit = self.settings.limits.max_tokens;
        let room = if fills { limit / prompts.len().max(1) } else { usize::MAX };
        let new_tokens = wanted.new_tokens(longest, model.tree().context.min(room))?;
        if prompts.iter().map(|prompt| prompt.len() + new_tokens).sum::<usize>() > limit {
            let detail = format!("prompts and new tokens are more than max_tokens, {limit}");
            return Err(Failure::new(413, "too_large", detail).hint("send fewer rows at once").at("/max_new_tokens"));
        }
        let shelf = self.store.shelf(caller);
        // a stream is JSON, whatever is accepted
        let encoding = request.output.encoding.or(accept.filter(|_| !streams)).unwrap_or(Encoding::Json);
        let convert = request.output.dtype;
        let edits = request.edits.clone();
        let generation = Generation::new(request, rows, new_tokens).map_err(|problem| chosen.placed(problem))?;
        let limits = self.settings.limits.clone();
        let ground = Ground { tree: Arc::clone(model.tree()), store: Arc::new(shelf.clone()), limits };
        let planner = Planner::new(generation, ground, new_tokens).map_err(|problem| chosen.placed(problem))?;
        let names = planner.plans().flat_map(|plan| {
            plan.results.iter().map(|result| (result.name.as_str(), plan.values[result.value].at.as_str()))
        });
        check_result_names(names.filter(|(name, _)| *name != NEXT_LOGITS), encoding)?;
        self.check_kept(&shelf, planner.kept().into_iter().map(|(name, (at, bytes))| (name, at, bytes)))?;
        let mut tensors = Tensors::new();
        for plan in planner.plans() {
            tensors.extend(stored_tensors(plan, &shelf)?);
        }
        let frame = Frame {
            model: chosen.name,
            warnings: model.warnings.iter().cloned().chain(edits.untouched(&planner.idle())).collect(),
            edits,
            style: Style { encoding, convert, tokenizer: model.tokenizer.clone() },
            inputs: shown,
            kept: Default::default(),
        };
        let seed = wanted.seed.unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0 >> 11);
        Ok(Understood { model, frame, planner, tensors, prompts, wanted, new_tokens, seed, streams })
    }
}

/// Rows and ids of every sample, those of one row side by side.
fn samples(tokenized: Tokenized, count: usize, limit: usize) -> Result<(TokenRows, Vec<Vec<u32>>), Failure> {
    let (Some(rows), Some(ids)) = (tokenized.rows.into_iter().next(), tokenized.ids.into_iter().next()) else {
        return Err(Failure::internal("a generation without an input"));
    };
    let total = rows.rows.len().saturating_mul(count);
    if total > limit {
        let detail =
            format!("{} rows with {count} samples each are {total} rows, max_rows is {limit}", rows.rows.len());
        return Err(Failure::new(413, "too_large", detail).at("/n"));
    }
    let repeated = |row| std::iter::repeat_n(row, count);
    let rows = TokenRows { name: rows.name, rows: rows.rows.into_iter().flat_map(repeated).collect() };
    Ok((rows, ids.into_iter().flat_map(|row| std::iter::repeat_n(row, count)).collect()))
}

/// Waits until so many bytes may be kept from wave to wave.
async fn kept(memory: &Memory, bytes: u64) -> Result<patchbay_engine::Held, Failure> {
    loop {
        if bytes > memory.most_kept() {
            let most = memory.most_kept();
            let detail =
                format!("the keys of this generation take {bytes} bytes, and those of all together may take {most}");
            return Err(Failure::new(413, "too_large", detail)
                .hint("send fewer rows, or ask for fewer tokens")
                .at("/max_new_tokens"));
        }
        match memory.keep(bytes) {
            Some(held) => return Ok(held),
            None => tokio::time::sleep(LOOK).await,
        }
    }
}

impl Generating {
    /// Writes what comes of it in OpenAI's forms.
    pub(crate) fn writer(&self, asked: &crate::openai::asked::Asked) -> Writer {
        let About { id, frame, model, .. } = &*self.about;
        let prompts = frame.inputs.first().map_or(&[][..], |(_, tokens)| &tokens.ids);
        Writer::new(asked, id, &frame.model, model.tokenizer.clone(), prompts)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// What happened while it ran; its time is over.
    pub(crate) async fn answer(mut self) -> Result<TraceAnswer, Failure> {
        let deadline = self.deadline;
        let generated = deadline.bound(async {
            loop {
                match self.event().await? {
                    Event::Done(generated) => return Ok(generated),
                    Event::Failed(error) => return Err(error.into()),
                    Event::Token(_) | Event::Saved { .. } => {}
                }
            }
        });
        let generated = generated.await?;
        let (held, about) = (Some(Arc::clone(&generated.held)), self.about);
        let encoding = about.frame.style.encoding;
        let response = blocking(move || about.response(*generated, false)).await?;
        Ok(TraceAnswer { response, encoding, held })
    }

    /// What happens next; nothing after the end.
    ///
    /// # Errors
    /// What happened while it ran; its time is over.
    pub(crate) async fn next(&mut self) -> Result<Told, Failure> {
        let deadline = self.deadline;
        let event = deadline.bound(self.event()).await?;
        let about = Arc::clone(&self.about);
        match event {
            Event::Token(token) => Ok(Told::Token(TokenEvent::new(&token, about.model.tokenizer.as_deref()))),
            Event::Saved { step, results } => {
                let result = |(name, answer): (String, Answer)| {
                    let (body, _) = about.told(&name, answer)?;
                    Ok((name, body))
                };
                let results = results.into_iter().map(result).collect::<Result<_, Failure>>()?;
                Ok(Told::Saved(step, NamedResults(results)))
            }
            Event::Done(generated) => {
                let response = blocking(move || about.response(*generated, true)).await?;
                Ok(Told::Done(Box::new(response)))
            }
            Event::Failed(error) => Err(error.into()),
        }
    }

    async fn event(&mut self) -> Result<Event, Failure> {
        self.events.recv().await.ok_or_else(|| EngineError::Stopped.into())
    }
}

impl About {
    /// A result as an event tells it, and what of it is for the store.
    fn told(&self, name: &str, answer: Answer) -> Result<(ResultBody, Option<StoredTensor>), Failure> {
        match answer {
            Answer::Tensor { tensor, shape, dtype } if tensor.elem_count() * dtype.size() > INLINE => {
                let body =
                    HandleBody { dtype: dtype.name(), shape: shape.dims, tensor: format!("@{}.{name}", self.id) };
                Ok((ResultBody::Handle(body), Some(StoredTensor { dtype, tensor })))
            }
            answer => Ok((self.frame.style.result(answer)?, None)),
        }
    }

    /// The answer; large results of a stream are kept in the caller's store.
    fn response(&self, generated: Generated, streamed: bool) -> Result<TraceResponse, Failure> {
        let Generated { outputs, saved, receipts, usage, warnings, .. } = generated;
        let (results, kept) = saved.finish().map_err(EngineError::from)?;
        let store = &self.service.store;
        for (name, dtype, tensor) in kept {
            store.put(&self.caller, &name, [(name.clone(), StoredTensor { dtype, tensor })].into())?;
        }
        let (mut written, mut large) = (Vec::with_capacity(results.len()), std::collections::BTreeMap::new());
        for (name, answer) in results {
            let (body, stored) = match streamed {
                true => self.told(&name, answer)?,
                false => (self.frame.style.result(answer)?, None),
            };
            large.extend(stored.map(|stored| (name.clone(), stored)));
            written.push((name, body));
        }
        if !large.is_empty() {
            store.put(&self.caller, &self.id, large)?;
        }
        let tokenizer = self.model.tokenizer.as_deref();
        let output = |output| OutputBody::new(output, tokenizer, self.with_logprobs);
        Ok(TraceResponse {
            id: self.id.clone(),
            model: self.frame.model.clone(),
            outputs: Some(outputs.into_iter().map(output).collect()),
            results: NamedResults(written),
            inputs: self.frame.inputs.clone(),
            receipts: receipts.into_iter().map(|receipt| ReceiptBody::new(receipt, &self.frame.edits)).collect(),
            usage,
            seed: Some(self.seed),
            warnings: self.frame.warnings.iter().cloned().chain(warnings).collect(),
        })
    }
}
