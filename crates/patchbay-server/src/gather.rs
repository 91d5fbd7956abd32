//! Puts together what came of the jobs of one request.

use std::sync::Arc;

use patchbay_engine::{Job, Order, Outcome};
use patchbay_graph::{Context, cell, check};

use crate::blocking::blocking;
use crate::cells::Cells;
use crate::parts::Joining;
use crate::progress::Progress;
use crate::sweep::Collector;
use crate::trace::{Checked, Finished, Planned, job};
use crate::wire::result::Style;
use crate::{Failure, Service};

/// What came of the jobs of a request so far. Tensors of the answer leave memory as they come; those that are kept in the caller's
/// store stay.
pub(crate) trait Gather: Send {
    /// Takes in what came of the next job, which has this number.
    ///
    /// # Errors
    /// What came cannot be kept, or is not what was planned.
    fn add(&mut self, number: usize, outcome: Outcome) -> Result<(), Failure>;

    /// What came of all of them.
    ///
    /// # Errors
    /// Not everything came that was planned.
    fn finish(self: Box<Self>) -> Result<Finished, Failure>;
}

impl Service {
    /// Runs the jobs of a request that has several.
    pub(crate) async fn several(
        self: &Arc<Self>,
        checked: Arc<Checked>,
        style: Style,
        order: Order,
        progress: &Progress,
    ) -> Result<Finished, Failure> {
        let (count, mut gathered): (usize, Box<dyn Gather>) = match &checked.planned {
            Planned::Sweep(plan) => (plan.cells, Box::new(Collector::new(Arc::clone(&checked), plan, style))),
            Planned::Parts(parts) => {
                (parts.rows.len(), Box::new(Joining::new(parts.clone(), &checked.tokenized, style)))
            }
            Planned::Once(_) => return Err(Failure::internal("a request of one job")),
        };
        let (service, owner) = (Arc::clone(self), Arc::clone(&checked));
        let make = Arc::new(move |number| service.job(&owner, number, order.clone()));
        let mut jobs = Cells::new(Arc::clone(&checked.model), count, make);
        jobs.begin().await?;
        progress.begun(count);
        for number in 0..count {
            let outcome = jobs.take().await?;
            gathered = blocking(move || gathered.add(number, outcome).map(|()| gathered)).await?;
            progress.more(1);
        }
        blocking(move || gathered.finish()).await
    }

    /// One of the jobs of a request that has several.
    fn job(&self, checked: &Checked, number: usize, order: Order) -> Result<Job, Failure> {
        let Checked { model, request, tokenized, planned, shelf, .. } = checked;
        let limits = &self.settings.limits;
        let context = Context { tree: model.tree(), inputs: &tokenized.rows, store: shelf, limits };
        let (plan, ids) = match (planned, &request.sweep) {
            (Planned::Parts(parts), _) => (parts.plan(number, request, &context)?, parts.ids(number, &tokenized.ids)),
            (Planned::Sweep(_), Some(sweep)) => {
                (check(&cell(request, sweep, number)?, &context)?, tokenized.ids.clone())
            }
            _ => return Err(Failure::internal("a request of one job")),
        };
        job(model, plan, ids, shelf, order)
    }
}
