//! The values of a plan while it runs.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor, Var};
use patchbay_graph::literal::Literal;
use patchbay_graph::ops::Attrs;
use patchbay_graph::plan::{Plan, Source, Value, ValueId};
use patchbay_graph::selection::Placement;
use patchbay_model::Decoder;

use crate::module;
use crate::ops::{Call, Input, Refused};
use crate::part;
use crate::ragged;

/// Tensors by value number, each kept until nothing needs it any more.
pub(crate) struct Values<'a> {
    plan: &'a Plan,
    stored: &'a HashMap<(String, Option<String>), Tensor>,
    decoder: &'a Decoder,
    tensors: Vec<Option<Tensor>>,
    /// How many operations still need each value; those that writes and results need are kept to the end.
    needed: Vec<usize>,
    /// Where those go that are made for a stack alone.
    places: Vec<Option<(ValueId, usize)>>,
}

impl<'a> Values<'a> {
    pub(crate) fn new(
        plan: &'a Plan,
        stored: &'a HashMap<(String, Option<String>), Tensor>,
        decoder: &'a Decoder,
    ) -> Self {
        let needed = plan.needed().into_iter().map(|users| users.unwrap_or(usize::MAX)).collect();
        let places = plan.places_in_stacks();
        Self { plan, stored, decoder, tensors: vec![None; plan.values.len()], needed, places }
    }

    /// The same values for a stage that is run again by another decoder: those in `leaves` are variables, and nothing is let
    /// go.
    pub(crate) fn again(&self, decoder: &'a Decoder, leaves: &[ValueId]) -> Result<(Values<'a>, Vec<(ValueId, Var)>)> {
        let (needed, places) = (vec![usize::MAX; self.needed.len()], self.places.clone());
        let mut again = Self { decoder, tensors: self.tensors.clone(), needed, places, ..*self };
        let mut variables = Vec::with_capacity(leaves.len());
        for id in leaves {
            let variable = Var::from_tensor(self.get(*id)?)?;
            again.tensors[*id] = Some(variable.as_tensor().clone());
            variables.push((*id, variable));
        }
        Ok((again, variables))
    }

    /// Makes everything that needs no pass.
    pub(crate) fn prologue(&mut self) -> Result<()> {
        self.plan.prologue.iter().try_for_each(|id| self.compute(*id))
    }

    /// A value that is known.
    pub(crate) fn get(&self, id: ValueId) -> Result<&Tensor> {
        match &self.tensors[id] {
            Some(tensor) => Ok(tensor),
            None => candle_core::bail!("the plan uses value {id} at {} before it is made", self.plan.values[id].at),
        }
    }

    /// A value as f32, broadcast to `dims`.
    pub(crate) fn get_as(&self, id: ValueId, dims: &[usize]) -> Result<Tensor> {
        self.get(id)?.to_dtype(DType::F32)?.broadcast_as(dims)?.contiguous()
    }

    /// Takes in what was read or made.
    pub(crate) fn put(&mut self, id: ValueId, tensor: Tensor) -> Result<()> {
        match self.places[id] {
            Some((stack, place)) => self.place(&tensor, stack, place),
            None => {
                self.tensors[id] = Some(tensor);
                Ok(())
            }
        }
    }

    /// Puts a value into its place in a stack.
    fn place(&mut self, part: &Tensor, stack: ValueId, place: usize) -> Result<()> {
        let dims = self.plan.values[stack].shape.dims.as_slice();
        let stack = match &mut self.tensors[stack] {
            Some(stack) => stack,
            empty => empty.insert(Tensor::zeros(dims, DType::F32, self.decoder.device())?),
        };
        if part.elem_count() == 0 { Ok(()) } else { stack.slice_set(&part.contiguous()?.unsqueeze(0)?, 0, place) }
    }

    /// Puts those values into a stack that others need too.
    fn complete(&mut self, stack: ValueId, of: &[ValueId]) -> Result<()> {
        for (place, part) in of.iter().enumerate() {
            if self.places[*part].is_none() {
                let part = self.get(*part)?.clone();
                self.place(&part, stack, place)?;
            }
        }
        Ok(())
    }

    /// Makes a value out of others.
    pub(crate) fn compute(&mut self, id: ValueId) -> Result<()> {
        let value = &self.plan.values[id];
        match &value.source {
            Source::Stack(of) if of.iter().any(|part| self.places[*part].is_some()) => self.complete(id, of)?,
            _ => {
                let tensor = self.make(value).map_err(|error| Refused::place(error, &value.at))?;
                self.put(id, tensor)?;
            }
        }
        self.release(value.args());
        Ok(())
    }

    fn make(&self, value: &Value) -> Result<Tensor> {
        let device = self.decoder.device();
        Ok(match &value.source {
            Source::Literal(found) => literal(found, device)?,
            Source::Stored { name, key } => match self.stored.get(&(name.clone(), key.clone())) {
                Some(tensor) => tensor.to_device(device)?,
                None => candle_core::bail!("`@{name}` was not given to the engine"),
            },
            Source::Read(_) | Source::Grad { .. } => {
                candle_core::bail!("the value at {} is made by a pass, not computed", value.at)
            }
            Source::Weight(weight) => module::weight(self.decoder, weight)?,
            Source::Call { module, of } => {
                module::call(self.decoder, *module, self.get(*of)?, &self.plan.values[*of].shape, &value.shape)?
            }
            Source::Index { of, selection } => {
                let blocks = selection.blocks(&Placement::of_shape(&self.plan.values[*of].shape));
                part::read(&self.get(*of)?.contiguous()?, &blocks, &value.shape.dims)?
            }
            Source::Stack(of) => {
                let tensors = of.iter().map(|id| self.get(*id)).collect::<Result<Vec<_>>>()?;
                Tensor::stack(&tensors, 0)?
            }
            Source::Project { of, transform } => {
                let hidden = self.get(*of)?.to_dtype(self.decoder.dtype())?.contiguous()?;
                let logits = self.decoder.project_on_vocab(&hidden, *transform)?.to_dtype(DType::F32)?;
                ragged::fill_padding(&logits, &value.shape, 0.0)?
            }
            Source::Op { spec, args, params, attrs, out } => {
                let inputs = args.iter().zip(params).map(|(id, name)| self.input(*id, name)).collect::<Result<_>>()?;
                let (shape, dtype) = (&value.shape, value.dtype);
                Call { spec, attrs: Attrs(attrs), inputs, out: *out, shape, dtype, device }.run()?
            }
        })
    }

    /// A value as an argument. Plain numbers are given in full precision: they take the type of what they meet.
    fn input(&self, id: ValueId, name: &'static str) -> Result<Input<'a>> {
        let value = &self.plan.values[id];
        let tensor = match &value.source {
            Source::Literal(literal) if literal.weak => Tensor::new(literal.data[0], self.decoder.device())?,
            _ => self.get(id)?.clone(),
        };
        Ok(Input { name, shape: &value.shape, dtype: value.dtype, weak: value.weak, tensor })
    }

    fn release(&mut self, args: &[ValueId]) {
        for arg in args {
            if self.needed[*arg] != usize::MAX {
                self.needed[*arg] -= 1;
                if self.needed[*arg] == 0 {
                    self.tensors[*arg] = None;
                }
            }
        }
    }
}

pub(crate) fn literal(literal: &Literal, device: &Device) -> Result<Tensor> {
    Tensor::from_slice(&literal.data, literal.dims.as_slice(), device)?.to_dtype(candle_dtype(literal.dtype))
}

/// The type that holds a value; booleans are bytes.
pub(crate) fn candle_dtype(dtype: patchbay_graph::DType) -> DType {
    use DType as C;
    use patchbay_graph::DType as G;
    match dtype {
        G::Bool | G::U8 => C::U8,
        G::U32 => C::U32,
        G::I64 => C::I64,
        G::F16 => C::F16,
        G::Bf16 => C::BF16,
        G::F32 => C::F32,
        G::F64 => C::F64,
    }
}
