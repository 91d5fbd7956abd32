//! The worker that owns a model's compute.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use patchbay_graph::Problem;
use patchbay_model::Decoder;
use tokio::sync::oneshot;

use crate::job::{Job, Outcome};
use crate::ops::Refused;
use crate::run;

/// How an engine works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineSettings {
    /// Jobs that may wait; one more is refused.
    pub queue: usize,
    /// Bytes that jobs may hold together, by their prices, to share a wave.
    pub wave_bytes: u64,
}

/// Jobs that share a wave at most.
const MOST_TOGETHER: usize = 512;

impl Default for EngineSettings {
    fn default() -> Self {
        Self { queue: 512, wave_bytes: 256 << 20 }
    }
}

/// Why a job came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Too many jobs wait.
    #[error("the queue is full")]
    Full,
    /// The engine was stopped: its model is being unloaded.
    #[error("the model is being unloaded")]
    Stopped,
    /// Nobody wants the answer any more.
    #[error("the request was cancelled")]
    Cancelled,
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
    queue: Option<SyncSender<Waiting>>,
    queued: Arc<AtomicUsize>,
    capacity: usize,
    worker: Option<JoinHandle<()>>,
}

/// A job in the queue.
struct Waiting {
    job: Job,
    ticket: Ticket,
}

/// Where the answer of a job goes.
struct Ticket {
    since: Instant,
    reply: oneshot::Sender<Result<Outcome, EngineError>>,
}

impl Engine {
    /// Starts the worker of a model.
    pub fn start(decoder: Arc<Decoder>, settings: EngineSettings) -> Self {
        let (queue, jobs) = sync_channel(settings.queue);
        let queued = Arc::new(AtomicUsize::new(0));
        let (model, waiting) = (Arc::clone(&decoder), Arc::clone(&queued));
        let worker = std::thread::spawn(move || work(&model, &jobs, &waiting, settings));
        Self { decoder, queue: Some(queue), queued, capacity: settings.queue, worker: Some(worker) }
    }

    /// Queues a job. Never blocks.
    ///
    /// # Errors
    /// The queue is full, or the engine was stopped.
    pub fn submit(&self, job: Job) -> Result<oneshot::Receiver<Result<Outcome, EngineError>>, EngineError> {
        let (reply, receiver) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or(EngineError::Stopped)?;
        self.queued.fetch_add(1, Ordering::Relaxed);
        queue.try_send(Waiting { job, ticket: Ticket { since: Instant::now(), reply } }).map_err(|error| {
            self.queued.fetch_sub(1, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => EngineError::Full,
                TrySendError::Disconnected(_) => EngineError::Stopped,
            }
        })?;
        Ok(receiver)
    }

    /// The model.
    pub fn decoder(&self) -> &Arc<Decoder> {
        &self.decoder
    }

    /// Whether as many jobs wait as one caller should have there.
    pub fn is_half_full(&self) -> bool {
        2 * self.queued() >= self.capacity
    }

    /// Jobs that wait.
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(worker) = self.worker.take() {
            // a worker cannot panic outside of a job, and a job's panic is caught
            let _ = worker.join();
        }
    }
}

fn work(decoder: &Decoder, jobs: &Receiver<Waiting>, queued: &AtomicUsize, settings: EngineSettings) {
    let mut next = None;
    while let Some(first) = next.take().or_else(|| jobs.recv().ok()) {
        let mut together = vec![first];
        next = gather(&mut together, jobs, settings.wave_bytes);
        queued.fetch_sub(together.len(), Ordering::Relaxed);
        let started = Instant::now();
        let is_gone = |waiting: &Waiting| waiting.ticket.reply.is_closed() || waiting.job.cancel.is_cancelled();
        let (gone, together): (Vec<_>, Vec<_>) = together.into_iter().partition(is_gone);
        gone.into_iter().for_each(|waiting| answer(waiting.ticket, started, Err(EngineError::Cancelled)));
        run_together(decoder, together, started);
    }
}

/// Adds jobs that wait and may share a wave with those that are there, as long as together they hold no more than
/// `most` bytes. Gives the first that may not.
fn gather(together: &mut Vec<Waiting>, jobs: &Receiver<Waiting>, most: u64) -> Option<Waiting> {
    let bytes = |waiting: &Waiting| waiting.job.plan.cost.peak_bytes;
    let mut held: u64 = together.iter().map(bytes).sum();
    if !together.iter().all(|waiting| run::can_share(&waiting.job)) {
        return None;
    }
    while let Ok(waiting) = jobs.try_recv() {
        held = held.saturating_add(bytes(&waiting));
        if held > most || together.len() >= MOST_TOGETHER || !run::can_share(&waiting.job) {
            return Some(waiting);
        }
        together.push(waiting);
    }
    None
}

fn run_together(decoder: &Decoder, together: Vec<Waiting>, started: Instant) {
    let (jobs, mut tickets): (Vec<Job>, Vec<Option<Ticket>>) =
        together.into_iter().map(|waiting| (waiting.job, Some(waiting.ticket))).unzip();
    let ran = guarded(decoder, &jobs, &mut |number, outcome| {
        if let Some(ticket) = tickets[number].take() {
            answer(ticket, started, outcome);
        }
    });
    let Err(error) = ran else { return };
    // one of them is to blame: each runs once more, alone
    let alone = jobs.len() > 1;
    for (job, ticket) in jobs.iter().zip(tickets).filter_map(|(job, ticket)| Some((job, ticket?))) {
        let mut outcome = Err(EngineError::Failed(error.clone()));
        let job = std::slice::from_ref(job);
        if alone && let Err(error) = guarded(decoder, job, &mut |_, found| outcome = found) {
            outcome = Err(EngineError::Failed(error));
        }
        answer(ticket, started, outcome);
    }
}

fn answer(ticket: Ticket, started: Instant, outcome: Result<Outcome, EngineError>) {
    let outcome = outcome.map(|mut outcome| {
        outcome.usage.queue_ms = milliseconds(started - ticket.since);
        outcome.usage.compute_ms = milliseconds(started.elapsed());
        outcome
    });
    // nobody waits for the answer of a request that was dropped
    let _ = ticket.reply.send(outcome);
}

/// Runs jobs; a panic, or a device that fails, is an error of all of them that had not ended.
fn guarded(
    decoder: &Decoder,
    jobs: &[Job],
    done: &mut dyn FnMut(usize, Result<Outcome, EngineError>),
) -> Result<(), String> {
    match catch_unwind(AssertUnwindSafe(|| run::run(decoder, jobs, done))) {
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

fn milliseconds(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
