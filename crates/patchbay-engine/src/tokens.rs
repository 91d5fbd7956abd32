//! The likeliest tokens of logits.

use candle_core::{DType, Result, Tensor};
use patchbay_graph::Shape;

use crate::job::TokenScore;
use crate::ragged;

/// The `k` likeliest tokens at every place of `logits` (`[.., V]`), best first; equal ones in order of their ids. Padding has none.
pub(crate) fn top_tokens(logits: &Tensor, shape: &Shape, k: usize) -> Result<Vec<Vec<TokenScore>>> {
    let vocab = logits.dim(candle_core::D::Minus1)?;
    let flat = logits.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    let there = match ragged::mask(shape, &candle_core::Device::Cpu)? {
        None => vec![1; flat.len() / vocab],
        Some(mask) => {
            let places = &shape.dims[..shape.rank() - 1];
            mask.squeeze(candle_core::D::Minus1)?.broadcast_as(places)?.flatten_all()?.to_vec1::<u8>()?
        }
    };
    let place = |(row, there): (&[f32], &u8)| if *there == 1 { best(row, k) } else { Vec::new() };
    Ok(flat.chunks_exact(vocab).zip(&there).map(place).collect())
}

fn best(row: &[f32], k: usize) -> Vec<TokenScore> {
    let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = row.iter().map(|logit| f64::from(logit - highest).exp()).sum();
    let score = |id: u32| {
        let logit = row[id as usize];
        TokenScore { id, prob: (f64::from(logit - highest).exp() / total) as f32, logit }
    };
    likeliest(row, k).into_iter().map(score).collect()
}

/// The `k` likeliest tokens by their logits, best first; equal ones in order of their ids.
pub fn likeliest(logits: &[f32], k: usize) -> Vec<u32> {
    let better = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    if k < ids.len() {
        ids.select_nth_unstable_by(k, better);
        ids.truncate(k);
    }
    ids.sort_unstable_by(better);
    ids
}
