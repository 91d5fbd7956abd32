//! A trace on its way: understood, queued, answered.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use candle_core::Tensor;
use patchbay_engine::{Cancel, EngineError, Held, Job, Order, Outcome, Receipt, Usage};
use patchbay_generate::Tensors;
use patchbay_graph::plan::Source;
use patchbay_graph::{DType, Edits, Encoding, Parts, Plan, Request, Saved, SweepPlan};
use tokio::sync::oneshot::Receiver;

use crate::Failure;
use crate::inputs::Tokenized;
use crate::model::Loaded;
use crate::store::Shelf;
use crate::wire::result::{NamedResults, Style};
use crate::wire::safetensors;
use crate::wire::tokens::InputTokens;

/// A trace that was understood: it can run.
pub(crate) struct Checked {
    pub(crate) model: Arc<Loaded>,
    pub(crate) name: String,
    pub(crate) request: Request,
    pub(crate) tokenized: Tokenized,
    pub(crate) planned: Planned,
    pub(crate) shelf: Shelf,
}

/// What a trace will do.
pub(crate) enum Planned {
    Once(Plan),
    Sweep(SweepPlan),
    /// The rows, some at a time: together they would hold too much.
    Parts(Parts),
}

/// What is to be run.
pub(crate) enum Work {
    /// A job of a model.
    Once(Arc<Loaded>, Job),
    /// The jobs of one request.
    Several(Arc<Checked>, Order),
}

impl Work {
    /// Of a trace that was understood.
    pub(crate) fn new(checked: Checked, order: Order) -> Result<Self, Failure> {
        let Planned::Once(plan) = checked.planned else { return Ok(Self::Several(Arc::new(checked), order)) };
        let Checked { model, tokenized, shelf, .. } = checked;
        let job = job(&model, plan, tokenized.ids, &shelf, order)?;
        Ok(Self::Once(model, job))
    }
}

/// What an answer has besides its results.
pub(crate) struct Frame {
    pub(crate) model: String,
    /// The edits whose nodes come first.
    pub(crate) edits: Edits,
    pub(crate) warnings: Vec<String>,
    pub(crate) style: Style,
    pub(crate) inputs: Vec<(String, InputTokens)>,
    /// Types of the tensors to keep.
    pub(crate) kept: HashMap<String, DType>,
}

/// What came of a trace.
pub(crate) struct Finished {
    pub(crate) results: NamedResults,
    pub(crate) kept: Vec<(String, Tensor)>,
    pub(crate) receipts: Vec<Receipt>,
    pub(crate) usage: Usage,
    /// The memory of the results, until they are sent.
    pub(crate) held: Option<Arc<Held>>,
}

impl Finished {
    /// Of a trace that ran once.
    pub(crate) fn new(outcome: Outcome, style: &Style) -> Result<Self, Failure> {
        let Outcome { results, kept, receipts, usage, held, .. } = outcome;
        let results = results.into_iter().map(|(name, answer)| Ok((name, style.result(answer)?)));
        let results = NamedResults(results.collect::<Result<_, Failure>>()?);
        Ok(Self { results, kept, receipts, usage, held })
    }
}

/// A job on its way through a model.
pub(crate) struct Running {
    reply: Receiver<Result<Outcome, EngineError>>,
    /// Stops the job when the caller goes away.
    _stop: StopOnDrop,
}

impl Running {
    /// Queues a job.
    pub(crate) fn submit(model: &Loaded, job: Job) -> Result<Self, EngineError> {
        let cancel = job.cancel.clone();
        // a job that was not taken is not stopped: it may be queued later
        Ok(Self { reply: model.engine.submit(job)?, _stop: StopOnDrop(cancel) })
    }

    /// Waits for its end.
    pub(crate) async fn outcome(mut self) -> Result<Outcome, Failure> {
        Ok((&mut self.reply).await.map_err(|_| Failure::from(EngineError::Stopped))??)
    }
}

/// Stops what goes on for a caller who goes away.
pub(crate) struct StopOnDrop(Cancel);

impl StopOnDrop {
    /// One, and the switch that it turns.
    pub(crate) fn new() -> (Self, Cancel) {
        let cancel = Cancel::default();
        (Self(cancel.clone()), cancel)
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Checked {
    /// Doubts about the model, and what of its edits touches nothing.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let idle = match &self.planned {
            Planned::Once(plan) => &plan.idle,
            Planned::Sweep(plan) => &plan.idle,
            Planned::Parts(parts) => &parts.idle,
        };
        let untouched = self.request.edits.untouched(idle);
        self.model.warnings.iter().cloned().chain(untouched).collect()
    }

    /// What the answer will have besides its results.
    pub(crate) fn frame(&self, accept: Option<Encoding>) -> Result<Frame, Failure> {
        let encoding = self.request.output.encoding.or(accept).unwrap_or(Encoding::Json);
        check_result_names(self.planned.results(), encoding)?;
        let kept = self.planned.kept().into_iter().map(|saved| (saved.name.clone(), saved.dtype)).collect();
        Ok(Frame {
            model: self.name.clone(),
            edits: self.request.edits.clone(),
            warnings: self.warnings(),
            style: Style { encoding, convert: self.request.output.dtype, tokenizer: self.model.tokenizer.clone() },
            inputs: self.tokenized.shown.clone(),
            kept,
        })
    }
}

impl Planned {
    /// Bytes that it holds at its worst moment.
    pub(crate) fn peak_bytes(&self) -> u64 {
        match self {
            Self::Once(plan) => plan.cost.peak_bytes,
            Self::Sweep(plan) => plan.cost.peak_bytes,
            Self::Parts(parts) => parts.cost.peak_bytes,
        }
    }

    /// What will be kept in the caller's store.
    pub(crate) fn kept(&self) -> Vec<Cow<'_, Saved>> {
        match self {
            Self::Once(plan) => plan.stored().map(|(_, saved)| Cow::Owned(saved)).collect(),
            Self::Sweep(plan) => plan.kept.iter().map(|swept| Cow::Borrowed(&swept.saved)).collect(),
            Self::Parts(parts) => parts.kept.iter().map(|joined| Cow::Borrowed(&joined.saved)).collect(),
        }
    }

    /// The results: their names, and where they stand.
    fn results(&self) -> Vec<(&str, &str)> {
        fn named(saved: &Saved) -> (&str, &str) {
            (&saved.name, &saved.at)
        }
        match self {
            Self::Once(plan) => {
                let at = |value: usize| plan.values[value].at.as_str();
                plan.results.iter().map(|result| (result.name.as_str(), at(result.value))).collect()
            }
            Self::Sweep(plan) => plan.results.iter().map(|swept| named(&swept.saved)).collect(),
            Self::Parts(parts) => parts.results.iter().map(|joined| named(&joined.saved)).collect(),
        }
    }
}

/// A safetensors file keeps one name for itself.
pub(crate) fn check_result_names<'a>(
    results: impl IntoIterator<Item = (&'a str, &'a str)>,
    encoding: Encoding,
) -> Result<(), Failure> {
    let reserved = results.into_iter().find(|(name, _)| *name == safetensors::RESERVED);
    match (reserved, encoding) {
        (Some((_, at)), Encoding::Safetensors) => {
            let detail = format!("a safetensors file cannot hold a tensor named `{}`", safetensors::RESERVED);
            Err(Failure::new(422, "bad_name", detail).at(at))
        }
        _ => Ok(()),
    }
}

/// A plan with everything it needs to run.
pub(crate) fn job(
    model: &Loaded,
    plan: Plan,
    ids: Vec<Vec<Vec<u32>>>,
    shelf: &Shelf,
    order: Order,
) -> Result<Job, Failure> {
    let tensors = stored_tensors(&plan, shelf)?;
    let job = Job { plan: Arc::new(plan), ids, tensors, histories: Vec::new(), cancel: Cancel::default(), order };
    Ok(job.priced(model.engine.decoder()))
}

/// The caller's tensors that a plan names.
pub(crate) fn stored_tensors(plan: &Plan, shelf: &Shelf) -> Result<Tensors, Failure> {
    let named = plan.values.iter().filter_map(|value| match &value.source {
        Source::Stored { name, key } => Some((name, key)),
        _ => None,
    });
    named
        .map(|(name, key)| {
            let stored = shelf.tensor(name, key.as_deref())?;
            Ok(((name.clone(), key.clone()), stored.tensor.clone()))
        })
        .collect()
}
