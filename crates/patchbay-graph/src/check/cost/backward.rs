//! Gradients, priced: every stage that a derivative goes through is run again, recorded, and taken back.

use std::collections::HashMap;

use super::meter::{F32, Tensor, Way};
use super::values::{Values, elements, read};
use super::visit::Visitor;
use super::walk::{Angles, Stage, Walk};
use crate::plan::{Pass, Plan, Step, ValueId};
use crate::stage::Part;
use crate::wave::Wave;

/// The passes that ran, with what went into each of their stages.
pub(super) struct Tape<'a> {
    plan: &'a Plan,
    passes: Vec<(&'a Pass, Wave, Vec<Stage>)>,
    active: Vec<bool>,
}

impl<'a> Tape<'a> {
    pub(super) fn new(plan: &'a Plan) -> Self {
        Self { plan, passes: Vec::new(), active: plan.active() }
    }

    pub(super) fn push(&mut self, pass: &'a Pass, wave: Wave, stages: Vec<Stage>) {
        self.passes.push((pass, wave, stages));
    }

    /// Takes a gradient, and puts it into the values.
    pub(super) fn take(&self, gradient: usize, values: &mut Values<'a>, angles: &mut Angles) {
        let mut back = Back { tape: self, gradient, known: HashMap::new(), found: HashMap::new() };
        back.known.insert(self.plan.gradients[gradient].of, values.meter().fresh(1, F32));
        for (pass, wave, stages) in self.passes.iter().rev() {
            back.pass((pass, wave), stages, values, angles);
        }
        for (i, wrt) in self.plan.gradients[gradient].wrt.iter().enumerate() {
            let found = back.found.remove(&i);
            let found = found.unwrap_or_else(|| values.meter().fresh(values.elements(wrt.value), F32));
            values.put(wrt.value, found);
        }
    }
}

/// One gradient on its way back.
struct Back<'t, 'a> {
    tape: &'t Tape<'a>,
    gradient: usize,
    known: HashMap<ValueId, Tensor>,
    found: HashMap<usize, Tensor>,
}

impl<'a> Back<'_, 'a> {
    fn pass(&mut self, (pass, wave): (&'a Pass, &Wave), stages: &[Stage], values: &Values<'a>, angles: &mut Angles) {
        let plan = self.tape.plan;
        let lowest = plan.lowest(pass, self.gradient, &self.tape.active).unwrap_or(Part::Unembed);
        let mut stream = None;
        for stage in stages.iter().rev() {
            let made = pass.steps_in(stage.part).iter().filter_map(Step::made);
            let made: Vec<ValueId> = made.filter(|id| self.known.contains_key(id)).collect();
            if stream.is_none() && made.is_empty() {
                continue;
            }
            let on = stage.part > lowest;
            stream = self.stage((Walk { plan, pass }, wave), stage, values, angles, &made, stream, on);
            values.meter().forget();
        }
    }

    #[allow(clippy::too_many_arguments, reason = "a stage is taken back through with these")]
    fn stage(
        &mut self,
        (walk, wave): (Walk<'a>, &Wave),
        stage: &Stage,
        values: &Values<'a>,
        angles: &mut Angles,
        made: &[ValueId],
        stream: Option<Tensor>,
        on: bool,
    ) -> Option<Tensor> {
        let (plan, meter) = (self.tape.plan, values.meter());
        let leaves = plan.taken(walk.pass, stage.part, &self.tape.active);
        let (mut again, leaves) = values.again(values.decoder.differentiable(), &leaves);
        let incoming = stage.stream.as_ref().filter(|_| on).map(|stream| meter.variable(stream.elements));
        let given = incoming.clone().or_else(|| stage.stream.clone());
        let mut visitor = Visitor::new(walk.pass, &mut again, wave, Some(self.gradient));
        let (outgoing, _) = walk.stage(&mut visitor, angles, stage, given);
        let deltas = std::mem::take(&mut visitor.deltas);
        // each term is the sum of a product
        let term = |value: &Tensor, known: &Tensor| {
            meter.make(1, &[&meter.made(value.elements, &[value, known], Way::Product)])
        };
        let known = made.iter().filter_map(|id| Some((*id, self.known.remove(id)?)));
        let known: Vec<(ValueId, Tensor)> = known.collect();
        let mut terms: Vec<Tensor> = known.iter().map(|(id, known)| term(&again.get(*id), known)).collect();
        if let (Some(outgoing), Some(stream)) = (&outgoing, &stream) {
            terms.push(term(outgoing, stream));
        }
        let derivatives = meter.backward(&terms);
        for (id, leaf) in leaves {
            if let Some(found) = derivatives.get(&leaf) {
                let sum = match self.known.get(&id) {
                    Some(_) => meter.fresh(found.elements, F32),
                    None => found.clone(),
                };
                self.known.insert(id, sum);
            }
        }
        for (wrt, variable, gather) in deltas {
            if let Some(found) = derivatives.get(&variable) {
                let shape = plan.gradients[self.gradient].wrt[wrt].selection.shape();
                let mut found = read(meter, found, gather, elements(shape));
                if self.found.contains_key(&wrt) {
                    found = meter.fresh(found.elements, F32);
                }
                self.found.insert(wrt, found);
            }
        }
        incoming.and_then(|incoming| derivatives.get(&incoming).cloned())
    }
}
