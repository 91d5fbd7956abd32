//! The cells of a sweep on their way: some in the queue together, so that they share waves, taken in their order.

use std::collections::VecDeque;
use std::sync::Arc;

use patchbay_engine::{Job, Order, Outcome};

use crate::Failure;
use crate::blocking::blocking;
use crate::model::Loaded;
use crate::trace::Running;

/// Cells in the queue, of one sweep where it is alone.
const MOST_CELLS: usize = 256;
/// Cells that all sweeps together should have there, as long as each has a few.
const ALL_CELLS: usize = 4096;
/// A few.
const FEW_CELLS: usize = 8;
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

    /// Puts the first cells into the queue.
    ///
    /// # Errors
    /// It is full.
    pub(crate) async fn begin(&mut self) -> Result<(), Failure> {
        self.submit().await
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
            let share = ALL_CELLS / self.model.engine.queued().max(1);
            let most = share.clamp(FEW_CELLS, MOST_CELLS);
            let room = self.running.len() < most && self.held.saturating_add(bytes) <= MOST_BYTES;
            if !room && !self.running.is_empty() {
                return Ok(());
            }
            // a sweep is let in with its first cell
            let order = Order { goes_on: self.begun, ..job.order.clone() };
            let running = Running::submit(&self.model, Job { order, ..job.clone() })?;
            self.ready.pop_front();
            self.running.push_back((running, bytes));
            (self.held, self.begun) = (self.held + bytes, true);
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
