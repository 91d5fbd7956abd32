//! Puts the outcomes of a sweep's cells together.

use candle_core::Tensor;
use patchbay_engine::{Answer, Outcome, Receipt, TokenScore, Usage};
use patchbay_graph::{SweepPlan, Swept};

use crate::Failure;

/// What came of the cells so far. They come in order, the last axis changing fastest.
pub(crate) struct Collector {
    results: Vec<Collected>,
    kept: Vec<Collected>,
    receipts: Vec<Receipt>,
    usage: Usage,
    cells: usize,
}

/// One result, of the cells that differ in it.
struct Collected {
    swept: Swept,
    tensors: Vec<Tensor>,
    tokens: Vec<Vec<TokenScore>>,
    /// Axes of the places of tokens, in one cell.
    dims: Vec<usize>,
}

impl Collector {
    pub(crate) fn new(plan: &SweepPlan) -> Self {
        let collect = |swept: &Vec<Swept>| swept.iter().cloned().map(Collected::new).collect();
        Self {
            results: collect(&plan.results),
            kept: collect(&plan.kept),
            receipts: Vec::new(),
            usage: Usage::default(),
            cells: plan.cells,
        }
    }

    /// Takes in the next cell, which has these places on the axes.
    pub(crate) fn add(&mut self, places: &[usize], outcome: Outcome) {
        for (collected, (_, answer)) in self.results.iter_mut().zip(outcome.results) {
            if collected.takes(places) {
                collected.add(answer);
            }
        }
        for (collected, (_, tensor)) in self.kept.iter_mut().zip(outcome.kept) {
            if collected.takes(places) {
                collected.tensors.push(tensor);
            }
        }
        let here = |receipt| Receipt { cell: Some(places.to_vec()), ..receipt };
        self.receipts.extend(outcome.receipts.into_iter().map(here));
        let (sum, new) = (self.usage, outcome.usage);
        self.usage = Usage {
            cells: Some(self.cells),
            passes: sum.passes + new.passes,
            layers_run: sum.layers_run + new.layers_run,
            co_batched: sum.co_batched.max(new.co_batched),
            queue_ms: sum.queue_ms + new.queue_ms,
            compute_ms: sum.compute_ms + new.compute_ms,
            ..new
        };
    }

    /// One outcome of all cells.
    pub(crate) fn finish(self) -> Result<Outcome, Failure> {
        let results = self.results.into_iter().map(|found| Ok((found.swept.name.clone(), found.answer()?)));
        let kept = self.kept.into_iter().map(|found| Ok((found.swept.name.clone(), found.tensor()?)));
        Ok(Outcome {
            results: results.collect::<Result<_, Failure>>()?,
            kept: kept.collect::<Result<_, Failure>>()?,
            receipts: self.receipts,
            usage: self.usage,
        })
    }
}

impl Collected {
    fn new(swept: Swept) -> Self {
        Self { swept, tensors: Vec::new(), tokens: Vec::new(), dims: Vec::new() }
    }

    /// Whether a cell is the first one that has these places on the axes that matter.
    fn takes(&self, places: &[usize]) -> bool {
        places.iter().enumerate().all(|(axis, place)| *place == 0 || self.swept.axes.contains(&axis))
    }

    fn add(&mut self, answer: Answer) {
        match answer {
            Answer::Tensor { tensor, .. } => self.tensors.push(tensor),
            Answer::Tokens { dims, tokens } => {
                self.tokens.extend(tokens);
                self.dims = dims;
            }
        }
    }

    fn tensor(&self) -> Result<Tensor, Failure> {
        Ok(Tensor::stack(&self.tensors, 0)?.reshape(self.swept.shape.dims.as_slice())?)
    }

    fn answer(self) -> Result<Answer, Failure> {
        if self.swept.top_tokens.is_none() {
            let tensor = self.tensor()?;
            return Ok(Answer::Tensor { tensor, shape: self.swept.shape, dtype: self.swept.dtype });
        }
        let axes = &self.swept.shape.dims[..self.swept.axes.len()];
        Ok(Answer::Tokens { dims: [axes, &self.dims].concat(), tokens: self.tokens })
    }
}
