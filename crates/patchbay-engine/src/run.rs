//! Requests that run together, from their first token to their last result.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use patchbay_graph::plan::{Pass, Returned};
use patchbay_graph::wave::recall::Known;
use patchbay_graph::wave::{Asked, Wave};
use patchbay_model::Decoder;

use crate::backward::Tape;
use crate::engine::EngineError;
use crate::job::{Answer, Job, Outcome, Receipt, Usage};
use crate::prefixes::{Prefix, Prefixes};
use crate::tokens::top_tokens;
use crate::track::Track;
use crate::values::Values;
use crate::visit::Visit;
use crate::walk::{Stage, walk};

/// Whether a job can share its waves with others. One that takes gradients keeps everything on the way.
pub(crate) fn can_share(job: &Job) -> bool {
    job.plan.gradients.is_empty()
}

/// A job on its way.
struct Task<'a> {
    job: &'a Job,
    values: Values<'a>,
    tape: Tape<'a>,
    receipts: Vec<Receipt>,
    /// The pass that comes next.
    next: usize,
    /// The most jobs that shared a wave with it.
    company: usize,
    /// Tokens times blocks that ran for it.
    token_layers: f64,
    /// Tokens that were not computed, as their keys were known.
    recalled: usize,
}

/// Runs jobs in waves, one for the next pass of each, and says what each came to as soon as it is known. Before each part of a
/// wave, `between` may do something else.
///
/// # Errors
/// The device failed, and not for one job alone: those that were not `done` have no outcome.
pub(crate) fn run(
    decoder: &Decoder,
    prefixes: &Prefixes,
    jobs: &[Job],
    between: &mut dyn FnMut(),
    done: &mut dyn FnMut(usize, Result<Outcome, EngineError>),
) -> candle_core::Result<()> {
    let mut tasks: Vec<(usize, Task<'_>)> = Vec::with_capacity(jobs.len());
    for (number, job) in jobs.iter().enumerate() {
        match Task::new(decoder, job) {
            Ok(task) => tasks.push((number, task)),
            Err(error) => done(number, Err(error)),
        }
    }
    while !tasks.is_empty() {
        let mut ended = wave(decoder, prefixes, tasks.iter_mut().map(|(_, task)| task).collect(), between)?;
        let mut going_on = Vec::with_capacity(tasks.len());
        for ((number, task), ended) in tasks.into_iter().zip(ended.drain(..)) {
            match ended {
                Err(error) => done(number, Err(error)),
                Ok(()) if task.next == task.job.plan.passes.len() => done(number, task.finish(decoder)),
                Ok(()) => going_on.push((number, task)),
            }
        }
        tasks = going_on;
    }
    Ok(())
}

/// One wave: the next pass of each task.
fn wave<'a>(
    decoder: &'a Decoder,
    prefixes: &Prefixes,
    mut tasks: Vec<&mut Task<'a>>,
    between: &mut dyn FnMut(),
) -> candle_core::Result<Vec<Result<(), EngineError>>> {
    let with_pass: Vec<usize> = (0..tasks.len()).filter(|task| tasks[*task].pass().is_some()).collect();
    let jobs: Vec<&Job> = with_pass.iter().map(|task| tasks[*task].job).collect();
    let records = jobs.iter().any(|job| !job.plan.gradients.is_empty());
    let known = prefixes.all();
    let wave = laid_out(decoder, tasks.iter().filter_map(|task| Some((task.job, task.pass()?))), &known);
    let shares = shares(prefixes, &wave, &jobs, &known);
    let mut visit = visit(decoder, prefixes, wave, known, &jobs, &mut tasks);
    let stages = walked(decoder, &mut visit, &jobs, records, between)?;
    let Visit { wave, tracks, failures, histories, recorders, .. } = visit;
    prefixes.keep(recorders);
    for (((track, input, row), _), history) in wave.rows().zip(&histories) {
        if let (Some(history), None) = (history, &failures[track]) {
            history.cache().advance(jobs[track].ids[input][row].len());
        }
    }
    // a job that takes gradients is alone in its wave
    let mut recorded = records.then_some((wave, stages));
    let receipts: Vec<Vec<Receipt>> = tracks.into_iter().map(Track::into_receipts).collect();
    let mut results: Vec<Result<(), EngineError>> = tasks.iter().map(|_| Ok(())).collect();
    for (((task, receipts), failure), share) in with_pass.into_iter().zip(receipts).zip(failures).zip(shares) {
        results[task] = match failure {
            Some(failure) => Err(failure),
            None => {
                let task = &mut *tasks[task];
                task.receipts.extend(receipts);
                task.count(share);
                task.end_pass(recorded.take())
            }
        };
    }
    Ok(results)
}

/// What a job has of a wave.
struct Share {
    /// Jobs that shared it.
    company: usize,
    /// Tokens times blocks that ran for it.
    token_layers: f64,
    /// Tokens that were not computed, as their keys were known.
    recalled: usize,
}

/// What each job has of a wave; what is taken of known sequences counts as looked at.
fn shares(prefixes: &Prefixes, wave: &Wave, jobs: &[&Job], known: &[Arc<Prefix>]) -> Vec<Share> {
    let (taken, recalled) = wave.recalled(jobs.len(), known.len());
    prefixes.look_at(known.iter().zip(taken).filter(|(_, taken)| *taken).map(|(prefix, _)| prefix));
    let each = wave.token_layers_of(jobs.len()).into_iter().zip(recalled);
    each.map(|(token_layers, recalled)| Share { company: jobs.len(), token_layers, recalled }).collect()
}

/// The tasks that have a pass, whose jobs these are, on their way through a wave.
fn visit<'a, 'v>(
    decoder: &'a Decoder,
    prefixes: &Prefixes,
    wave: Wave,
    known: Vec<Arc<Prefix>>,
    jobs: &[&Job],
    tasks: &'v mut [&mut Task<'a>],
) -> Visit<'a, 'v> {
    let mut tracks = Vec::with_capacity(jobs.len());
    for task in tasks {
        if let Some(pass) = task.pass() {
            tracks.push(Track::new(tracks.len(), task.job, decoder.tree(), pass, &mut task.values));
        }
    }
    let histories =
        wave.rows().map(|((track, input, row), _)| jobs[track].histories.get(input)?.get(row).cloned()).collect();
    let ids = |(track, input, row): (usize, usize, usize)| -> &[u32] { &jobs[track].ids[input][row] };
    let recorders = prefixes.record(&wave, &known, &ids, decoder.tree());
    let mut visit = Visit::new(wave, tracks, histories);
    (visit.known, visit.recorders) = (known, recorders);
    visit
}

/// Walks through the layers, and stops those jobs for which nobody waits any more; what came of each part, if it is recorded.
fn walked(
    decoder: &Decoder,
    visit: &mut Visit<'_, '_>,
    jobs: &[&Job],
    records: bool,
    between: &mut dyn FnMut(),
) -> candle_core::Result<Vec<Stage>> {
    let mut stages = Vec::new();
    let look = |visit: &mut Visit<'_, '_>| {
        between();
        for (track, job) in jobs.iter().enumerate() {
            if visit.failures[track].is_none()
                && let Some(stopped) = job.stopped()
            {
                visit.fail(track, stopped);
            }
        }
    };
    walk(decoder, visit, look, |stage| {
        if records {
            stages.push(stage);
        }
    })?;
    Ok(stages)
}

/// The wave of passes of jobs, with the keys that are known.
fn laid_out<'a>(decoder: &Decoder, passes: impl Iterator<Item = (&'a Job, &'a Pass)>, known: &[Arc<Prefix>]) -> Wave {
    let passes: Vec<(&Job, &Pass, Vec<Vec<usize>>)> = passes.map(|(job, pass)| (job, pass, job.past())).collect();
    let asked: Vec<Asked<'_>> = passes.iter().map(|(job, pass, past)| job.asked(pass, past)).collect();
    let known: Vec<Known<'_>> = known.iter().map(|prefix| prefix.known()).collect();
    Wave::recalling(&asked, decoder.tree(), decoder.depends_on_length(), &known)
}

impl<'a> Task<'a> {
    fn new(decoder: &'a Decoder, job: &'a Job) -> Result<Self, EngineError> {
        let mut values = Values::new(&job.plan, &job.tensors, decoder);
        values.prologue()?;
        Ok(Self {
            job,
            values,
            tape: Tape::new(decoder, job),
            receipts: Vec::new(),
            next: 0,
            company: 1,
            token_layers: 0.0,
            recalled: 0,
        })
    }

    /// The pass that comes next, if one does.
    fn pass(&self) -> Option<&'a Pass> {
        self.job.plan.passes.get(self.next)
    }

    fn count(&mut self, share: Share) {
        self.company = self.company.max(share.company);
        self.token_layers += share.token_layers;
        self.recalled += share.recalled;
    }

    /// Takes the gradients of a pass that has ended, through what was recorded of it, and makes what can be made now.
    fn end_pass(&mut self, recorded: Option<(Wave, Vec<Stage>)>) -> Result<(), EngineError> {
        let pass = &self.job.plan.passes[self.next];
        self.next += 1;
        if let Some((wave, stages)) = recorded {
            self.tape.push(pass, wave, stages);
        }
        for gradient in &pass.gradients {
            self.tape.take(*gradient, &mut self.values)?;
        }
        Ok(pass.after.iter().try_for_each(|id| self.values.compute(*id))?)
    }

    fn finish(mut self, decoder: &Decoder) -> Result<Outcome, EngineError> {
        let (plan, tree) = (&*self.job.plan, decoder.tree());
        let token_layers = self.token_layers.round() as usize;
        let usage = Usage {
            token_layers,
            shared: plan.cost.token_layers.saturating_sub(token_layers),
            prompt_tokens: plan.inputs.iter().flat_map(|input| &input.lengths).sum(),
            cached_tokens: (self.recalled > 0).then_some(self.recalled),
            passes: plan.passes.len(),
            layers_run: plan.cost.layers_run,
            layer_count: tree.layers.len(),
            co_batched: self.company,
            ..Usage::default()
        };
        self.receipts.sort_by_key(|receipt: &Receipt| receipt.node);
        let results = answers(self.job, &self.values)?;
        let kept = plan.kept.iter().map(|(name, value)| Ok((name.clone(), on_cpu(self.values.get(*value)?)?)));
        let kept = kept.collect::<candle_core::Result<_>>()?;
        Ok(Outcome { results, kept, receipts: self.receipts, usage, times: None, held: None })
    }
}

fn answers(job: &Job, values: &Values<'_>) -> candle_core::Result<Vec<(String, Answer)>> {
    let answer = |result: &Returned| {
        let value = &job.plan.values[result.value];
        let tensor = on_cpu(values.get(result.value)?)?;
        let answer = match result.top_tokens {
            None => Answer::Tensor { tensor, shape: value.shape.clone(), dtype: value.dtype },
            Some(k) => {
                let dims = value.shape.dims[..value.shape.rank() - 1].to_vec();
                Answer::Tokens { dims, tokens: top_tokens(&tensor, &value.shape, k)? }
            }
        };
        Ok((result.name.clone(), answer))
    };
    job.plan.results.iter().map(answer).collect()
}

fn on_cpu(tensor: &Tensor) -> candle_core::Result<Tensor> {
    tensor.to_device(&Device::Cpu)?.contiguous()
}
