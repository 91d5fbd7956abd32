//! What a plan takes: operations, bytes, layers.
//!
//! The plan is run without its numbers: `meter` has tensors that are nothing but sizes, `kernels` and `decoder` say what a
//! block makes of them, `values`, `visit`, `walk` and `backward` do what the executor does, in its order. So a price knows what
//! lies in memory together and what is gone by then, and changes with the executor's ways.
//!
//! Priced are float32 activations, with the kernels that [`Tree::fused`] means.

mod backward;
mod decoder;
mod experts;
mod kernels;
mod meter;
mod priced;
mod values;
mod visit;
mod walk;

use backward::Tape;
use decoder::Decoder;
use kernels::Kernels;
use meter::Meter;
use priced::Priced;
use values::Values;
use walk::{Angles, Walk};

use crate::plan::{Cost, Pass, Plan, Returned};
use crate::shape::Shape;
use crate::tree::Tree;

/// Bytes of one of the likeliest tokens: its number, its probability, its logit.
const TOKEN: u64 = 12;

/// Prices a plan.
pub(super) fn cost(plan: &Plan, tree: &Tree) -> Cost {
    let (meter, priced) = (Meter::default(), Priced::default());
    let kernels = Kernels { meter: &meter, plain: !tree.fused };
    let token_layers = run(plan, Decoder { tree, kernels, priced: &priced });
    let result_bytes = plan.results.iter().map(|result| result_bytes(plan, result, tree));
    Cost {
        flops: meter.flops(),
        peak_bytes: meter.most(),
        result_bytes: result_bytes.fold(0, u64::saturating_add),
        layers_run: plan.passes.iter().map(|pass| layers_run(plan, pass, tree)).sum(),
        token_layers,
    }
}

/// Bytes of a result's elements.
fn result_bytes(plan: &Plan, result: &Returned, tree: &Tree) -> u64 {
    match result.top_tokens {
        None => plan.values[result.value].bytes(),
        Some(k) => tokens_bytes(&plan.values[result.value].shape, tree.vocab, k),
    }
}

/// Bytes of the `k` likeliest tokens at every place of logits; padding has none.
pub(super) fn tokens_bytes(shape: &Shape, vocab: usize, k: usize) -> u64 {
    (shape.real_elements() / vocab.max(1) as u64).saturating_mul(k as u64 * TOKEN)
}

/// Does what the executor does; gives the tokens times blocks that it computes.
fn run(plan: &Plan, decoder: Decoder<'_>) -> usize {
    let mut token_layers = 0;
    let meter = decoder.meter();
    let mut values = Values::new(plan, decoder);
    let (mut tape, mut angles) = (Tape::new(plan), Angles::default());
    plan.prologue.iter().for_each(|id| values.compute(*id));
    for pass in &plan.passes {
        let mut stages = Vec::new();
        let walk = Walk { plan, pass };
        let wave = walk.wave(&values);
        token_layers += wave.token_layers();
        walk.run(&wave, &mut values, &mut angles, |stage| {
            if !plan.gradients.is_empty() {
                stages.push(stage);
            }
        });
        tape.push(pass, wave, stages);
        pass.gradients.iter().for_each(|gradient| tape.take(*gradient, &mut values, &mut angles));
        pass.after.iter().for_each(|id| values.compute(*id));
    }
    let mut out = Vec::new();
    for result in &plan.results {
        let value = meter.contiguous(&values.get(result.value));
        match result.top_tokens {
            None => out.push(value),
            Some(_) => {
                let _elements = meter.hold(meter::F32 * (value.elements + decoder.tree.vocab as u64));
                out.push(meter.fresh(result_bytes(plan, result, decoder.tree), 1));
            }
        }
    }
    out.extend(plan.kept.iter().map(|(_, value)| meter.contiguous(&values.get(*value))));
    token_layers
}

/// Blocks that at least one input runs.
fn layers_run(plan: &Plan, pass: &Pass, tree: &Tree) -> usize {
    let mut runs = vec![false; tree.layers.len()];
    pass.inputs.iter().flat_map(|input| plan.layers_of(input, tree)).for_each(|layer| runs[layer] = true);
    runs.into_iter().filter(|runs| *runs).count()
}
