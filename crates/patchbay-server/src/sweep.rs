//! Puts the outcomes of a sweep's cells together.

use std::sync::Arc;

use candle_core::Tensor;
use patchbay_engine::{Answer, Outcome, Receipt, TokenScore, Usage};
use patchbay_graph::{SweepPlan, Swept};

use crate::Failure;
use crate::gather::Gather;
use crate::trace::{Checked, Finished};
use crate::wave_times::WaveTimes;
use crate::wire::result::{NamedResults, ResultBody, Style};
use crate::wire::spool::Spool;
use crate::wire::tensor::{bytes_of, converted};

/// What came of the cells so far. They come in order, the last axis changing fastest.
pub(crate) struct Collector {
    of: Arc<Checked>,
    style: Style,
    results: Vec<Collected>,
    kept: Vec<(Swept, Vec<Tensor>)>,
    receipts: Vec<Receipt>,
    usage: Usage,
    times: WaveTimes,
    cells: usize,
}

/// One result, of the cells that differ in it.
struct Collected {
    swept: Swept,
    tensors: Spool,
    tokens: Vec<Vec<TokenScore>>,
    /// Axes of the places of tokens, in one cell.
    dims: Vec<usize>,
}

impl Collector {
    /// Of a request that is this sweep.
    pub(crate) fn new(of: Arc<Checked>, plan: &SweepPlan, style: Style) -> Self {
        Self {
            of,
            style,
            results: plan.results.iter().cloned().map(Collected::new).collect(),
            kept: plan.kept.iter().map(|swept| (swept.clone(), Vec::new())).collect(),
            receipts: Vec::new(),
            usage: Usage::default(),
            times: WaveTimes::default(),
            cells: plan.cells,
        }
    }
}

impl Gather for Collector {
    fn add(&mut self, number: usize, outcome: Outcome) -> Result<(), Failure> {
        let sweep = self.of.request.sweep.as_ref();
        let places = sweep.ok_or_else(|| Failure::internal("a sweep without axes"))?.places(number);
        for (collected, (_, answer)) in self.results.iter_mut().zip(outcome.results) {
            if is_first(&collected.swept, &places) {
                collected.add(answer, &self.style)?;
            }
        }
        for ((swept, tensors), (_, tensor)) in self.kept.iter_mut().zip(outcome.kept) {
            if is_first(swept, &places) {
                tensors.push(tensor);
            }
        }
        let here = |receipt| Receipt { cell: Some(places.clone()), ..receipt };
        self.receipts.extend(outcome.receipts.into_iter().map(here));
        self.usage = Usage { cells: Some(self.cells), ..self.usage.and(outcome.usage) };
        if let Some(times) = outcome.times {
            self.times.add(times);
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Finished, Failure> {
        let style = &self.style;
        let (queue_ms, compute_ms) = self.times.milliseconds();
        let results = self.results.into_iter().map(|found| Ok((found.swept.saved.name.clone(), found.body(style)?)));
        let together = |(swept, tensors): (Swept, Vec<Tensor>)| {
            let tensor = Tensor::stack(&tensors, 0)?.reshape(swept.saved.shape.dims.as_slice())?;
            Ok((swept.saved.name, tensor))
        };
        Ok(Finished {
            results: NamedResults(results.collect::<Result<_, Failure>>()?),
            kept: self.kept.into_iter().map(together).collect::<Result<_, Failure>>()?,
            receipts: self.receipts,
            usage: Usage { queue_ms, compute_ms, ..self.usage },
            // its cells' results left memory as they came
            held: None,
        })
    }
}

/// Whether a cell is the first one that has these places on the axes that a value depends on.
fn is_first(swept: &Swept, places: &[usize]) -> bool {
    places.iter().enumerate().all(|(axis, place)| *place == 0 || swept.axes.contains(&axis))
}

impl Collected {
    fn new(swept: Swept) -> Self {
        Self { swept, tensors: Spool::new(), tokens: Vec::new(), dims: Vec::new() }
    }

    fn add(&mut self, answer: Answer, style: &Style) -> Result<(), Failure> {
        match answer {
            Answer::Tensor { tensor, dtype, .. } => {
                self.tensors.append(&bytes_of(&tensor, converted(dtype, style.convert))?)?;
            }
            Answer::Tokens { dims, tokens } => {
                self.tokens.extend(tokens);
                self.dims = dims;
            }
        }
        Ok(())
    }

    fn body(self, style: &Style) -> Result<ResultBody, Failure> {
        let Self { swept: Swept { saved, axes }, tensors, tokens, dims } = self;
        match saved.top_tokens {
            Some(_) => Ok(style.tokens([&saved.shape.dims[..axes.len()], &dims].concat(), tokens)),
            None => style.gathered(&saved, tensors),
        }
    }
}
