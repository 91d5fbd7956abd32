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
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self { queue: 256 }
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
    worker: Option<JoinHandle<()>>,
}

/// A job in the queue.
struct Waiting {
    job: Job,
    since: Instant,
    reply: oneshot::Sender<Result<Outcome, EngineError>>,
}

impl Engine {
    /// Starts the worker of a model.
    pub fn start(decoder: Arc<Decoder>, settings: EngineSettings) -> Self {
        let (queue, jobs) = sync_channel(settings.queue);
        let queued = Arc::new(AtomicUsize::new(0));
        let (model, waiting) = (Arc::clone(&decoder), Arc::clone(&queued));
        let worker = std::thread::spawn(move || work(&model, &jobs, &waiting));
        Self { decoder, queue: Some(queue), queued, worker: Some(worker) }
    }

    /// Queues a job. Never blocks.
    ///
    /// # Errors
    /// The queue is full, or the engine was stopped.
    pub fn submit(&self, job: Job) -> Result<oneshot::Receiver<Result<Outcome, EngineError>>, EngineError> {
        let (reply, receiver) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or(EngineError::Stopped)?;
        self.queued.fetch_add(1, Ordering::Relaxed);
        queue.try_send(Waiting { job, since: Instant::now(), reply }).map_err(|error| {
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

fn work(decoder: &Decoder, jobs: &Receiver<Waiting>, queued: &AtomicUsize) {
    while let Ok(Waiting { job, since, reply }) = jobs.recv() {
        queued.fetch_sub(1, Ordering::Relaxed);
        let started = Instant::now();
        let outcome = match reply.is_closed() || job.cancel.is_cancelled() {
            true => Err(EngineError::Cancelled),
            false => guarded(decoder, &job),
        };
        let outcome = outcome.map(|mut outcome| {
            outcome.usage.queue_ms = milliseconds(started - since);
            outcome.usage.compute_ms = milliseconds(started.elapsed());
            outcome
        });
        // nobody waits for the answer of a request that was dropped
        let _ = reply.send(outcome);
    }
}

/// A job that panics fails alone.
fn guarded(decoder: &Decoder, job: &Job) -> Result<Outcome, EngineError> {
    catch_unwind(AssertUnwindSafe(|| run::run(decoder, job))).unwrap_or_else(|panic| {
        let message =
            panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        tracing::error!(message, "a job panicked");
        Err(EngineError::Failed(message.unwrap_or("a panic").into()))
    })
}

fn milliseconds(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
