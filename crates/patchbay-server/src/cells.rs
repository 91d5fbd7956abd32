//! The cells of a sweep on their way: some in the queue together, so that they share waves, taken in their order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use patchbay_engine::{EngineError, Job, Outcome};

use crate::Failure;
use crate::blocking::blocking;
use crate::model::Loaded;
use crate::trace::Running;

/// How long a sweep waits where the queue is full.
const TURN: Duration = Duration::from_millis(2);
/// Bytes of results that wait for those of cells before them.
const MOST_BYTES: u64 = 16 << 20;
/// Cells whose graphs are checked in one go.
const AT_ONCE: usize = 128;

/// Makes the job of a cell.
type Make = dyn Fn(usize) -> Result<Job, Failure> + Send + Sync;

/// Cells that were not taken yet.
pub(crate) struct Cells {
    model: Arc<Loaded>,
    make: Arc<Make>,
    count: usize,
    /// The next cell to make a job of.
    next: usize,
    ready: VecDeque<Job>,
    running: VecDeque<(Running, u64)>,
    /// Bytes of their results.
    held: u64,
    begun: bool,
}

impl Cells {
    /// So many cells for a model.
    pub(crate) fn new(model: Arc<Loaded>, count: usize, make: Arc<Make>) -> Self {
        let (ready, running) = (VecDeque::new(), VecDeque::new());
        Self { model, make, count, next: 0, ready, running, held: 0, begun: false }
    }

    /// What came of the next cell.
    ///
    /// # Errors
    /// The cell failed, or the first one found the queue full.
    pub(crate) async fn take(&mut self) -> Result<Outcome, Failure> {
        self.submit().await?;
        let Some((running, bytes)) = self.running.pop_front() else {
            return Err(Failure::internal("a sweep has no more cells"));
        };
        let outcome = running.outcome().await?;
        self.held -= bytes;
        Ok(outcome)
    }

    /// Puts as many cells into the queue as may be there, but at least one.
    async fn submit(&mut self) -> Result<(), Failure> {
        loop {
            if self.ready.is_empty() {
                self.make_ready().await?;
            }
            let Some(job) = self.ready.front() else { return Ok(()) };
            let bytes = job.plan.cost.result_bytes;
            let room = !self.model.engine.is_half_full() && self.held.saturating_add(bytes) <= MOST_BYTES;
            if !room && !self.running.is_empty() {
                return Ok(());
            }
            match Running::submit(&self.model, job.clone()) {
                Ok(running) => {
                    self.ready.pop_front();
                    self.running.push_back((running, bytes));
                    (self.held, self.begun) = (self.held + bytes, true);
                }
                Err(EngineError::Full) if !self.running.is_empty() => return Ok(()),
                // once a sweep has begun it waits for its turn
                Err(EngineError::Full) if self.begun => tokio::time::sleep(TURN).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn make_ready(&mut self) -> Result<(), Failure> {
        let cells = self.next..self.count.min(self.next + AT_ONCE);
        self.next = cells.end;
        if cells.is_empty() {
            return Ok(());
        }
        let make = Arc::clone(&self.make);
        self.ready = blocking(move || cells.map(|cell| make(cell)).collect::<Result<_, Failure>>()).await?;
        Ok(())
    }
}
