//! One job, from its first token to its last result.

use candle_core::{Device, Tensor};
use patchbay_graph::plan::Returned;
use patchbay_model::Decoder;

use crate::backward::Tape;
use crate::engine::EngineError;
use crate::job::{Answer, Job, Outcome, Receipt, Usage};
use crate::tokens::top_tokens;
use crate::values::Values;
use crate::visit::Visitor;
use crate::walk::Walk;

/// Runs a job.
///
/// # Errors
/// The job was cancelled, or the device failed; what a graph can get wrong was found when it was planned.
pub(crate) fn run(decoder: &Decoder, job: &Job) -> Result<Outcome, EngineError> {
    let plan = &*job.plan;
    let mut values = Values::new(plan, &job.tensors, decoder);
    values.prologue()?;
    let mut tape = Tape::new(decoder, job);
    let mut receipts = Vec::new();
    let mut layers_run = 0;
    for pass in &plan.passes {
        let walk = Walk { decoder, job, pass };
        let mut visitor = Visitor::new(plan, decoder.tree(), pass, &mut values, walk.layout());
        let mut stages = Vec::new();
        walk.run(&mut visitor, |stage| {
            if tape.records() {
                stages.push(stage);
            }
        })?;
        layers_run += visitor.layers_run;
        receipts.extend(visitor.into_receipts());
        tape.push(pass, stages);
        for gradient in &pass.gradients {
            tape.take(*gradient, &mut values)?;
        }
        pass.after.iter().try_for_each(|id| values.compute(*id))?;
    }
    let usage = Usage {
        prompt_tokens: plan.inputs.iter().flat_map(|input| &input.lengths).sum(),
        passes: plan.passes.len(),
        layers_run,
        layer_count: decoder.tree().layers.len(),
        co_batched: 1,
        ..Usage::default()
    };
    receipts.sort_by_key(|receipt: &Receipt| receipt.node);
    let results = answers(job, &values)?;
    let kept = plan.kept.iter().map(|(name, value)| Ok((name.clone(), on_cpu(values.get(*value)?)?)));
    Ok(Outcome { results, kept: kept.collect::<candle_core::Result<_>>()?, receipts, usage })
}

fn answers(job: &Job, values: &Values<'_>) -> candle_core::Result<Vec<(String, Answer)>> {
    let answer = |result: &Returned| {
        let value = &job.plan.values[result.value];
        let tensor = on_cpu(values.get(result.value)?)?;
        let answer = match result.top_tokens {
            None => Answer::Tensor { tensor, shape: value.shape.clone(), dtype: value.dtype },
            Some(k) => {
                let dims = value.shape.dims[..value.shape.rank() - 1].to_vec();
                Answer::Tokens { dims, tokens: top_tokens(&tensor, &value.shape, k)? }
            }
        };
        Ok((result.name.clone(), answer))
    };
    job.plan.results.iter().map(answer).collect()
}

fn on_cpu(tensor: &Tensor) -> candle_core::Result<Tensor> {
    tensor.to_device(&Device::Cpu)?.contiguous()
}
