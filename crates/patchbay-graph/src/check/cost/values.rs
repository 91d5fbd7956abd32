//! The values of a plan, priced while it runs.

use super::super::made::arguments;
use super::decoder::Decoder;
use super::kernels::Packed;
use super::meter::{F32, Meter, Tensor};
use crate::module::Module;
use crate::ops::{Attrs, Given, Op, OpSpec, Work};
use crate::plan::{Plan, Source, Value, ValueId};
use crate::selection::{Gather, Placement};
use crate::shape::Shape;
use crate::weight::View;

/// Values by number, each held until nothing needs it any more.
#[derive(Clone)]
pub(super) struct Values<'a> {
    pub(super) plan: &'a Plan,
    pub(super) decoder: Decoder<'a>,
    tensors: Vec<Option<Tensor>>,
    needed: Vec<usize>,
    places: Vec<Option<(ValueId, usize)>>,
}

impl<'a> Values<'a> {
    pub(super) fn new(plan: &'a Plan, decoder: Decoder<'a>) -> Self {
        let needed = plan.needed().into_iter().map(|users| users.unwrap_or(usize::MAX)).collect();
        Self { plan, decoder, tensors: vec![None; plan.values.len()], needed, places: plan.places_in_stacks() }
    }

    /// The same values for a stage that is run again by another decoder, with variables in the place of some.
    pub(super) fn again(&self, decoder: Decoder<'a>, leaves: &[ValueId]) -> (Self, Vec<(ValueId, Tensor)>) {
        let mut again = Self { decoder, needed: vec![usize::MAX; self.needed.len()], ..self.clone() };
        let mut variables = Vec::with_capacity(leaves.len());
        for id in leaves {
            let variable = self.meter().variable(self.elements(*id));
            again.tensors[*id] = Some(variable.clone());
            variables.push((*id, variable));
        }
        (again, variables)
    }

    pub(super) fn meter(&self) -> &'a Meter {
        self.decoder.meter()
    }

    pub(super) fn elements(&self, id: ValueId) -> u64 {
        elements(&self.plan.values[id].shape)
    }

    /// A value that is known.
    pub(super) fn get(&self, id: ValueId) -> Tensor {
        self.tensors[id].clone().unwrap_or_else(|| self.meter().fresh(self.elements(id), F32))
    }

    /// A value broadcast to so many elements.
    pub(super) fn get_as(&self, id: ValueId, elements: u64) -> Tensor {
        let value = self.get(id);
        match value.elements == elements {
            true => self.meter().contiguous(&value),
            false => self.meter().make(elements, &[&self.meter().view(&value, elements)]),
        }
    }

    pub(super) fn put(&mut self, id: ValueId, tensor: Tensor) {
        match self.places[id] {
            Some((stack, _)) => drop(self.stack(stack)),
            None => self.tensors[id] = Some(tensor),
        }
    }

    /// A stack that its parts are put into.
    fn stack(&mut self, stack: ValueId) -> Tensor {
        let n = self.elements(stack);
        let meter = self.meter();
        self.tensors[stack].get_or_insert_with(|| meter.fresh(n, F32)).clone()
    }

    pub(super) fn compute(&mut self, id: ValueId) {
        let value = &self.plan.values[id];
        match &value.source {
            Source::Stack(of) if of.iter().any(|part| self.places[*part].is_some()) => drop(self.stack(id)),
            _ => {
                let tensor = self.make(value);
                self.put(id, tensor);
            }
        }
        for arg in value.args() {
            if self.needed[*arg] != usize::MAX {
                self.needed[*arg] -= 1;
                if self.needed[*arg] == 0 {
                    self.tensors[*arg] = None;
                }
            }
        }
    }

    fn make(&self, value: &Value) -> Tensor {
        let (meter, n, size) = (self.meter(), elements(&value.shape), value.dtype.size() as u64);
        match &value.source {
            Source::Literal(_) => {
                let _doubles = meter.hold(8 * n);
                meter.fresh(n, size)
            }
            // they lie in the caller's store
            Source::Stored { .. } => meter.fresh(n, 0),
            // it is made by a pass, not computed
            Source::Read(_) | Source::Grad { .. } => meter.fresh(n, size),
            Source::Weight(weight) => match weight.view {
                View::Whole => meter.fresh(n, 0),
                View::HeadsOut(_) if value.shape.rank() == 2 => meter.fresh(n, 0),
                _ => meter.fresh(n, F32),
            },
            Source::Call { module, of } => self.call(*module, *of, &value.shape),
            Source::Index { of, selection } => {
                let of = (meter.contiguous(&self.get(*of)), &self.plan.values[*of]);
                read(meter, &of.0, selection.gather(&Placement::of_shape(&of.1.shape)), n)
            }
            Source::Stack(of) => {
                let parts: Vec<Tensor> = of.iter().map(|id| self.get(*id)).collect();
                meter.make(n, &parts.iter().collect::<Vec<_>>())
            }
            Source::Project { of, .. } => self.decoder.project_on_vocab(&self.get(*of)),
            Source::Op { spec, args, params, attrs, .. } => {
                let arguments = arguments(&self.plan.values, args, params);
                let given = Given { spec, args: &arguments, attrs: Attrs(attrs) };
                let (flops, scratch) = spec.cost(&given, &value.shape);
                let of: Vec<Tensor> = args.iter().map(|id| self.get(*id)).collect();
                self.op(spec, value, &of, flops, scratch)
            }
        }
    }

    fn op(&self, spec: &OpSpec, value: &Value, of: &[Tensor], flops: f64, scratch: u64) -> Tensor {
        let (meter, n, size) = (self.meter(), elements(&value.shape), value.dtype.size() as u64);
        let args: Vec<&Tensor> = of.iter().collect();
        let result = match (spec.work, of.first()) {
            (_, Some(of)) if looks_at(spec, value, &self.plan.values[value.args()[0]], of) => {
                meter.work(flops);
                let dense = match spec.op {
                    Op::Transpose | Op::Permute | Op::Expand => n == of.elements && n <= 1,
                    Op::Split => false,
                    _ => of.dense,
                };
                meter.view(of, n).dense(dense)
            }
            _ => {
                // what is made on the way is part of what is recorded
                let way = meter.make(scratch / F32, &args);
                let made = meter.sized(n, size, &args, flops);
                drop(way);
                made
            }
        };
        match value.shape.ragged {
            Some(_) => meter.make(n, &[&result]),
            None => result,
        }
    }

    fn call(&self, module: Module, of: ValueId, out: &Shape) -> Tensor {
        let (meter, shape, x) = (self.meter(), &self.plan.values[of].shape, self.get(of));
        let n = elements(out);
        if n == 0 {
            return meter.fresh(0, F32);
        }
        let x = meter.contiguous(&x);
        let found = match module {
            Module::Layer(_) | Module::SelfAttn(_) => {
                let lengths = shape.sequences();
                let whole: Vec<(usize, usize)> = lengths.iter().map(|len| (*len, 0)).collect();
                let packed = Packed::new(&whole, None, None);
                let width = self.decoder.tree.hidden as u64;
                let _angles = meter.hold(self.decoder.angles(packed.tokens));
                let padded = packed.tokens * width != x.elements;
                let x = if padded { meter.make(packed.tokens * width, &[&x]) } else { x };
                let found = self.decoder.call(module, &x, &lengths);
                let blocks = (n / width.max(1)) as usize;
                let total = packed.tokens as usize;
                read(meter, &found, Gather { size: width as usize, blocks, total, padded, whole: !padded }, n)
            }
            _ => self.decoder.call(module, &x, &[]),
        };
        if out.ragged.is_some() { meter.make(n, &[&found]) } else { found }
    }
}

/// Whether an operation only looks at its argument's memory in another way.
fn looks_at(spec: &OpSpec, value: &Value, arg: &Value, of: &Tensor) -> bool {
    match spec.op {
        Op::Reshape => of.dense,
        Op::Cast => value.dtype == arg.dtype,
        _ => spec.work == Work::View,
    }
}

/// Number of elements, as far as numbers go.
pub(super) fn elements(shape: &Shape) -> u64 {
    shape.elements().unwrap_or(usize::MAX) as u64
}

/// Blocks of a tensor as another one.
pub(super) fn read(meter: &Meter, source: &Tensor, gather: Gather, elements: u64) -> Tensor {
    if gather.whole {
        return meter.view(source, elements);
    }
    let _index = meter.hold(2 * 4 * gather.blocks as u64);
    let table = match gather.padded {
        true => meter.make(source.elements + gather.size as u64, &[source]),
        false => source.clone(),
    };
    meter.make(elements, &[&table])
}

/// `target` with these blocks replaced.
pub(super) fn write(meter: &Meter, target: &Tensor, gather: Gather, part: &Tensor) -> Tensor {
    if gather.whole {
        return meter.view(part, target.elements);
    }
    let _index = meter.hold(4 * (gather.blocks + gather.total) as u64);
    let both = meter.make(target.elements + part.elements, &[target, part]);
    meter.make(target.elements, &[&both])
}
