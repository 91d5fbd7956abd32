//! The worker that owns a model's compute.
//!
//! Jobs wait in a [`Schedule`], which says which of them run together next. The lock on it is held while a job is put in or a
//! wave is taken out, never while one runs.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use patchbay_graph::plan::Pass;
use patchbay_graph::wave::{Asked, Wave};
use patchbay_graph::{Plan, Problem};
use patchbay_model::Decoder;
use tokio::sync::oneshot;

use crate::job::{Job, Outcome};
use crate::memory::{Held, Memory};
use crate::ops::Refused;
use crate::prefixes::Prefixes;
use crate::run;
use crate::schedule::pace::Pace;
use crate::schedule::{Bounds, Chosen, Item, Price, Schedule};
use crate::steps::Steps;
use crate::ticket::{Reply, Ticket};

/// How an engine works.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// Requests that may wait; one more is refused.
    pub queue: usize,
    /// Bytes that jobs may hold together, by their prices, to share a wave.
    pub wave_bytes: u64,
    /// Bytes that waves and the results that were not taken yet may hold, by their prices.
    pub memory: Memory,
    /// Bytes of prompts' keys that are kept for prompts that begin alike, of what is free.
    pub prefix_bytes: u64,
}

/// Jobs that share a wave at most.
const MOST_TOGETHER: usize = 512;

/// How often it is looked whether memory was let go, where a wave waits for it.
const LOOK: Duration = Duration::from_millis(20);

/// How long nobody waits before freed memory is given back: who asks again within that time finds it there. To have a large answer
/// cleared anew by the system takes as long as to compute it in a virtual machine.
const REST: Duration = Duration::from_secs(3);

impl Default for EngineSettings {
    fn default() -> Self {
        Self { queue: 512, wave_bytes: 256 << 20, memory: Memory::default(), prefix_bytes: 256 << 20 }
    }
}

/// Why a job came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Too many requests wait.
    #[error("the queue is full")]
    Full {
        /// How long what waits takes, about.
        work: Duration,
    },
    /// The engine was stopped: its model is being unloaded.
    #[error("the model is being unloaded")]
    Stopped,
    /// Nobody wants the answer any more.
    #[error("the request was cancelled")]
    Cancelled,
    /// Its time is over.
    #[error("the request's time is over")]
    TimedOut,
    /// A value that only the forward pass makes is one that an operation cannot take.
    #[error("{0}")]
    Refused(Problem),
    /// The device or the executor failed.
    #[error("the forward pass failed: {0}")]
    Failed(String),
}

impl From<candle_core::Error> for EngineError {
    fn from(error: candle_core::Error) -> Self {
        match Refused::find(&error) {
            Some(Refused(problem)) => Self::Refused(problem.clone()),
            None => Self::Failed(error.to_string()),
        }
    }
}

/// One model and the thread that computes with it. Dropping the engine lets waiting jobs end and then stops the thread.
#[derive(Debug)]
pub struct Engine {
    decoder: Arc<Decoder>,
    shared: Arc<Shared>,
    worker: Option<JoinHandle<()>>,
}

/// What the worker and those who submit see.
#[derive(Debug)]
struct Shared {
    settings: EngineSettings,
    prefixes: Arc<Prefixes>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    schedule: Schedule<Waiting>,
    pace: Pace,
    stopping: bool,
}

/// A job in the queue.
#[derive(Debug)]
struct Waiting {
    job: Job,
    ticket: Ticket,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // nothing panics while it has the lock
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Starts the worker of a model.
    pub fn start(decoder: Arc<Decoder>, settings: EngineSettings) -> Self {
        let state = State { schedule: Schedule::new(settings.queue), pace: Pace::default(), stopping: false };
        // where values depend on a sequence's length, no other one has the same
        let prefix_bytes = if decoder.depends_on_length() { 0 } else { settings.prefix_bytes };
        let prefixes = Prefixes::new(prefix_bytes, &settings.memory);
        let shared = Arc::new(Shared { settings, prefixes, state: Mutex::new(state), changed: Condvar::new() });
        let (model, with) = (Arc::clone(&decoder), Arc::clone(&shared));
        let worker = std::thread::spawn(move || work(&model, &with));
        Self { decoder, shared, worker: Some(worker) }
    }

    /// Queues a job. Never waits for one that runs.
    ///
    /// # Errors
    /// The queue is full, the job's time is over, or it would hold more than may be held at all.
    pub fn submit(&self, job: Job) -> Result<oneshot::Receiver<Result<Outcome, EngineError>>, EngineError> {
        let (reply, receiver) = oneshot::channel();
        self.queue(job, Reply::Once(reply))?;
        Ok(receiver)
    }

    /// Queues the first of several jobs that follow one another.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn submit_steps(&self, first: Job, steps: Box<dyn Steps>) -> Result<(), EngineError> {
        self.queue(first, Reply::Steps(steps))
    }

    fn queue(&self, job: Job, reply: Reply) -> Result<(), EngineError> {
        let order = job.order.clone();
        if order.is_late() {
            return Err(EngineError::TimedOut);
        }
        let limit = self.memory().limit();
        if let Some(refused) = job.beyond(limit) {
            return Err(refused);
        }
        let item = item(job, reply);
        let mut state = self.shared.state();
        let full = state.schedule.requests() >= self.shared.settings.queue;
        if full {
            clear(&mut state.schedule, limit);
        }
        if state.schedule.push(item, order.goes_on).is_err() {
            let work = Duration::try_from_secs_f64(state.pace.seconds(state.schedule.work()));
            return Err(EngineError::Full { work: work.unwrap_or(Duration::MAX) });
        }
        drop(state);
        self.shared.changed.notify_one();
        Ok(())
    }

    /// The model.
    pub fn decoder(&self) -> &Arc<Decoder> {
        &self.decoder
    }

    /// The memory that its waves are admitted against.
    pub fn memory(&self) -> &Memory {
        &self.shared.settings.memory
    }

    /// What it keeps for prompts that begin alike.
    pub fn prefixes(&self) -> &Arc<Prefixes> {
        &self.shared.prefixes
    }

    /// Bytes of prompts' keys that a request leaves at most for those that begin alike, beside what it holds.
    pub fn prefix_bytes(&self, plan: &Plan, ids: &[Vec<Vec<u32>>]) -> u64 {
        let (tree, by_length) = (self.decoder.tree(), self.decoder.depends_on_length());
        let left = |pass: &Pass| {
            let wave = Wave::new(&[Asked { plan, pass, ids, past: &[], keeps: 0 }], tree, by_length);
            self.shared.prefixes.left(&wave, &|(_, input, row)| &ids[input][row], tree)
        };
        plan.passes.iter().map(left).fold(0, u64::saturating_add).min(self.shared.settings.prefix_bytes)
    }

    /// Requests that wait.
    pub fn queued(&self) -> usize {
        self.shared.state().schedule.requests()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.state().stopping = true;
        self.shared.changed.notify_one();
        if let Some(worker) = self.worker.take() {
            // a worker cannot panic outside of a job, and a job's panic is caught
            let _ = worker.join();
        }
    }
}

fn item(job: Job, reply: Reply) -> Item<Waiting> {
    let (order, cost) = (job.order.clone(), job.plan.cost);
    Item {
        claim: order.claim,
        price: order.price.unwrap_or(Price { own: cost.flops, common: 0.0 }),
        bytes: cost.peak_bytes,
        alone: !run::can_share(&job),
        keeps: !job.histories.is_empty(),
        job: Waiting { job, ticket: Ticket::new(cost.result_bytes, reply) },
    }
}

fn work(decoder: &Decoder, shared: &Shared) {
    while let Some((chosen, held)) = next(shared) {
        run_wave(decoder, shared, chosen, held, None);
    }
}

/// Runs a wave, and those who may run between its layers: none where it does so itself, within the wave of these requests.
fn run_wave(decoder: &Decoder, shared: &Shared, chosen: Chosen<Waiting>, held: Held, within: Option<&BTreeSet<u64>>) {
    let started = Instant::now();
    let Chosen { jobs, work, full, long } = chosen;
    let alone = jobs.iter().any(|item| item.alone);
    let running: BTreeSet<u64> = jobs.iter().map(|item| item.claim.request).collect();
    let (mut lent, mut left) = (Duration::ZERO, if long && within.is_none() { work } else { 0.0 });
    let mut between = || {
        if left > 0.0
            && let Some((chosen, held)) = between_layers(shared, &running, left)
        {
            let began = Instant::now();
            left -= chosen.work;
            run_wave(decoder, shared, chosen, held, Some(&running));
            lent += began.elapsed();
        }
    };
    let waiting = jobs.into_iter().map(|item| item.job).collect();
    let recalled = run_together(decoder, shared, waiting, started, &mut between);
    drop(held);
    // what was taken from earlier waves took no time
    if !alone && !recalled {
        shared.state().pace.learn(work, started.elapsed().saturating_sub(lent), full, long);
    }
}

/// Those who run between the layers of a long wave of these requests, of which so much work is `left` to lend; and their memory.
fn between_layers(shared: &Shared, running: &BTreeSet<u64>, left: f64) -> Option<(Chosen<Waiting>, Held)> {
    let EngineSettings { wave_bytes, memory, .. } = &shared.settings;
    let mut state = shared.state();
    if state.schedule.requests() == 0 {
        return None;
    }
    clear(&mut state.schedule, memory.limit());
    let work = state.pace.work().min(left);
    let most = Bounds { work, long: 0.0, shared_bytes: *wave_bytes, bytes: memory.free(), jobs: MOST_TOGETHER };
    let chosen = state.schedule.between(most, running);
    (!chosen.jobs.is_empty()).then(|| held(chosen, memory))
}

/// Jobs with the memory that they take.
fn held(chosen: Chosen<Waiting>, memory: &Memory) -> (Chosen<Waiting>, Held) {
    let peak = chosen.jobs.iter().map(|item| item.bytes).fold(0, u64::saturating_add);
    (chosen, memory.hold(peak))
}

/// Waits for the next wave, and for the memory that it takes. None once the engine stops and nobody waits.
fn next(shared: &Shared) -> Option<(Chosen<Waiting>, Held)> {
    let EngineSettings { wave_bytes, memory, .. } = &shared.settings;
    let mut tidy = false;
    let mut state = shared.state();
    loop {
        clear(&mut state.schedule, memory.limit());
        let (shared_bytes, bytes) = (*wave_bytes, memory.free());
        let (work, long) = (state.pace.work(), state.pace.long());
        let most = Bounds { work, long, shared_bytes, bytes, jobs: MOST_TOGETHER };
        let chosen = state.schedule.next_wave(most);
        // what waits for memory may wait for that of sequences that grow
        let chosen = if chosen.jobs.is_empty() { state.schedule.relief(most) } else { chosen };
        if !chosen.jobs.is_empty() {
            return Some(held(chosen, memory));
        }
        state = match state.schedule.requests() {
            0 if state.stopping => return None,
            0 if tidy => shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            0 => {
                let (state, waited) = shared.changed.wait_timeout(state, REST).unwrap_or_else(PoisonError::into_inner);
                if !waited.timed_out() {
                    state
                } else {
                    drop(state);
                    // results that are still being sent are freed later
                    tidy = memory.held() == 0;
                    patchbay_heap::give_back();
                    shared.state()
                }
            }
            _ => shared.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0,
        };
    }
}

/// Ends the jobs whose time is over before they ran, those that nobody waits for, and those for which there is not so much memory
/// any more.
fn clear(schedule: &mut Schedule<Waiting>, limit: u64) {
    let ended = |job: &Job| job.stopped().or_else(|| job.beyond(limit));
    let gone = |waiting: &Waiting| waiting.ticket.is_closed() || ended(&waiting.job).is_some();
    for Waiting { job, ticket } in schedule.take_out(gone) {
        // nobody waits for the answer of a request that was dropped
        let _ended = ticket.send(Err(ended(&job).unwrap_or(EngineError::Cancelled)));
    }
}

/// Runs jobs, and answers them; whether some of it had not to be computed, as earlier waves had left it.
fn run_together(
    decoder: &Decoder,
    shared: &Shared,
    together: Vec<Waiting>,
    started: Instant,
    between: &mut dyn FnMut(),
) -> bool {
    let mut recalled = false;
    let (jobs, mut tickets): (Vec<Job>, Vec<Option<Ticket>>) =
        together.into_iter().map(|waiting| (waiting.job, Some(waiting.ticket))).unzip();
    let ran = guarded(decoder, &shared.prefixes, &jobs, between, &mut |number, outcome| {
        recalled |= outcome.as_ref().is_ok_and(|outcome| outcome.usage.cached_tokens.is_some());
        if let Some(ticket) = tickets[number].take() {
            answer(ticket, shared, started, outcome);
        }
    });
    let Err(error) = ran else { return recalled };
    // one of them is to blame: each runs once more, alone
    let alone = jobs.len() > 1;
    for (job, ticket) in jobs.iter().zip(tickets).filter_map(|(job, ticket)| Some((job, ticket?))) {
        let mut outcome = Err(EngineError::Failed(error.clone()));
        let job = std::slice::from_ref(job);
        if alone && let Err(error) = guarded(decoder, &shared.prefixes, job, between, &mut |_, found| outcome = found) {
            outcome = Err(EngineError::Failed(error));
        }
        answer(ticket, shared, started, outcome);
    }
    recalled
}

fn answer(ticket: Ticket, shared: &Shared, started: Instant, outcome: Result<Outcome, EngineError>) {
    let memory = &shared.settings.memory;
    let mut following = ticket.answer(started, memory, outcome);
    while let Some((job, reply)) = following.take() {
        let ended = job.stopped().or_else(|| job.beyond(memory.limit()));
        let mut state = shared.state();
        following = match ended.or_else(|| state.stopping.then_some(EngineError::Stopped)) {
            Some(error) => {
                drop(state);
                reply.send(Err(error))
            }
            // it goes on: no queue is too full for it
            None => state.schedule.push(item(job, reply), true).err().and(None),
        };
    }
}

/// Runs jobs; a panic, or a device that fails, is an error of all of them that had not ended.
fn guarded(
    decoder: &Decoder,
    prefixes: &Prefixes,
    jobs: &[Job],
    between: &mut dyn FnMut(),
    done: &mut dyn FnMut(usize, Result<Outcome, EngineError>),
) -> Result<(), String> {
    match catch_unwind(AssertUnwindSafe(|| run::run(decoder, prefixes, jobs, between, done))) {
        Ok(ran) => ran.map_err(|error| error.to_string()),
        Err(panic) => {
            let message = panic_message(&*panic);
            tracing::error!(message, "a wave panicked");
            Err(message)
        }
    }
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let message = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    message.unwrap_or("a panic").to_owned()
}
