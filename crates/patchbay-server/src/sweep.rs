//! Puts the outcomes of a sweep's cells together.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use candle_core::Tensor;
use patchbay_engine::{Answer, Outcome, Receipt, Times, TokenScore, Usage};
use patchbay_graph::{SweepPlan, Swept};

use crate::Failure;
use crate::trace::Finished;
use crate::wire::result::{NamedResults, ResultBody, Style};
use crate::wire::spool::Spool;
use crate::wire::tensor::{WireTensor, bytes_of, converted, lengths};

/// What came of the cells so far. They come in order, the last axis changing fastest. Tensors of the answer leave memory as they
/// come; those that are kept in the caller's store stay.
pub(crate) struct Collector {
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
    pub(crate) fn new(plan: &SweepPlan, style: Style) -> Self {
        Self {
            style,
            results: plan.results.iter().cloned().map(Collected::new).collect(),
            kept: plan.kept.iter().map(|swept| (swept.clone(), Vec::new())).collect(),
            receipts: Vec::new(),
            usage: Usage::default(),
            times: WaveTimes::default(),
            cells: plan.cells,
        }
    }

    /// Takes in the next cell, which has these places on the axes.
    pub(crate) fn add(&mut self, places: &[usize], outcome: Outcome) -> Result<(), Failure> {
        for (collected, (_, answer)) in self.results.iter_mut().zip(outcome.results) {
            if is_first(&collected.swept, places) {
                collected.add(answer, &self.style)?;
            }
        }
        for ((swept, tensors), (_, tensor)) in self.kept.iter_mut().zip(outcome.kept) {
            if is_first(swept, places) {
                tensors.push(tensor);
            }
        }
        let here = |receipt| Receipt { cell: Some(places.to_vec()), ..receipt };
        self.receipts.extend(outcome.receipts.into_iter().map(here));
        self.usage = Usage { cells: Some(self.cells), ..self.usage.and(outcome.usage) };
        if let Some(times) = outcome.times {
            self.times.add(times);
        }
        Ok(())
    }

    /// What came of all cells.
    pub(crate) fn finish(self) -> Result<Finished, Failure> {
        let style = &self.style;
        let (queue_ms, compute_ms) = self.times.milliseconds();
        let results = self.results.into_iter().map(|found| Ok((found.swept.name.clone(), found.body(style)?)));
        let together = |(swept, tensors): (Swept, Vec<Tensor>)| {
            let tensor = Tensor::stack(&tensors, 0)?.reshape(swept.shape.dims.as_slice())?;
            Ok((swept.name, tensor))
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

/// When the cells ran. Those of one wave began together, and no two waves run at once.
#[derive(Default)]
struct WaveTimes {
    /// When each wave began, and when the last of its cells was done.
    waves: BTreeMap<Instant, Instant>,
    arrived: Option<Instant>,
}

impl WaveTimes {
    fn add(&mut self, Times { arrived, started, ended }: Times) {
        let end = self.waves.entry(started).or_insert(ended);
        *end = ended.max(*end);
        self.arrived = Some(self.arrived.map_or(arrived, |first| first.min(arrived)));
    }

    /// From the first cell's arrival to the last one's end: those in which none of them ran, and the others.
    fn milliseconds(&self) -> (f64, f64) {
        let compute: Duration = self.waves.iter().map(|(started, ended)| *ended - *started).sum();
        let whole = self.arrived.zip(self.waves.values().max()).map_or(compute, |(first, last)| *last - first);
        (whole.saturating_sub(compute).as_secs_f64() * 1e3, compute.as_secs_f64() * 1e3)
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
        let Self { swept, tensors, tokens, dims } = self;
        if swept.top_tokens.is_some() {
            let axes = &swept.shape.dims[..swept.axes.len()];
            return Ok(style.tokens([axes, &dims].concat(), tokens));
        }
        let (came, lengths) = (tensors.byte_len(), lengths(&swept.shape));
        let tensor = WireTensor::spooled(tensors, converted(swept.dtype, style.convert), swept.shape.dims, lengths);
        match came == tensor.byte_len() {
            true => Ok(style.tensor(tensor)),
            false => Err(Failure::internal(format!("{came} bytes came of `{}`, not as many as planned", swept.name))),
        }
    }
}
