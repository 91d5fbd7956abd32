//! One job, from its first token to its last result: passes, each of which walks the layers once.

use candle_core::{Device, Tensor};
use patchbay_graph::plan::{Pass, PassInput};
use patchbay_graph::{LayerSite, Site};
use patchbay_model::{Decoder, Segments};

use crate::engine::EngineError;
use crate::job::{Answer, Job, Outcome, Receipt, Usage};
use crate::layout::{Layout, PackedRow};
use crate::part;
use crate::tokens::top_tokens;
use crate::values::Values;
use crate::visit::Visitor;

/// Runs a job.
///
/// # Errors
/// The job was cancelled, or the device failed; what a graph can get wrong was found when it was planned.
pub(crate) fn run(decoder: &Decoder, job: &Job) -> Result<Outcome, EngineError> {
    let mut values = Values::new(&job.plan, &job.tensors, decoder);
    values.prologue()?;
    let mut receipts = Vec::new();
    let mut layers_run = 0;
    for pass in &job.plan.passes {
        let walk = Walk { decoder, job, pass };
        receipts.extend(walk.run(&mut values, &mut layers_run)?);
    }
    let usage = Usage {
        prompt_tokens: job.plan.inputs.iter().flat_map(|input| &input.lengths).sum(),
        passes: job.plan.passes.len(),
        layers_run,
        layer_count: decoder.tree().layers.len(),
        co_batched: 1,
        ..Usage::default()
    };
    receipts.sort_by_key(|receipt: &Receipt| receipt.node);
    let results = answers(job, &values)?;
    let kept = job.plan.kept.iter().map(|(name, value)| Ok((name.clone(), on_cpu(values.get(*value)?)?)));
    Ok(Outcome { results, kept: kept.collect::<candle_core::Result<_>>()?, receipts, usage })
}

fn answers(job: &Job, values: &Values<'_>) -> candle_core::Result<Vec<(String, Answer)>> {
    let answer = |result: &patchbay_graph::plan::Returned| {
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

/// One walk through the layers.
struct Walk<'a> {
    decoder: &'a Decoder,
    job: &'a Job,
    pass: &'a Pass,
}

impl<'a> Walk<'a> {
    fn run(&self, values: &mut Values<'a>, layers_run: &mut usize) -> Result<Vec<Receipt>, EngineError> {
        let plan = &*self.job.plan;
        let layout = Layout::of_inputs(&plan.inputs, self.pass.inputs.iter().map(|input| input.input));
        let ids: Vec<u32> = layout.rows().iter().flat_map(|row| &self.job.ids[row.input][row.row]).copied().collect();
        let segments = Segments::from_lengths(&layout.lengths());
        let mut visitor = Visitor::new(plan, self.decoder.tree(), self.pass, values, layout);
        let mut stream = self.decoder.embed(&ids, &segments, &mut visitor)?;
        for layer in 0..self.decoder.tree().layers.len() {
            if self.job.cancel.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            stream = self.drop_rows(&mut visitor, stream, Site::Layer(layer, LayerSite::Input))?;
            stream = visitor.steps_at(Site::Layer(layer, LayerSite::Input), stream)?;
            stream = self.drop_rows(&mut visitor, stream, Site::Layer(layer, LayerSite::AttnInput))?;
            if visitor.layout.rows().is_empty() {
                break;
            }
            stream = self.block(&mut visitor, stream, layer, layers_run)?;
            stream = visitor.steps_at(Site::Layer(layer, LayerSite::Output), stream)?;
        }
        stream = self.drop_rows(&mut visitor, stream, Site::LnFinalInput)?;
        if !visitor.layout.rows().is_empty() {
            let wanted = |row: &PackedRow| self.input(row).final_tokens[row.row].clone();
            let (layout, tokens) = visitor.layout.keep_tokens(wanted);
            visitor.layout = layout;
            self.decoder.unembed(part::rows(&stream, &tokens)?, &mut visitor)?;
        }
        Ok(visitor.into_receipts())
    }

    /// One block, for the rows that do not skip it.
    fn block(
        &self,
        visitor: &mut Visitor<'_, '_>,
        stream: Tensor,
        layer: usize,
        layers_run: &mut usize,
    ) -> candle_core::Result<Tensor> {
        let plan = &*self.job.plan;
        let (active, tokens) = visitor.layout.retain(|row| plan.skip_at(row.input, layer).is_none());
        let everything = active.rows().len() == visitor.layout.rows().len();
        let mut out = stream.clone();
        if !tokens.is_empty() {
            *layers_run += 1;
            let segments = Segments::from_lengths(&active.lengths());
            let all = std::mem::replace(&mut visitor.layout, active);
            let computed = self.decoder.block(layer, part::rows(&stream, &tokens)?, &segments, visitor)?;
            visitor.layout = all;
            out = if everything { computed } else { merge(&stream, &computed, &tokens)? };
        }
        for skip in plan.skips.iter().filter(|skip| skip.first == layer) {
            out = visitor.replace_rows(skip, &out)?;
        }
        Ok(out)
    }

    /// Leaves out the rows of inputs that have nothing left to do at `site` or after it.
    fn drop_rows(&self, visitor: &mut Visitor<'_, '_>, stream: Tensor, site: Site) -> candle_core::Result<Tensor> {
        let (layout, tokens) = visitor.layout.retain(|row| self.input(row).until >= site);
        if layout.rows().len() == visitor.layout.rows().len() {
            return Ok(stream);
        }
        visitor.layout = layout;
        part::rows(&stream, &tokens)
    }

    fn input(&self, row: &PackedRow) -> &'a PassInput {
        // every packed row comes from an input of the pass
        let position = self.pass.inputs.iter().position(|input| input.input == row.input).unwrap_or_default();
        &self.pass.inputs[position]
    }
}

/// `stream` with the rows of these tokens replaced.
fn merge(stream: &Tensor, computed: &Tensor, tokens: &[u32]) -> candle_core::Result<Tensor> {
    let blocks =
        patchbay_graph::selection::Blocks { size: stream.dim(1)?, index: tokens.to_vec(), total: stream.dim(0)? };
    part::write(stream, &blocks, computed)
}
