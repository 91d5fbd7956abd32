//! One pass: a walk through the layers, in stages that a gradient can be taken back through.

use candle_core::Tensor;
use patchbay_graph::layout::{Layout, PackedRow};
use patchbay_graph::plan::{Pass, PassInput, Plan};
use patchbay_graph::selection::Blocks;
use patchbay_graph::stage::Part;
use patchbay_graph::{LayerSite, Site};
use patchbay_model::{Decoder, NoMemory, Run, Segments};

use crate::engine::EngineError;
use crate::job::Job;
use crate::part;
use crate::visit::Visitor;

/// One pass of a job.
#[derive(Clone, Copy)]
pub(crate) struct Walk<'a> {
    pub(crate) decoder: &'a Decoder,
    pub(crate) job: &'a Job,
    pub(crate) pass: &'a Pass,
}

/// A part of a pass, and what goes into it.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) part: Part,
    /// The residual stream, packed; nothing goes into the embedding.
    pub(crate) stream: Option<Tensor>,
    /// The rows that are in the stream.
    pub(crate) layout: Layout,
}

impl<'a> Walk<'a> {
    fn plan(&self) -> &'a Plan {
        &self.job.plan
    }

    /// The rows that the pass begins with.
    pub(crate) fn layout(&self) -> Layout {
        Layout::of_inputs(&self.plan().inputs, self.pass.inputs.iter().map(|input| input.input))
    }

    /// Whether any row has something to do in or after a part.
    fn goes_on(&self, layout: &Layout, part: Part) -> bool {
        layout.rows().iter().any(|row| self.input(row).until >= part.first_site())
    }

    /// Walks through every part that has something to do. Each is told to `record` with what goes into it.
    ///
    /// # Errors
    /// The job was cancelled, or the device failed.
    pub(crate) fn run(&self, visitor: &mut Visitor<'_, '_>, mut record: impl FnMut(Stage)) -> Result<(), EngineError> {
        let mut stream = None;
        for part in Part::all(self.decoder.tree().layers.len()) {
            if self.job.cancel.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            if !self.goes_on(&visitor.layout, part) {
                break;
            }
            let stage = Stage { part, stream, layout: visitor.layout.clone() };
            stream = self.stage(visitor, stage.part, stage.stream.clone())?;
            record(stage);
        }
        Ok(())
    }

    /// One part; gives what goes into the next one.
    pub(crate) fn stage(
        &self,
        visitor: &mut Visitor<'_, '_>,
        part: Part,
        stream: Option<Tensor>,
    ) -> candle_core::Result<Option<Tensor>> {
        match (part, stream) {
            (Part::Layer(layer), Some(stream)) => self.layer(visitor, stream, layer).map(Some),
            (Part::Unembed, Some(stream)) => self.unembed(visitor, stream).map(|()| None),
            _ => self.embed(visitor).map(Some),
        }
    }

    fn embed(&self, visitor: &mut Visitor<'_, '_>) -> candle_core::Result<Tensor> {
        let rows = visitor.layout.rows();
        let ids: Vec<u32> = rows.iter().flat_map(|row| &self.job.ids[row.input][row.row]).copied().collect();
        let segments = Segments::from_lengths(&visitor.layout.lengths());
        self.decoder.embed(&ids, &segments, visitor)
    }

    /// A block and its ends, which blocks that do not run have too.
    fn layer(&self, visitor: &mut Visitor<'_, '_>, stream: Tensor, layer: usize) -> candle_core::Result<Tensor> {
        let stream = self.drop_rows(visitor, stream, Site::Layer(layer, LayerSite::Input))?;
        let stream = visitor.steps_at(Site::Layer(layer, LayerSite::Input), stream)?;
        let stream = self.drop_rows(visitor, stream, Site::Layer(layer, LayerSite::AttnInput))?;
        if visitor.layout.rows().is_empty() {
            return Ok(stream);
        }
        let stream = self.block(visitor, stream, layer)?;
        visitor.steps_at(Site::Layer(layer, LayerSite::Output), stream)
    }

    /// A block, for the rows that do not skip it.
    fn block(&self, visitor: &mut Visitor<'_, '_>, stream: Tensor, layer: usize) -> candle_core::Result<Tensor> {
        let plan = self.plan();
        let (active, tokens) = visitor.layout.retain(|row| plan.skip_at(row.input, layer).is_none());
        let everything = active.rows().len() == visitor.layout.rows().len();
        let mut out = stream.clone();
        if !tokens.is_empty() {
            visitor.layers_run += 1;
            let segments = Segments::from_lengths(&active.lengths());
            let all = std::mem::replace(&mut visitor.layout, active);
            let computed = self.decoder.block(
                layer,
                part::rows(&stream, &tokens)?,
                &mut Run::whole(&segments, &mut NoMemory),
                visitor,
            )?;
            visitor.layout = all;
            out = if everything { computed } else { merge(&stream, &computed, &tokens)? };
        }
        let takes_part = |input: usize| visitor.layout.rows().iter().any(|row| row.input == input);
        let skips: Vec<_> = plan.skips.iter().filter(|skip| skip.first == layer && takes_part(skip.input)).collect();
        for skip in skips {
            out = visitor.replace_rows(skip, &out)?;
        }
        Ok(out)
    }

    fn unembed(&self, visitor: &mut Visitor<'_, '_>, stream: Tensor) -> candle_core::Result<()> {
        let stream = self.drop_rows(visitor, stream, Site::LnFinalInput)?;
        let wanted = |row: &PackedRow| self.input(row).final_tokens[row.row].clone();
        let (layout, tokens) = visitor.layout.keep_tokens(wanted);
        visitor.layout = layout;
        self.decoder.unembed(part::rows(&stream, &tokens)?, visitor)
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
    let blocks = Blocks { size: stream.dim(1)?, index: tokens.to_vec(), total: stream.dim(0)? };
    part::write(stream, &blocks, computed)
}
