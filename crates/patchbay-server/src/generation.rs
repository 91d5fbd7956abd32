//! A generation on its way: understood, queued, told while it runs, answered.

mod asked;
mod prompts;
mod rows;
mod session;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use patchbay_engine::{Answer, EngineError, Held, Memory, Order};
use patchbay_generate::{
    Begin, Beginning, Constraint, Event, Generated, Ground, Planner, Run, Settings as Wanted, Tensors, history_bytes,
};
use patchbay_graph::{Encoding, Generation, TokenRows, score_prompt};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;
use uuid::Uuid;

use self::asked::Asked;
use self::prompts::{Prompts, is_hidden};
use self::rows::{beginning, longest, samples};
use self::session::GoesOn;
use crate::blocking::blocking;
use crate::caller::Caller;
use crate::deadline::Deadline;
use crate::model::Loaded;
use crate::openai::answered::Writer;
use crate::progress::Progress;
use crate::sessions::Session;
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

/// A generation that was understood: all but the memory that it keeps.
struct Understood {
    model: Arc<Loaded>,
    frame: Frame,
    planner: Planner,
    tensors: Tensors,
    rows: Vec<Beginning>,
    others: Vec<Vec<Vec<u32>>>,
    wanted: Wanted,
    constraint: Option<Constraint>,
    new_tokens: usize,
    seed: u64,
    streams: bool,
    keep: Option<Duration>,
}

/// A generation that runs.
pub(crate) struct Generating {
    about: Arc<About>,
    deadline: Deadline,
    events: UnboundedReceiver<Event>,
    pub(crate) streams: bool,
    /// Where it tells how far it is.
    progress: Progress,
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
    /// The tokens of the prompts, where it is told how likely they were.
    prompts: Option<Prompts>,
    /// How long its keys are kept, and those of which blocks there are not.
    keep: Option<(Duration, BTreeSet<usize>)>,
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
        progress: &Progress,
    ) -> Result<Generating, Failure> {
        let deadline = self.deadline(&body, progress)?;
        deadline.bound(self.begin(body, fills, accept, caller, deadline, progress)).await
    }

    async fn begin(
        self: &Arc<Self>,
        body: Value,
        fills: bool,
        accept: Option<Encoding>,
        caller: &Caller,
        deadline: Deadline,
        progress: &Progress,
    ) -> Result<Generating, Failure> {
        let (service, owner) = (Arc::clone(self), caller.clone());
        let understood = blocking(move || service.understand(&body, fills, accept, &owner)).await?;
        let Understood { model, frame, planner, tensors, rows, wanted, constraint, .. } = understood;
        let Understood { others, new_tokens, seed, streams, keep, .. } = understood;
        let memory = model.engine.memory().clone();
        let size = model.engine.decoder().dtype().size_in_bytes();
        let keys = history_bytes(model.tree(), longest(&rows) + new_tokens, size).saturating_mul(rows.len() as u64);
        let cost = planner.cost();
        self.budget.admit(&memory, cost.peak_bytes)?;
        let keys_held = Some(self.kept(&memory, keys).await?);
        let keep = keep.map(|keep| (keep, planner.skipped()));
        let (stop, cancel) = StopOnDrop::new();
        let begin = Begin {
            decoder: Arc::clone(model.engine.decoder()),
            tokenizer: model.tokenizer.clone(),
            planner,
            tensors,
            rows,
            others,
            new_tokens,
            seed,
            eos: model.stop_ids.clone(),
            constraint,
            order: Order { deadline: deadline.at, ..Order::new(caller.turns()) },
            cancel,
            keys_held,
            // what is joined is there twice for a moment
            results_held: Arc::new(memory.hold(cost.result_bytes.saturating_mul(2))),
            tells_steps: streams,
            settings: wanted,
        };
        let with_logprobs = begin.settings.logprobs.is_some();
        let prompts = begin.settings.prompt_logprobs.map(|_| Prompts::new(&begin.rows, begin.settings.samples));
        let tokens = begin.rows.len() * new_tokens;
        let events = Run::start(&model.engine, begin)?;
        let id = format!("generate-{}", Uuid::new_v4().simple());
        let (service, caller) = (Arc::clone(self), caller.clone());
        let about = Arc::new(About { service, caller, model, frame, id, seed, with_logprobs, prompts, keep });
        progress.begun(tokens);
        let progress = progress.clone();
        Ok(Generating { about, deadline, events, streams, progress, _stop: stop })
    }

    /// Waits until so many bytes may be kept from wave to wave. Sessions make room.
    async fn kept(&self, memory: &Memory, bytes: u64) -> Result<Held, Failure> {
        loop {
            if bytes > memory.most_kept() {
                let most = memory.most_kept();
                let detail = format!(
                    "the keys of this generation take {bytes} bytes, and those of all together may take {most}"
                );
                return Err(Failure::new(413, "too_large", detail)
                    .hint("send fewer rows, or ask for fewer tokens")
                    .at("/max_new_tokens"));
            }
            match memory.keep(bytes) {
                Some(held) => return Ok(held),
                None if self.sessions.evict() => {}
                None => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Understands a request for a generation.
    fn understand(
        &self,
        body: &Value,
        fills: bool,
        accept: Option<Encoding>,
        caller: &Caller,
    ) -> Result<Understood, Failure> {
        let Asked { mut request, mut wanted, streams, session: goes_on, keep } = Asked::parse(body)?;
        wanted.fills = fills;
        let chosen = self.choose(request.model.as_deref(), caller)?;
        chosen.edit(&mut request)?;
        let model = chosen.model.ready()?;
        wanted.check(model.tree().vocab)?;
        let constraint = wanted.form.as_ref().map(|form| model.constraint(form)).transpose()?;
        let (first, rest) = request.inputs.split_at(1);
        let tokenized = self.reader(&model, goes_on.is_some()).read(first)?;
        let others = self.reader(&model, false).read(rest)?;
        let shown = tokenized.shown.iter().chain(&others.shown).cloned().collect();
        let found = |goes_on: &GoesOn| {
            let found = self.sessions.take_up(caller, &goes_on.id).map_err(|failure| failure.at("/session"))?;
            Ok::<_, Failure>(session::of_model(found, &model, &chosen.name)?)
        };
        let session = goes_on.as_ref().map(found).transpose()?;
        let rows = match (&goes_on, &session) {
            (Some(goes_on), Some(session)) => goes_on.rows(session, &model, &request, tokenized)?,
            _ => beginning(tokenized),
        };
        let (rows, begun) = samples(rows, wanted.samples, self.settings.limits.max_rows)?;
        let rows = TokenRows { name: request.inputs[0].name.clone(), rows };
        let limit = self.settings.limits.max_tokens;
        let room = if fills { limit / begun.len().max(1) } else { usize::MAX };
        let new_tokens = wanted.new_tokens(longest(&begun), model.tree().context.min(room))?;
        let beside = others.ids.iter().flatten().map(Vec::len).sum::<usize>();
        if begun.iter().map(|row| row.prompt.len() + new_tokens).sum::<usize>() + beside > limit {
            let detail = format!("prompts and new tokens are more than max_tokens, {limit}");
            return Err(Failure::new(413, "too_large", detail).hint("send fewer rows at once").at("/max_new_tokens"));
        }
        let shelf = self.store.shelf(caller);
        // a stream is JSON, whatever is accepted
        let encoding = request.output.encoding.or(accept.filter(|_| !streams)).unwrap_or(Encoding::Json);
        let convert = request.output.dtype;
        let edits = request.edits.clone();
        if let Some(count) = wanted.prompt_logprobs {
            for (number, row) in begun.iter().enumerate().step_by(wanted.samples) {
                score_prompt(&mut request, number, &row.prompt, count)?;
            }
        }
        let generation =
            Generation::new(request, rows, others.rows, new_tokens).map_err(|problem| chosen.placed(problem))?;
        let limits = self.settings.limits.clone();
        let ground = Ground { tree: Arc::clone(model.tree()), store: Arc::new(shelf.clone()), limits };
        let planner = Planner::new(generation, ground, new_tokens).map_err(|problem| chosen.placed(problem))?;
        if let Some(session) = &session {
            session::check_skips(session, &planner)?;
        }
        let names = planner.plans().flat_map(|plan| {
            plan.results.iter().map(|result| (result.name.as_str(), plan.values[result.value].at.as_str()))
        });
        check_result_names(names.filter(|(name, _)| !is_hidden(name)), encoding)?;
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
        let (rows, others) = (begun, others.ids);
        Ok(Understood {
            model,
            frame,
            planner,
            tensors,
            rows,
            others,
            wanted,
            constraint,
            new_tokens,
            seed,
            streams,
            keep,
        })
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
                    Event::Token(_) => self.progress.more(1),
                    Event::Saved { .. } => {}
                }
            }
        });
        let generated = generated.await?;
        let (held, about) = (Some(Arc::clone(&generated.held)), self.about);
        let encoding = about.frame.style.encoding;
        let response = blocking(move || about.response(*generated, false)).await?;
        Ok(TraceAnswer { response, encoding, held, picture: None })
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
            Event::Saved { step, mut results } => {
                results.retain(|(name, _)| !is_hidden(name));
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
        let Generated { outputs, saved, receipts, usage, warnings, sequences, keys_held, .. } = generated;
        let (mut results, kept) = saved.finish().map_err(EngineError::from)?;
        let prompts = self.prompts.as_ref().map(|prompts| prompts.take(&mut results)).transpose()?;
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
        let session = self.keep.as_ref().map(|(keep, skipped)| {
            let model = (&self.model, &*self.frame.model);
            let session = Session::new(sequences, skipped.clone(), model, *keep, keys_held);
            self.service.keep_session(&self.caller, session)
        });
        let tokenizer = self.model.tokenizer.as_deref();
        let output = |(row, output)| OutputBody {
            prompt_logprobs: prompts.as_ref().and_then(|prompts| prompts.body(row, tokenizer)),
            ..OutputBody::new(output, tokenizer, self.with_logprobs)
        };
        Ok(TraceResponse {
            id: self.id.clone(),
            model: self.frame.model.clone(),
            outputs: Some(outputs.into_iter().enumerate().map(output).collect()),
            results: NamedResults(written),
            inputs: self.frame.inputs.clone(),
            receipts: receipts.into_iter().map(|receipt| ReceiptBody::new(receipt, &self.frame.edits)).collect(),
            usage,
            seed: Some(self.seed),
            session,
            warnings: self.frame.warnings.iter().cloned().chain(warnings).collect(),
            notes: Default::default(),
        })
    }
}
