//! Where the answers of jobs go.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::engine::EngineError;
use crate::job::{Job, Outcome, Times};
use crate::memory::Memory;
use crate::steps::Steps;

/// Where the answer of a job goes.
#[derive(Debug)]
pub(crate) struct Ticket {
    since: Instant,
    result_bytes: u64,
    reply: Reply,
}

/// Who gets the answer.
#[derive(Debug)]
pub(crate) enum Reply {
    Once(oneshot::Sender<Result<Outcome, EngineError>>),
    Steps(Box<dyn Steps>),
}

impl Ticket {
    /// Of a job that comes now.
    pub(crate) fn new(result_bytes: u64, reply: Reply) -> Self {
        Self { since: Instant::now(), result_bytes, reply }
    }

    /// Whether nobody waits for the answer.
    pub(crate) fn is_closed(&self) -> bool {
        self.reply.is_closed()
    }

    /// Gives what came of a job that ran from `started` to now; its results count as held until they are dropped.
    pub(crate) fn answer(
        self,
        started: Instant,
        memory: &Memory,
        outcome: Result<Outcome, EngineError>,
    ) -> Option<(Job, Reply)> {
        let outcome = outcome.map(|mut outcome| {
            let times = Times { arrived: self.since, started, ended: Instant::now() };
            outcome.usage.queue_ms = milliseconds(times.started - times.arrived);
            outcome.usage.compute_ms = milliseconds(times.ended - times.started);
            Outcome { times: Some(times), held: Some(Arc::new(memory.hold(self.result_bytes))), ..outcome }
        });
        self.reply.send(outcome)
    }

    /// Gives what came of a job that did not run.
    pub(crate) fn send(self, outcome: Result<Outcome, EngineError>) -> Option<(Job, Reply)> {
        self.reply.send(outcome)
    }
}

impl Reply {
    fn is_closed(&self) -> bool {
        match self {
            Self::Once(sender) => sender.is_closed(),
            Self::Steps(steps) => steps.is_gone(),
        }
    }

    /// Gives the answer; the job that follows from it, and who gets that one's.
    pub(crate) fn send(self, outcome: Result<Outcome, EngineError>) -> Option<(Job, Self)> {
        match self {
            // nobody waits for the answer of a request that was dropped
            Self::Once(sender) => sender.send(outcome).err().and(None),
            Self::Steps(mut steps) => {
                let next = catch_unwind(AssertUnwindSafe(|| steps.next(outcome)));
                next.unwrap_or_default().map(|job| (job, Self::Steps(steps)))
            }
        }
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
