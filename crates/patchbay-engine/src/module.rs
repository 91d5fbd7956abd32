//! Modules and weights of the model as values.

use candle_core::{DType, Result, Tensor};
use patchbay_graph::module::Module;
use patchbay_graph::selection::Blocks;
use patchbay_graph::weight::{View, Weight};
use patchbay_graph::{Code, Problem, Shape};
use patchbay_model::{Decoder, Segments};

use crate::ops::Refused;
use crate::part;
use crate::ragged;

/// A weight as it is looked at.
pub(crate) fn weight(decoder: &Decoder, weight: &Weight) -> Result<Tensor> {
    let Some(stored) = decoder.weight(&weight.name)? else {
        candle_core::bail!("this model has no weight `{}`", weight.name);
    };
    let stored = stored.to_dtype(DType::F32)?;
    match (weight.view, stored.dims()) {
        (View::Transposed, [_, _]) => stored.t()?.contiguous(),
        (View::HeadsOut(heads), [out, input]) => {
            stored.reshape((heads, out / heads, *input))?.transpose(1, 2)?.contiguous()
        }
        (View::HeadsOut(heads), [out]) => stored.reshape((heads, out / heads)),
        (View::HeadsIn(heads), [out, input]) => {
            stored.reshape((*out, heads, input / heads))?.permute((1, 2, 0))?.contiguous()
        }
        _ => Ok(stored),
    }
}

/// A module applied to a value of this shape. Padding stays zero.
pub(crate) fn call(decoder: &Decoder, module: Module, x: &Tensor, shape: &Shape, out: &Shape) -> Result<Tensor> {
    if out.elements() == Some(0) {
        return Tensor::zeros(out.dims.as_slice(), DType::F32, decoder.device());
    }
    let x = if module == Module::EmbedTokens { x.clone() } else { x.to_dtype(decoder.dtype())? };
    let found = match module {
        Module::Layer(_) | Module::SelfAttn(_) => sequences(decoder, module, &x, shape)?,
        Module::EmbedTokens => {
            check_ids(&x, decoder.tree().vocab)?;
            decoder.call(module, &x.flatten_all()?, &Segments::default())?.reshape(out.dims.as_slice())?
        }
        _ => {
            let width = x.dim(x.rank() - 1)?;
            let flat = x.contiguous()?.reshape(((), width))?;
            decoder.call(module, &flat, &Segments::default())?.reshape(out.dims.as_slice())?
        }
    };
    ragged::fill_padding(&found.to_dtype(DType::F32)?, out, 0.0)
}

/// Whether the vocabulary has every id.
fn check_ids(ids: &Tensor, vocab: usize) -> Result<()> {
    let ids: Vec<i64> = ids.flatten_all()?.to_dtype(DType::I64)?.to_vec1()?;
    match ids.iter().find(|id| !(0..vocab as i64).contains(*id)) {
        None => Ok(()),
        Some(id) => {
            let problem = Problem::new(Code::IndexOutOfRange, format!("there is no token {id}"));
            Err(Refused(problem.hint(format!("the vocabulary has ids 0 to {}", vocab - 1))).into())
        }
    }
}

/// A module that looks along sequences, applied to `[.., S, D]`: each is a segment, of its own length.
fn sequences(decoder: &Decoder, module: Module, x: &Tensor, shape: &Shape) -> Result<Tensor> {
    let dims = &shape.dims;
    let (tokens, width) = (dims[dims.len() - 2], dims[dims.len() - 1]);
    let lengths = shape.sequences();
    let mut packed = Vec::new();
    let mut padded = Vec::with_capacity(lengths.len() * tokens);
    for (row, length) in lengths.iter().enumerate() {
        padded.extend(std::iter::repeat_n(Blocks::PAD, tokens - length));
        for token in tokens - length..tokens {
            padded.push(packed.len() as u32);
            packed.push((row * tokens + token) as u32);
        }
    }
    let total = packed.len();
    let x = part::rows(&x.contiguous()?.reshape(((), width))?, &packed)?;
    let found = decoder.call(module, &x, &Segments::from_lengths(&lengths))?;
    part::read(&found, &Blocks { size: width, index: padded, total }, dims)
}
