//! A generation on its way through the executor.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{Storage, Tensor};
use patchbay_checkpoint::Tokenizer;
use patchbay_engine::{
    Answer, Cancel, Engine, EngineError, Held, History, Job, Order, Outcome, Prefixes, Steps, Usage,
};
use patchbay_graph::{Code, NEXT_LOGITS, Plan, Problem};
use patchbay_model::Decoder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::collect::Collector;
use crate::constraint::Constraint;
use crate::event::{Event, Finish, Generated, NewToken, Output, Scored, Sequence};
use crate::planner::Planner;
use crate::receipts::Receipts;
use crate::sampler::Sampler;
use crate::settings::Settings;
use crate::text::TextStream;

/// The caller's tensors that plans name, by name and key.
pub type Tensors = HashMap<(String, Option<String>), Tensor>;

/// A generation that was understood.
#[derive(Debug)]
pub struct Begin {
    /// The model.
    pub decoder: Arc<Decoder>,
    /// The model's tokenizer, if it has one.
    pub tokenizer: Option<Arc<Tokenizer>>,
    /// The plans of its steps.
    pub planner: Planner,
    /// The caller's tensors that they name.
    pub tensors: Tensors,
    /// The rows.
    pub rows: Vec<Beginning>,
    /// Tokens of other inputs, which are computed in the first step alone: input, row, token.
    pub others: Vec<Vec<Vec<u32>>>,
    /// What is asked for.
    pub settings: Settings,
    /// New tokens of each row at most.
    pub new_tokens: usize,
    /// The seed of sampling.
    pub seed: u64,
    /// Tokens that end a text.
    pub eos: Vec<u32>,
    /// What each text has to be.
    pub constraint: Option<Constraint>,
    /// When its turns come.
    pub order: Order,
    /// Stops it.
    pub cancel: Cancel,
    /// The memory of its keys, until it has ended.
    pub keys_held: Option<Held>,
    /// The memory of its results.
    pub results_held: Arc<Held>,
    /// Whether what each step saves is told.
    pub tells_steps: bool,
}

/// A row as it begins.
#[derive(Clone, Debug, Default)]
pub struct Beginning {
    /// Tokens whose keys are known.
    pub past: Vec<u32>,
    /// Their keys.
    pub history: History,
    /// Whether something was written while these were made, so that they cannot be made again from the tokens alone.
    pub written: bool,
    /// The tokens between these and the first new one.
    pub prompt: Vec<u32>,
}

/// A generation on its way: between two steps it has the next token of every row, and the job that goes over them.
#[derive(Debug)]
pub struct Run {
    begin: Begin,
    events: UnboundedSender<Event>,
    rows: Vec<Row>,
    step: usize,
    plan: Arc<Plan>,
    collector: Collector,
    receipts: Receipts,
    usage: Usage,
    /// Where its sequences are left.
    prefixes: Arc<Prefixes>,
    /// Whether keys stayed that transformers computes again.
    stays: bool,
}

/// A row and what it has become.
#[derive(Debug)]
struct Row {
    sampler: Sampler,
    text: TextStream,
    constraint: Option<Constraint>,
    scored: Vec<(Scored, Vec<Scored>)>,
    finish: Option<Finish>,
}

impl Run {
    /// Queues the first step. What comes of it is told over the channel; dropping that stops it before the next step.
    ///
    /// # Errors
    /// As [`Engine::submit`]; a problem of the first step.
    pub fn start(engine: &Engine, begin: Begin) -> Result<UnboundedReceiver<Event>, EngineError> {
        let (events, receiver) = unbounded_channel();
        let plan = begin.planner.plan(0).map_err(EngineError::Refused)?;
        let stops: Arc<[String]> = begin.settings.stop.strings.as_slice().into();
        let row = |(number, row): (usize, &Beginning)| Row {
            sampler: Sampler::new(begin.settings.sampling.clone(), begin.seed, number as u64, &row.tokens()),
            text: TextStream::new(begin.tokenizer.clone(), Arc::clone(&stops)),
            constraint: begin.constraint.clone(),
            scored: Vec::new(),
            finish: None,
        };
        let rows = begin.rows.iter().enumerate().map(row).collect();
        let prompts = begin.rows.iter().map(|row| row.prompt.clone()).collect();
        let ids = std::iter::once(prompts).chain(begin.others.iter().cloned()).collect();
        let job = begin.job(&plan, ids, begin.order.clone());
        let (collector, receipts, usage) = (Collector::default(), Receipts::default(), Usage::default());
        let stays = begin.rows.iter().any(|row| {
            !row.past.is_empty() && begin.decoder.begins_again(row.past.len(), row.past.len() + row.prompt.len())
        });
        let prefixes = Arc::clone(engine.prefixes());
        let run = Self { begin, events, rows, step: 0, plan, collector, receipts, usage, prefixes, stays };
        engine.submit_steps(job, Box::new(run))?;
        Ok(receiver)
    }

    /// Takes the next token of every row that goes on.
    fn advance(&mut self, outcome: &Outcome) -> Result<(), EngineError> {
        let takes_part: Vec<bool> = self.rows.iter().map(|row| row.finish.is_none()).collect();
        self.collector.add(&self.plan, self.begin.decoder.tree(), &takes_part, outcome)?;
        self.receipts.add(outcome.receipts.clone());
        self.count(outcome.usage);
        let answer = outcome.results.iter().find(|(name, _)| name == NEXT_LOGITS);
        let Some((_, Answer::Tensor { tensor, .. })) = answer else {
            return Err(EngineError::Failed("a step gave no logits".into()));
        };
        if self.begin.tells_steps {
            let results: Vec<_> = outcome.results.iter().filter(|(name, _)| name != NEXT_LOGITS).cloned().collect();
            if !results.is_empty() {
                self.tell(Event::Saved { step: self.step, results });
            }
        }
        let tensor = tensor.to_dtype(candle_core::DType::F32)?;
        let (storage, layout) = tensor.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else {
            return Err(EngineError::Failed("the logits of a step are not on the CPU".into()));
        };
        let logits = &storage.as_slice::<f32>()?[layout.start_offset()..];
        let vocab = tensor.dim(1)?;
        for (row, logits) in logits.chunks_exact(vocab).enumerate().take(self.rows.len()) {
            if takes_part[row] {
                self.take(row, logits)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, number: usize, logits: &[f32]) -> Result<(), EngineError> {
        let Begin { settings, eos, new_tokens, .. } = &self.begin;
        let (row, count) = (&mut self.rows[number], self.step + 1);
        let ends = |id: u32| (!settings.stop.ignore_eos && eos.contains(&id)) || settings.stop.ids.contains(&id);
        let banned: Vec<u32> = match count <= settings.min_new_tokens {
            true => eos.iter().chain(&settings.stop.ids).copied().filter(|id| (*id as usize) < logits.len()).collect(),
            false => Vec::new(),
        };
        let allowed = row.constraint.as_mut().map(Constraint::allowed).transpose().map_err(EngineError::Refused)?;
        let Some(id) = row.sampler.take(logits, &banned, allowed.as_ref()) else {
            let detail =
                format!("the logits of row {number} at step {} leave no token to take: they are not finite", self.step);
            let problem = Problem::new(Code::BadArgument, detail).at("/graph");
            return Err(EngineError::Refused(problem.hint("an edit drove them there, or a bias forbids every token")));
        };
        let scored = settings.logprobs.map(|count| Sampler::scored(logits, id, count));
        let (mut text, stopped) = row.text.push(id);
        let whole = row.constraint.as_mut().map(|constraint| constraint.take(id)).transpose();
        let whole = whole.map_err(EngineError::Refused)?.unwrap_or(false);
        let stopped = whole || (stopped && count >= settings.min_new_tokens);
        row.finish = match () {
            () if ends(id) || stopped => Some(Finish::Stop),
            () if count >= *new_tokens => Some(Finish::Length),
            () => None,
        };
        if row.finish.is_some() {
            text.push_str(&row.text.finish());
        }
        row.scored.extend(scored.clone());
        let finish = row.finish;
        self.tell(Event::Token(NewToken { row: number, id, text, scored, finish }));
        Ok(())
    }

    fn tell(&self, event: Event) {
        // nobody may be there any more: then the next step is not taken
        let _gone = self.events.send(event);
    }

    fn count(&mut self, new: Usage) {
        let sum = self.usage;
        let queue_ms = if self.step == 0 { new.queue_ms } else { sum.queue_ms };
        self.usage = Usage { queue_ms, compute_ms: sum.compute_ms + new.compute_ms, ..sum.and(new) };
    }

    /// The job over the newest tokens.
    fn next_job(&mut self) -> Result<Job, EngineError> {
        self.step += 1;
        self.plan = self.begin.planner.plan(self.step).map_err(EngineError::Refused)?;
        let newest = |row: &Row| match row.finish {
            None => row.text.ids().last().copied().into_iter().collect(),
            Some(_) => Vec::new(),
        };
        let mut ids: Vec<Vec<u32>> = self.rows.iter().map(newest).collect();
        let mut again: Vec<bool> =
            ids.iter().enumerate().map(|(row, ids)| !ids.is_empty() && self.begins_again(row)).collect();
        for (again, row) in again.iter_mut().zip(&self.begin.rows) {
            self.stays |= *again && row.written;
            *again &= !row.written;
        }
        if again.contains(&true) {
            match self.begin.planner.plan_again(self.step, &again).map_err(EngineError::Refused)? {
                None => self.stays = true,
                Some(plan) => {
                    self.plan = plan;
                    for row in (0..ids.len()).filter(|row| again[*row]) {
                        ids[row] = [&*self.begin.rows[row].tokens(), self.rows[row].text.ids()].concat();
                        self.begin.rows[row].history = History::default();
                    }
                }
            }
        }
        Ok(self.begin.job(&self.plan, vec![ids], Order { goes_on: true, ..self.begin.order.clone() }))
    }

    fn begins_again(&self, row: usize) -> bool {
        let tokens = self.begin.rows[row].history.cache().tokens();
        self.begin.decoder.begins_again(tokens, tokens + 1)
    }

    fn finish(&mut self) -> Generated {
        let warnings = self.warnings();
        let saved = std::mem::take(&mut self.collector);
        let outputs: Vec<Output> = self.rows.iter_mut().map(Row::output).collect();
        let begun = || self.begin.rows.iter().step_by(self.begin.settings.samples.max(1));
        let past: usize = begun().map(|row| row.past.len()).sum();
        let cached = past + self.usage.cached_tokens.unwrap_or(0);
        let others = self.begin.others.iter().flatten().map(Vec::len).sum::<usize>();
        let usage = Usage {
            prompt_tokens: past + begun().map(|row| row.prompt.len()).sum::<usize>() + others,
            cached_tokens: Some(cached).filter(|cached| *cached > 0),
            new_tokens: outputs.iter().map(|output| output.ids.len()).sum(),
            ..self.usage
        };
        let written = !self.begin.planner.writes().is_empty();
        let sequence = |(row, output): (Beginning, &Output)| Sequence {
            ids: [&*row.tokens(), &output.ids].concat(),
            written: row.written || written,
            history: row.history,
        };
        let sequences: Vec<_> = std::mem::take(&mut self.begin.rows).into_iter().zip(&outputs).map(sequence).collect();
        let clean = sequences.iter().filter(|sequence| !sequence.written);
        self.prefixes.leave(clean.map(|sequence| (&*sequence.ids, &sequence.history)));
        let keys_held = self.begin.keys_held.take();
        let receipts = std::mem::take(&mut self.receipts).finish();
        let held = Arc::clone(&self.begin.results_held);
        Generated { outputs, saved, receipts, usage, warnings, held, sequences, keys_held }
    }

    /// What was to act at a step that did not come, as all rows had ended.
    fn warnings(&self) -> Vec<String> {
        let steps = self.step + 1;
        let writes = self.begin.planner.writes().into_iter().filter(|(node, _)| !self.receipts.touched(*node));
        let writes = writes.filter(|(_, (first, _))| *first >= steps);
        let writes = writes.map(|(_, (first, at))| {
            format!(
                "{at} touched nothing: it begins at step {first}, and the generation ended after step {}",
                self.step
            )
        });
        let names = self.begin.planner.plans().flat_map(|plan| &plan.results).map(|result| &result.name);
        let mut missing: Vec<&String> =
            names.filter(|name| *name != NEXT_LOGITS && !self.collector.has(name)).collect();
        missing.sort_unstable();
        missing.dedup();
        let saves = missing
            .into_iter()
            .map(|name| format!("`{name}` was not saved: its steps begin after step {}, the last one", self.step));
        let stays = self.stays.then(|| {
            "a row grew beyond the model's original context: without a graph its first tokens are computed again with long rotations, as \
             transformers does it, but with one their keys stay as they were"
                .to_owned()
        });
        writes.chain(saves).chain(stays).collect()
    }
}

impl Beginning {
    /// Its tokens before the first new one.
    fn tokens(&self) -> Vec<u32> {
        [&*self.past, &self.prompt].concat()
    }
}

impl Begin {
    fn job(&self, plan: &Arc<Plan>, ids: Vec<Vec<Vec<u32>>>, order: Order) -> Job {
        Job {
            plan: Arc::clone(plan),
            ids,
            tensors: self.tensors.clone(),
            histories: vec![self.rows.iter().map(|row| row.history.clone()).collect()],
            cancel: self.cancel.clone(),
            order,
        }
    }
}

impl Row {
    fn output(&mut self) -> Output {
        Output {
            ids: self.text.ids().to_vec(),
            text: self.text.text().map(str::to_owned),
            finish: self.finish.unwrap_or(Finish::Length),
            scored: std::mem::take(&mut self.scored),
        }
    }
}

impl Steps for Run {
    fn next(&mut self, outcome: Result<Outcome, EngineError>) -> Option<Job> {
        let advanced = outcome.and_then(|outcome| self.advance(&outcome));
        if advanced.is_ok() && self.rows.iter().all(|row| row.finish.is_some()) {
            let generated = Box::new(self.finish());
            self.tell(Event::Done(generated));
            return None;
        }
        match advanced.and_then(|()| self.next_job()) {
            Ok(job) => Some(job),
            Err(error) => {
                self.tell(Event::Failed(error));
                None
            }
        }
    }

    fn is_gone(&self) -> bool {
        self.events.is_closed()
    }
}
