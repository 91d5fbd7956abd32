//! Gradients: back through the stages of the passes, one stage at a time.
//!
//! While a job that takes gradients runs, what goes into each stage is kept. A gradient then walks back: each stage is run
//! again from there, with operations that have a derivative, and with variables in the place of what comes in from before it:
//! the residual stream, and the values that it takes from earlier stages. What is known of the derivative with respect to what
//! the stage gives (its stream and its values) is taken through it (a vector-Jacobian product), and is known then with respect
//! to what came in. So only one stage's operations are held in memory at a time.

use std::collections::HashMap;

use candle_core::backprop::GradStore;
use candle_core::{DType, Result, Tensor, Var};
use patchbay_graph::plan::{Pass, Step, ValueId};
use patchbay_graph::stage::Part;
use patchbay_graph::wave::Wave;
use patchbay_model::Decoder;

use crate::engine::EngineError;
use crate::job::Job;
use crate::part;
use crate::track::{Delta, Track};
use crate::values::Values;
use crate::visit::Visit;
use crate::walk::{self, Stage};

/// The passes that ran.
pub(crate) struct Tape<'a> {
    job: &'a Job,
    decoder: Decoder,
    passes: Vec<(&'a Pass, Wave, Vec<Stage>)>,
    /// Which values are made of something that was read from a pass.
    active: Vec<bool>,
}

impl<'a> Tape<'a> {
    pub(crate) fn new(decoder: &Decoder, job: &'a Job) -> Self {
        Self { job, decoder: decoder.differentiable(), passes: Vec::new(), active: job.plan.active() }
    }

    /// Takes in a pass that has ended, with its wave and what went into each of its stages.
    pub(crate) fn push(&mut self, pass: &'a Pass, wave: Wave, stages: Vec<Stage>) {
        self.passes.push((pass, wave, stages));
    }

    /// Takes a gradient, and puts it into the values.
    ///
    /// # Errors
    /// The job was cancelled, or the device failed.
    pub(crate) fn take(&self, gradient: usize, values: &mut Values<'a>) -> std::result::Result<(), EngineError> {
        let plan = &*self.job.plan;
        let of = plan.gradients[gradient].of;
        let mut back = Back { tape: self, gradient, known: HashMap::new(), found: HashMap::new() };
        back.known.insert(of, values.get(of)?.ones_like()?);
        for (pass, wave, stages) in self.passes.iter().rev() {
            back.pass(pass, wave, stages, values)?;
        }
        for (i, wrt) in plan.gradients[gradient].wrt.iter().enumerate() {
            let found = match back.found.remove(&i) {
                Some(found) => found,
                None => Tensor::zeros(wrt.selection.shape().dims.as_slice(), DType::F32, self.decoder.device())?,
            };
            values.put(wrt.value, found)?;
        }
        Ok(())
    }
}

/// One gradient on its way back.
struct Back<'t, 'a> {
    tape: &'t Tape<'a>,
    gradient: usize,
    /// The derivative with respect to values.
    known: HashMap<ValueId, Tensor>,
    /// The derivative with respect to what is asked for, by its number.
    found: HashMap<usize, Tensor>,
}

impl<'a> Back<'_, 'a> {
    fn pass(
        &mut self,
        pass: &'a Pass,
        wave: &Wave,
        stages: &[Stage],
        values: &Values<'a>,
    ) -> std::result::Result<(), EngineError> {
        // where nothing needs the stream's derivative it goes nowhere
        let lowest = self.tape.job.plan.lowest(pass, self.gradient, &self.tape.active).unwrap_or(Part::Unembed);
        let mut stream = None;
        for stage in stages.iter().rev() {
            if let Some(stopped) = self.tape.job.stopped() {
                return Err(stopped);
            }
            let made = pass.steps_in(stage.part).iter().filter_map(Step::made);
            let made: Vec<ValueId> = made.filter(|id| self.known.contains_key(id)).collect();
            if stream.is_none() && made.is_empty() {
                continue;
            }
            let on = stage.part > lowest;
            stream = self.stage((pass, wave), stage, values, &made, stream, on)?;
        }
        Ok(())
    }

    /// Takes the derivative through one stage; gives that with respect to its stream, if it has to go `on`.
    fn stage(
        &mut self,
        (pass, wave): (&'a Pass, &Wave),
        stage: &Stage,
        values: &Values<'a>,
        made: &[ValueId],
        stream: Option<Tensor>,
        on: bool,
    ) -> std::result::Result<Option<Tensor>, EngineError> {
        let job = self.tape.job;
        let plan = &*job.plan;
        let (mut again, leaves) = values.again(&self.tape.decoder, &plan.taken(pass, stage.part, &self.tape.active))?;
        let incoming = match (&stage.stream, on) {
            (Some(stream), true) => Some(Var::from_tensor(stream)?),
            _ => None,
        };
        let given = incoming.as_ref().map(|var| var.as_tensor().clone()).or_else(|| stage.stream.clone());
        let tree = self.tape.decoder.tree();
        let track = Track::new(0, job, tree, pass, &mut again).taking(self.gradient);
        let mut visit = Visit::new(wave.clone(), vec![track], Vec::new());
        let stage = Stage { part: stage.part, stream: given, matrix: stage.matrix.clone() };
        let (outgoing, _) = walk::stage(&self.tape.decoder, &mut visit, &stage)?;
        if let Some(failure) = visit.failures.swap_remove(0) {
            return Err(failure);
        }
        let deltas: Vec<Delta> = visit.tracks.into_iter().flat_map(Track::into_deltas).collect();
        let mut terms = Vec::with_capacity(made.len() + 1);
        for id in made {
            if let Some(known) = self.known.remove(id) {
                terms.push(product(again.get(*id)?, &known)?);
            }
        }
        if let (Some(outgoing), Some(stream)) = (&outgoing, &stream) {
            terms.push(product(outgoing, stream)?);
        }
        let derivative = Tensor::stack(&terms, 0)?.sum_all()?.backward()?;
        for (id, leaf) in leaves {
            self.add(id, &leaf, &derivative)?;
        }
        for delta in deltas {
            self.find(&delta, &derivative)?;
        }
        Ok(incoming.and_then(|incoming| derivative.get(&incoming).map(Tensor::detach)))
    }

    fn add(&mut self, id: ValueId, leaf: &Var, derivative: &GradStore) -> Result<()> {
        let Some(found) = derivative.get(leaf) else { return Ok(()) };
        let sum = match self.known.get(&id) {
            Some(known) => (known + found.detach())?,
            // a derivative carries what it was made of, which is of no use any more
            None => found.detach(),
        };
        self.known.insert(id, sum);
        Ok(())
    }

    fn find(&mut self, delta: &Delta, derivative: &GradStore) -> Result<()> {
        let Some(found) = derivative.get(&delta.variable) else { return Ok(()) };
        let wrt = &self.tape.job.plan.gradients[self.gradient].wrt[delta.wrt];
        let found = part::read(&found.detach().contiguous()?, &delta.blocks, &wrt.selection.shape().dims)?
            .to_dtype(DType::F32)?;
        let sum = match self.found.get(&delta.wrt) {
            Some(known) => (known + found)?,
            None => found,
        };
        self.found.insert(delta.wrt, sum);
        Ok(())
    }
}

/// The sum of the products of the elements.
fn product(value: &Tensor, derivative: &Tensor) -> Result<Tensor> {
    value.to_dtype(DType::F32)?.mul(&derivative.to_dtype(DType::F32)?)?.sum_all()
}
